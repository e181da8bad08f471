"""Thousands of calls of adversarial commands, in both stream modes, while callers, their parents, servers and commands
are killed at random, and servers' processes stopped (SIGSTOP) for a while. Prints what was counted; fails unless all
that must be 0 is.

usage: python -m benchmarks.soak [CALLS]      (10,000 by default; half of them with an undisturbed server)
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
ROUND = 1000
"""Calls after which the two sides meet and count."""


def soak(calls: int) -> tuple[Counter[str], Counter[str]]:
    """Run a soak of some calls; return what became of them, and what was left."""
    found, left = Counter[str](), Counter[str]()
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        environ["SIDECALL_DIR"] = name
        service = subprocess.Popen([sys.executable, HERE / "service.py", "soak", directory], env=environ)
        while not (directory / "ready").exists():
            time.sleep(0.05)
        for weather in ("calm", "disturbed"):
            if weather == "disturbed":
                (directory / "disturb").touch()
            words = [
                sys.executable,
                str(HERE / "callers.py"),
                "soak",
                str(calls // 2),
                str(random.getrandbits(32)),
                weather,
            ]
            found.update(json.loads(subprocess.run(words, env=environ, check=True, stdout=subprocess.PIPE).stdout))
        (directory / "disturb").unlink()
        (directory / "finish").touch()
        service.wait()
        left.update(json.loads((directory / "report").read_text()))
    return found, left


def wrong(found: Counter[str]) -> int:
    """Count the calls that did not end as they should."""
    return sum(count for name, count in found.items() if name.startswith(("wrong", "hung", "bytes lost")))


def main() -> int:
    """Run the soak in rounds; return 0 if all counts that must be zero are."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    found, left = Counter[str](), Counter[str]()
    began = time.monotonic()
    for number in range(0, calls, ROUND):
        round_found, round_left = soak(min(ROUND, calls - number))
        found.update(round_found)
        left.update({name: abs(count) for name, count in round_left.items()})
    made = sum(count for name, count in found.items() if not name.startswith("PING"))
    print(f"{made} calls in {time.monotonic() - began:.0f} s")
    for name, count in [*found.most_common(), *left.items()]:
        print(f"  {name:<34}{count}")
    return 1 if wrong(found) or any(left.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
