"""What the end of a call means: an EXIT as an outcome, and what lost bytes do to it. Pure."""

from __future__ import annotations

import errno
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

from sidecall import texts
from sidecall.errors import EXIT_LOST, ProtocolError, one_line
from sidecall.outcome import EXITED, LOST, OUTPUT_FAILED, SIGNALED, TIMED_OUT, Outcome, Usage
from sidecall.protocol import messages as m
from sidecall.protocol.options import STOPPED_BY, Details

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecall.errors import SidecallError
    from sidecall.transport.relay import Relay

    End = Outcome | bytes | SidecallError

_KINDS = {
    m.ENDED_EXITED: EXITED,
    m.ENDED_SIGNALED: SIGNALED,
    m.ENDED_TIMED_OUT: TIMED_OUT,
    m.ENDED_OUTPUT_FAILED: OUTPUT_FAILED,
}
_LAST_SIGNAL = 64
"""SIGRTMAX. Source: signal(7)."""

_EXPLAINED = {TIMED_OUT: texts.TIMED_OUT, OUTPUT_FAILED: texts.OUTPUT_FAILED, LOST: texts.END_UNKNOWN}
_STREAMS = ("stdin", "stdout", "stderr")


def outcome_of(end: m.Exit, call_id: str) -> Outcome | ProtocolError:
    """Return what an EXIT reports; `call_id` is empty if the command has not been started.

    Only a signal ends a call that has not started. An end of an unknown kind is an unknown outcome.
    """
    kind = _KINDS.get(end.ended, LOST)
    is_lethal = 0 < end.value <= _LAST_SIGNAL and end.value not in m.NEVER_LETHAL_SIGNALS
    is_possible = is_lethal if kind == SIGNALED else call_id or kind == LOST
    if not is_possible:
        return ProtocolError(*texts.END_IMPOSSIBLE(ended=end.ended, value=end.value))
    details = Details(end.details)
    reason, hint = _EXPLAINED[kind]() if kind in _EXPLAINED else ("", "")
    if kind == OUTPUT_FAILED and (told := one_line(details.text(b"reason"))):
        reason = f"{reason}: {told}"
    values = {EXITED: end.value, SIGNALED: end.value, LOST: EXIT_LOST}
    return Outcome(
        kind,
        values.get(kind, 0),
        core_dumped=details.number(b"core-dumped") == 1,
        reason=reason,
        hint=hint,
        call_id=call_id,
        stopped=details.choice(b"stopped", STOPPED_BY),
        terminated=details.number(b"terminated"),
        usage=_usage(details) if call_id else None,
    )


def _usage(details: Details) -> Usage:
    queued, run, user, system = (
        details.number(name) / 1e6 for name in (b"queued-us", b"run-us", b"user-us", b"system-us")
    )
    return Usage(queued, run, user, system, details.number(b"max-rss"))


def check_streams(end: End, relay: Relay, on_lost_bytes: Callable[[str], None]) -> End:
    """Return an end as it is after what happened to the relayed streams.

    A command that exited with 0 has not succeeded if bytes from or to it are lost. If its reader had closed the stream,
    it ends as by a write of its own: of SIGPIPE. Any other error is reported whatever the command's status; its SIGPIPE
    is then the effect of that error.

    Args:
        end: how the call ended.
        relay: its relayed streams.
        on_lost_bytes: called with a line about each error that changes nothing.
    """
    for stream in (m.STDIN, m.STDOUT, m.STDERR):
        error = relay.errors.get(stream)
        if error is None:
            continue
        if error.errno == errno.EPIPE:
            if relay.has_lost(stream) and isinstance(end, Outcome) and end.ok:
                end = replace(end, kind=SIGNALED, value=int(signal.SIGPIPE))
        elif isinstance(end, Outcome) and _is_doubtful(end, stream):
            reason, hint = _describe(stream, error)
            end = replace(end, kind=LOST, value=EXIT_LOST, reason=reason, hint=hint)
        elif error.errno == errno.ETIMEDOUT:
            on_lost_bytes(texts.OUTPUT_DROPPED(stream=_STREAMS[stream])[0])
        else:
            on_lost_bytes(_describe(stream, error)[0])
    return end


def _is_doubtful(outcome: Outcome, stream: int) -> bool:
    """Tell whether an outcome cannot stand if bytes of a stream are lost."""
    by_sigpipe = outcome.kind == SIGNALED and outcome.value == signal.SIGPIPE
    return outcome.ok or (by_sigpipe and stream != m.STDIN)


def _describe(stream: int, error: OSError) -> tuple[str, str]:
    text = texts.CANNOT_READ if stream == m.STDIN else texts.CANNOT_WRITE
    return text(stream=_STREAMS[stream], error=os.strerror(error.errno or 0))
