"""How a call ended, and which exit code that is. Pure: no process is touched here.

A call is *exited n*, *signaled s*, *timed out*, *refused* or *lost*; they are never mixed up, and only the first two
describe the command's own end. One more is *output-failed*: it exited with 0, but its output could not be created.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sidecall.errors import EXIT_LOST, EXIT_OUTPUT_FAILED, EXIT_TIMED_OUT, ConnectionLost, SidecallError

EXITED = "exited"
SIGNALED = "signaled"
TIMED_OUT = "timed-out"
OUTPUT_FAILED = "output-failed"
REFUSED = "refused"
LOST = "lost"
DETACHED = "detached"
"""The command has been started, and its client does not wait for its end."""


@dataclass(frozen=True)
class Usage:
    """What a call took: times in seconds, memory in bytes. Source: wait4(2) and the server's clock."""

    queued: float
    run: float
    user: float
    system: float
    max_rss: int


@dataclass(frozen=True)
class Outcome:
    """How one call ended.

    Attributes:
        kind: one of the names above.
        value: the exit code of an exited command, the number of the signal that killed it, or the code of a refusal.
        core_dumped: whether the kernel wrote a core dump.
        reason: for people; empty where the command ended by itself.
        hint: what can be done about it.
        call_id: the call's id; empty if it never started.
        stopped: who stopped the call: `client`, `timeout`, `operator` or `shutdown`; empty if nobody did.
        terminated: how many background processes were terminated after the command had exited by itself.
        usage: what the call took; None if that is unknown.
    """

    kind: str
    value: int = 0
    core_dumped: bool = False
    reason: str = ""
    hint: str = ""
    call_id: str = ""
    stopped: str = ""
    terminated: int = 0
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
        elif self.kind != DETACHED:
            fields |= {"exit_code": self.exit_code, "reason": self.reason, "hint": self.hint}
        if self.call_id:
            fields["call"] = self.call_id
        if self.stopped:
            fields["stopped"] = self.stopped
        if self.terminated:
            fields["terminated"] = self.terminated
        if self.usage is not None:
            fields["usage"] = asdict(self.usage)
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
