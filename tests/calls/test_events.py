"""One account of what happens to calls: every reader gets every event, and the log has a line for each."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from sidecall.calls import events
from sidecall.calls.call import Owner
from sidecall.calls.events import Events, LogReader
from sidecall.calls.log import MAX_REPEATED
from sidecall.transport.credentials import Peer

if TYPE_CHECKING:
    from sidecall.calls.call import Call

CALL = cast("Call", SimpleNamespace(id="a-1", owner=Owner("x", Peer(7, 8)), command="no such"))


def test_every_reader_gets_every_event() -> None:
    """In the order in which they were added; without readers there is nothing to make fields for."""
    read: list[tuple[int, str, dict[str, object]]] = []
    account = Events(*(lambda event, _, fields, n=n: read.append((n, event, fields)) for n in (1, 2)))
    account.emit(events.QUEUED, CALL, ahead=3)
    assert read == [(1, "queued", {"ahead": 3}), (2, "queued", {"ahead": 3})]
    assert account.is_read
    assert not Events().is_read


def test_the_log_has_a_line_for_each() -> None:
    """Past tense and key=value; of an end only what a person looks for, a value with a space quoted."""
    lines: list[str] = []
    account = Events(LogReader(lines.append))
    account.emit(events.RECEIVED, CALL)
    account.emit(events.QUEUED, CALL, ahead=0)
    account.emit(events.STARTED, CALL)
    account.emit(events.ENDED, CALL, outcome="exited", value=255, run=0.5, stopped="operator", max_rss=9)
    account.emit(events.LOST, CALL, reason="its supervisor was killed")
    assert lines == [
        'call a-1 received uid=7 listener=x command="no such"',
        "call a-1 queued ahead=0",
        "call a-1 started",
        "call a-1 ended outcome=exited value=255 run=0.5 stopped=operator",
        'call a-1 lost reason="its supervisor was killed"',
    ]


def test_refusals_without_end_do_not_fill_the_log() -> None:
    """A client that is refused again and again gets a bounded number of lines a second."""
    lines: list[str] = []
    account = Events(LogReader(lines.append))
    for _ in range(10_000):
        account.emit(events.SIGNAL_REFUSED, CALL, signal=10)
    assert len(lines) < 100 * MAX_REPEATED
