"""The protocol's two sides joined back to back: states, flow control, limits. No I/O anywhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecall.errors import LocalProtocolError, ProtocolError
from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode, frame_at
from sidecall.protocol.connection import Connection
from sidecall.protocol.states import CALLER, CALLING, DONE, IDLE, PEER_STATES, READY, RUNNING, TRANSITIONS, SERVICE, WAITING

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
    lambda kind: st.tuples(*(KINDS[name] for name in kind.KINDS)).map(lambda values: kind(*values))
)

HELLO = m.Hello(1, (), "test")
CALL = m.Call(b"cat", (), (), b"", b"/", (), 0, 0, m.RELAYED, m.RELAYED, m.NULL)
EXAMPLES: dict[type[m.Message], m.Message] = {
    m.Hello: HELLO,
    m.Call: CALL,
    m.Queued: m.Queued(3),
    m.Started: m.Started("1"),
    m.Refused: m.Refused(75, "busy", ""),
    m.Exit: m.Exit(0, 0, 0, 1, 2, 3, 4, 5),
    m.Data: m.Data(0, b"x"),
    m.Eof: m.Eof(0),
    m.Window: m.Window(1, 0),
    m.Stop: m.Stop(1),
    m.Signal: m.Signal(2),
    m.Ping: m.Ping(),
    m.Pong: m.Pong(1, 2, 3, 4, 5, 6),
    m.Describe: m.Describe(b""),
    m.Description: m.Description(b"{}"),
    m.Status: m.Status(),
    m.Calls: m.Calls(b"[]"),
    m.Cancel: m.Cancel("1"),
}


class Pair:
    """A caller and a service that hear each other at once."""

    def __init__(self, piece: int = 1 << 20) -> None:
        self.sides = {CALLER: Connection(CALLER), SERVICE: Connection(SERVICE)}
        self._piece = piece

    def say(self, role: str, *messages: m.Message) -> list[m.Message]:
        """Send messages from one side; return what the other side hears."""
        data = b"".join(map(self.sides[role].send, messages))
        other = self.sides[SERVICE if role == CALLER else CALLER]
        heard = []
        for start in range(0, len(data), self._piece):
            other.receive_data(data[start : start + self._piece])
            heard += list(other.events())
        return heard

    def running(self) -> Pair:
        """Bring both sides to the point where streams flow."""
        self.say(CALLER, HELLO, CALL)
        self.say(SERVICE, HELLO, m.Started("1"))
        return self


def in_states(caller: str, service: str) -> Connection:
    """Return a connection of the service in which the roles have these states."""
    connection = Connection(SERVICE)
    connection._conversation.states = {CALLER: caller, SERVICE: service}
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
    if "rest" not in type(message).KINDS and len(frame) > 5:
        shorter = (len(frame) - 6).to_bytes(4, "big") + frame[4:-1]
        with pytest.raises(ProtocolError):
            frame_at(bytearray(shorter), 0)


@given(st.binary(max_size=300))
def test_garbage_is_a_protocol_error_and_nothing_else(garbage: bytes) -> None:
    """Whatever arrives, a connection yields messages or raises `ProtocolError`."""
    connection = Connection(SERVICE)
    connection.receive_data(garbage)
    try:
        list(connection.events())
    except ProtocolError:
        pass


@pytest.mark.parametrize("kind", TYPES)
def test_too_long_is_refused_by_the_header_alone(kind: type[m.Message]) -> None:
    """A frame over its limit is refused before its payload arrives."""
    header = (kind.limit + 1).to_bytes(4, "big") + bytes([kind.number])
    with pytest.raises(ProtocolError, match="is over its"):
        frame_at(bytearray(header), 0)


@pytest.mark.parametrize("role", [CALLER, SERVICE])
@pytest.mark.parametrize("caller", [IDLE, READY, CALLING, RUNNING])
@pytest.mark.parametrize("service", [IDLE, READY, WAITING, RUNNING, DONE])
@pytest.mark.parametrize("kind", TYPES)
def test_the_tables_decide_who_may_say_what(role: str, caller: str, service: str, kind: type[m.Message]) -> None:
    """Every message in every pair of states: allowed ones move as the tables say, the others are violations."""
    state = caller if role == CALLER else service
    expected = TRANSITIONS[role][state].get(kind)
    if role == SERVICE and kind in PEER_STATES and caller not in PEER_STATES[kind]:
        expected = None
    message = EXAMPLES[kind]
    if role == SERVICE and kind in {m.Data, m.Eof}:
        message = kind(1, b"x") if kind is m.Data else m.Eof(1)
    if role == SERVICE and kind in {m.Window, m.Stop}:
        message = m.Window(0, 0) if kind is m.Window else m.Stop(0)
    connection = in_states(caller, service)

    def act() -> None:
        if role == SERVICE:
            connection.send(message)
        else:
            connection.receive_data(encode(message))
            assert list(connection.events()) == [message]

    if expected is None:
        with pytest.raises(LocalProtocolError if role == SERVICE else ProtocolError):
            act()
    else:
        act()
        assert connection.states[role] == expected


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_a_whole_call_in_pieces_of_any_size(piece: int) -> None:
    """A call's messages arrive in order however the stream is cut."""
    pair = Pair(piece)
    assert pair.say(CALLER, HELLO, CALL) == [HELLO, CALL]
    answers = [HELLO, m.Queued(1), m.Started("9"), m.Data(1, b"out"), m.Eof(1), EXAMPLES[m.Exit]]
    assert pair.say(SERVICE, *answers) == answers
    assert pair.sides[CALLER].states == {CALLER: RUNNING, SERVICE: DONE}


