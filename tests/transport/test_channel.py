"""Channels: messages over a socket, descriptors that the server never receives, and how connections are closed."""

from __future__ import annotations

import array
import asyncio
import os
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from sidecall.errors import DescriptorsLost, ProtocolError, SidecallError
from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode
from sidecall.protocol.connection import TURN, Connection
from sidecall.protocol.states import CLIENT, DONE, SERVER
from sidecall.transport import channel as channel_module
from sidecall.transport.channel import DISCARD_LIMIT, Channel, ServerChannel
from transport.conftest import Driver

if TYPE_CHECKING:
    from collections.abc import Iterator

HELLO = m.Hello(1, (), (), "test")
RELAYED = m.Call(b"cat", (), (), b"", b"/", (), (), m.RELAYED, m.RELAYED, m.RELAYED)
PASSED = m.Call(b"cat", (), (), b"", b"/", (), (), m.PASSED, m.PASSED, m.PASSED)
EXIT = m.Exit(0, 0, ())
PASS = encode(m.Pass())


class ClientEnd:
    """A channel of a client, whose server is a bare socket."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.received: list[m.Message] = []
        self.ends: list[SidecallError | None] = []
        ours, self.server = socket.socketpair()
        self.channel = Channel(driver.loop, ours, Connection(CLIENT), self.received.append, self.ends.append)
        self.channel.start()


@pytest.fixture
def client(driver: Driver) -> Iterator[ClientEnd]:
    """Return a client's channel that has sent a call."""
    end = ClientEnd(driver)
    end.channel.send(HELLO, RELAYED)
    assert end.server.recv(1 << 20) == encode(HELLO) + encode(RELAYED)
    yield end
    end.channel.close()
    end.server.close()


def test_the_end_of_the_connection_is_reported_once(client: ClientEnd) -> None:
    """A peer that closes ends the channel with None, after all that it sent."""
    client.server.sendall(encode(HELLO) + encode(m.Started("1")) + encode(EXIT))
    client.server.close()
    client.driver.until(lambda: bool(client.ends))
    client.driver.idle()
    assert client.received == [HELLO, m.Started("1"), EXIT]
    assert client.ends == [None]
    client.channel.send(m.Signal(15))  # the peer has gone: no error
    client.channel.send(m.Signal(15))
    assert client.channel.broken
    assert client.ends == [None]


def test_a_violation_ends_the_channel_with_its_reason(client: ClientEnd) -> None:
    """What comes before it is received; nothing behind it is."""
    client.server.sendall(encode(HELLO) + encode(m.Started("1")) + encode(m.Queued(1)) + encode(EXIT))
    client.driver.until(lambda: bool(client.ends))
    (error,) = client.ends
    assert isinstance(error, ProtocolError)
    assert error.reason == "Queued does not fit a server that is running"
    assert client.received == [HELLO, m.Started("1")]


def test_a_client_takes_no_descriptors(client: ClientEnd) -> None:
    """A server that attaches some has them dropped by the kernel; the bytes count."""
    socket.send_fds(client.server, [encode(HELLO)], [0, 1])
    client.driver.until(lambda: bool(client.received))
    assert client.received == [HELLO]


def test_a_message_larger_than_the_buffer_of_the_socket_is_sent(driver: Driver) -> None:
    """What the socket cannot take follows, with its descriptors on its first byte."""
    end = ClientEnd(driver)
    call = m.Call(b"x" * 2_000_000, (), (), b"", b"", (), (), m.PASSED, 0, 0)
    end.channel.send(HELLO, call)
    end.channel.send(m.Pass(), pass_descriptors=[0])
    assert end.channel.unsent > 1_000_000
    data, passed = b"", 0
    while end.channel.unsent:
        driver.idle()
        piece, fds, _, _ = socket.recv_fds(end.server, 1 << 20, 4)
        data, passed = data + piece, passed + len(fds)
        for fd in fds:
            os.close(fd)
    end.channel.close()
    while received := socket.recv_fds(end.server, 1 << 20, 4):
        for fd in received[1]:
            os.close(fd)
            passed += 1
        if not received[0]:
            break
        data += received[0]
    end.server.close()
    assert data == encode(HELLO) + encode(call) + PASS
    assert passed == 1


