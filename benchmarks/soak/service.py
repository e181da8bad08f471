"""The service's side of the soak: keeps a server up, kills or stops its processes at random, counts what is left.

It is told by files in DIR: while `disturb` exists it kills; once `finish` does it counts, writes `report` and ends.

usage: service.py NAME DIR
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from adversaries import CONFINED, FORWARDED, MARK

SUPERVISOR = "sidecall-super"
GRACE = 0.5
MOST_PROCESSES = 100
"""Processes that the confined server and its commands can have."""

STOPPED_FOR = 3.0
"""Seconds after which what was stopped is continued, at most."""

SETTLED_AFTER = 30.0
"""Seconds in which all that calls have left must be gone; the grace period and some."""


class Victim:
    """A server that is started again whenever it ends."""

    def __init__(self, name: str) -> None:
        self._words = ["sidecall", "serve", "--allow-any", name, "--slots", "6", "--grace", str(GRACE), "--drain", "1"]
        self._name = name
        self._stopped: dict[int, float] = {}
        self._is_ending = False
        self.start()
        self.descriptors = self.open_descriptors(steady_for=1.0)

    def start(self) -> None:
        """Start the server and make a first call, for what a server opens once."""
        self._is_ending = False
        self.process = subprocess.Popen(self._words, stderr=subprocess.DEVNULL)
        subprocess.run(["sidecall", "ping", "--connect-timeout", "20", "-q", self._name], check=True)
        subprocess.run(["sidecall", "exec", "-q", self._name, "true"], check=False)

    def open_descriptors(self, *, steady_for: float = 0.25) -> int:
        """Count the server's descriptors but for those of idle supervisors, once the count is steady for some seconds.

        A thread of the server that clears what a killed one has left has a descriptor open meanwhile.
        """
        count, since = -1, 0.0
        while (now := time.monotonic()) < since + steady_for or count < 0:
            counted = len(os.listdir(f"/proc/{self.process.pid}/fd")) - len(self.supervisors())
            if counted != count:
                count, since = counted, now
            time.sleep(0.05)
        return count

    def leaked_descriptors(self) -> int:
        """Return how many more descriptors are open than at the beginning, still so after `SETTLED_AFTER` seconds."""
        deadline = time.monotonic() + SETTLED_AFTER
        while (leaked := self.open_descriptors() - self.descriptors) and time.monotonic() < deadline:
            time.sleep(0.5)
        if leaked:
            directory = Path(f"/proc/{self.process.pid}/fd")
            open_now = sorted(f"{fd.name}: {os.readlink(fd)}" for fd in directory.iterdir())
            print(f"{leaked} descriptors more than {self.descriptors}:", *open_now, sep="\n  ", file=sys.stderr)
        return leaked

    def supervisors(self) -> list[int]:
        """Return the supervisors. Those of a killed fork server are the server's own children, and not among them."""
        found = [pid for forkserver in children(self.process.pid) for pid in children(forkserver)]
        return [pid for pid in found if name_of(pid) == SUPERVISOR]

    def commands(self) -> list[int]:
        """Return all that descends from the supervisors."""
        return [pid for supervisor in self.supervisors() for pid in children(supervisor)]

    def disturb(self) -> None:
        """Kill, or stop for a while, a command, a supervisor, the fork server or the server."""
        kind = random.choices(("command", "supervisor", "forkserver", "server"), (12, 4, 1, 2))[0]
        number = random.choices((signal.SIGKILL, signal.SIGSTOP), (2, 1))[0]
        pids = {
            "command": self.commands(),
            "supervisor": self.supervisors(),
            "forkserver": children(self.process.pid),
            "server": [self.process.pid],
        }[kind]
        if pids:
            pid = random.choice(pids)
            _signal(pid, number)
            self._is_ending |= number == signal.SIGKILL and kind in {"forkserver", "server"}
            if number == signal.SIGSTOP:
                self._stopped[pid] = time.monotonic() + random.uniform(0, STOPPED_FOR)

    def resume(self, *, everything: bool = False) -> None:
        """Continue the processes whose time has come."""
        for pid, at in list(self._stopped.items()):
            if everything or time.monotonic() >= at:
                del self._stopped[pid]
                _signal(pid, signal.SIGCONT)

    def revive(self) -> None:
        """Start the server again if it has ended."""
        if self.process.poll() is not None:
            self.start()

    def come_to_rest(self) -> None:
        """Continue everything, and wait for the end of a server that was killed, or whose fork server was."""
        self.resume(everything=True)
        if self._is_ending:
            self.process.wait()
        self.revive()


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


