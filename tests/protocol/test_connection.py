"""The protocol's two sides joined back to back: states, flow control, limits. No I/O anywhere."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecall.errors import LocalProtocolError, ProtocolError
from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode, frame_at
from sidecall.protocol.connection import TURN, Connection
from sidecall.protocol.states import (
    CALLING,
    CLIENT,
    DONE,
    IDLE,
    PEER_STATES,
    READY,
    RUNNING,
    SERVER,
    TRANSITIONS,
    WAITING,
)

KINDS: dict[str, st.SearchStrategy[Any]] = {
    "u8": st.integers(0, 2**8 - 1),
    "u16": st.integers(0, 2**16 - 1),
    "u32": st.integers(0, 2**32 - 1),
    "u64": st.integers(0, 2**64 - 1),
    "string": st.binary(max_size=50),
    "strings": st.lists(st.binary(max_size=9), max_size=5).map(tuple),
    "text": st.text(max_size=20),
    "rest": st.binary(max_size=100),
}
TYPES = [kind for number, kind in sorted(m.MESSAGES.items()) if number]
ANY_MESSAGE = st.sampled_from(TYPES).flatmap(
    lambda kind: st.tuples(*(KINDS[wire_type] for wire_type, _ in kind.layout)).map(lambda values: kind(*values))
)

HELLO = m.Hello(1, (), (), "test")
CALL = m.Call(b"cat", (), (), b"", b"/", (), (), m.RELAYED, m.RELAYED, m.NONE)
EXAMPLES: dict[type[m.Message], m.Message] = {
    m.Hello: HELLO,
    m.Call: CALL,
    m.Queued: m.Queued(3),
    m.Started: m.Started("1"),
    m.Refused: m.Refused(75, "busy", ""),
    m.Exit: m.Exit(0, 0, (b"run-us=2",)),
    m.Data: m.Data(0, b"x"),
    m.Eof: m.Eof(0),
    m.Window: m.Window(1, 0),
    m.Stop: m.Stop(1),
    m.Signal: m.Signal(2),
    m.Resize: m.Resize(24, 80),
    m.Pass: m.Pass(),
    m.Ping: m.Ping(),
    m.Pong: m.Pong((b"slots=4",)),
    m.Describe: m.Describe(b""),
    m.Description: m.Description(b"{}"),
    m.Status: m.Status(),
    m.Calls: m.Calls(b"[]"),
    m.Cancel: m.Cancel("1"),
    m.Follow: m.Follow("1", m.RELAYED, m.NONE, 1, 0),
    m.Remove: m.Remove("1"),
    m.Notice: m.Notice("n", ""),
}


class Pair:
    """A client and a server whose messages arrive at once."""

    def __init__(self, piece: int = 1 << 20) -> None:
        self.sides = {CLIENT: Connection(CLIENT), SERVER: Connection(SERVER)}
        self._piece = piece

    def send(self, role: str, *messages: m.Message) -> list[m.Message]:
        """Send messages from one side; return what the other side receives."""
        data = b"".join(map(self.sides[role].send, messages))
        other = self.sides[SERVER if role == CLIENT else CLIENT]
        received = []
        for start in range(0, len(data), self._piece):
            other.receive_data(data[start : start + self._piece])
            received += list(other.events())
        return received

    def running(self) -> Pair:
        """Bring both sides to the point where streams flow."""
        self.send(CLIENT, HELLO, CALL)
        self.send(SERVER, HELLO, m.Started("1"))
        return self


def in_states(client: str, server: str) -> Connection:
    """Return a connection of the server in which the roles have these states."""
    connection = Connection(SERVER)
    connection._conversation.states = {CLIENT: client, SERVER: server}
    connection._open_streams(CALL)
    return connection


@given(ANY_MESSAGE)
def test_every_message_survives_the_wire(message: m.Message) -> None:
    """What is encoded decodes to the same value, and says where it ends."""
    frame = encode(message)
    assert frame_at(bytearray(b"?" + frame + b"?"), 1) == (message, 1 + len(frame))


@given(ANY_MESSAGE, st.data())
def test_a_part_of_a_frame_is_awaited_and_a_short_payload_refused(message: m.Message, data: st.DataObject) -> None:
    """A prefix is incomplete; a frame whose length lies is malformed, never misread as another value."""
    frame = encode(message)
    cut = data.draw(st.integers(0, len(frame) - 1))
    assert frame_at(bytearray(frame[:cut]), 0) is None
    if "rest" not in dict(type(message).layout) and len(frame) > 5:
        shorter = (len(frame) - 6).to_bytes(4, "big") + frame[4:-1]
        with pytest.raises(ProtocolError):
            frame_at(bytearray(shorter), 0)


@given(st.binary(max_size=300))
def test_garbage_is_a_protocol_error_and_nothing_else(garbage: bytes) -> None:
    """Whatever arrives, a connection yields messages or raises `ProtocolError`."""
    connection = Connection(SERVER)
    connection.receive_data(garbage)
    try:
        list(connection.events())
    except ProtocolError:
        pass


@pytest.mark.parametrize("kind", TYPES)
def test_too_long_is_refused_by_the_header_alone(kind: type[m.Message]) -> None:
    """A frame over its limit is refused before its payload arrives."""
    header = (kind.limit + 1).to_bytes(4, "big") + bytes([kind.number])
    with pytest.raises(ProtocolError, match="exceeds its limit"):
        frame_at(bytearray(header), 0)


@pytest.mark.parametrize("role", [CLIENT, SERVER])
@pytest.mark.parametrize("client", [IDLE, READY, CALLING, RUNNING])
@pytest.mark.parametrize("server", [IDLE, READY, WAITING, RUNNING, DONE])
@pytest.mark.parametrize("kind", TYPES)
def test_the_tables_decide_which_message_can_be_sent(
    role: str, client: str, server: str, kind: type[m.Message]
) -> None:
    """Every message in every pair of states: allowed ones move as the tables say, the others are violations."""
    state = client if role == CLIENT else server
    expected = TRANSITIONS[role][state].get(kind)
    if role == SERVER and kind in PEER_STATES and client not in PEER_STATES[kind]:
        expected = None
    message = EXAMPLES[kind]
    if role == SERVER and kind in {m.Data, m.Eof}:
        message = kind(1, b"x") if kind is m.Data else m.Eof(1)
    if role == SERVER and kind in {m.Window, m.Stop}:
        message = m.Window(0, 0) if kind is m.Window else m.Stop(0)
    connection = in_states(client, server)
    connection._expects_pass = kind is m.Pass

    def act() -> None:
        if role == SERVER:
            connection.send(message)
        else:
            connection.receive_data(encode(message))
            assert list(connection.events()) == [message]

    if expected is None:
        with pytest.raises(LocalProtocolError if role == SERVER else ProtocolError):
            act()
    else:
        act()
        assert connection.states[role] == expected


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_a_whole_call_in_pieces_of_any_size(piece: int) -> None:
    """A call's messages arrive in order however the stream is cut."""
    pair = Pair(piece)
    assert pair.send(CLIENT, HELLO, CALL) == [HELLO, CALL]
    answers = [HELLO, m.Queued(1), m.Started("9"), m.Data(1, b"out"), m.Eof(1), EXAMPLES[m.Exit]]
    assert pair.send(SERVER, *answers) == answers
    assert pair.sides[CLIENT].states == {CLIENT: RUNNING, SERVER: DONE}