def test_descriptors_that_the_kernel_does_not_pass_are_lost(client: ClientEnd) -> None:
    """The caller can relay the streams: nothing was sent."""
    fd = os.open(os.devnull, os.O_RDONLY)
    os.close(fd)
    client.channel.connection._expects_pass = True
    with pytest.raises(DescriptorsLost):
        client.channel.send(m.Pass(), pass_descriptors=[fd])
    assert client.channel.broken


class ServerEnd:
    """A channel of a server on asyncio, whose client is a bare socket."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.driver = Driver(self.loop)
        self.client, ours = socket.socketpair()
        self.received: list[m.Message] = []
        self.ends: list[SidecallError | None] = []
        self.passes = 0
        self.discarded: list[socket.socket] = []
        self.closed = 0
        self.channel = ServerChannel(
            self.loop,
            ours,
            Connection(SERVER),
            self.received.append,
            self.ends.append,
            on_descriptors=self._on_descriptors,
            on_awaited=lambda _: None,
            discard=lambda sock: self.discarded.append(socket.socket(fileno=sock.detach())),
        )
        self.channel.start()

    def _on_descriptors(self) -> None:
        self.passes += 1

    def on_closed(self) -> None:
        """Count that the channel has been closed."""
        self.closed += 1

    def send(self, *messages: m.Message) -> None:
        """Have the client send messages in one write."""
        self.client.sendall(b"".join(map(encode, messages)))

    def attach(self, data: bytes, fds: int = 1, flags: int = 0) -> None:
        """Have the client send bytes with descriptors."""
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * fds))]
        assert self.client.sendmsg([data], control, flags) == len(data)

    def answer(self) -> None:
        """Have the server greet and report the start and the end of the call."""
        self.channel.send(HELLO, m.Started("1"), EXIT)

    def violation(self) -> SidecallError:
        """Wait for a violation; return it, and close the channel."""
        self.driver.until(lambda: bool(self.ends))
        (error,) = self.ends
        assert error is not None
        self.channel.close()
        assert self.channel.closed
        return error

    def dispose(self) -> None:
        """Close everything."""
        self.channel.close()
        for sock in (self.client, self.channel.socket, *self.discarded):
            sock.close()
        self.loop.close()


@pytest.fixture
def server() -> Iterator[ServerEnd]:
    """Return a server's channel."""
    end = ServerEnd()
    yield end
    end.dispose()


def take_pass(end: ServerEnd) -> int:
    """Receive PASS as a supervisor does; return how many descriptors came with it."""
    data, passed, _, _ = socket.recv_fds(end.channel.socket, len(PASS), 253)
    for fd in passed:
        os.close(fd)
    assert data == PASS
    return len(passed)


@pytest.mark.parametrize("count", [1, 3, 253])
@pytest.mark.parametrize("piece", [7, 1 << 20])
def test_pass_is_left_in_the_socket(server: ServerEnd, count: int, piece: int) -> None:
    """HELLO and CALL are received, PASS is not; nor is what follows, until a supervisor has taken it."""
    sent = encode(HELLO) + encode(PASSED)
    for start in range(0, len(sent), piece):
        server.client.send(sent[start : start + piece])
    before = len(os.listdir("/proc/self/fd"))
    server.attach(PASS, count)
    server.send(m.Signal(2))
    server.driver.until(lambda: server.passes == 1)
    server.driver.idle()
    assert server.received == [HELLO, PASSED]
    assert server.channel.has_descriptors
    assert len(os.listdir("/proc/self/fd")) == before
    assert take_pass(server) == count
    server.channel.descriptors_taken()
    server.driver.until(lambda: len(server.received) == 3)
    assert server.received[2:] == [m.Signal(2)]
    assert (server.passes, server.ends, server.discarded) == (1, [], [])


@pytest.mark.parametrize("size", [65536, 65537, 100_000, 2 * 65536 - 3, 2 * 65536])
def test_pass_is_found_behind_a_long_call(server: ServerEnd, size: int) -> None:
    """It can lie behind the end of what is looked at in one go, or across it."""
    call = m.Call(b"x" * (size - len(encode(HELLO) + encode(PASSED)) + 3), (), (), b"", b"/", (), (), 1, 1, 1)
    sent = encode(HELLO) + encode(call)
    assert len(sent) == size
    server.client.setblocking(False)
    server.client.sendall(sent)
    server.attach(PASS)
    server.driver.until(lambda: server.passes == 1 or bool(server.ends))
    assert (server.passes, server.ends) == (1, [])
    assert take_pass(server) == 1
    server.channel.descriptors_taken()


