"""The messages as a whole: what no test of one of them sees. PROTOCOL.md's field lists: test_page.py."""

from __future__ import annotations

import signal

import pytest

from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode


def test_numbers_are_taken_once_and_notices_can_be_ignored() -> None:
    """A type is one byte; only NOTICE may be dropped by who does not know it."""
    assert len({message.__name__ for message in m.MESSAGES.values()}) == len(m.MESSAGES)
    assert all(number == message.number and 0 < number < 256 for number, message in m.MESSAGES.items())
    assert [number for number in m.MESSAGES if number >= m.FIRST_IGNORABLE] == [m.Notice.number]


def test_limits_hold_what_they_are_for() -> None:
    """A full piece of a stream fits into DATA; a window has room for several; a list of calls is largest."""
    assert len(encode(m.Data(1, bytes(m.MAX_DATA)))) - 5 == m.Data.limit
    assert m.INITIAL_WINDOW >= 2 * m.MAX_DATA
    assert max(message.limit for message in m.MESSAGES.values()) == m.CALLS_LIMIT == m.Calls.limit


def test_signals_are_those_of_linux() -> None:
    """Each set is what its description says, by name."""
    named = {kind: {signal.Signals(n).name for n in kind} for kind in (m.SIGNALS, m.NEVER_LETHAL_SIGNALS)}
    assert named[m.SIGNALS] == {
        "SIGHUP", "SIGINT", "SIGQUIT", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGTERM", "SIGCONT", "SIGTSTP",
    }  # fmt: skip
    assert named[m.NEVER_LETHAL_SIGNALS] == {
        "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGWINCH",
    }  # fmt: skip
    assert {signal.SIGKILL} == m.SIGNALS - m.FORWARDED_SIGNALS
    assert not m.ENDING_SIGNALS & m.NEVER_LETHAL_SIGNALS


def test_messages_are_values() -> None:
    """They compare by content and cannot be changed."""
    assert m.Queued(1) == m.Queued(1) != m.Queued(2)
    with pytest.raises(AttributeError):
        m.Queued(1).ahead = 2  # type: ignore[misc]
    assert m.hello("x", (b"n",)) == m.Hello(m.VERSION, (b"n",), tuple(sorted(m.FEATURES)), "x")
    assert m.Follow(b"".decode(), m.PASSED, m.RELAYED, 0, 0).streams == (m.NONE, m.PASSED, m.RELAYED)