def test_a_window_is_used_up_and_given_back() -> None:
    """A sender may have 262144 bytes under way, and as many more as were consumed."""
    pair = Pair().running()
    for _ in range(4):
        pair.say(CALLER, m.Data(0, b"x" * 65536))
    assert pair.sides[CALLER].credit(0) == 0
    pair.say(SERVICE, m.Window(0, 1000))
    assert pair.sides[CALLER].credit(0) == 1000
    with pytest.raises(LocalProtocolError, match="over its window"):
        pair.say(CALLER, m.Data(0, b"x" * 1001))


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
    """A caller that confuses streams or directions breaks the protocol."""
    service = Pair().running().sides[SERVICE]
    service.receive_data(encode(message))
    with pytest.raises(ProtocolError) as error:
        list(service.events())
    assert error.value.reason == violation


def test_nothing_follows_the_end_of_a_stream() -> None:
    """DATA after EOF breaks the protocol, and a stopped stream has no credit."""
    pair = Pair().running()
    pair.say(CALLER, m.Eof(0))
    with pytest.raises(LocalProtocolError):
        pair.sides[CALLER].send(m.Data(0, b"x"))
    pair.say(CALLER, m.Stop(1))
    assert pair.sides[SERVICE].credit(1) == 0


def test_values_that_do_not_fit_are_our_own_fault() -> None:
    """A number too large for its field, or a message over its limit, is a bug of the sender."""
    with pytest.raises(LocalProtocolError):
        encode(m.Signal(256))
    with pytest.raises(LocalProtocolError):
        encode(m.Data(0, b"x" * (m.MAX_DATA + 1)))


def test_the_document_and_the_code_have_the_same_fields() -> None:
    """PROTOCOL.md's field lists are those of messages.py."""
    text = (Path(__file__).parents[2] / "PROTOCOL.md").read_text()
    documented = {}
    for name, number, body in re.findall(r"```\n([A-Z]+) \((\d+)\)\n(.*?)```", text, re.DOTALL):
        documented[int(number)] = (name, [tuple(line.split()) for line in body.splitlines()])
    assert documented == {
        kind.number: (kind.__name__.upper(), list(zip(kind.KINDS, kind.FIELDS, strict=True))) for kind in TYPES
    }
