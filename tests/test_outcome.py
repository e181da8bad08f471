"""How ends become exit codes and JSON."""

from __future__ import annotations

import pytest

from sidecall import errors
from sidecall.outcome import EXITED, LOST, REFUSED, SIGNALED, TIMED_OUT, Outcome, Usage, from_error, from_wait_status


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0x0000, Outcome(EXITED, 0)),
        (0x0100, Outcome(EXITED, 1)),
        (0xFF00, Outcome(EXITED, 255)),
        (0x0009, Outcome(SIGNALED, 9)),
        (0x0086, Outcome(SIGNALED, 6, core_dumped=True)),
        (0x0040, Outcome(SIGNALED, 64)),
    ],
)
def test_wait_statuses(status: int, outcome: Outcome) -> None:
    """A wait status is an exit code or a signal, never both: wait(2)."""
    assert from_wait_status(status) == outcome


@pytest.mark.parametrize(
    ("outcome", "code", "ok"),
    [
        (Outcome(EXITED, 0), 0, True),
        (Outcome(EXITED, 255), 255, False),
        (Outcome(SIGNALED, 15), 143, False),
        (Outcome(TIMED_OUT), 124, False),
        (Outcome(LOST), 125, False),
        (Outcome(REFUSED, 77), 77, False),
    ],
)
def test_exit_codes(outcome: Outcome, code: int, ok: bool) -> None:
    """Every end has its code, and only an exit with 0 is fine."""
    assert (outcome.exit_code, outcome.ok) == (code, ok)


def test_json_says_only_what_means_something() -> None:
    """An outcome's JSON names its kind, and the fields of that kind."""
    usage = Usage(queued=0.0, run=1.5, user=0.1, system=0.2, max_rss=4096)
    assert Outcome(EXITED, 3, call_id="7", usage=usage).as_dict() == {
        "outcome": "exited",
        "code": 3,
        "call": "7",
        "usage": {"queued": 0.0, "run": 1.5, "user": 0.1, "system": 0.2, "max_rss": 4096},
    }
    lost = from_error(errors.ConnectionLost("gone", "look"))
    assert lost.as_dict() == {"outcome": "lost", "exit_code": 125, "reason": "gone", "hint": "look"}


def test_the_table_of_codes() -> None:
    """The codes are those that the documents promise."""
    kinds: list[type[errors.SidecallError]] = [*errors.REFUSALS, errors.ConfigError, errors.ConnectionLost]
    assert [kind.code for kind in kinds] == [64, 69, 75, 76, 77, 126, 127, 78, 125]


@pytest.mark.parametrize("kind", errors.REFUSALS)
def test_refusals_come_back_as_what_they_were(kind: type[errors.SidecallError]) -> None:
    """A REFUSED message raises at the caller what was raised at the service."""
    error = errors.refusal(kind.code, "why", "what to do")
    assert (type(error), error.reason, error.hint) == (kind, "why", "what to do")


def test_an_unknown_refusal_is_the_peers_fault() -> None:
    """A code that is not in the table is never taken for an exit code."""
    assert type(errors.refusal(0, "x", "")) is errors.ProtocolError
    assert type(errors.refusal(1, "x", "")) is errors.DescriptorsLost