def test_pass_whose_descriptors_were_dropped_is_a_message(server: ServerEnd) -> None:
    """Something in between forwards only bytes."""
    server.send(HELLO, PASSED, m.Pass())
    server.driver.until(lambda: len(server.received) == 3)
    assert server.received[2] == m.Pass()
    assert not server.channel.has_descriptors


WITHOUT_PASS = "descriptors without Pass"
UNEXPECTED = "Pass without passed streams, or repeated"


def test_descriptors_within_one_write_with_the_call_are_lost(server: ServerEnd) -> None:
    """CALL cannot be read without them, so the call cannot be begun; it is refused, and the client can relay."""
    server.attach(encode(HELLO) + encode(PASSED) + PASS, 3)
    error = server.violation()
    assert isinstance(error, DescriptorsLost)
    assert error.reason == "the descriptors are not with Pass alone"
    assert server.received == []
    assert len(server.discarded) == 1


@pytest.mark.parametrize("split", [1, 5, 20, 60])
def test_descriptors_on_an_earlier_frame_are_a_violation(server: ServerEnd, split: int) -> None:
    """On the first byte or in the middle of a frame, with PASS behind them or not."""
    sent = encode(HELLO) + encode(PASSED)
    server.client.send(sent[:split])
    server.attach(sent[split:])
    server.attach(PASS)
    error = server.violation()
    assert isinstance(error, ProtocolError)
    assert error.reason in {WITHOUT_PASS, "the descriptors are not with Pass alone"}
    assert PASSED not in server.received
    assert server.discarded


@pytest.mark.parametrize("split", [1, 2, 3, 4])
def test_descriptors_come_with_the_last_byte_of_pass_at_the_latest(server: ServerEnd, split: int) -> None:
    """On a part of the frame that is not its end they would be taken without it, so that is a violation."""
    server.send(HELLO, PASSED)
    server.attach(PASS[:split])
    server.client.send(PASS[split:])
    assert server.violation().reason == WITHOUT_PASS
    assert server.passes == 0
    assert server.discarded


@pytest.mark.parametrize("split", [1, 2, 3, 4])
def test_pass_that_arrives_in_parts_is_left_whole_or_refused(server: ServerEnd, split: int) -> None:
    """Once a part of it has been read without descriptors, it is too late for them."""
    server.send(HELLO, PASSED)
    server.driver.until(lambda: len(server.received) == 2)
    server.client.send(PASS[:split])
    server.driver.idle()
    server.attach(PASS[split:])
    assert server.violation().reason == WITHOUT_PASS
    assert server.passes == 0
    assert server.discarded


@pytest.mark.parametrize("before", [(HELLO,), (HELLO, RELAYED), (HELLO, m.Ping()), (HELLO, PASSED, m.Pass())], ids=str)
def test_pass_that_is_not_expected_is_a_violation(server: ServerEnd, before: tuple[m.Message, ...]) -> None:
    """Without a CALL, behind a CALL without passed streams, and behind another PASS."""
    server.send(*before)
    server.driver.until(lambda: len(server.received) == len(before))
    server.attach(PASS)
    assert server.violation().reason == UNEXPECTED
    assert (server.passes, server.received) == (0, list(before))
    assert server.discarded


def test_pass_is_taken_once(server: ServerEnd) -> None:
    """Another one behind it is a violation."""
    server.send(HELLO, PASSED)
    server.attach(PASS)
    server.attach(PASS)
    server.driver.until(lambda: server.passes == 1)
    take_pass(server)
    server.channel.descriptors_taken()
    assert server.violation().reason == UNEXPECTED
    assert server.discarded


def test_descriptors_on_an_urgent_byte_are_a_violation(server: ServerEnd) -> None:
    """It stands in line, so it is seen, and the socket is discarded."""
    server.send(HELLO, PASSED)
    try:
        server.attach(b"!", flags=socket.MSG_OOB)
    except OSError:
        pytest.skip("this kernel has no urgent bytes on UNIX sockets")
    assert server.violation().reason == WITHOUT_PASS
    assert server.discarded


