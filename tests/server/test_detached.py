"""Detached calls in a server: they count as their owner's without a connection, and a reader of records gets all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from server.in_process import HELLO, LISTENERS, RawClient, with_service
from sidecall.policy.config import RecordRules, Service
from sidecall.protocol import messages as m
from sidecall.protocol.options import Details

if TYPE_CHECKING:
    from pathlib import Path

    from sidecall.server.service import CallService


def call(*words: bytes, option: bytes = b"detach=job") -> m.Call:
    """Return a CALL that is detached."""
    return m.Call(words[0], words[1:], (), b"", b"/", (), (option,), m.NONE, m.NONE, m.NONE)


def service(directory: Path) -> Service:
    """Return a service that records calls."""
    return Service("x", None, listeners=LISTENERS, records=RecordRules(str(directory / "records")))


async def ask(service: CallService, *messages: m.Message, kind: type[m.Message]) -> m.Message:
    """Send messages over a connection of their own; return the first answer of a kind."""
    client = RawClient(service)
    await client.send(HELLO, *messages)
    answer = await client.receive(kind)
    client.close()
    return answer


def test_a_detached_call_counts_until_it_ends(tmp_path: Path) -> None:
    """Its bytes and its place among the connections, which its client had, are its own; and nothing is left then."""

    async def main(service: CallService) -> None:
        started = await ask(service, call(b"sh", b"-c", b"exec sleep 60", b"x" * 5000), kind=m.Started)
        assert started == m.Started("job")
        while len(service._sessions) > 1:
            await asyncio.sleep(0.002)
        (key,) = service._bytes
        assert service._bytes[key] > 5000
        assert service._connections[key] == 1
        assert [shown["call"] for shown in service.calls(next(iter(service._sessions)).owner)] == ["job"]
        await ask(service, m.Cancel("job"), kind=m.Calls)
        await asyncio.wait_for(service.idle(), 60)
        assert not service._bytes
        assert not service._connections

    with_service(service(tmp_path), main)


def test_a_reader_follows_to_the_recorded_end(tmp_path: Path) -> None:
    """Output, EOF and EXIT in this order, with the recorded details; without wait it ends where the output does."""

    async def main(service: CallService) -> None:
        await ask(service, call(b"sh", b"-c", b"echo out; exit 7"), kind=m.Started)
        client = RawClient(service)
        follow = m.Follow("job", m.RELAYED, m.NONE, 1, 0)
        await client.send(HELLO, follow)
        client._connection._open_streams(follow)
        assert await client.receive(m.Data) == m.Data(1, b"out\n")
        assert await client.receive(m.Eof) == m.Eof(1)
        ended = await client.receive(m.Exit)
        assert isinstance(ended, m.Exit)
        assert (ended.ended, ended.value) == (m.ENDED_EXITED, 7)
        assert Details(ended.details).number(b"run-us") > 0
        client.close()
        assert await ask(service, m.Follow("job", m.NONE, m.NONE, 0, 0), kind=m.Started) == m.Started("job")
        again = await ask(service, call(b"sh", b"-c", b"echo out; exit 7"), kind=m.Started)
        assert again == m.Started("job")
        other = await ask(service, call(b"true"), kind=m.Refused)
        assert isinstance(other, m.Refused)
        assert other.code == 64

    with_service(service(tmp_path), main)


def test_a_detached_call_has_no_streams_of_its_client(tmp_path: Path) -> None:
    """A stream that is relayed is a violation: nobody would be there to take it."""

    async def main(service: CallService) -> None:
        wrong = m.Call(b"true", (), (), b"", b"/", (), (b"detach=",), m.NONE, m.RELAYED, m.NONE)
        refused = await ask(service, wrong, kind=m.Refused)
        assert refused == m.Refused(76, "a detached call has no streams of its client", "")

    with_service(service(tmp_path), main)
