"""How a call ended, as EXIT and as an event."""

from __future__ import annotations

import pytest

from sidecall.calls.outcome import End, signaled_before_start
from sidecall.protocol import messages as m
from sidecall.supervise.process import Ended, ResourceUsage


@pytest.mark.parametrize(
    ("end", "ended", "value", "kind", "ok"),
    [
        (End(Ended(0), 0.0), m.ENDED_EXITED, 0, "exited", True),
        (End(Ended(0x300), 0.0), m.ENDED_EXITED, 3, "exited", False),
        (End(Ended(9), 0.0), m.ENDED_SIGNALED, 9, "signaled", False),
        (End(Ended(15), 0.0, stopped="timeout"), m.ENDED_TIMED_OUT, 15, "timed-out", False),
        (End(Ended(0), 0.0, stopped="timeout"), m.ENDED_TIMED_OUT, 0, "timed-out", False),
        (End(Ended(0), 0.0).without_output("why"), m.ENDED_OUTPUT_FAILED, 0, "output-failed", False),
        (signaled_before_start(2, 0.5), m.ENDED_SIGNALED, 2, "signaled", False),
    ],
)
def test_kinds_of_ends(end: End, ended: int, value: int, kind: str, ok: bool) -> None:
    """Each end has its number in EXIT and its name in the log; only an exit with 0 by itself is fine."""
    message = end.message()
    assert (message.ended, message.value) == (ended, value)
    assert (end.fields()["outcome"], end.ok) == (kind, ok)


def test_details_are_there_only_if_they_mean_something() -> None:
    """`stopped`, `terminated` and `core-dumped` are absent if nothing of that happened."""
    plain = End(Ended(0, ResourceUsage(1, 2, 3)), 0.5, 1.5)
    always = (b"queued-us=500000", b"run-us=1500000", b"user-us=1", b"system-us=2", b"max-rss=3072")
    assert plain.message().details == always
    full = End(Ended(0x80 | 6, ResourceUsage(1, 2, 3), terminated=2), 0.5, 1.5, "operator")
    assert full.message().details == (*always, b"core-dumped=1", b"stopped=operator", b"terminated=2")
    assert full.fields() == full.fields() | {"stopped": "operator", "terminated": 2, "max_rss": 3072, "queued": 0.5}
    assert not {"stopped", "terminated", "reason"} & plain.fields().keys()