def test_descriptors_in_mid_call_are_a_violation(server: ServerEnd) -> None:
    """On DATA, for one: the message is not received."""
    server.send(HELLO, RELAYED)
    server.driver.until(lambda: len(server.received) == 2)
    server.channel.send(HELLO, m.Started("1"))
    server.attach(encode(m.Data(0, b"x")))
    assert server.violation().reason == WITHOUT_PASS
    assert server.received == [HELLO, RELAYED]
    assert server.discarded


@pytest.mark.parametrize("before", [b"", b"x" * 100_000])
def test_a_socket_is_closed_only_if_no_descriptors_are_queued(server: ServerEnd, before: bytes) -> None:
    """However far back in the queue they are; without them it is closed at once."""
    server.channel.finish(server.on_closed)
    server.client.sendall(before)
    server.attach(b"x")
    server.channel.close()
    assert len(server.discarded) == 1
    assert server.closed == 1
    with pytest.raises(BrokenPipeError):
        server.client.send(b"nothing more can be queued")


def test_a_socket_without_descriptors_is_closed(server: ServerEnd) -> None:
    """It is closed once, and the callback comes once."""
    server.client.send(b"x" * 100_000)
    server.channel.finish(server.on_closed)
    server.channel.close()
    server.channel.close()
    assert server.channel.closed
    assert (server.discarded, server.closed) == ([], 1)


def lingering_tcp() -> tuple[socket.socket, socket.socket]:
    """Return a TCP connection whose first end blocks its last close for ten minutes: its data cannot be sent."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        first = socket.create_connection(listening.getsockname())
        second = listening.accept()[0]
    first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 600))
    first.setblocking(False)
    try:
        while True:
            first.send(bytes(1 << 20))
    except BlockingIOError:
        return first, second


@pytest.mark.parametrize("how", ["expected", "violation", "behind the end"])
def test_a_descriptor_whose_close_blocks_is_never_closed_here(server: ServerEnd, how: str) -> None:
    """The only reference to it is in the queue of a client's socket: the loop goes on, and the connection is alive."""
    first, second = lingering_tcp()
    server.send(HELLO, PASSED if how == "expected" else RELAYED)
    server.driver.until(lambda: len(server.received) == 2)
    if how == "behind the end":
        server.answer()
        server.channel.finish(server.on_closed)
    socket.send_fds(server.client, [PASS], [first.fileno()])
    first.close()
    server.client.close()
    server.driver.until(lambda: server.passes == 1 or bool(server.ends) or server.closed == 1)
    server.channel.close()
    assert len(server.discarded) == 1
    second.setblocking(False)
    while True:
        try:
            assert second.recv(1 << 20)  # its end would come behind this if it were closed
        except BlockingIOError:
            break
    second.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    second.close()  # resets the connection: now its close does not block


def test_the_last_message_is_followed_by_a_handshake(server: ServerEnd) -> None:
    """The server shuts its side down, reads what still comes without receiving it, and closes when the client does."""
    server.send(HELLO, RELAYED)
    server.driver.until(lambda: len(server.received) == 2)
    server.answer()
    server.channel.finish(server.on_closed)
    server.driver.idle()
    answered = encode(HELLO) + encode(m.Started("1")) + encode(EXIT)
    assert server.client.recv(1 << 20) == answered
    assert server.client.recv(1) == b""
    for _ in range(10):
        server.client.sendall(encode(m.Data(0, b"x" * 60_000)) + b"\0\0\0\0\x7f")
        server.driver.idle()
    assert server.closed == 0
    server.client.shutdown(socket.SHUT_WR)
    server.driver.until(lambda: server.closed == 1)
    assert server.channel.closed
    assert server.received == [HELLO, RELAYED]
    assert (server.ends, server.discarded) == ([], [])


def test_the_handshake_waits_until_everything_is_sent(server: ServerEnd) -> None:
    """Not before that is the sending side shut down."""
    server.send(HELLO, m.Describe(b""))
    server.driver.until(lambda: len(server.received) == 2)
    answers = [HELLO, m.Description(b"x" * 1_000_000), m.Refused(75, "busy", "")]
    server.channel.send(*answers)
    assert server.channel.unsent
    server.channel.finish(server.on_closed)
    received = b""
    server.client.setblocking(False)
    while server.channel.unsent:
        received += server.client.recv(1 << 20)
        server.driver.idle()
    while piece := server.client.recv(1 << 20):
        received += piece
    assert received == b"".join(map(encode, answers))
    assert server.closed == 0
    server.client.close()
    server.driver.until(lambda: server.closed == 1)


