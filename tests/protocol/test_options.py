"""CALL options and details: what is refused by name, what is ignored."""

from __future__ import annotations

import pytest

from sidecall.errors import ProtocolError
from sidecall.protocol.options import (
    CALL_OPTIONS,
    EXIT_DETAILS,
    PONG_DETAILS,
    STOPPED_BY,
    CallOptions,
    Details,
    TerminalRequest,
    call_options,
    details,
)


@pytest.mark.parametrize(
    ("timeout", "can_queue", "entries"),
    [
        (0, True, ()),
        (1.5, True, (b"timeout-ms=1500",)),
        (0.0001, True, (b"timeout-ms=1",)),
        (0, False, (b"queue=no",)),
        (86400, False, (b"timeout-ms=86400000", b"queue=no")),
    ],
)
def test_options_are_what_was_asked_for(timeout: float, can_queue: bool, entries: tuple[bytes, ...]) -> None:
    """What is not asked for is left out; a timeout is never rounded to none."""
    assert call_options(timeout, can_queue=can_queue) == entries
    options = CallOptions(entries)
    assert options.can_queue is can_queue
    assert options.timeout == (max(timeout, 0.001) if timeout else None)


@pytest.mark.parametrize(
    ("terminal", "entries"),
    [
        (TerminalRequest(24, 80, b"xterm-256color"), (b"terminal=24x80", b"term=xterm-256color")),
        (TerminalRequest(0, 65535), (b"terminal=0x65535",)),
        (None, ()),
    ],
)
def test_a_terminal_is_what_was_asked_for(terminal: TerminalRequest | None, entries: tuple[bytes, ...]) -> None:
    """Its size, and its type if that is known."""
    assert call_options(0, can_queue=True, terminal=terminal) == entries
    assert CallOptions(entries).terminal == terminal


@pytest.mark.parametrize("term", [b"../../x", b"a b", b"x" * 65, b"\xff"])
def test_what_is_no_type_of_a_terminal_is_not_sent(term: bytes) -> None:
    """TERM can have any value; a server would refuse it."""
    assert call_options(0, can_queue=True, terminal=TerminalRequest(1, 2, term)) == (b"terminal=1x2",)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ((b"detached=yes",), "unknown call option 'detached'"),
        ((b"terminal=yes",), "malformed call option 'terminal'"),
        ((b"terminal=24",), "malformed call option 'terminal'"),
        ((b"terminal=24x",), "malformed call option 'terminal'"),
        ((b"terminal=-1x80",), "malformed call option 'terminal'"),
        ((b"terminal=24x65536",), "malformed call option 'terminal'"),
        ((b"terminal=24x80x1",), "malformed call option 'terminal'"),
        ((b"terminal=24x" + b"9" * 5000,), "malformed call option 'terminal'"),
        ((b"term=xterm",), "malformed call option 'term'"),
        ((b"terminal=24x80", b"term="), "malformed call option 'term'"),
        ((b"terminal=24x80", b"term=../../x"), "malformed call option 'term'"),
        ((b"terminal=24x80", b"term=" + b"x" * 65), "malformed call option 'term'"),
        ((b"",), "unknown call option ''"),
        ((b"=1",), "unknown call option ''"),
        ((b"QUEUE=no",), "unknown call option 'QUEUE'"),
        ((b"queue=no", b"\xff=1"), "unknown call option '\\\\xff'"),
        ((b"x" * 1000,), f"unknown call option '{'x' * 100}'"),
        ((b"queue",), "malformed call option 'queue'"),
        ((b"queue=yes",), "malformed call option 'queue'"),
        ((b"queue=",), "malformed call option 'queue'"),
        ((b"queue=no", b"queue=no"), "repeated call option 'queue'"),
        ((b"timeout-ms=1", b"timeout-ms=2"), "repeated call option 'timeout-ms'"),
        ((b"timeout-ms",), "malformed call option 'timeout-ms'"),
        ((b"timeout-ms=",), "malformed call option 'timeout-ms'"),
        ((b"timeout-ms=0",), "malformed call option 'timeout-ms'"),
        ((b"timeout-ms=-1",), "malformed call option 'timeout-ms'"),
        ((b"timeout-ms=1.5",), "malformed call option 'timeout-ms'"),
        ((b"timeout-ms= 1",), "malformed call option 'timeout-ms'"),
        ((b"timeout-ms=1_0",), "malformed call option 'timeout-ms'"),
        ((b"timeout-ms=" + b"9" * 5000,), "malformed call option 'timeout-ms'"),
        ((b"stdin-pipe=",), "malformed call option 'stdin-pipe'"),
        ((b"stdout-pipe=1",), "malformed call option 'stdout-pipe'"),
        ((b"stderr-pipe=1:-2",), "malformed call option 'stderr-pipe'"),
        ((b"stdin-pipe=1:2\n",), "malformed call option 'stdin-pipe'"),
        ((b"stdin-pipe=1:" + b"9" * 40,), "malformed call option 'stdin-pipe'"),
        ((b"stdin-pipe=1:2", b"stdin-pipe=1:2"), "repeated call option 'stdin-pipe'"),
    ],
)
def test_an_option_that_is_not_understood_is_refused_by_name(entries: tuple[bytes, ...], reason: str) -> None:
    """Unknown, repeated or malformed: an option asks for something, so it is never guessed."""
    with pytest.raises(ProtocolError) as error:
        CallOptions(entries)
    assert error.value.reason == reason


def test_pipes_are_named_by_stream() -> None:
    """A stream that is no pipe is left out."""
    entries = call_options(0, can_queue=True, pipes=(b"14:3", b"", b"18446744073709551615:18446744073709551615"))
    assert entries == (b"stdin-pipe=14:3", b"stderr-pipe=18446744073709551615:18446744073709551615")
    assert CallOptions(entries).pipes == (b"14:3", b"", b"18446744073709551615:18446744073709551615")
    assert CallOptions(()).pipes == (b"", b"", b"")


def test_details_are_read_by_name() -> None:
    """The order does not matter, an underscore is a dash on the wire, and unknown ones are ignored."""
    sent = details({"run_us": 5, "stopped": "timeout", "colour": "red", "max_rss": 2**63 - 1})
    assert sent == (b"run-us=5", b"stopped=timeout", b"colour=red", b"max-rss=9223372036854775807")
    received = Details(sent[::-1])
    assert received.number(b"run-us") == 5
    assert received.number(b"max-rss") == 2**63 - 1
    assert received.choice(b"stopped", STOPPED_BY) == "timeout"


@pytest.mark.parametrize("value", [b"", b"-1", b"1.5", b"x", b" 1", b"9" * 21, b"\xc2\xb2"])
def test_a_malformed_number_counts_as_absent(value: bytes) -> None:
    """A detail only reports something: it cannot break a call that has ended."""
    assert Details((b"run-us=" + value,)).number(b"run-us") == 0
    assert Details(()).number(b"run-us") == 0


@pytest.mark.parametrize("entries", [(), (b"stopped",), (b"stopped=",), (b"stopped=moon",), (b"stopped=\xff",)])
def test_an_unknown_choice_counts_as_absent(entries: tuple[bytes, ...]) -> None:
    """A cause that a later release adds is no cause to this one."""
    assert Details(entries).choice(b"stopped", STOPPED_BY) == ""


def test_names_are_lower_case_with_dashes() -> None:
    """One spelling on the wire."""
    for name in (*CALL_OPTIONS, *EXIT_DETAILS, *PONG_DETAILS):
        assert name.decode().replace("-", "").isalnum()
        assert name == name.lower()
