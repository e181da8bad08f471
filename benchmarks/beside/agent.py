"""Makes calls and times them, on the caller's side: on this host, or inside the caller's container.

Reads requests, a JSON array of a function's name and its arguments a line, from stdin; writes a JSON array for each: a
number and null, or null and why there is none. Standard library only, since it is run by a clean interpreter.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 1 << 16
"""Bytes of one read and write: a pipe's buffer (pipe(7))."""

BRIEF = 0.05
"""Seconds; what takes longer is not done twice: cold caches are a small part of it."""


class Unequal(Exception):
    """Other bytes came out than went in."""


def seconds(action: Callable[[], object]) -> float:
    """Return how long something takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def warm(action: Callable[[], object]) -> float:
    """Return how long something takes, done before and not counted: else it pays for what was measured before it."""
    took = seconds(action)
    return seconds(action) if took < BRIEF else took


def command(words: list[str]) -> float:
    """Return the seconds that a program takes from its start to its end."""
    return warm(lambda: subprocess.run(words, check=True))


def library(service: str, words: list[str]) -> float:
    """Return the seconds that a call of the library takes."""
    import sidecall

    return warm(lambda: sidecall.run(service, words, check=True))


def rate(words: list[str], callers: int, calls: int) -> float:
    """Return how many times a second a program runs, so many at once; xargs(1) starts them faster than Python could."""
    crowd = ["xargs", "-I", "{}", "-P", str(callers), *words]
    return calls / seconds(lambda: subprocess.run(crowd, input=b"x\n" * calls, check=True))


def library_rate(service: str, words: list[str], callers: int, calls: int) -> float:
    """Return how many calls a second the threads of one program make."""
    import sidecall

    def call(_: int) -> None:
        sidecall.run(service, words, check=True)

    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(call, range(callers)))  # the threads are there
        return calls / seconds(lambda: list(pool.map(call, range(calls))))


def pipe(words: list[str], size: int) -> float:
    """Return the bytes a second that go into a program's stdin and come out of its stdout.

    Raises:
        Unequal: not as many came out.
    """
    source = ["dd", "if=/dev/zero", f"bs={BLOCK}", f"count={size // BLOCK}", "status=none"]
    with (
        subprocess.Popen(source, stdout=subprocess.PIPE) as zeros,
        subprocess.Popen(words, stdin=zeros.stdout, stdout=subprocess.PIPE) as program,
    ):
        assert zeros.stdout is not None
        assert program.stdout is not None
        zeros.stdout.close()
        began = time.perf_counter()
        count = drain(program.stdout.fileno())
        took = time.perf_counter() - began
    if count != size or program.returncode:
        raise Unequal(f"{count} of {size} bytes came out, exit status {program.returncode}")
    return size / took


def drain(fd: int) -> int:
    """Read a pipe to its end; return how many bytes came."""
    buffer, count = bytearray(BLOCK), 0
    while got := os.readv(fd, [buffer]):
        count += got
    return count


ACTIONS = {action.__name__: action for action in (command, library, rate, library_rate, pipe)}


def answer(line: str, errors: int) -> tuple[float | None, str | None]:
    """Do what a line asks for; return the number, or the reason with the last line that was written on stderr."""
    os.ftruncate(errors, 0)
    name, *arguments = json.loads(line)
    try:
        return ACTIONS[name](*arguments), None
    except Exception as error:
        said = os.pread(errors, 65536, 0).decode(errors="replace").strip().splitlines()
        return None, ": ".join([f"{type(error).__name__}: {error}", *said[-1:]])


def channel() -> tuple[TextIO, TextIO, int]:
    """Return what requests are read from and answers written to, and the file that stderr goes to.

    What is run here gets /dev/null as stdin and stdout.
    """
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    errors, path = tempfile.mkstemp()
    os.unlink(path)
    os.dup2(os.open(f"/proc/self/fd/{errors}", os.O_RDWR | os.O_APPEND), 2)
    return requests, answers, errors


def main() -> None:
    """Serve requests until there are no more."""
    requests, answers, errors = channel()
    for line in requests:
        json.dump(answer(line, errors), answers)
        answers.write("\n")
        answers.flush()


if __name__ == "__main__":
    main()
