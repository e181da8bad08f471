"""The small part of an event loop that moving bytes needs, and a tiny one for the caller's side.

The server runs on asyncio, whose loop fits `Loop` as it is; importing asyncio would cost a caller 45 ms, so it gets
`Poller` instead. Everything built on `Loop` works on both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
import select

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Loop(Protocol):
        """What asyncio's event loop and `Poller` have in common."""

        def add_reader(self, fd: int, callback: Callable[[], None], /) -> object:
            """Call back whenever `fd` is readable, or at its end."""
            ...

        def remove_reader(self, fd: int, /) -> object:
            """Stop calling back for reading; nothing happens if there was no callback."""
            ...

        def add_writer(self, fd: int, callback: Callable[[], None], /) -> object:
            """Call back whenever `fd` is writable, or broken."""
            ...

        def remove_writer(self, fd: int, /) -> object:
            """Stop calling back for writing; nothing happens if there was no callback."""
            ...


_READ = select.POLLIN | select.POLLHUP | select.POLLERR | select.POLLRDHUP
_WRITE = select.POLLOUT | select.POLLHUP | select.POLLERR


class Poller:
    """A loop over poll(2), which unlike epoll also takes regular files (they are always ready)."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._writers: dict[int, Callable[[], None]] = {}

    def add_reader(self, fd: int, callback: Callable[[], None], /) -> None:
        """See `Loop.add_reader`."""
        self._readers[fd] = callback
        self._register(fd)

    def remove_reader(self, fd: int, /) -> None:
        """See `Loop.remove_reader`."""
        if self._readers.pop(fd, None) is not None:
            self._register(fd)

    def add_writer(self, fd: int, callback: Callable[[], None], /) -> None:
        """See `Loop.add_writer`."""
        self._writers[fd] = callback
        self._register(fd)

    def remove_writer(self, fd: int, /) -> None:
        """See `Loop.remove_writer`."""
        if self._writers.pop(fd, None) is not None:
            self._register(fd)

    def run_once(self) -> None:
        """Wait until something is ready, and call back for all that is."""
        for fd, ready in self._poll.poll():
            for callbacks, mask in ((self._readers, _READ), (self._writers, _WRITE)):
                callback = callbacks.get(fd)
                if callback is not None and ready & mask:
                    callback()

    def _register(self, fd: int) -> None:
        mask = (select.POLLIN if fd in self._readers else 0) | (select.POLLOUT if fd in self._writers else 0)
        if mask:
            self._poll.register(fd, mask)
        else:
            self._poll.unregister(fd)
