"""Admission control: slots, a FIFO queue and pipes. Pure; `call` does the I/O.

Up to `slots` calls run concurrently and up to `queue` more wait, in the order of their arrival. Others are refused.

Two calls that are joined by a pipe would wait for each other if one had a slot and the other none. So a call starts
without a slot of its own if it has an end of a pipe whose other end belongs to a running call, and its own end to none.
At most `slots` calls, or MIN_JOINED if that is more, run in that way; they never keep a slot from another call.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from sidecall.errors import ServiceBusy

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

Call = TypeVar("Call")

MIN_JOINED = 8
"""Calls that can run without a slot, however few slots there are: a pipeline of nine with one slot."""

SHUTTING_DOWN = ("the service is shutting down", "call again once it has restarted, with `--connect-timeout SECONDS`")
"""Why no further call starts, and a hint."""


class PipeEnd(NamedTuple):
    """An end of a pipe that a call has. The client names the pipe, so `owner` keeps apart what other clients name."""

    owner: Hashable
    pipe: bytes
    is_read: bool

    @property
    def other(self) -> PipeEnd:
        """The other end of the same pipe."""
        return self._replace(is_read=not self.is_read)


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
        self._with_slot: set[Call] = set()
        self._joined: set[Call] = set()
        self._waiting: OrderedDict[Call, None] = OrderedDict()
        self._ends: dict[Call, frozenset[PipeEnd]] = {}
        self._running_at: Counter[PipeEnd] = Counter()
        self._waiting_at: dict[PipeEnd, OrderedDict[Call, None]] = {}
        self._changed: dict[PipeEnd, None] = {}

    @property
    def slots_in_use(self) -> int:
        """How many calls have a slot."""
        return len(self._with_slot)

    @property
    def running(self) -> int:
        """How many calls run, with a slot or without."""
        return len(self._with_slot) + len(self._joined)

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return len(self._waiting)

    @property
    def has_room(self) -> bool:
        """Whether a slot is free."""
        return len(self._with_slot) < self.slots

    def admit(self, call: Call, *, can_queue: bool, ends: Iterable[PipeEnd] = ()) -> int:
        """Admit a call; return 0 if it can start, else its place in the queue, counted from 1.

        If it can start, a waiting call might be able to start with it: see `start_waiting`.

        Args:
            call: the call.
            can_queue: whether it can wait.
            ends: the ends of pipes that it has.

        Raises:
            ServiceBusy: the queue is full, no slot is free and the call must not wait, or the service is shutting down.
        """
        if self.closed:
            raise ServiceBusy(*SHUTTING_DOWN)
        self._ends[call] = own = frozenset(ends)
        if self.has_room or (self._can_join and any(map(self._is_needed, own))):
            self._start(call, self._with_slot if self.has_room else self._joined)
            return 0
        if not can_queue or len(self._waiting) >= self.queue:
            del self._ends[call]
            full = f"all {self.slots} slots are in use"
            if not can_queue:
                raise ServiceBusy(full, "call without `--no-queue`, or try again later")
            raise ServiceBusy(f"{full} and the queue of {self.queue} is full", "try again later")
        self._waiting[call] = None
        for end in own:
            self._waiting_at.setdefault(end, OrderedDict())[call] = None
            self._look_at(end)
        return len(self._waiting)

    def release(self, call: Call) -> Iterator[Call]:
        """Remove a call, running or waiting; yield each call that starts by that."""
        if call in self._waiting:
            self._dequeue(call)
        elif call in self._ends:
            self._with_slot.discard(call)
            self._joined.discard(call)
            for end in self._ends[call]:
                self._running_at[end] -= 1
                if not self._running_at[end]:
                    del self._running_at[end]
                self._look_at(end)
        self._ends.pop(call, None)
        yield from self.start_waiting()

    def resize(self, slots: int, queue: int) -> Iterator[Call]:
        """Change the numbers for future calls; yield each call that starts by that."""
        self.slots, self.queue = slots, queue
        yield from self.start_waiting()

    def close(self) -> None:
        """Refuse every further call; a waiting one does not start any more."""
        self.closed = True

    def start_waiting(self) -> Iterator[Call]:
        """Yield each waiting call that can start now: it has a slot, or needs none."""
        while not self.closed and self._waiting and self.has_room:
            yield self._start_queued(next(iter(self._waiting)), self._with_slot)
        while not self.closed and self._can_join and (call := self._next_needed()) is not None:
            yield self._start_queued(call, self._joined)

    @property
    def _can_join(self) -> bool:
        return len(self._joined) < max(self.slots, MIN_JOINED)

    def _is_needed(self, end: PipeEnd) -> bool:
        """Tell whether a running call has the other end of a pipe, and none has this one."""
        return self._running_at[end.other] > 0 and not self._running_at[end]

    def _next_needed(self) -> Call | None:
        while self._changed:
            end, _ = self._changed.popitem()
            if self._is_needed(end):
                return next(iter(self._waiting_at[end]))
        return None

    def _start_queued(self, call: Call, into: set[Call]) -> Call:
        self._dequeue(call)
        self._start(call, into)
        return call

    def _start(self, call: Call, into: set[Call]) -> None:
        into.add(call)
        for end in self._ends[call]:
            self._running_at[end] += 1
            self._look_at(end.other)

    def _dequeue(self, call: Call) -> None:
        del self._waiting[call]
        for end in self._ends[call]:
            del self._waiting_at[end][call]
            if not self._waiting_at[end]:
                del self._waiting_at[end]
                self._changed.pop(end, None)

    def _look_at(self, end: PipeEnd) -> None:
        """Remember an end at which a call waits: it might be needed now."""
        if end in self._waiting_at:
            self._changed[end] = None
