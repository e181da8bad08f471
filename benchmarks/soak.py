"""Random calls, random kills: counts what must be zero. `make soak` runs it for SIDECALL_SOAK_SECONDS (600).

Each call runs a program that is known to end in one way, in a random stream mode; some callers are killed with KILL at
a random moment. Afterwards nothing may be left: no process, no zombie, no descriptor, no wrong outcome.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SIDECALL = str(Path(sys.executable).parent / "sidecall")
MARK = "SIDECALL_SOAK_MARK"
PROGRAMS: tuple[tuple[str, int, bytes], ...] = (
    ("exit 0", 0, b""),
    ("exit 7", 7, b""),
    ("kill -TERM $$", -15, b""),
    ("kill -KILL $$", -9, b""),
    ("cat >/dev/null; echo late", 0, b"late\n"),
    ("head -c 300000 /dev/zero | tr '\\0' x", 0, b"x" * 300000),
    ("sleep 30 & echo started", 0, b"started\n"),
    ("exec 0<&-; echo closed", 0, b"closed\n"),
)


def one_call(seed: int, environ: dict[str, str]) -> str:
    """Make one call; return what was wrong with it, `killed` if its caller was, or `right`."""
    dice = random.Random(seed)
    program, status, output = dice.choice(PROGRAMS)
    mode = dice.choice(([], ["--relay"]))
    words = [SIDECALL, "exec", "-q", *mode, "--env", f"{MARK}=1", "soak", "sh", "-c", program]
    caller = subprocess.Popen(words, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if dice.random() < 0.2:
        time.sleep(dice.random() * 0.2)
        caller.kill()
        caller.communicate()
        return "killed"
    got, _ = caller.communicate(b"y" * 1000)
    if caller.returncode != status:
        return f"wrong outcome: {program!r} {mode} gave {caller.returncode}"
    return "right" if got == output else f"wrong output: {program!r} {mode} gave {len(got)} bytes"


def survivors() -> int:
    """Count the processes that a call has left: they carry its mark in their environment."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            found += f"{MARK}=1".encode() in path.read_bytes().split(b"\0")
        except OSError:
            continue  # it has just ended
    return found


def children(pid: int) -> int:
    """Count the children of a process, zombies included."""
    return len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def main() -> int:
    """Run the soak; return 0 if all counts that must be zero are."""
    deadline = time.monotonic() + float(os.environ.get("SIDECALL_SOAK_SECONDS", "600"))
    results: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(8) as pool:
        environ = {**os.environ, "SIDECALL_DIR": folder}
        server = subprocess.Popen(
            [SIDECALL, "serve", "--allow-any", "soak", "--slots", "6", "--grace", "1"], env=environ
        )
        subprocess.run([SIDECALL, "ping", "--wait", "10", "--quiet", "soak"], env=environ, check=True)
        before = len(os.listdir(f"/proc/{server.pid}/fd"))
        while time.monotonic() < deadline:
            results.update(pool.map(lambda _: one_call(random.getrandbits(32), environ), range(80)))
        time.sleep(3)  # the grace, and some
        left = {
            "survivors": survivors(),
            "descriptors leaked": len(os.listdir(f"/proc/{server.pid}/fd")) - before,
            "children or zombies left": children(server.pid),
        }
        server.terminate()
        left["server's exit status"] = server.wait()
        left["files left"] = len(os.listdir(folder))
    for name, count in [*results.most_common(), *left.items()]:
        print(f"{name:<34}{count}")
    wrong = sum(count for name, count in results.items() if name not in {"right", "killed"})
    return 1 if wrong or any(left.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
