"""Where is called from, and where is served: both on this host, or each in a container of its own."""

from __future__ import annotations

import json
import os
import select
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from beside.results import CaseFailed

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

REPO = Path(__file__).parents[2]
AGENT = Path(__file__).with_name("agent.py")
HOST = "one host"
ACROSS = "across containers"
BUSYBOX = "docker.io/library/busybox:stable"
PATIENCE = 180.0
"""Seconds after which a measurement counts as hung."""


class Place:
    """A caller's side and a server's side around one directory, which both see at the same path.

    Args:
        name: what the tables call it.
        directory: where the sockets are.
        python: the clean interpreter that makes the calls.
        caller: what comes before a command line to run it at the caller's side.
        server: the same for the server's side.
    """

    def __init__(
        self,
        stack: ExitStack,
        name: str,
        directory: Path,
        python: str,
        *,
        caller: tuple[str, ...] = (),
        server: tuple[str, ...] = (),
    ) -> None:
        self.name, self.directory = name, directory
        self._stack, self._caller, self._server = stack, caller, server
        variable = f"SIDECALL_DIR={directory}"
        self._environment = ("env", variable)
        self._agent_words = [*caller, *self._environment, python, "-P", str(AGENT)]
        self._agent = self._start_agent()

    def _start_agent(self) -> subprocess.Popen[bytes]:
        pipes = subprocess.PIPE
        agent = subprocess.Popen(self._agent_words, stdin=pipes, stdout=pipes, bufsize=0, start_new_session=True)
        self._stack.callback(stop_group, agent)
        return agent

    def ask(self, action: str, *arguments: object) -> float:
        """Have the caller's side do something (see `agent`) and return its number.

        Raises:
            CaseFailed: it could not be done, or did not end.
        """
        assert self._agent.stdin is not None
        assert self._agent.stdout is not None
        self._agent.stdin.write(json.dumps([action, *arguments]).encode() + b"\n")
        ready, _, _ = select.select([self._agent.stdout], [], [], PATIENCE)
        line = self._agent.stdout.readline() if ready else b""
        if not line:
            stop_group(self._agent)
            self._agent = self._start_agent()
            raise CaseFailed("the agent that measures has ended" if ready else f"hung for {PATIENCE:.0f} seconds")
        number, reason = json.loads(line)
        if number is None:
            raise CaseFailed(reason)
        return float(number)

    def serve(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a server at the server's side; it runs until the end."""
        return self._run([*self._server, *self._environment, *words])

    def open(self, *words: str) -> subprocess.Popen[bytes]:
        """Start something that calls share at the caller's side; it runs until the end."""
        return self._run([*self._caller, *self._environment, *words])

    def _run(self, words: list[str]) -> subprocess.Popen[bytes]:
        null = subprocess.DEVNULL
        process = subprocess.Popen(words, stdin=null, stdout=null, stderr=null)
        self._stack.callback(stop, process)
        return process


def stop_group(agent: subprocess.Popen[bytes]) -> None:
    """End an agent and what it runs: it leads a group of its own, and what is in a container goes with that."""
    if agent.poll() is None:
        os.killpg(agent.pid, signal.SIGTERM)
    stop(agent)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that was started here, if it still runs."""
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()


def wait_until(ready: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Return once something is so.

    Raises:
        CaseFailed: it is not, after these seconds.
    """
    until = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > until:
            raise CaseFailed(f"{what} is not there after {seconds:.0f} seconds")
        time.sleep(0.01)


class Pod:
    """Two containers without a network but their own loopback, around one directory.

    They are of busybox' image, with this host's programs mounted over it read-only: so every program that is measured
    on the host is there too, in the same version.
    """

    def __init__(self, stack: ExitStack, directory: Path, python: str, extra: list[Path]) -> None:
        self.engine = set_up_engine()
        mounts = [f"{directory}:{directory}", *host_programs([Path(sys.base_prefix), *extra])]
        self._options = [word for mount in mounts for word in ("--volume", mount)]
        self.server, self.caller = (f"sidecall-bench-{side}-{os.getpid()}" for side in ("server", "caller"))
        stack.callback(self._remove)
        self._start(self.server, "none")
        self._start(self.caller, f"container:{self.server}")
        inside = (self.engine, "exec", "--interactive")
        self.place = Place(
            stack, ACROSS, directory, python, caller=(*inside, self.caller), server=(*inside, self.server)
        )

    def _start(self, name: str, network: str) -> None:
        words = [self.engine, "run", "--detach", f"--network={network}", "--name", name, *self._options]
        done = subprocess.run(
            [*words, "--tmpfs", "/run", BUSYBOX, "sleep", "infinity"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise CaseFailed(done.stderr.strip())

    def _remove(self) -> None:
        at_once = ["--time", "0"] if self.engine == "podman" else []
        for name in (self.caller, self.server):  # in this order: the caller is in the server's network
            words = [self.engine, "rm", "--force", *at_once, name]
            done = subprocess.run(words, check=False, capture_output=True, text=True)
            if done.returncode:
                print(f"not removed: {name}: {done.stderr.strip()}", file=sys.stderr)


def host_programs(others: list[Path]) -> list[str]:
    """Return the mounts that give a container this host's programs, those in other directories among them."""
    seen = [Path("/usr"), Path("/etc"), REPO]
    for path in others:
        if not any(path.is_relative_to(known) for known in seen):
            seen.append(path)
    merged = [part for part in ("bin", "sbin", "lib", "lib64") if Path("/usr", part).is_dir()]
    return [*(f"{path}:{path}:ro" for path in seen), *(f"/usr/{part}:/{part}:ro" for part in merged)]


def set_up_engine() -> str:
    """Return the container engine's name, ready for use.

    Raises:
        CaseFailed: there is none, and none can be installed.
    """
    setup = subprocess.run([REPO / "tools/containers.sh", "setup"], capture_output=True, text=True, check=False)
    if setup.returncode:
        raise CaseFailed(setup.stderr.strip().splitlines()[-1])
    for line in setup.stdout.splitlines():
        name, _, value = shlex.split(line)[1].partition("=")
        os.environ[name] = value
    return os.environ["ENGINE"]
