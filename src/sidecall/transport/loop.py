"""The small part of an event loop that moving bytes needs, and a small one over poll(2) for a client without asyncio.

asyncio's loop fits `Loop` as it is. Everything built on `Loop` works on both.
"""

from __future__ import annotations

import heapq
import itertools
import math
import select
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Timer(Protocol):
        """What `call_later` returns."""

        def cancel(self) -> None:
            """Do not call back."""
            ...

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

        def call_later(self, delay: float, callback: Callable[[], None], /) -> Timer:
            """Call back once, `delay` seconds from now."""
            ...


_READ = select.POLLIN | select.POLLHUP | select.POLLERR | select.POLLRDHUP
_WRITE = select.POLLOUT | select.POLLHUP | select.POLLERR


class _PollerTimer:
    """A callback that is due later, until it is cancelled."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """See `Timer.cancel`."""
        self.callback = None


class Poller:
    """A loop over poll(2), which unlike epoll also takes regular files (they are always ready)."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._writers: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, _PollerTimer]] = []
        self._counter = itertools.count()

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

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Timer:
        """See `Loop.call_later`."""
        timer = _PollerTimer(callback)
        heapq.heappush(self._timers, (time.monotonic() + delay, next(self._counter), timer))
        return timer

    def run_once(self) -> None:
        """Wait until something is ready or a timer is due, and call back for all that is."""
        for fd, ready in self._poll.poll(self._milliseconds_left()):
            for callbacks, mask in ((self._readers, _READ), (self._writers, _WRITE)):
                callback = callbacks.get(fd)
                if callback is not None and ready & mask:
                    callback()

        while self._timers and self._timers[0][0] <= time.monotonic():
            _, _, timer = heapq.heappop(self._timers)
            if timer.callback is not None:
                timer.callback()

    def _milliseconds_left(self) -> int | None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return None
        return min(1_000_000, max(0, math.ceil((self._timers[0][0] - time.monotonic()) * 1000)))

    def _register(self, fd: int) -> None:
        mask = (select.POLLIN if fd in self._readers else 0) | (select.POLLOUT if fd in self._writers else 0)
        if mask:
            self._poll.register(fd, mask)
        else:
            self._poll.unregister(fd)
