"""Who runs, who waits, who is refused. Pure: it decides, `call` acts.

`slots` calls run at once, `queue` more wait in the order of their arrival, the rest are refused at once.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

from sidecall.errors import ServiceBusy

if TYPE_CHECKING:
    from collections.abc import Iterator

Call = TypeVar("Call")


SHUTTING_DOWN = ("the service is shutting down", "call again when it is back: `--connect-timeout SECONDS`")
"""Why nothing starts any more, and what a caller can do."""


class Admission(Generic[Call]):
    """The slots and the queue of one service.

    Args:
        slots: how many calls run at once.
        queue: how many may wait.

    Attributes:
        closed: whether nobody gets in any more.
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
        """Tell whether a call would have a slot now."""
        return len(self._running) < self.slots

    def admit(self, call: Call, *, can_queue: bool) -> int:
        """Take a call in; return 0 if it has a slot, else its place in the queue, counted from 1.

        Raises:
            ServiceBusy: the queue is full, there is no slot and the call may not wait, or the service is shutting down.
        """
        if self.closed:
            raise ServiceBusy(*SHUTTING_DOWN)
        if self.has_room:
            self._running.add(call)
            return 0
        if not can_queue:
            raise ServiceBusy(f"all {self.slots} slots are taken", "call without `--no-queue`, or try again later")
        if len(self._waiting) >= self.queue:
            raise ServiceBusy(
                f"all {self.slots} slots are taken and the queue of {self.queue} is full", "try again later"
            )
        self._waiting[call] = None
        return len(self._waiting)

    def leave(self, call: Call) -> Iterator[Call]:
        """Take a call out, running or waiting; yield each call that has a slot because of it."""
        self._waiting.pop(call, None)
        self._running.discard(call)
        yield from self._fill()

    def resize(self, slots: int, queue: int) -> Iterator[Call]:
        """Change the numbers for what comes; yield each call that has a slot because of it."""
        self.slots, self.queue = slots, queue
        yield from self._fill()

    def close(self) -> None:
        """Let nobody in any more, nor give anybody who waits a slot."""
        self.closed = True

    def _fill(self) -> Iterator[Call]:
        while not self.closed and self._waiting and self.has_room:
            first, _ = self._waiting.popitem(last=False)
            self._running.add(first)
            yield first
