"""Pseudo-terminals: the server's end of a terminal that a command runs in. Source: pty(7)."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from contextlib import suppress

from sidecall.errors import ServiceUnavailable

_SIZE = struct.Struct("HHHH")
"""struct winsize: rows, columns, and pixels that are not used. Source: ioctl_tty(2)."""


def open_terminal(rows: int, columns: int, owner: int | None) -> tuple[int, int]:
    """Return the two ends of a new terminal: that of the server, which does not block, and that of the command.

    Args:
        rows: its height in characters; 0 if it is unknown.
        columns: its width, likewise.
        owner: the user that the command runs as, if that is another one: it can open the terminal by its path.

    Raises:
        ServiceUnavailable: this system has no more terminals, or none at all.
    """
    try:
        ours, theirs = os.openpty()
    except OSError as error:
        raise ServiceUnavailable(
            f"cannot open a terminal: {error.strerror}", "check that devpts is mounted in the container of the server"
        ) from error
    os.set_blocking(ours, False)
    set_size(ours, rows, columns)
    if owner is not None:
        with suppress(OSError):  # where the server cannot give files away, the command has the terminal as /dev/tty
            os.fchown(theirs, owner, -1)
    return ours, theirs


def set_size(terminal: int, rows: int, columns: int) -> None:
    """Set the size of a terminal; its foreground processes get SIGWINCH if that changes it."""
    with suppress(OSError):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, _SIZE.pack(rows, columns, 0, 0))


def get_size(terminal: int) -> tuple[int, int]:
    """Return the rows and columns of a terminal; 0 for those that are unknown."""
    try:
        rows, columns, _, _ = _SIZE.unpack(fcntl.ioctl(terminal, termios.TIOCGWINSZ, bytes(_SIZE.size)))
    except OSError:
        return 0, 0
    return rows, columns
