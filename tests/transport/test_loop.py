"""The client's loop: files of any kind, timers in order, and callbacks that change what is waited for."""

from __future__ import annotations

import os
import tempfile

from sidecall.transport.loop import Poller


def test_a_regular_file_is_always_ready() -> None:
    """As for poll(2), and not for epoll."""
    loop, called = Poller(), []
    with tempfile.TemporaryFile() as file:
        loop.add_reader(file.fileno(), lambda: called.append("read"))
        loop.add_writer(file.fileno(), lambda: called.append("write"))
        loop.run_once()
        loop.remove_reader(file.fileno())
        loop.run_once()
        loop.remove_writer(file.fileno())
    assert called == ["read", "write", "write"]


def test_removing_what_was_never_added_does_nothing() -> None:
    """Twice as well."""
    loop = Poller()
    for _ in range(2):
        loop.remove_reader(0)
        loop.remove_writer(0)


def test_timers_are_due_in_order_and_once() -> None:
    """A cancelled one is not, also if it is the next."""
    loop, called = Poller(), []
    first = loop.call_later(0.0, lambda: called.append("cancelled"))
    loop.call_later(0.02, lambda: called.append("third"))
    loop.call_later(0.01, lambda: called.append("second"))
    loop.call_later(0.0, lambda: called.append("first"))
    first.cancel()
    first.cancel()
    while len(called) < 3:
        loop.run_once()
    assert called == ["first", "second", "third"]


def test_a_timer_that_another_one_cancels_is_not_due() -> None:
    """Though both were due at once."""
    loop, called = Poller(), []

    def one() -> None:
        called.append("one")
        other.cancel()

    loop.call_later(-2.0, one)
    other = loop.call_later(-1.0, lambda: called.append("other"))
    loop.run_once()
    assert called == ["one"]


def test_a_reader_that_another_one_removes_is_not_called() -> None:
    """Though both were ready at once."""
    loop, called = Poller(), []
    pipes = [os.pipe() for _ in range(2)]

    def read(own: int, other: int) -> None:
        called.append(own)
        loop.remove_reader(other)

    (one, one_end), (other, other_end) = pipes
    loop.add_reader(one, lambda: read(one, other))
    loop.add_reader(other, lambda: read(other, one))
    os.write(one_end, b"x")
    os.write(other_end, b"x")
    loop.run_once()
    assert len(called) == 1
    for fd in (one, one_end, other, other_end):
        os.close(fd)


def test_the_end_of_a_pipe_is_readable_and_a_broken_one_writable() -> None:
    """So that a hang-up is found by reading or writing."""
    loop, called = Poller(), []
    readable, writable = os.pipe()
    os.close(writable)
    loop.add_reader(readable, lambda: called.append("read"))
    loop.run_once()
    loop.remove_reader(readable)
    os.close(readable)
    readable, writable = os.pipe()
    os.close(readable)
    loop.add_writer(writable, lambda: called.append("write"))
    loop.run_once()
    os.close(writable)
    assert called == ["read", "write"]
