"""Tells people and programs what the server does: in lines on stderr, and by sd_notify(3).

No log ends a call or holds one up. A line that cannot be written at once is lost: its reader is gone or does not read,
its disk is full.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
import time
import traceback

from sidecall.errors import printable


def say(text: str) -> None:
    """Write one printable line to stderr, of at most PIPE_BUF bytes, if that can be done at once."""
    line = f"sidecall: {printable(text[: select.PIPE_BUF])}".encode()
    with contextlib.suppress(OSError):
        write_at_once(2, line[: select.PIPE_BUF - 1] + b"\n")


def say_bug(error: BaseException) -> None:
    """Write the traceback of an exception that nobody expected, as `say` does."""
    for line in "".join(traceback.format_exception(error)).splitlines():
        say(line)


def write_at_once(fd: int, data: bytes) -> None:
    """Write to a log without waiting for its reader; to a file in one write(2), so that lines do not mix.

    A pipe that poll(2) says is writable has room for PIPE_BUF bytes. Source: pipe(7).

    Raises:
        OSError: not all of it could be written; EAGAIN if the reader does not read.
    """
    piece = len(data) if stat.S_ISREG(os.fstat(fd).st_mode) else select.PIPE_BUF
    room = select.poll()
    room.register(fd, select.POLLOUT)
    for start in range(0, len(data), piece):
        if not room.poll(0):
            raise BlockingIOError(errno.EAGAIN, "its reader does not read")
        written = os.write(fd, data[start : start + piece])
        if written < len(data[start : start + piece]):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def notify(state: str) -> None:
    """Send a state such as `READY=1` to the socket that NOTIFY_SOCKET names; without one nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if state == "RELOADING=1":
        state += f"\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), address)
