"""What an EXIT means, and what lost bytes do to it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, cast

import pytest

from sidecall.client.outcome import check_streams, outcome_of
from sidecall.errors import ConnectionLost, ProtocolError
from sidecall.outcome import EXITED, LOST, OUTPUT_FAILED, SIGNALED, TIMED_OUT, Outcome, Usage
from sidecall.protocol import messages as m

if TYPE_CHECKING:
    from sidecall.transport.relay import Relay


class Streams:
    """Streams of a relay that broke off."""

    def __init__(self, errors: dict[int, int], lost: set[int]) -> None:
        self.errors = {stream: OSError(number, "") for stream, number in errors.items()}
        self._lost = lost

    def has_lost(self, stream: int) -> bool:
        """See `Relay.has_lost`."""
        return stream in self._lost


@pytest.mark.parametrize(
    ("ended", "value", "call_id", "kind", "code"),
    [
        (m.ENDED_EXITED, 7, "a", EXITED, 7),
        (m.ENDED_SIGNALED, 9, "a", SIGNALED, 137),
        (m.ENDED_SIGNALED, 64, "", SIGNALED, 192),
        (m.ENDED_TIMED_OUT, 0, "a", TIMED_OUT, 124),
        (m.ENDED_OUTPUT_FAILED, 0, "a", OUTPUT_FAILED, 73),
        (99, 0, "a", LOST, 125),
        (99, 0, "", LOST, 125),
    ],
)
def test_an_end_is_an_outcome(ended: int, value: int, call_id: str, kind: str, code: int) -> None:
    """One of an unknown kind is an unknown outcome."""
    outcome = outcome_of(m.Exit(ended, value, ()), call_id)
    assert isinstance(outcome, Outcome)
    assert (outcome.kind, outcome.exit_code, outcome.usage is not None) == (kind, code, bool(call_id))


@pytest.mark.parametrize(
    ("ended", "value", "call_id"),
    [(m.ENDED_EXITED, 0, ""), (m.ENDED_TIMED_OUT, 0, ""), (m.ENDED_SIGNALED, 0, "a"), (m.ENDED_SIGNALED, 65, "a")],
)
def test_an_impossible_end_violates_the_protocol(ended: int, value: int, call_id: str) -> None:
    """Only a signal ends a call that has not started."""
    assert isinstance(outcome_of(m.Exit(ended, value, ()), call_id), ProtocolError)


def test_details_are_fields_and_unknown_ones_are_ignored() -> None:
    """A newer server can report more."""
    details = (b"stopped=operator", b"terminated=3", b"run-us=1500000", b"core-dumped=1", b"new=x", b"max-rss=y")
    outcome = outcome_of(m.Exit(m.ENDED_SIGNALED, 15, details), "a")
    expected = Outcome(SIGNALED, 15, core_dumped=True, call_id="a", stopped="operator", terminated=3)
    assert isinstance(outcome, Outcome)
    assert outcome.usage == Usage(0, 1.5, 0, 0, 0)
    assert {**vars(outcome), "usage": None} == vars(expected)


OK, FAILED, PIPED = Outcome(EXITED, 0), Outcome(EXITED, 3), Outcome(SIGNALED, 13)


@pytest.mark.parametrize(
    ("outcome", "errors", "lost", "end", "said"),
    [
        (OK, {}, set(), (EXITED, 0), []),
        (OK, {1: errno.EPIPE}, set(), (EXITED, 0), []),
        (OK, {1: errno.EPIPE}, {1}, (SIGNALED, 13), []),
        (FAILED, {1: errno.EPIPE}, {1}, (EXITED, 3), []),
        (OK, {1: errno.ENOSPC}, {1}, (LOST, 125), []),
        (OK, {0: errno.EIO}, set(), (LOST, 125), []),
        (PIPED, {1: errno.ENOSPC}, {1}, (LOST, 125), []),
        (PIPED, {0: errno.EIO}, set(), (SIGNALED, 13), ["cannot read stdin: Input/output error"]),
        (FAILED, {2: errno.ENOSPC}, {2}, (EXITED, 3), ["cannot write stderr: No space left on device"]),
        (OK, {1: errno.EIO, 2: errno.EIO}, set(), (LOST, 125), ["cannot write stderr: Input/output error"]),
        (
            FAILED,
            {1: errno.ETIMEDOUT},
            {1},
            (EXITED, 3),
            ["the reader of stdout takes no output: the rest was dropped"],
        ),
    ],
)
def test_lost_bytes_are_no_success(
    outcome: Outcome, errors: dict[int, int], lost: set[int], end: tuple[str, int], said: list[str]
) -> None:
    """A reader that has closed the stream is SIGPIPE; any other error is reported whatever the status."""
    lines: list[str] = []
    checked = check_streams(outcome, cast("Relay", Streams(errors, lost)), lines.append)
    assert isinstance(checked, Outcome)
    assert ((checked.kind, checked.value), lines) == (end, said)


def test_a_failure_stays_one() -> None:
    """What is unknown does not become known by a full disk."""
    lines: list[str] = []
    error = ConnectionLost("lost")
    assert check_streams(error, cast("Relay", Streams({1: errno.ENOSPC}, {1})), lines.append) is error
    assert lines == ["cannot write stdout: No space left on device"]
