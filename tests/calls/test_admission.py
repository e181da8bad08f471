"""Admission: the reasons for refusals, and against a model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecall.calls.admission import Admission
from sidecall.errors import ServiceBusy


@pytest.mark.parametrize(
    ("queue", "can_queue", "reason", "hint"),
    [
        (5, False, "all 1 slots are in use", "call without `--no-queue`, or try again later"),
        (0, False, "all 1 slots are in use", "call without `--no-queue`, or try again later"),
        (0, True, "all 1 slots are in use and the queue of 0 is full", "try again later"),
    ],
)
def test_why_a_call_is_not_admitted(queue: int, can_queue: bool, reason: str, hint: str) -> None:
    """A refusal says what is full, and what the caller could do."""
    admission: Admission[int] = Admission(1, queue)
    admission.admit(1, can_queue=True)
    with pytest.raises(ServiceBusy) as error:
        admission.admit(2, can_queue=can_queue)
    assert (error.value.reason, error.value.hint, error.value.code) == (reason, hint, 75)
    assert (admission.running, admission.waiting) == (1, 0)


def test_leaving_without_having_come_is_nothing() -> None:
    """A call that was refused may leave; nobody gets a slot by it."""
    admission: Admission[int] = Admission(1, 1)
    admission.admit(1, can_queue=True)
    admission.admit(2, can_queue=True)
    assert list(admission.release(9)) == []
    assert (admission.running, admission.waiting) == (1, 1)


@given(st.integers(1, 3), st.integers(0, 3), st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 9))))
def test_slots_are_full_before_anybody_waits_and_arrival_decides(
    slots: int, queue: int, steps: list[tuple[bool, bool, int]]
) -> None:
    """Over any history: never too many, never an idle slot beside a waiting call, always the longest waiting next."""
    admission: Admission[int] = Admission(slots, queue)
    running: list[int] = []
    waiting: list[int] = []
    for call, (comes, can_queue, which) in enumerate(steps):
        present = running + waiting
        if comes or not present:
            if len(running) < slots:
                assert admission.admit(call, can_queue=can_queue) == 0
                running.append(call)
            elif can_queue and len(waiting) < queue:
                waiting.append(call)
                assert admission.admit(call, can_queue=True) == len(waiting)
            else:
                with pytest.raises(ServiceBusy):
                    admission.admit(call, can_queue=can_queue)
        else:
            leaver = present[which % len(present)]
            if leaver in waiting:
                waiting.remove(leaver)
                assert list(admission.release(leaver)) == []
            else:
                running.remove(leaver)
                started = [waiting.pop(0)] if waiting else []
                running += started
                assert list(admission.release(leaver)) == started
        assert (admission.running, admission.waiting) == (len(running), len(waiting))