def test_a_window_is_used_up_and_given_back() -> None:
    """A sender may have 262144 bytes under way, and as many more as were consumed."""
    pair = Pair().running()
    for _ in range(4):
        pair.send(CLIENT, m.Data(0, b"x" * 65536))
    assert pair.sides[CLIENT].credit(0) == 0
    pair.send(SERVER, m.Window(0, 1000))
    assert pair.sides[CLIENT].credit(0) == 1000
    with pytest.raises(LocalProtocolError, match="over its window"):
        pair.send(CLIENT, m.Data(0, b"x" * 1001))


@pytest.mark.parametrize(
    ("message", "violation"),
    [
        (m.Data(2, b""), "Data for stream 2, which is not relayed"),
        (m.Data(9, b""), "Data for stream 9, which is not relayed"),
        (m.Data(1, b""), "Data for stream 1 comes from the wrong side"),
        (m.Window(0, 1), "Window for stream 0 comes from the wrong side"),
        (m.Stop(0), "Stop for stream 0 comes from the wrong side"),
        (m.Window(1, 1), "Window for stream 1 grants more than was consumed"),
    ],
)
def test_stream_messages_fit_their_stream(message: m.Message, violation: str) -> None:
    """A client that confuses streams or directions breaks the protocol."""
    server = Pair().running().sides[SERVER]
    server.receive_data(encode(message))
    with pytest.raises(ProtocolError) as error:
        list(server.events())
    assert error.value.reason == violation