def test_a_client_that_has_shut_its_side_down_gets_the_last_message(server: ServerEnd) -> None:
    """Nothing more comes from it, so the connection is closed as soon as all is sent."""
    server.send(HELLO, RELAYED)
    server.client.shutdown(socket.SHUT_WR)
    server.driver.until(lambda: bool(server.ends))
    assert server.ends == [None]
    assert server.channel.has_hung_up
    server.answer()
    server.channel.finish(server.on_closed)
    assert server.closed == 1
    assert server.client.recv(1 << 20).endswith(encode(EXIT))
    assert server.client.recv(1) == b""


def test_a_client_that_has_gone_ends_the_handshake(server: ServerEnd) -> None:
    """What cannot be sent is dropped."""
    server.client.close()
    server.channel.send(HELLO, m.Refused(75, "busy", ""))
    assert server.channel.broken
    server.channel.finish(server.on_closed)
    assert server.closed == 1
    assert server.channel.closed


def test_what_is_discarded_has_a_limit(server: ServerEnd) -> None:
    """A client that sends on and on is closed."""
    server.channel.finish(server.on_closed)
    server.client.setblocking(False)
    sent = 0
    while not server.closed:
        try:
            sent += server.client.send(bytes(65536))
        except BlockingIOError:
            server.driver.once()
        except BrokenPipeError:
            break
        assert sent <= DISCARD_LIMIT + (1 << 20)
    assert sent > DISCARD_LIMIT
    server.driver.until(lambda: server.closed == 1)


def test_a_violation_behind_the_request_that_was_answered_is_discarded(
    server: ServerEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if both come in one write: the handshake ends as soon as the client closes."""
    monkeypatch.setattr(channel_module, "DISCARD_TIMEOUT", 600)

    def refuse(_: m.Message) -> None:
        server.channel.send(HELLO, m.Refused(75, "busy", ""))
        server.channel.finish(server.on_closed)

    monkeypatch.setattr(server.channel, "_on_message", refuse)
    server.client.sendall(encode(HELLO) + b"\0\0\0\0\x7f" * 10)
    server.driver.until(lambda: server.channel.connection.states[SERVER] == DONE)
    server.driver.idle()
    assert (server.ends, server.closed) == ([], 0)
    server.client.close()
    server.driver.until(lambda: server.closed == 1)


def test_the_handshake_has_a_time_limit(server: ServerEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that neither sends nor closes is closed."""
    monkeypatch.setattr(channel_module, "DISCARD_TIMEOUT", 0.01)
    server.channel.finish(server.on_closed)
    server.channel.finish(server.on_closed)
    server.driver.until(lambda: server.closed == 1)
    assert server.client.recv(1) == b""
    assert server.channel.closed


def test_a_closed_channel_keeps_no_reference(server: ServerEnd) -> None:
    """Nothing waits for the garbage collector: neither callbacks nor timers."""
    server.channel.finish(server.on_closed)
    timer = server.channel._timer
    server.channel.close()
    assert timer is not None
    assert timer.cancelled()
    kept = [
        server.channel._on_message,
        server.channel._on_end,
        server.channel._on_descriptors,
        server.channel._on_closed,
    ]
    assert not any(callback == server.received.append for callback in kept)
    assert server.channel._on_closed is None


def test_a_hang_up_is_seen_behind_unread_data(server: ServerEnd) -> None:
    """While PASS is left in the socket nothing is read, but the end of the client is noticed."""
    server.send(HELLO, PASSED)
    server.attach(PASS)
    server.driver.until(lambda: server.passes == 1)
    assert not server.channel.has_hung_up
    server.client.shutdown(socket.SHUT_WR)
    assert server.channel.has_hung_up
    take_pass(server)


def test_many_short_messages_are_handled_in_turns(server: ServerEnd) -> None:
    """Other connections are served in between, and nothing is lost."""
    pings = encode(m.Ping()) * 1000
    server.client.sendall(encode(HELLO) + pings)
    server.channel.on_readable()
    assert len(server.received) == TURN
    while len(server.received) < 1001:
        server.channel.on_readable()
