"""Two servers started at once on one name, again and again: exactly one listens, and it is not displaced.

Each winner is killed, so that the next two find a stale socket.

usage: race.py [TIMES]      (400 by default)
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

BUSY = 75


def race(environ: dict[str, str]) -> str:
    """Start two servers at once; return what came of it."""
    words = ["sidecall", "serve", "--allow-any", "race"]
    pair = [subprocess.Popen(words, env=environ, stderr=subprocess.PIPE) for _ in range(2)]
    for server in pair:
        assert server.stderr is not None
        server.stderr.readline()  # the ready line, or why not
    alive = [server for server in pair if server.poll() is None and not _ends(server)]
    answers = subprocess.run(["sidecall", "ping", "-q", "race"], env=environ, check=False).returncode == 0
    for server in alive:
        server.kill()
    codes = sorted(server.wait() for server in pair)
    for server in pair:
        server.communicate()
    if len(alive) == 1 and answers and codes == [-9, BUSY]:
        return "one listens"
    return f"wrong: {len(alive)} listen, ended {codes}, ping {'answered' if answers else 'failed'}"


def _ends(server: subprocess.Popen[bytes]) -> bool:
    """Tell whether a server that has said its line ends by itself within a moment."""
    try:
        server.wait(0.3)
    except subprocess.TimeoutExpired:
        return False
    return True


def main() -> int:
    """Race as often as told; return 0 if exactly one listened each time."""
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    with tempfile.TemporaryDirectory() as directory:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environ = {**os.environ, "PATH": path, "SIDECALL_DIR": directory}
        found = Counter(race(environ) for _ in range(times))
    print(f"two servers started at once, {times} times")
    for name, count in found.most_common():
        print(f"  {name:<34}{count}")
    return 0 if set(found) == {"one listens"} else 1


if __name__ == "__main__":
    sys.exit(main())