def test_nothing_follows_the_end_of_a_stream() -> None:
    """DATA after EOF breaks the protocol, and a stopped stream has no credit."""
    pair = Pair().running()
    pair.send(CLIENT, m.Eof(0))
    with pytest.raises(LocalProtocolError):
        pair.sides[CLIENT].send(m.Data(0, b"x"))
    pair.send(CLIENT, m.Stop(1))
    assert pair.sides[SERVER].credit(1) == 0


def test_values_that_do_not_fit_are_a_local_error() -> None:
    """A number too large for its field, or a message over its limit, is a bug of the sender."""
    with pytest.raises(LocalProtocolError):
        encode(m.Signal(256))
    with pytest.raises(LocalProtocolError):
        encode(m.Data(0, b"x" * (m.MAX_DATA + 1)))


PASSING = m.Call(b"cat", (), (), b"", b"/", (), (), m.PASSED, m.RELAYED, m.SAME_AS_STDOUT)


def test_a_call_with_passed_streams_is_followed_by_pass() -> None:
    """PASS comes directly behind such a CALL, once, and then SIGNAL can."""
    pair = Pair()
    assert pair.send(CLIENT, HELLO, PASSING, m.Pass(), m.Signal(2)) == [HELLO, PASSING, m.Pass(), m.Signal(2)]
    assert not pair.sides[SERVER].expects_pass


@pytest.mark.parametrize(
    ("sent", "violation"),
    [
        ((m.Pass(),), "Pass does not fit a client that is idle"),
        ((HELLO, m.Pass()), "Pass does not fit a client that is ready"),
        ((HELLO, CALL, m.Pass()), "Pass without passed streams, or repeated"),
        ((HELLO, PASSING, m.Pass(), m.Pass()), "Pass without passed streams, or repeated"),
        ((HELLO, PASSING, m.Signal(2)), "Pass is missing"),
    ],
)
def test_pass_has_one_place(sent: tuple[m.Message, ...], violation: str) -> None:
    """Anywhere else it is a violation, for the side that sends it as for the one that receives it."""
    client, server = Connection(CLIENT), Connection(SERVER)
    with pytest.raises(LocalProtocolError, match=violation):
        list(map(client.send, sent))
    server.receive_data(b"".join(map(encode, sent)))
    with pytest.raises(ProtocolError, match=violation):
        list(server.events())


@pytest.mark.parametrize(
    ("modes", "violation"),
    [
        ((4, 0, 0), "unknown mode 4 for stream 0"),
        ((0, 0, 255), "unknown mode 255 for stream 2"),
        ((3, 0, 0), "stream 0 cannot be the same as stdout"),
        ((0, 3, 0), "stream 1 cannot be the same as stdout"),
    ],
)
def test_stream_modes_are_those_of_the_table(modes: tuple[int, int, int], violation: str) -> None:
    """An unknown mode is refused by name, and only stderr can be the same as stdout."""
    server = Connection(SERVER)
    server.receive_data(encode(HELLO) + encode(m.Call(b"c", (), (), b"", b"", (), (), *modes)))
    with pytest.raises(ProtocolError) as error:
        list(server.events())
    assert error.value.reason == violation


def test_a_stream_that_is_the_same_as_stdout_has_no_messages() -> None:
    """What the command writes to stderr arrives in its order, as DATA of stdout."""
    pair = Pair()
    pair.send(CLIENT, HELLO, PASSING, m.Pass())
    pair.send(SERVER, HELLO, m.Started("1"), m.Data(1, b"both"))
    assert pair.sides[SERVER].credit(2) == 0
    with pytest.raises(LocalProtocolError, match="stream 2, which is not relayed"):
        pair.sides[SERVER].send(m.Data(2, b"x"))


UNKNOWN = b"\0\0\0\3\xc8xyz"
"""A frame of type 200."""


