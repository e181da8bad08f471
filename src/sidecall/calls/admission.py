"""Admission control: slots and a FIFO queue. Pure; `call` does the I/O.

Up to `slots` calls run concurrently and up to `queue` more wait, in the order of their arrival. Others are refused.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

from sidecall.errors import ServiceBusy

if TYPE_CHECKING:
    from collections.abc import Iterator

Call = TypeVar("Call")


SHUTTING_DOWN = ("the service is shutting down", "call again once it has restarted, with `--connect-timeout SECONDS`")
"""Why no further call starts, and a hint."""


class Admission(Generic[Call]):
    """The slots and the queue of one service.

    Args:
        slots: how many calls can run concurrently.
        queue: how many more can wait.

    Attributes:
        closed: whether every further call is refused.
    """

    def __init__(self, slots: int, queue: int) -> None:
        self.slots = slots
        self.queue = queue
        self.closed = False
        self._running: set[Call] = set()
        self._waiting: OrderedDict[Call, None] = OrderedDict()

    @property
    def running(self) -> int:
        """How many calls have a slot."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return len(self._waiting)

    @property
    def has_room(self) -> bool:
        """Whether a slot is free."""
        return len(self._running) < self.slots

    def admit(self, call: Call, *, can_queue: bool) -> int:
        """Admit a call; return 0 if it has a slot, else its place in the queue, counted from 1.

        Raises:
            ServiceBusy: the queue is full, no slot is free and the call must not wait, or the service is shutting down.
        """
        if self.closed:
            raise ServiceBusy(*SHUTTING_DOWN)
        if self.has_room:
            self._running.add(call)
            return 0
        if not can_queue:
            raise ServiceBusy(f"all {self.slots} slots are in use", "call without `--no-queue`, or try again later")
        if len(self._waiting) >= self.queue:
            raise ServiceBusy(
                f"all {self.slots} slots are in use and the queue of {self.queue} is full", "try again later"
            )
        self._waiting[call] = None
        return len(self._waiting)

    def release(self, call: Call) -> Iterator[Call]:
        """Remove a call, running or waiting; yield each call that gets a slot by that."""
        self._waiting.pop(call, None)
        self._running.discard(call)
        yield from self._fill()

    def resize(self, slots: int, queue: int) -> Iterator[Call]:
        """Change the numbers for future calls; yield each call that gets a slot by that."""
        self.slots, self.queue = slots, queue
        yield from self._fill()

    def close(self) -> None:
        """Refuse every further call; a waiting one gets no slot any more."""
        self.closed = True

    def _fill(self) -> Iterator[Call]:
        while not self.closed and self._waiting and self.has_room:
            first, _ = self._waiting.popitem(last=False)
            self._running.add(first)
            yield first
