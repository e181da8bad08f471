"""Relayed streams between a caller and a service on one loop: bytes, ends, and streams that stand still."""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from sidecall.errors import ProtocolError, SidecallError
from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode
from sidecall.protocol.connection import Connection
from sidecall.protocol.states import CALLER, SERVICE
from sidecall.transport.channel import Channel
from sidecall.transport.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transport.conftest import Driver

HELLO = m.Hello(1, (), "test")
CALL = m.Call(b"cat", (), (), b"", b"/", (), 0, 0, m.RELAYED, m.RELAYED, m.RELAYED)
STREAM = (m.Data, m.Eof, m.Window, m.Stop)


@dataclass
class Side:
    """A channel with its relay, and what it heard."""

    driver: Driver
    sock: socket.socket
    role: str
    heard: list[m.Message] = field(default_factory=list)
    ends: list[SidecallError | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.channel = Channel(self.driver.loop, self.sock, Connection(self.role), self._hear, self.ends.append)
        self.channel.listen()
        self.relay = Relay(self.driver.loop, self.channel)

    def _hear(self, message: m.Message) -> None:
        self.heard.append(message)
        if isinstance(message, STREAM):
            self.relay.receive(message)

    def close(self) -> None:
        """Close the channel and every stream."""
        self.relay.close()
        self.channel.close()


@pytest.fixture
def sides(driver: Driver) -> Iterator[tuple[Side, Side]]:
    """Return a caller and a service between which a command runs."""
    ours, theirs = socket.socketpair()
    caller, service = Side(driver, ours, CALLER), Side(driver, theirs, SERVICE)
    caller.channel.send(HELLO, CALL)
    driver.until(lambda: len(service.heard) == 2)
    service.channel.send(HELLO, m.Started("1"))
    driver.until(lambda: len(caller.heard) == 2)
    yield caller, service
    caller.close()
    service.close()


def pipe(*, blocking: bool = False) -> tuple[int, int]:
    """Return a pipe whose ends do not block."""
    ends = os.pipe()
    for fd in ends:
        os.set_blocking(fd, blocking)
    return ends


def test_a_stream_arrives_whole_and_ends(driver: Driver, sides: tuple[Side, Side]) -> None:
    """Two megabytes, eight windows, arrive byte for byte; then the end arrives, and both descriptors are closed."""
    caller, service = sides
    data = os.urandom(2 * 1024 * 1024)
    feeding, fed = os.pipe()

    def feed() -> None:
        os.write(fed, data)
        os.close(fed)

    os.set_blocking(feeding, False)
    draining, drained = pipe()
    got = bytearray()
    caller.relay.read_from(0, feeding)
    service.relay.write_to(0, drained, nonblocking=True)
    writer = threading.Thread(target=feed)
    writer.start()
    caller.relay.start()
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
    assert not caller.relay.reading
    assert not service.relay.writing
    assert max(message.credit for message in caller.heard if isinstance(message, m.Window)) <= 262144


def test_a_stream_that_stands_still_holds_up_nothing_else(driver: Driver, sides: tuple[Side, Side]) -> None:
    """Nobody reads stdout: its window fills and stops there; stderr and a signal still go through."""
    caller, service = sides
    full, filling = pipe()
    unread, unwritten = pipe()
    error_in, error_out = pipe()
    shown, showing = pipe()
    service.relay.read_from(1, full)
    service.relay.read_from(2, error_in)
    caller.relay.write_to(1, unwritten, nonblocking=True)
    caller.relay.write_to(2, showing, nonblocking=True)
    service.relay.start()
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
    caller.channel.send(m.Signal(15))
    driver.until(lambda: m.Signal(15) in service.heard and m.Data(2, b"problem") in caller.heard)
    assert os.read(shown, 100) == b"problem"
    for fd in (filling, unread, error_out, shown):
        os.close(fd)


def test_a_reader_that_is_gone_stops_the_sender(driver: Driver, sides: tuple[Side, Side]) -> None:
    """The writing side meets EPIPE: it says STOP, and the other side closes its source, as a broken pipe would."""
    caller, service = sides
    source, feeding = pipe()
    gone, showing = pipe()
    os.close(gone)
    service.relay.read_from(1, source)
    caller.relay.write_to(1, showing, nonblocking=True)
    service.relay.start()
    os.write(feeding, b"x")
    driver.until(lambda: not service.relay.reading)
    assert service.heard[-1] == m.Stop(1)
    assert isinstance(caller.relay.errors[1], BrokenPipeError)
    with pytest.raises(BrokenPipeError):
        os.write(feeding, b"y")
    os.close(feeding)


def test_empty_streams_end(driver: Driver, sides: tuple[Side, Side]) -> None:
    """A stream without a byte is an end and nothing else."""
    caller, service = sides
    source, feeding = pipe()
    shown, showing = pipe()
    os.close(feeding)
    service.relay.read_from(2, source)
    caller.relay.write_to(2, showing, nonblocking=True)
    service.relay.start()
    driver.until(lambda: not caller.relay.writing)
    assert caller.heard[2:] == [m.Eof(2)]
    assert os.read(shown, 1) == b""
    os.close(shown)


def test_idle_sources_end_only_where_there_was_room(driver: Driver, sides: tuple[Side, Side]) -> None:
    """A pipe that a stray process keeps open is given up; what its reader gets is an end."""
    caller, service = sides
    source, stray = pipe()
    shown, showing = pipe()
    service.relay.read_from(1, source)
    caller.relay.write_to(1, showing, nonblocking=True)
    service.relay.start()
    service.relay.end_idle_sources()
    service.relay.end_idle_sources()
    driver.until(lambda: not caller.relay.writing)
    assert caller.heard[2:] == [m.Eof(1)]
    for fd in (stray, shown):
        os.close(fd)


def test_the_end_of_the_connection_is_told_once(driver: Driver, sides: tuple[Side, Side]) -> None:
    """A peer that closes ends the channel with None, after all that it said."""
    caller, service = sides
    service.channel.send(m.Exit(0, 0, 0, 0, 0, 0, 0, 0))
    closed: list[bool] = []
    service.channel.finish(lambda: closed.append(True))
    assert closed == [True]
    assert service.channel.closed
    driver.until(lambda: bool(caller.ends))
    assert caller.ends == [None]
    assert isinstance(caller.heard[-1], m.Exit)
    caller.channel.send(m.Signal(15))  # nobody is there: no error


def test_a_violation_ends_the_channel_with_its_reason(driver: Driver, sides: tuple[Side, Side]) -> None:
    """A peer that breaks the protocol is heard up to there; nothing after it is."""
    caller, service = sides
    service.sock.send(encode(m.Queued(1)))
    driver.until(lambda: bool(caller.ends))
    error = caller.ends[0]
    assert isinstance(error, ProtocolError)
    assert error.reason == "Queued does not fit a service that is running"
    assert len(caller.heard) == 2


def test_what_the_socket_cannot_take_follows(driver: Driver) -> None:
    """A message larger than the socket's buffer is sent in the end, and `finish` waits for it."""
    ours, theirs = socket.socketpair()
    heard: list[m.Message] = []
    ends: list[SidecallError | None] = []
    sender = Channel(driver.loop, ours, Connection(CALLER), heard.append, ends.append)
    sender.listen()
    call = m.Call(b"x" * 2_000_000, (), (), b"", b"", (), 0, 0, 0, 0, 0)
    sender.send(HELLO, call)
    closed: list[bool] = []
    sender.finish(lambda: closed.append(True))
    assert not sender.closed
    receiver = Channel(driver.loop, theirs, Connection(SERVICE), heard.append, ends.append)
    receiver.listen()
    driver.until(lambda: bool(ends))
    assert heard == [HELLO, call]
    assert sender.closed
    assert closed == [True]
    receiver.close()
    assert receiver.closed


def test_descriptors_that_nobody_took_are_closed_with_the_channel(driver: Driver) -> None:
    """Passed descriptors belong to the channel until they are taken, and go with it; later ones never come in."""
    ours, theirs = socket.socketpair()
    heard: list[m.Message] = []
    sender = Channel(driver.loop, ours, Connection(CALLER), heard.append, lambda _: None)
    sender.listen()
    receiver = Channel(driver.loop, theirs, Connection(SERVICE), heard.append, lambda _: None)
    receiver.listen()
    with open(os.devnull) as null:
        sender.send(HELLO, pass_descriptors=(null.fileno(), null.fileno()))
        driver.until(lambda: heard == [HELLO])
        assert len(receiver.received) == 2
        receiver.refuse_descriptors()
        assert len(receiver.received) == 0
        sender.send(m.Ping(), pass_descriptors=(null.fileno(),))
        driver.until(lambda: len(heard) == 2)
        assert len(receiver.received) == 0
    sender.close()
    receiver.close()
