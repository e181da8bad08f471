"""How a call ended, and what the caller does about it. Pure: no process is touched here.

The words are those of the design: a call is *exited n*, *signaled s*, *timed out*, *refused* or *lost*; they are
never mixed up, and only the first two speak of the command's own end. One more: *output_failed*, the command returned 0 but
what it wrote could not be put into its place.
"""

from __future__ import annotations

from sidecall._record import Record
from sidecall.errors import EXIT_LOST, EXIT_TIMED_OUT, EXIT_OUTPUT_FAILED, ConnectionLost, SidecallError

EXITED = "exited"
SIGNALED = "signaled"
TIMED_OUT = "timed-out"
OUTPUT_FAILED = "output_failed"
REFUSED = "refused"
LOST = "lost"


class Usage(Record):
    """What a call took: times in seconds, memory in bytes. Source: wait4(2) and the server's clock."""

    queued: float
    run: float
    user: float
    system: float
    max_rss: int


class Outcome(Record):
    """How one call ended.

    `value` is the exit code of an exited command, the number of the signal that killed it, or the code of a refusal.
    `reason` and `hint` are for people and empty where the command ended by itself.
    """

    kind: str
    value: int = 0
    core_dumped: bool = False
    reason: str = ""
    hint: str = ""
    call_id: str = ""
    usage: Usage | None = None

    @property
    def ok(self) -> bool:
        """Tell whether the command ran and returned 0."""
        return self.kind == EXITED and self.value == 0

    @property
    def exit_code(self) -> int:
        """The code to exit with; for a killed command 128 + its signal, as POSIX shells report it."""
        codes = {
            SIGNALED: 128 + self.value,
            TIMED_OUT: EXIT_TIMED_OUT,
            OUTPUT_FAILED: EXIT_OUTPUT_FAILED,
            LOST: EXIT_LOST,
        }
        return codes.get(self.kind, self.value)

    def as_dict(self) -> dict[str, object]:
        """Return what `--outcome-fd` writes: only JSON types, only the fields that mean something."""
        fields: dict[str, object] = {"outcome": self.kind}
        if self.kind == EXITED:
            fields["code"] = self.value
        elif self.kind == SIGNALED:
            fields |= {"signal": self.value, "core_dumped": self.core_dumped}
        else:
            fields |= {"exit_code": self.exit_code, "reason": self.reason, "hint": self.hint}
        if self.call_id:
            fields["call"] = self.call_id
        if self.usage is not None:
            fields["usage"] = dict(zip(Usage.FIELDS, self.usage.astuple(), strict=True))
        return fields


def from_wait_status(status: int) -> Outcome:
    """Translate the status of a wait call (wait(2), W* macros) that reports an end, not a stop."""
    signal_number = status & 0x7F
    if signal_number:
        return Outcome(SIGNALED, signal_number, core_dumped=bool(status & 0x80))
    return Outcome(EXITED, status >> 8 & 0xFF)


def from_error(error: SidecallError) -> Outcome:
    """Translate an error: a lost connection is *lost*, everything else *refused*."""
    kind = LOST if isinstance(error, ConnectionLost) else REFUSED
    return Outcome(kind, error.code, reason=error.reason, hint=error.hint)
