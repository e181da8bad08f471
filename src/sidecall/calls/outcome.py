"""How a call ended, as the server knows it: for EXIT, for the audit log, for people."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from sidecall.errors import one_line
from sidecall.outcome import EXITED, OUTPUT_FAILED, SIGNALED, TIMED_OUT, from_wait_status
from sidecall.protocol import messages as m
from sidecall.protocol.options import details
from sidecall.supervise.process import Ended

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sidecall.outcome import Outcome

_NUMBERS = {
    EXITED: m.ENDED_EXITED,
    SIGNALED: m.ENDED_SIGNALED,
    TIMED_OUT: m.ENDED_TIMED_OUT,
    OUTPUT_FAILED: m.ENDED_OUTPUT_FAILED,
}


@dataclass(frozen=True)
class End:
    """The end of a call.

    Attributes:
        process: how its command ended; a made-up end by a signal if it never started.
        queued: seconds that the call waited for a slot.
        run: seconds from its start to its command's end.
        stopped: who stopped it; empty if nobody did.
        output_failed: why its output could not be created; empty if it could.
    """

    process: Ended
    queued: float
    run: float = 0.0
    stopped: str = ""
    output_failed: str = ""

    @property
    def ok(self) -> bool:
        """Tell whether the command exited with 0 by itself."""
        return self.process.status == 0 and self.kind == EXITED

    @cached_property
    def _outcome(self) -> Outcome:
        return from_wait_status(self.process.status)

    @property
    def kind(self) -> str:
        """How the call ended: one of the kinds of `sidecall.outcome`."""
        if self.stopped == "timeout":
            return TIMED_OUT
        return OUTPUT_FAILED if self.output_failed else self._outcome.kind

    def without_output(self, reason: str) -> End:
        """Return the end of a call whose command exited with 0, but whose output could not be created."""
        return replace(self, output_failed=reason)

    def message(self) -> m.Exit:
        """Return the EXIT message."""
        used = self.process.used
        given: dict[str, int | str] = {
            "queued_us": int(self.queued * 1e6),
            "run_us": int(self.run * 1e6),
            "user_us": used.user_us,
            "system_us": used.system_us,
            "max_rss": used.max_rss * 1024,
        }
        if self._outcome.core_dumped:
            given["core_dumped"] = 1
        if self.stopped:
            given["stopped"] = self.stopped
        if self.output_failed:
            given["reason"] = one_line(self.output_failed)
        if self.process.terminated:
            given["terminated"] = self.process.terminated
        return m.Exit(_NUMBERS[self.kind], self._outcome.value, details(given))

    def fields(self) -> dict[str, object]:
        """Return the end as fields of an event; times in seconds, memory in bytes."""
        used = self.process.used
        fields: dict[str, object] = {"outcome": self.kind, "value": self._outcome.value}
        if self.stopped:
            fields["stopped"] = self.stopped
        if self.process.terminated:
            fields["terminated"] = self.process.terminated
        if self._outcome.core_dumped:
            fields["core_dumped"] = 1
        if self.output_failed:
            fields["reason"] = self.output_failed
        return fields | {
            "queued": round(self.queued, 6),
            "run": round(self.run, 6),
            "user": used.user_us / 1e6,
            "system": used.system_us / 1e6,
            "max_rss": used.max_rss * 1024,
        }


def exit_of(fields: Mapping[str, Any]) -> m.Exit:
    """Return the EXIT message of an end that was recorded: of the fields of an event that is final."""
    kind = fields["outcome"]
    given = {f"{name}_us": round(fields[name] * 1e6) for name in ("queued", "run", "user", "system") if name in fields}
    given |= {name: fields[name] for name in ("core_dumped", "stopped", "terminated", "max_rss") if name in fields}
    if "reason" in fields:
        given["reason"] = one_line(fields["reason"])
    return m.Exit(_NUMBERS.get(kind, m.ENDED_LOST), fields.get("value", 0), details(given))


def signaled_before_start(number: int, queued: float) -> End:
    """Return the end of a call that a signal of its client ended before its command started."""
    return End(Ended(status=number), queued)
