"""Ends of relayed streams: a `Source` reads a descriptor, a `Sink` writes one, both on a `Loop`.

They own their descriptor and close it once. Flow control is the caller's: a source reads only as much as it was
allowed, a sink reports what it has written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
import errno
import os
import stat

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecall.transport.loop import Loop

_PIPE_BUF = 4096
"""After poll(2) says writable, a pipe takes this many bytes without blocking. Source: pipe(7), PIPE_BUF."""

_NO_STREAM = {errno.EBADF, errno.EISDIR, errno.EINVAL}
"""What is no stream of bytes: a directory, what is not for reading (nohup(1) leaves such a one). Source: read(2)."""


def own_description(fd: int, flags: int) -> tuple[int, bool]:
    """Return a duplicate of `fd` to read or write on, and whether it is certain not to block.

    O_NONBLOCK belongs to the open file description, which is shared with other processes, so it must not be set on
    a descriptor that was inherited. A pipe, FIFO or terminal can be opened anew through /proc, which makes a
    description of our own. A regular file never blocks; the rest (sockets) stay as they are.
    """
    mode = os.fstat(fd).st_mode
    if stat.S_ISFIFO(mode) or (stat.S_ISCHR(mode) and os.isatty(fd)):
        try:
            again = f"/proc/self/fd/{fd}"
            return os.open(again, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), True
        except OSError:
            pass  # /proc is missing, or the file is not ours to open
    return os.dup(fd), stat.S_ISREG(mode)


class Source:
    """Reads a descriptor to its end, never more than allowed.

    Args:
        loop: where to wait.
        fd: the descriptor; the source owns it from now on.
        on_data: called with each piece.
        on_end: called once, with None at the end, or the error by which it broke off; the descriptor is closed then.
        piece: the most bytes to read at once.
    """

    def __init__(
        self,
        loop: Loop,
        fd: int,
        on_data: Callable[[bytes], None],
        on_end: Callable[[OSError | None], None],
        piece: int,
    ) -> None:
        self._loop = loop
        self._fd = fd
        self._on_data = on_data
        self._on_end = on_end
        self._piece = piece
        self._allowance = 0

    @property
    def closed(self) -> bool:
        """Tell whether the descriptor is closed."""
        return self._fd < 0

    def allow(self, size: int) -> None:
        """Allow up to `size` more bytes in total from now on."""
        if self.closed or size <= 0:
            return
        if not self._allowance:
            self._loop.add_reader(self._fd, self._read)
        self._allowance = size

    def close(self) -> None:
        """Close the descriptor without reporting an end."""
        if not self.closed:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> None:
        broke_off = None
        try:
            data = os.read(self._fd, min(self._allowance, self._piece))
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            data, broke_off = b"", None if self._has_nothing(error) else error
        if not data:
            self.close()
            self._on_end(broke_off)
            return
        self._allowance -= len(data)
        if not self._allowance:
            self._loop.remove_reader(self._fd)
        self._on_data(data)

    def _has_nothing(self, error: OSError) -> bool:
        """Tell what has no more bytes, or never had any, from what broke off: EIO is a terminal that hung up."""
        return error.errno in _NO_STREAM or (error.errno == errno.EIO and stat.S_ISCHR(os.fstat(self._fd).st_mode))


class Sink:
    """Writes what it is given to a descriptor, in order.

    Args:
        loop: where to wait.
        fd: the descriptor; the sink owns it from now on.
        on_written: called with the number of bytes each time some were written.
        on_closed: called once when the sink has closed the descriptor by itself: with None once everything is written
            after `end`, with the error if nothing more can be written. EPIPE says that the reader is gone, anything
            else (ENOSPC, EIO) that output was lost.
        nonblocking: whether a write can never block; if not, pieces stay small enough not to.
    """

    def __init__(
        self,
        loop: Loop,
        fd: int,
        on_written: Callable[[int], None],
        on_closed: Callable[[OSError | None], None],
        *,
        nonblocking: bool,
    ) -> None:
        self._loop = loop
        self._fd = fd
        self._on_written = on_written
        self._on_closed = on_closed
        self._piece = None if nonblocking else _PIPE_BUF
        self._pending = bytearray()
        self._ending = False
        self._waiting = False

    @property
    def closed(self) -> bool:
        """Tell whether the descriptor is closed."""
        return self._fd < 0

    def write(self, data: bytes) -> None:
        """Write `data` after all that came before; it is dropped if the reader is gone."""
        if self.closed:
            return
        if self._piece is None and not self._pending:
            data = data[self._try_write(data) :]
        self._pending += data
        self._wait_or_finish()

    def end(self) -> None:
        """Close the descriptor once everything is written."""
        if not self.closed:
            self._ending = True
            self._wait_or_finish()

    def close(self) -> None:
        """Close the descriptor now, and drop what was not written."""
        if not self.closed:
            self._loop.remove_writer(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _wait_or_finish(self) -> None:
        if self.closed:
            return
        if not self._pending and self._ending:
            self.close()
            self._on_closed(None)
        elif bool(self._pending) != self._waiting:
            self._waiting = not self._waiting
            if self._waiting:
                self._loop.add_writer(self._fd, self._ready)
            else:
                self._loop.remove_writer(self._fd)

    def _ready(self) -> None:
        with memoryview(self._pending) as view, view[: self._piece] as piece:
            written = self._try_write(piece)
        if self.closed:
            self._pending.clear()
        del self._pending[:written]
        self._wait_or_finish()

    def _try_write(self, data: bytes | memoryview) -> int:
        """Write what can be written now; return how much that was."""
        try:
            written = os.write(self._fd, data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self.close()
            self._on_closed(error)
            return 0
        self._on_written(written)
        return written
