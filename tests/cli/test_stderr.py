"""What the command prints on stderr, and the standard streams that it was started without."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from sidecall.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable


def printed(
    program: str, stderr: int = subprocess.PIPE, closed: Iterable[int] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a program that has the module as `m`."""
    close = "".join(f" {fd}>&-" for fd in closed)
    words = [
        "sh",
        "-c",
        f'exec "$@"{close}',
        "sh",
        sys.executable,
        "-c",
        f"from sidecall.cli import stderr as m\n{program}",
    ]
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False)


def test_an_error_and_its_hint() -> None:
    """Each is a line; without a hint there is one."""
    program = f"from {UsageError.__module__} import UsageError as E\nm.print_error(E('a', 'b')); m.print_error(E('c'))"
    assert printed(program).stderr == "sidecall: a\nhint: b\nsidecall: c\n"


def test_what_a_server_says_stays_on_one_line() -> None:
    """It can hold what a stranger said."""
    assert (
        printed(r"m.print_notice('a\nb', '\x1b'); m.say('c\r')").stderr
        == "sidecall: a\\nb\nhint: \\x1b\nsidecall: c\\r\n"
    )


def test_nothing_waits_for_a_reader_of_stderr() -> None:
    """A notice is dropped if the pipe is full: the call goes on."""
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        with contextlib.suppress(BlockingIOError):
            while os.write(writing, bytes(4096)):
                pass
        os.set_blocking(writing, True)
        done = printed("m.print_notice('a', 'b'); m.say('c'); print('on')", stderr=writing)
        assert (done.returncode, done.stdout) == (0, "on\n")
    finally:
        os.close(reading)
        os.close(writing)


def test_closed_streams_are_occupied() -> None:
    """So no socket gets a number below 3, and what is printed there is lost without an error."""
    program = "m.occupy_closed_streams(); m.say('x'); print(sorted(m.CLOSED), m.os.dup(0) > 2)"
    done = printed(program, closed=(0, 2))
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0, 2] True\n", "")