@pytest.mark.parametrize("piece", [1, 4, 1 << 20])
def test_an_unknown_message_that_can_be_ignored_changes_nothing(piece: int) -> None:
    """From 128 on it is skipped wherever it comes, in both directions, also behind the last message."""
    client, server = Connection(CLIENT), Connection(SERVER)
    sent = client.send(HELLO) + UNKNOWN + client.send(CALL) + UNKNOWN + client.send(m.Signal(2))
    answered = server.send(HELLO) + UNKNOWN * 2
    received = []
    for start in range(0, len(sent), piece):
        server.receive_data(sent[start : start + piece])
        received += list(server.events())
    assert received == [HELLO, CALL, m.Signal(2)]
    answered += server.send(m.Started("1")) + UNKNOWN + server.send(EXAMPLES[m.Exit]) + UNKNOWN
    received = []
    for start in range(0, len(answered), piece):
        client.receive_data(answered[start : start + piece])
        received += list(client.events())
    assert received == [HELLO, m.Started("1"), EXAMPLES[m.Exit]]


@pytest.mark.parametrize("role", [CLIENT, SERVER])
def test_what_can_be_ignored_does_not_come_before_hello(role: str) -> None:
    """Each side begins with HELLO: until then the other one may be anything."""
    connection = Connection(role)
    connection.receive_data(UNKNOWN)
    with pytest.raises(ProtocolError, match="does not begin with Hello"):
        list(connection.events())


def test_ignored_messages_are_not_stored() -> None:
    """However many come, nothing of them stays."""
    connection = Connection(SERVER)
    connection.receive_data(encode(HELLO))
    assert list(connection.events()) == [HELLO]
    for _ in range(1000):
        connection.receive_data(UNKNOWN)
        assert list(connection.events()) == []
    assert not connection._buffer


def test_a_notice_can_come_until_the_end_and_from_the_server_alone() -> None:
    """NOTICE changes no state; after EXIT there is nothing to notice, and a client has none."""
    pair = Pair()
    pair.send(CLIENT, HELLO, CALL)
    notice = m.Notice("a", "b")
    answers = [HELLO, notice, m.Queued(0), notice, m.Started("1"), notice, EXAMPLES[m.Exit]]
    assert pair.send(SERVER, *answers) == answers
    with pytest.raises(LocalProtocolError, match="Notice does not fit a server that is done"):
        pair.sides[SERVER].send(notice)
    with pytest.raises(LocalProtocolError, match="Notice does not fit a client that is running"):
        pair.sides[CLIENT].send(notice)


BEFORE = encode(HELLO) + encode(PASSING)
PASS = encode(m.Pass())


@pytest.mark.parametrize("read", range(len(BEFORE) + 1))
def test_where_pass_begins_does_not_depend_on_what_was_read_before(read: int) -> None:
    """However much of HELLO and CALL was read, and whatever follows, the offset is that of the PASS frame."""
    server = Connection(SERVER)
    server.receive_data(BEFORE[:read])
    list(server.events())
    for rest in (b"", b"x", encode(m.Signal(2)) * 3):
        assert server.offset_of_pass(BEFORE[read:] + PASS + rest) == len(BEFORE) - read


def test_a_part_of_pass_is_none() -> None:
    """The frame and its descriptors are one write, so a part of it is not what they belong to."""
    server = Connection(SERVER)
    for cut in range(1, len(PASS)):
        assert server.offset_of_pass(BEFORE + PASS[:cut]) == -1
        assert server.offset_of_pass(PASS[:cut]) == -1
    server.receive_data(PASS[:2])
    assert server.offset_of_pass(PASS[2:4]) < 0
    assert server.offset_of_pass(PASS[2:]) < 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        BEFORE,
        BEFORE[:-1],
        encode(m.Data(0, PASS)),
        b"\0\0\0\1\x0cx",
        b"\xff\xff\xff\xff\x0c" + PASS,
        encode(m.Signal(2)) * 5,
    ],
)
def test_what_only_looks_like_pass_is_none(data: bytes) -> None:
    """Its bytes within another frame, or with a payload, are not PASS."""
    assert Connection(SERVER).offset_of_pass(data) == -1


@pytest.mark.parametrize("read", range(len(BEFORE) + 1))
def test_a_turn_is_a_few_frames(read: int) -> None:
    """However much was read before: the bytes of TURN frames at most, and all that has come of fewer."""
    server = Connection(SERVER)
    server.receive_data(BEFORE[:read])
    list(server.events())
    signal = encode(m.Signal(2))
    missing = 0 if read == len(BEFORE) else 1 if read >= len(encode(HELLO)) else 2
    full = BEFORE[read:] + signal * (TURN - missing)
    assert server.size_of_turn(full + signal * 1000) == len(full)
    assert server.size_of_turn(full + signal[:3]) == len(full)
    for size in (len(full), len(full) - 1, 1, 0):
        assert server.size_of_turn(full[:size]) == size
