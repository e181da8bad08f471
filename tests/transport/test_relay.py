"""Relayed streams between a client and a server on one loop: bytes, ends, and streams that stand still."""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from sidecall.protocol import messages as m
from sidecall.protocol.connection import Connection
from sidecall.protocol.states import CLIENT, SERVER
from sidecall.transport.channel import Channel
from sidecall.transport.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecall.errors import SidecallError
    from transport.conftest import Driver

HELLO = m.Hello(1, (), (), "test")
CALL = m.Call(b"cat", (), (), b"", b"/", (), (), m.RELAYED, m.RELAYED, m.RELAYED)
STREAM = (m.Data, m.Eof, m.Window, m.Stop)


@dataclass
class Side:
    """A channel with its relay, and what it received."""

    driver: Driver
    sock: socket.socket
    role: str
    received: list[m.Message] = field(default_factory=list)
    ends: list[SidecallError | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.channel = Channel(self.driver.loop, self.sock, Connection(self.role), self._on_message, self.ends.append)
        self.channel.start()
        self.relay = Relay(self.driver.loop, self.channel)

    def _on_message(self, message: m.Message) -> None:
        self.received.append(message)
        if isinstance(message, STREAM):
            self.relay.receive(message)

    def close(self) -> None:
        """Close the channel and every stream."""
        self.relay.close()
        self.channel.close()


@pytest.fixture
def sides(driver: Driver) -> Iterator[tuple[Side, Side]]:
    """Return a client and a server between which a command runs."""
    ours, theirs = socket.socketpair()
    client, server = Side(driver, ours, CLIENT), Side(driver, theirs, SERVER)
    client.channel.send(HELLO, CALL)
    driver.until(lambda: len(server.received) == 2)
    server.channel.send(HELLO, m.Started("1"))
    driver.until(lambda: len(client.received) == 2)
    yield client, server
    client.close()
    server.close()


def pipe(*, blocking: bool = False) -> tuple[int, int]:
    """Return a pipe whose ends do not block."""
    ends = os.pipe()
    for fd in ends:
        os.set_blocking(fd, blocking)
    return ends


def test_a_stream_arrives_whole_and_ends(driver: Driver, sides: tuple[Side, Side]) -> None:
    """Two megabytes, eight windows, arrive byte for byte; then the end arrives, and both descriptors are closed."""
    client, server = sides
    data = os.urandom(2 * 1024 * 1024)
    feeding, fed = os.pipe()

    def feed() -> None:
        os.write(fed, data)
        os.close(fed)

    os.set_blocking(feeding, False)
    draining, drained = pipe()
    got = bytearray()
    client.relay.read_from(0, feeding)
    server.relay.write_to(0, drained, nonblocking=True)
    writer = threading.Thread(target=feed)
    writer.start()
    client.relay.start()
    while True:
        driver.idle()
        try:
            piece = os.read(draining, 1 << 20)
        except BlockingIOError:
            continue
        if not piece:
            break
        got += piece
    writer.join()
    os.close(draining)
    assert bytes(got) == data
    assert not client.relay.reading
    assert not server.relay.writing
    assert max(message.credit for message in client.received if isinstance(message, m.Window)) <= 262144


def test_a_stream_that_stands_still_holds_up_nothing_else(driver: Driver, sides: tuple[Side, Side]) -> None:
    """Stdout is not read: its window fills and stops there; stderr and a signal still go through."""
    client, server = sides
    full, filling = pipe()
    unread, unwritten = pipe()
    error_in, error_out = pipe()
    shown, showing = pipe()
    server.relay.read_from(1, full)
    server.relay.read_from(2, error_in)
    client.relay.write_to(1, unwritten, nonblocking=True)
    client.relay.write_to(2, showing, nonblocking=True)
    server.relay.start()
    total = 0
    while True:
        try:
            total += os.write(filling, bytes(65536))
        except BlockingIOError:
            driver.idle()
            try:
                total += os.write(filling, b"x")
            except BlockingIOError:
                break
    assert total <= 262144 + 3 * 65536  # the window, the pipes at both ends, and what was granted for the last one
    os.write(error_out, b"problem")
    client.channel.send(m.Signal(15))
    driver.until(lambda: m.Signal(15) in server.received and m.Data(2, b"problem") in client.received)
    assert os.read(shown, 100) == b"problem"
    for fd in (filling, unread, error_out, shown):
        os.close(fd)


def test_a_reader_that_has_gone_stops_the_sender(driver: Driver, sides: tuple[Side, Side]) -> None:
    """The writing side meets EPIPE: it sends STOP, and the other side closes its source, as a broken pipe would."""
    client, server = sides
    source, feeding = pipe()
    gone, showing = pipe()
    os.close(gone)
    server.relay.read_from(1, source)
    client.relay.write_to(1, showing, nonblocking=True)
    server.relay.start()
    os.write(feeding, b"x")
    driver.until(lambda: not server.relay.reading)
    assert server.received[-1] == m.Stop(1)
    assert isinstance(client.relay.errors[1], BrokenPipeError)
    with pytest.raises(BrokenPipeError):
        os.write(feeding, b"y")
    os.close(feeding)


def test_empty_streams_end(driver: Driver, sides: tuple[Side, Side]) -> None:
    """A stream without a byte is an end and nothing else."""
    client, server = sides
    source, feeding = pipe()
    shown, showing = pipe()
    os.close(feeding)
    server.relay.read_from(2, source)
    client.relay.write_to(2, showing, nonblocking=True)
    server.relay.start()
    driver.until(lambda: not client.relay.writing)
    assert client.received[2:] == [m.Eof(2)]
    assert os.read(shown, 1) == b""
    os.close(shown)


def test_idle_sources_end_only_where_there_was_room(driver: Driver, sides: tuple[Side, Side]) -> None:
    """A pipe that an orphan keeps open is given up; what its reader gets is an end."""
    client, server = sides
    source, stray = pipe()
    shown, showing = pipe()
    server.relay.read_from(1, source)
    client.relay.write_to(1, showing, nonblocking=True)
    server.relay.start()
    server.relay.end_idle_sources()
    server.relay.end_idle_sources()
    driver.until(lambda: not client.relay.writing)
    assert client.received[2:] == [m.Eof(1)]
    for fd in (stray, shown):
        os.close(fd)