class Companions:
    """A forwarder of bytes to the server, and a server that can have few processes; each if the machine allows it."""

    def __init__(self, name: str) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._group = Path(f"/sys/fs/cgroup/pids/{name}-{os.getpid()}")
        sockets = os.environ.get("SIDECALL_DIR", "/run/sidecall")
        if shutil.which("socat"):
            listen = f"UNIX-LISTEN:{sockets}/{name}-{FORWARDED}.sock,fork,mode=600"
            forward = ["socat", "-t", "600", listen, f"UNIX-CONNECT:{sockets}/{name}.sock"]
            self._processes.append(subprocess.Popen(forward, stderr=subprocess.DEVNULL))
        with contextlib.suppress(OSError):
            self._group.mkdir()
            (self._group / "pids.max").write_text(str(MOST_PROCESSES))
            confined = ["sidecall", "serve", "--allow-any", f"{name}-{CONFINED}", "--slots", "1", "--grace", str(GRACE)]
            enter = f'echo $$ >{self._group}/cgroup.procs && exec "$@"'
            self._processes.append(subprocess.Popen(["sh", "-c", enter, "sh", *confined], stderr=subprocess.DEVNULL))
            words = ["sidecall", "ping", "--connect-timeout", "20", "-q", f"{name}-{CONFINED}"]
            subprocess.run(words, check=True)

    def close(self) -> None:
        """End them."""
        for process in self._processes:
            process.terminate()
            process.wait()
        with contextlib.suppress(OSError):
            self._group.rmdir()


def children(pid: int) -> list[int]:
    """Return the children of a process, zombies included; none if it is gone."""
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def name_of(pid: int) -> str:
    """Return the name of a process; an empty one if it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def survivors() -> list[int]:
    """Return the processes that a call has left."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = {word for name in ("cmdline", "environ") for word in (directory / name).read_bytes().split(b"\0")}
            if {MARK.encode(), f"MARK={MARK}".encode()} & words:
                found.append(int(directory.name))
    return found


def zombies(pids: list[int]) -> int:
    """Count those that have ended and were not reaped."""
    count = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            count += Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return count


def settle(victim: Victim) -> None:
    """Wait until nothing of a call is left, at most `SETTLED_AFTER` seconds."""
    deadline = time.monotonic() + SETTLED_AFTER
    while time.monotonic() < deadline and (victim.commands() or survivors()):
        time.sleep(0.1)


def main() -> None:
    """Keep the server up until told to finish; then count."""
    name, directory = sys.argv[1], Path(sys.argv[2])
    victim = Victim(name)
    companions = Companions(name)
    (directory / "ready").touch()
    while not (directory / "finish").exists():
        time.sleep(random.random() * 0.4)
        if (directory / "disturb").exists():
            victim.disturb()
        victim.resume()
        victim.revive()
    victim.come_to_rest()
    settle(victim)
    companions.close()
    pid = victim.process.pid
    family = [*children(pid), *victim.supervisors(), *victim.commands()]
    left = {
        "survivors": len(survivors()),
        "descriptors leaked": victim.leaked_descriptors(),
        "zombies": zombies(family),
        "commands left": len(victim.commands()),
    }
    victim.process.terminate()
    left["server's exit status"] = victim.process.wait()
    sockets = Path(os.environ.get("SIDECALL_DIR", "/run/sidecall"))
    left["sockets left"] = len(list(sockets.glob(f"{name}.sock*")))
    (directory / "report.part").write_text(json.dumps(left))
    (directory / "report.part").rename(directory / "report")


if __name__ == "__main__":
    main()
