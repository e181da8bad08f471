"""Ends of relayed streams: a `Source` reads a descriptor, a `Sink` writes one, both on a `Loop`.

They own their descriptor and close it once. Flow control is up to their user: a source reads only as much as it was
allowed, a sink reports what it has written.
"""

from __future__ import annotations

import errno
import os
import stat
from fcntl import F_GETFL, fcntl
from socket import MSG_DONTWAIT, MSG_NOSIGNAL, socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecall.transport.loop import Loop

_PIPE_BUF = 4096
"""After poll(2) reports writable, a pipe takes this many bytes without blocking. Source: pipe(7), PIPE_BUF."""


class _Descriptor:
    """A descriptor to read or to write, without blocking as far as that is certain.

    Args:
        fd: the descriptor; this object owns it.
        nonblocking: whether its open file description has O_NONBLOCK.

    Attributes:
        fd: see above; -1 once it is closed.
        nonblocking: whether reading and writing are certain not to block: sockets take MSG_DONTWAIT, regular files and
            directories never block.
    """

    def __init__(self, fd: int, *, nonblocking: bool) -> None:
        mode = os.fstat(fd).st_mode
        self.fd = fd
        self.nonblocking = nonblocking or stat.S_ISSOCK(mode) or stat.S_ISREG(mode) or stat.S_ISDIR(mode)
        self._is_device = stat.S_ISCHR(mode)
        self._sock = socket(fileno=fd) if stat.S_ISSOCK(mode) else None

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, nothing at the end.

        Raises:
            OSError: as read(2).
        """
        try:
            return os.read(self.fd, size) if self._sock is None else self._sock.recv(size, MSG_DONTWAIT)
        except OSError as error:
            if self._is_device and error.errno in {errno.EIO, errno.EBADF}:
                return b""  # a terminal that hung up; nohup(1)'s /dev/null, which is not open for reading
            raise

    def write(self, data: bytes | memoryview) -> int:
        """Write some of `data`; return how many bytes.

        Raises:
            OSError: as write(2).
        """
        return os.write(self.fd, data) if self._sock is None else self._sock.send(data, MSG_DONTWAIT | MSG_NOSIGNAL)

    def close(self) -> None:
        """Close it."""
        if self._sock is not None:
            self._sock.close()
        elif self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


def is_open_for(fd: int, wanted: int) -> bool:
    """Tell whether a descriptor can be used as `wanted`, O_RDONLY or O_WRONLY; one of O_PATH cannot be used at all."""
    flags = fcntl(fd, F_GETFL)
    return not flags & os.O_PATH and flags & os.O_ACCMODE in {wanted, os.O_RDWR}


def own_description(fd: int, wanted: int) -> tuple[int, bool]:
    """Return a duplicate of `fd` to read (O_RDONLY) or to write (O_WRONLY) on, and whether it has O_NONBLOCK.

    O_NONBLOCK belongs to the open file description, which is shared with other processes, so it must not be set on
    a descriptor that was inherited. A pipe, FIFO or terminal can be opened anew through /proc, which makes a
    description of our own; only for what the inherited one is open for.

    Raises:
        OSError: this process can have no more descriptors.
    """
    mode = os.fstat(fd).st_mode
    if (stat.S_ISFIFO(mode) or (stat.S_ISCHR(mode) and os.isatty(fd))) and is_open_for(fd, wanted):
        try:
            again = f"/proc/self/fd/{fd}"
            return os.open(again, wanted | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), True
        except OSError:
            pass  # /proc is missing, or the file belongs to another user
    return os.dup(fd), False


class Source:
    """Reads a descriptor to its end, never more than allowed.

    One that cannot block is read first, and waited for only when it has nothing (EAGAIN). On a FIFO that was opened
    anew after its last writer has closed it, poll(2) reports no hang-up: fs/pipe.c compares with the count of writers
    at open.

    Args:
        loop: where to wait.
        fd: the descriptor; the source owns it from now on.
        on_data: called with each piece.
        on_end: called once, with None at the end, or the error by which it broke off; the descriptor is closed then.
        piece: the most bytes to read at once.
        nonblocking: whether its open file description has O_NONBLOCK.
    """

    def __init__(
        self,
        loop: Loop,
        fd: int,
        on_data: Callable[[bytes], None],
        on_end: Callable[[OSError | None], None],
        piece: int,
        *,
        nonblocking: bool = False,
    ) -> None:
        self._loop = loop
        self._descriptor = _Descriptor(fd, nonblocking=nonblocking)
        self._on_data = on_data
        self._on_end = on_end
        self._piece = piece
        self._allowance = 0
        self._is_waiting = False

    @property
    def closed(self) -> bool:
        """Tell whether the descriptor is closed."""
        return self._descriptor.fd < 0

    def allow(self, size: int) -> None:
        """Allow up to `size` more bytes in total from now on."""
        if self.closed:
            return
        self._allowance = size
        if not self._descriptor.nonblocking:
            self._wait(waits=size > 0)
        elif not self._is_waiting:
            self._read_on()

    def close(self) -> None:
        """Close the descriptor without reporting an end."""
        if not self.closed:
            self._wait(waits=False)
            self._descriptor.close()

    def _wait(self, *, waits: bool) -> None:
        if waits and not self._is_waiting:
            self._loop.add_reader(self._descriptor.fd, self._on_readable)
        elif self._is_waiting and not waits:
            self._loop.remove_reader(self._descriptor.fd)
        self._is_waiting = waits

    def _on_readable(self) -> None:
        if self._descriptor.nonblocking:
            self._read_on()
        elif self._read() and not self._allowance:
            self._wait(waits=False)

    def _read_on(self) -> None:
        """Read until there is nothing, or no more is allowed."""
        while self._allowance:
            if not self._read():
                if not self.closed:
                    self._wait(waits=True)
                return
        if not self.closed:
            self._wait(waits=False)

    def _read(self) -> bool:
        """Read once; return False if there is nothing at present, or ever again."""
        broke_off = None
        try:
            data = self._descriptor.read(min(self._allowance, self._piece))
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            data, broke_off = b"", error
        if not data:
            self.close()
            self._on_end(broke_off)
            return False
        self._allowance -= len(data)
        self._on_data(data)
        return not self.closed


class Sink:
    """Writes what it is given to a descriptor, in order.

    Args:
        loop: where to wait.
        fd: the descriptor; the sink owns it from now on.
        on_written: called with the number of bytes each time some were written.
        on_closed: called once when the sink has closed the descriptor by itself: with None once everything is written
            after `end`, with the error if nothing more can be written. EPIPE means that its reader has closed it,
            anything else (ENOSPC, EIO) that output was lost.
        nonblocking: whether its open file description has O_NONBLOCK; if not, pieces stay small enough not to block.

    Attributes:
        lost: whether it was given bytes that were not written.
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
        self.lost = False
        self._loop = loop
        self._descriptor = _Descriptor(fd, nonblocking=nonblocking)
        self._on_written = on_written
        self._on_closed = on_closed
        self._piece = None if self._descriptor.nonblocking else _PIPE_BUF
        self._pending = bytearray()
        self._ending = False
        self._waiting = False

    @property
    def closed(self) -> bool:
        """Tell whether the descriptor is closed."""
        return self._descriptor.fd < 0

    @property
    def fd(self) -> int:
        """The descriptor; -1 once it is closed."""
        return self._descriptor.fd

    def write(self, data: bytes) -> None:
        """Write `data` after all that came before; it is dropped if nothing more can be written."""
        if self.closed:
            self.lost |= bool(data)
            return
        if self._piece is None and not self._pending:
            data = data[self._try_write(data) :]
        if not self.closed:
            self._pending += data
            self._wait_or_finish()

    def end(self) -> None:
        """Close the descriptor once everything is written."""
        if not self.closed:
            self._ending = True
            self._wait_or_finish()

    def on_hang_up(self) -> None:
        """Break off: the reader has closed the other end. With bytes pending, their write reports it."""
        if not self.closed and not self._pending:
            self.break_off(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))

    def break_off(self, error: OSError) -> None:
        """Write no more, because of `error`."""
        if not self.closed:
            self.lost |= bool(self._pending)
            self.close()
            self._on_closed(error)

    def close(self) -> None:
        """Close the descriptor now, and drop what was not written."""
        if not self.closed:
            if self._waiting:
                self._loop.remove_writer(self._descriptor.fd)
            self._descriptor.close()

    def _wait_or_finish(self) -> None:
        if self.closed:
            return
        if not self._pending and self._ending:
            self.close()
            self._on_closed(None)
        elif bool(self._pending) != self._waiting:
            self._waiting = not self._waiting
            if self._waiting:
                self._loop.add_writer(self._descriptor.fd, self._ready)
            else:
                self._loop.remove_writer(self._descriptor.fd)

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
            written = self._descriptor.write(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self.lost |= bool(data)
            self.break_off(error)
            return 0
        self._on_written(written)
        return written
