"""Log lines on stderr. Logging never delays a call: a line that cannot be written immediately is dropped."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import stat
import time
import traceback
from collections import Counter
from typing import TYPE_CHECKING

from sidecall.errors import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


MAX_REPEATED = 500
"""Lines of one kind that are written within a second; a client must not fill the disk."""


class RateLimit:
    """Bounds how many lines of one kind are written.

    Args:
        now: returns the time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._second = 0
        self._written: Counter[object] = Counter()
        self._left_out: dict[object, int] = {}

    def allows(self, kind: object) -> str | None:
        """Return None if one more line of a kind is too many; else what to append to it: how many were left out."""
        second = int(self._now())
        if second != self._second:
            left_out = {kind: n - MAX_REPEATED for kind, n in self._written.items() if n > MAX_REPEATED}
            self._written.clear()
            self._second = second
            self._left_out = left_out
        self._written[kind] += 1
        if self._written[kind] > MAX_REPEATED:
            return None
        omitted = self._left_out.pop(kind, 0)
        return f" omitted={omitted}" if omitted else ""


def log(text: str) -> None:
    """Write one printable line to stderr, of at most PIPE_BUF bytes, if that can be done at once."""
    line = f"sidecall: {printable(text[: select.PIPE_BUF])}".encode()
    with contextlib.suppress(OSError):
        write_now(2, line[: select.PIPE_BUF - 1] + b"\n")


def log_bug(error: BaseException) -> None:
    """Write the traceback of an unexpected exception, as `log` does."""
    for line in "".join(traceback.format_exception(error)).splitlines():
        log(line)


def key_value_pairs(fields: Mapping[str, object]) -> str:
    """Return `key=value` pairs without the empty ones. A value with spaces, quotes or `=` is quoted as JSON."""
    return " ".join(f"{name}={_quoted(value)}" for name, value in fields.items() if value not in ("", [], {}))


def _quoted(value: object) -> str:
    is_plain = isinstance(value, str) and value.isprintable() and not set(value) & set(' "=')
    return str(value) if is_plain else json.dumps(value)


def write_now(fd: int, data: bytes) -> None:
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
