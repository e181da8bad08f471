"""What the tests run inside the caller's container: many calls in one engine command, the findings as JSON.

The arguments are the experiment (a function of this file), the service's name, `--relay` or an empty word,
and the experiment's own.

Nothing is judged here; the tests do that. Standard library only: the container has nothing else.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from subprocess import DEVNULL, PIPE
from typing import IO

AT_ONCE = 4
MEBIBYTE = 1 << 20


def exec_line(name: str, mode: str, *command: str) -> list[str]:
    """Return the command line of one call; `mode` is `--relay`, or empty for passed descriptors."""
    return ["sidecall", "exec", *([mode] if mode else []), name, *command]


def status(argv: list[str]) -> int:
    """Run a command without input and return its status as the subprocess module gives it."""
    return subprocess.run(argv, stdin=DEVNULL, check=False).returncode


def codes(name: str, mode: str) -> list[int]:
    """Return the caller's status for a command that exits 0, 1, … 255."""
    lines = (exec_line(name, mode, "sh", "-c", f"exit {code}") for code in range(256))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(status, lines))


def signals(name: str, mode: str, *numbers: str) -> dict[str, list[int]]:
    """Return for each signal the status of a command that dies of it: through a call, and run here."""

    def both(number: str) -> list[int]:
        command = ["sh", "-c", f"kill -{number} $$"]
        return [status(exec_line(name, mode, *command)), status(command)]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(numbers, pool.map(both, numbers), strict=True))


def feed(sink: IO[bytes], mebibytes: int, digest: hashlib._Hash) -> None:
    """Write so many different mebibytes, then close."""
    block = hashlib.shake_256(b"sidecall").digest(MEBIBYTE - 8)
    with sink:
        for number in range(mebibytes):
            chunk = number.to_bytes(8, "big") + block
            digest.update(chunk)
            sink.write(chunk)


def through_cat(name: str, mode: str, mebibytes: str) -> dict[str, object]:
    """Send so many mebibytes through `cat` and return what went in and what came out."""
    sent, received, count = hashlib.sha256(), hashlib.sha256(), 0
    with subprocess.Popen(exec_line(name, mode, "cat"), stdin=PIPE, stdout=PIPE) as call:
        assert call.stdin is not None
        assert call.stdout is not None
        writer = threading.Thread(target=feed, args=(call.stdin, int(mebibytes), sent))
        writer.start()
        while chunk := call.stdout.read(MEBIBYTE):
            received.update(chunk)
            count += len(chunk)
        writer.join()
    return {
        "returncode": call.returncode,
        "bytes": count,
        "equal": sent.hexdigest() == received.hexdigest(),
    }


def late_writers(name: str, mode: str, runs: str, script: str) -> list[list[object]]:
    """Call a shell script so many times; return each different [times, status, stdout's SHA-256, stderr]."""

    def once(_: int) -> tuple[int, str, str]:
        done = subprocess.run(
            exec_line(name, mode, "sh", "-c", script), input=b"input\n", capture_output=True, check=False
        )
        return done.returncode, hashlib.sha256(done.stdout).hexdigest(), done.stderr.decode()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        seen = Counter(pool.map(once, range(int(runs))))
    return [[times, *ending] for ending, times in seen.items()]


def crowd(name: str, mode: str, callers: str) -> list[list[object]]:
    """Start so many callers at once; return [status, stdout] of each. They leave +N and -N in /shared/log."""
    script = 'echo "+$1" >>/shared/log; echo "served $1"; echo "-$1" >>/shared/log'
    calls = [
        subprocess.Popen(
            exec_line(name, mode, "sh", "-c", script, "sh", str(number)),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=DEVNULL,
            text=True,
        )
        for number in range(int(callers))
    ]
    outputs = [call.communicate()[0] for call in calls]
    return [[call.returncode, output] for call, output in zip(calls, outputs, strict=True)]


def queue(name: str, mode: str, callers: str) -> dict[str, object]:
    """Hold the only slot, line up callers one by one, let go; each writes its number to /shared/order."""
    holder = subprocess.Popen(exec_line(name, mode, "cat"), stdin=PIPE, stdout=PIPE)
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdin.write(b"running\n")
    holder.stdin.flush()
    holder.stdout.readline()
    waiting, told = [], []
    for number in range(int(callers)):
        line = exec_line(name, mode, "sh", "-c", f"echo {number} >>/shared/order")
        call = subprocess.Popen(line, stdin=DEVNULL, stderr=PIPE, text=True)
        assert call.stderr is not None
        told.append(call.stderr.readline())  # being told that it waits is the event that it is in the queue
        waiting.append(call)
    holder.communicate()
    for call in waiting:
        call.communicate()
    return {"told": told, "holder": holder.returncode, "statuses": [call.returncode for call in waiting]}


EXPERIMENTS = {run.__name__: run for run in (codes, signals, through_cat, late_writers, crowd, queue)}


def main() -> None:
    """Run the experiment that the command line names."""
    experiment, *arguments = sys.argv[1:]
    json.dump(EXPERIMENTS[experiment](*arguments), sys.stdout)


if __name__ == "__main__":
    main()
