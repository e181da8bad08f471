"""What the `sidecall` command itself prints on stderr, and the standard streams that it was started without."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

from sidecall.errors import one_line

if TYPE_CHECKING:
    from sidecall.client.terminal import Terminal
    from sidecall.errors import SidecallError
    from sidecall.outcome import Outcome

CLOSED: set[int] = set()
"""Which of stdin, stdout and stderr this process was started without."""


_terminals: list[Terminal] = []


def end_lines_for(terminal: Terminal) -> None:
    """Have lines begin at the left while a terminal is raw."""
    _terminals.append(terminal)


def occupy_closed_streams() -> None:
    """Open /dev/null in the place of a closed stdin, stdout or stderr, so that no socket of ours gets there."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
        CLOSED.add(fd)
    os.close(fd)


def print_error(error: SidecallError | Outcome) -> None:
    """Print what failed, and a hint in a line of its own."""
    _write(f"sidecall: {error.reason}\n")
    if error.hint:
        _write(f"hint: {error.hint}\n")


def print_notice(notice: str, hint: str) -> None:
    """Print a notice of the server, unless the reader of stderr takes nothing at present."""
    if _is_writable():
        _write(f"sidecall: {one_line(notice)}\n")
        if hint:
            _write(f"hint: {one_line(hint)}\n")


def say(text: str) -> None:
    """Print one line, unless the reader of stderr takes nothing at present."""
    if _is_writable():
        _write(f"sidecall: {one_line(text)}\n")


def _is_writable() -> bool:
    poll = select.poll()
    poll.register(2, select.POLLOUT)
    return bool(poll.poll(0))


def _write(text: str) -> None:
    """In one write, so that lines of several clients do not mix."""
    if any(terminal.is_raw for terminal in _terminals):
        text = text.replace("\n", "\r\n")
    try:
        os.write(2, text.encode(errors="backslashreplace"))
    except OSError:
        pass  # stderr is closed
