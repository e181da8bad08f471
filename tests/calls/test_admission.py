"""Admission in the words that a caller hears, and against a model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecall.errors import ServiceBusy
from sidecall.calls.admission import Admission


@pytest.mark.parametrize(
    ("queue", "queue_allowed", "reason", "hint"),
    [
        (5, False, "all 1 slots are taken", "call without `--no-wait`, or try again later"),
        (0, False, "all 1 slots are taken", "call without `--no-wait`, or try again later"),
        (0, True, "all 1 slots are taken and the queue of 0 is full", "try again later"),
    ],
)
def test_why_a_call_is_not_admitted(queue: int, queue_allowed: bool, reason: str, hint: str) -> None:
    """A refusal says what is full, and what the caller could do."""
    admission: Admission[int] = Admission(1, queue)
    admission.admit(1, queue_allowed=True)
    with pytest.raises(ServiceBusy) as error:
        admission.admit(2, queue_allowed=queue_allowed)
    assert (error.value.reason, error.value.hint, error.value.code) == (reason, hint, 75)
    assert (admission.running, admission.waiting) == (1, 0)


def test_leaving_without_having_come_is_nothing() -> None:
    """A call that was refused may leave; nobody gets a slot by it."""
    admission: Admission[int] = Admission(1, 1)
    admission.admit(1, queue_allowed=True)
    admission.admit(2, queue_allowed=True)
    assert list(admission.leave(9)) == []
    assert (admission.running, admission.waiting) == (1, 1)


@given(st.integers(1, 3), st.integers(0, 3), st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 9))))
def test_slots_are_full_before_anybody_waits_and_arrival_decides(
    slots: int, queue: int, steps: list[tuple[bool, bool, int]]
) -> None:
    """Over any history: never too many, never an idle slot beside a waiting call, always the longest waiting next."""
    admission: Admission[int] = Admission(slots, queue)
    running: list[int] = []
    waiting: list[int] = []
    for call, (comes, queue_allowed, which) in enumerate(steps):
        present = running + waiting
        if comes or not present:
            if len(running) < slots:
                assert admission.admit(call, queue_allowed=queue_allowed) == 0
                running.append(call)
            elif queue_allowed and len(waiting) < queue:
                waiting.append(call)
                assert admission.admit(call, queue_allowed=True) == len(waiting)
            else:
                with pytest.raises(ServiceBusy):
                    admission.admit(call, queue_allowed=queue_allowed)
        else:
            leaver = present[which % len(present)]
            if leaver in waiting:
                waiting.remove(leaver)
                assert list(admission.leave(leaver)) == []
            else:
                running.remove(leaver)
                started = [waiting.pop(0)] if waiting else []
                running += started
                assert list(admission.leave(leaver)) == started
        assert (admission.running, admission.waiting) == (len(running), len(waiting))
