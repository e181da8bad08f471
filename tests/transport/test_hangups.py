"""Hang-ups of peers from which nothing is read."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from sidecall.transport.hangups import HangUps
from transport.conftest import Driver

if TYPE_CHECKING:
    from collections.abc import Iterator


class Watched:
    """A connection that is watched, and how often it was reported."""

    def __init__(self) -> None:
        self.peer, ours = socket.socketpair()
        self.channel: Any = SimpleNamespace(socket=ours)
        self.reported = 0

    def report(self) -> None:
        """Count a report."""
        self.reported += 1


class Watch:
    """Hang-ups on a loop, and connections to watch."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.driver = Driver(self.loop)
        self.hang_ups = HangUps(self.loop)
        self.connections: list[Watched] = []

    def add(self) -> Watched:
        """Watch a new connection."""
        self.connections.append(Watched())
        self.hang_ups.add(self.connections[-1].channel, self.connections[-1].report)
        return self.connections[-1]


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Return hang-ups; everything is closed after the test."""
    made = Watch()
    yield made
    made.hang_ups.close()
    made.loop.close()
    for connection in made.connections:
        connection.peer.close()
        connection.channel.socket.close()


@pytest.mark.parametrize("how", ["close", "shutdown"])
def test_a_hang_up_is_reported_once(watch: Watch, how: str) -> None:
    """Whether the peer closes the connection or only its sending side, and whatever it sent before."""
    first, other = watch.add(), watch.add()
    first.peer.send(b"unread")
    other.peer.send(b"unread")
    watch.driver.idle()
    assert (first.reported, other.reported) == (0, 0)
    if how == "close":
        first.peer.close()
    else:
        first.peer.shutdown(socket.SHUT_WR)
    watch.driver.until(lambda: first.reported > 0)
    watch.driver.idle()
    assert (first.reported, other.reported) == (1, 0)
    assert first.channel.socket.recv(10) == b"unread"


def test_a_hang_up_before_is_reported_as_well(watch: Watch) -> None:
    """It may have come while the connection was not watched."""
    connection = Watched()
    connection.peer.close()
    watch.connections.append(connection)
    watch.hang_ups.add(connection.channel, connection.report)
    watch.driver.until(lambda: connection.reported == 1)


def test_a_removed_connection_is_not_reported(watch: Watch) -> None:
    """Removing it again, or one that was never watched, does nothing."""
    connection, never = watch.add(), Watched()
    watch.connections.append(never)
    watch.hang_ups.remove(connection.channel)
    watch.hang_ups.remove(connection.channel)
    watch.hang_ups.remove(never.channel)
    connection.peer.close()
    watch.driver.idle()
    assert connection.reported == 0


def test_one_that_is_removed_by_another_ones_callback_is_not_reported(watch: Watch) -> None:
    """Both have hung up at once: the callback of the first one closes the second."""
    first, second = watch.add(), watch.add()

    def remove_both() -> None:
        for connection in (first, second):
            connection.reported += 1
            watch.hang_ups.remove(connection.channel)

    for connection in (first, second):
        watch.hang_ups.remove(connection.channel)
        watch.hang_ups.add(connection.channel, remove_both)
        connection.peer.close()
    watch.driver.until(lambda: first.reported > 0)
    watch.driver.idle()
    assert (first.reported, second.reported) == (1, 1)
