"""The one account of what happens to calls. Log, audit and whatever counts calls read it; nothing writes a second one.

An event has the name of what has happened, the call it happened to, and fields. Readers are called at once, in the
order in which they were added; none of them waits or raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sidecall.calls.log import RateLimit, key_value_pairs

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecall.calls.call import Call

RECEIVED = "received"
QUEUED = "queued"
STARTED = "started"
SIGNAL_REFUSED = "signal-refused"
STOPPING = "stopping"
OUTPUT_FAILED = "output-failed"
REFUSED = "refused"
ENDED = "ended"
LOST = "lost"

FINAL = frozenset({REFUSED, ENDED, LOST})
"""Each call has exactly one of these, and nothing after it."""


class Reader(Protocol):
    """Takes events."""

    def __call__(self, event: str, call: Call, fields: dict[str, object], /) -> None:
        """Take one event."""
        ...


class Events:
    """Hands each event to all readers.

    Attributes:
        readers: who reads.
    """

    def __init__(self, *readers: Reader) -> None:
        self.readers = [*readers]

    @property
    def is_read(self) -> bool:
        """Tell whether anybody reads, so that fields are worth making."""
        return bool(self.readers)

    def emit(self, event: str, call: Call, **fields: object) -> None:
        """Report what has happened to a call."""
        for reader in self.readers:
            reader(event, call, fields)


class LogReader:
    """Writes each event as one line: past tense and key=value.

    Args:
        log: gets the line.
    """

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._rate = RateLimit()

    def __call__(self, event: str, call: Call, fields: dict[str, object]) -> None:
        """Write the line of an event."""
        omitted = self._rate.allows((event, call.owner.key))
        if omitted is None:
            return
        if event == RECEIVED:
            fields = {"uid": call.owner.peer.uid, "listener": call.owner.listener, "command": call.command}
        elif event == ENDED:
            fields = {
                name: fields[name] for name in ("outcome", "value", "run", "stopped", "terminated") if name in fields
            }
        self._log(f"call {call.id} {event} {key_value_pairs(fields)}".rstrip() + omitted)
