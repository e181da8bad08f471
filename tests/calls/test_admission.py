"""Admission: the reasons for refusals, and against a model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecall.calls.admission import MIN_JOINED, Admission, PipeEnd
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


def reads(pipe: bytes, owner: str = "me") -> PipeEnd:
    """Return the end of a pipe that a call reads."""
    return PipeEnd(owner, pipe, is_read=True)


def writes(pipe: bytes, owner: str = "me") -> PipeEnd:
    """Return the end of a pipe that a call writes to."""
    return PipeEnd(owner, pipe, is_read=False)


def test_the_other_end_of_a_pipe_needs_no_slot() -> None:
    """Of a running call of the same owner, and the opposite end; also if the call must not wait."""
    admission: Admission[str] = Admission(1, 9)
    assert admission.admit("a", can_queue=True, ends=[writes(b"1")]) == 0
    assert admission.admit("another's", can_queue=True, ends=[reads(b"1", "you")]) == 1
    assert admission.admit("same end", can_queue=True, ends=[writes(b"1")]) == 2
    assert admission.admit("other pipe", can_queue=True, ends=[reads(b"2")]) == 3
    assert admission.admit("b", can_queue=False, ends=[reads(b"1"), writes(b"3")]) == 0
    assert list(admission.start_waiting()) == []
    assert admission.admit("second reader", can_queue=True, ends=[reads(b"1")]) == 4
    assert (admission.slots_in_use, admission.running, admission.waiting) == (1, 2, 4)


def test_what_waits_starts_with_the_call_that_it_is_joined_to() -> None:
    """However long the pipeline, and in whatever order its calls come."""
    admission: Admission[str] = Admission(1, 9)
    admission.admit("x", can_queue=True)
    admission.admit("c", can_queue=True, ends=[reads(b"2")])
    admission.admit("y", can_queue=True)
    admission.admit("a", can_queue=True, ends=[writes(b"1")])
    admission.admit("b", can_queue=True, ends=[reads(b"1"), writes(b"2")])
    assert list(admission.release("x")) == ["c", "b", "a"]
    assert list(admission.release("b")) == []
    assert list(admission.release("c")) == ["y"]


def test_the_next_writer_follows_the_one_that_ends() -> None:
    """One call at each end is enough, and there is one at each for as long as any waits."""
    admission: Admission[str] = Admission(1, 9)
    admission.admit("reader", can_queue=True, ends=[reads(b"1")])
    assert admission.admit("first", can_queue=True, ends=[writes(b"1")]) == 0
    assert admission.admit("second", can_queue=True, ends=[writes(b"1")]) == 1
    assert list(admission.release("first")) == ["second"]


def test_calls_without_a_slot_are_bounded_and_keep_no_slot() -> None:
    """A client that invents pipes gets no slot of another one; what was refused starts when there is room."""
    admission: Admission[str] = Admission(1, 99)
    admission.admit("0", can_queue=True, ends=[writes(b"0")])
    for number in range(1, 20):
        admission.admit(str(number), can_queue=True, ends=[reads(b"%d" % (number - 1)), writes(b"%d" % number)])
    admission.admit("another's", can_queue=True)
    assert admission.running == 1 + MIN_JOINED
    assert list(admission.release("0")) == [str(1 + MIN_JOINED)]
    assert list(admission.release("1")) == [str(2 + MIN_JOINED)]
    admission.close()
    assert list(admission.release("2")) == []


@given(
    st.integers(1, 2),
    st.lists(
        st.tuples(st.booleans(), st.sets(st.builds(PipeEnd, st.just(0), st.sampled_from([b"1", b"2"]), st.booleans()))),
        max_size=30,
    ),
    st.data(),
)
def test_no_pipe_of_a_running_call_waits_at_its_other_end(
    slots: int, steps: list[tuple[bool, set[PipeEnd]]], data: st.DataObject
) -> None:
    """Over any history: unless the bound is reached, and nothing is left of calls that have gone."""
    admission: Admission[int] = Admission(slots, 99)
    running: dict[int, set[PipeEnd]] = {}
    waiting: dict[int, set[PipeEnd]] = {}
    for call, (comes, ends) in enumerate(steps):
        present = {**running, **waiting}
        if comes or not present:
            (waiting if admission.admit(call, can_queue=True, ends=ends) else running)[call] = ends
            started = list(admission.start_waiting())
        else:
            leaver = data.draw(st.sampled_from(sorted(present)))
            running.pop(leaver, None)
            waiting.pop(leaver, None)
            started = list(admission.release(leaver))
        for each in started:
            running[each] = waiting.pop(each)
        served = {end for ends in running.values() for end in ends}
        needed = {end for ends in waiting.values() for end in ends if end.other in served and end not in served}
        assert not needed or admission.running - admission.slots_in_use >= MIN_JOINED
        assert (admission.running, admission.waiting) == (len(running), len(waiting))
    for call in [*running, *waiting]:
        list(admission.release(call))
    assert not any(getattr(admission, name) for name in ("_ends", "_running_at", "_waiting_at", "_changed"))
