"""Frames byte by byte: what is on the wire, and what is refused."""

from __future__ import annotations

import pytest

from sidecall.errors import LocalProtocolError, ProtocolError
from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode, frame_at
from sidecall.protocol.connection import Connection
from sidecall.protocol.states import SERVER


def frame(number: int, payload: bytes) -> bytearray:
    """Return a frame as PROTOCOL.md section 2 writes it."""
    return bytearray(len(payload).to_bytes(4, "big") + bytes([number]) + payload)


ON_THE_WIRE: list[tuple[m.Message, bytes]] = [
    (
        m.Hello(1, (b"a",), (b"b", b""), "é"),
        b"\0\0\0\x1e\x01\0\1\0\0\0\1\0\0\0\1a\0\0\0\2\0\0\0\1b\0\0\0\0\0\0\0\2\xc3\xa9",
    ),
    (
        m.Call(b"c", (b"x",), (b"A=1",), b"/d", b"/b", (b"1:2:/",), (b"queue=no",), 1, 2, 3),
        b"\0\0\0\x45\x02\0\0\0\1c\0\0\0\1\0\0\0\1x\0\0\0\1\0\0\0\3A=1\0\0\0\2/d\0\0\0\2/b"
        b"\0\0\0\1\0\0\0\0051:2:/\0\0\0\1\0\0\0\x08queue=no\1\2\3",
    ),
    (m.Queued(258), b"\0\0\0\4\x03\0\0\1\2"),
    (m.Started("t-1"), b"\0\0\0\7\x04\0\0\0\3t-1"),
    (m.Refused(77, "no", ""), b"\0\0\0\x0b\x05\x4d\0\0\0\2no\0\0\0\0"),
    (m.Exit(1, 9, (b"run-us=5",)), b"\0\0\0\x12\x06\1\x09\0\0\0\1\0\0\0\x08run-us=5"),
    (m.Data(2, b"\0\xff"), b"\0\0\0\3\x07\2\0\xff"),
    (m.Data(0, b""), b"\0\0\0\1\x07\0"),
    (m.Eof(1), b"\0\0\0\1\x08\1"),
    (m.Window(1, 65536), b"\0\0\0\5\x09\1\0\1\0\0"),
    (m.Stop(2), b"\0\0\0\1\x0a\2"),
    (m.Signal(15), b"\0\0\0\1\x0b\x0f"),
    (m.Resize(24, 300), b"\0\0\0\4\x0d\0\x18\1\x2c"),
    (m.Pass(), b"\0\0\0\0\x0c"),
    (m.Ping(), b"\0\0\0\0\x10"),
    (m.Pong((b"slots=4",)), b"\0\0\0\x0f\x11\0\0\0\1\0\0\0\7slots=4"),
    (m.Describe(b""), b"\0\0\0\4\x12\0\0\0\0"),
    (m.Description(b"{}"), b"\0\0\0\6\x13\0\0\0\2{}"),
    (m.Status(), b"\0\0\0\1\x14\0"),
    (m.Status(1), b"\0\0\0\1\x14\1"),
    (m.Calls(b"[]"), b"\0\0\0\6\x15\0\0\0\2[]"),
    (m.Cancel("t-1"), b"\0\0\0\7\x16\0\0\0\3t-1"),
    (m.Follow("t-1", 2, 0, 1, 258), b"\0\0\0\x12\x17\0\0\0\3t-1\2\0\1\0\0\0\0\0\0\1\2"),
    (m.Remove("t-1"), b"\0\0\0\7\x18\0\0\0\3t-1"),
    (m.Notice("n", "h"), b"\0\0\0\x0a\x80\0\0\0\1n\0\0\0\1h"),
]


@pytest.mark.parametrize(("message", "wire"), ON_THE_WIRE)
def test_the_bytes_on_the_wire(message: m.Message, wire: bytes) -> None:
    """Another implementation meets exactly these bytes: big-endian, counted, nothing between the fields."""
    assert encode(message) == wire
    assert frame_at(bytearray(wire), 0) == (message, len(wire))


def test_the_bytes_of_every_message_are_held() -> None:
    """Each type has a row above."""
    assert {message.number for message, _ in ON_THE_WIRE} == set(m.MESSAGES)


@pytest.mark.parametrize(
    ("number", "payload", "reason"),
    [
        (1, b"", "Hello ends in the middle of a field"),
        (1, b"\0\1\0\0\0\0\0\0\0\0\0\0\0\5ab", "Hello ends in the middle of a field"),
        (1, b"\0\1\0\0\0\2\0\0\0\1a\0\0\0\0", "Hello ends in the middle of a field"),
        (1, b"\0\1\xff\xff\xff\xff\0\0\0\0", "Hello announces 4294967295 strings, more than fit"),
        (1, b"\0\1\0\0\0\0\0\0\0\0\0\0\0\1\xff", "Hello has a text that is not UTF-8"),
        (4, b"\0\0\0\3\xed\xa0\x80", "Started has a text that is not UTF-8"),
        (3, b"\0\0\0", "Queued ends in the middle of a field"),
        (3, b"\0\0\0\0\0", "Queued has 1 excess bytes"),
        (16, b"xyz", "Ping has 3 excess bytes"),
        (18, b"\xff\xff\xff\xff", "Describe ends in the middle of a field"),
        (0, b"", "unknown message type 0"),
        (12, b"x", "Pass has 1 excess bytes"),
        (14, b"", "unknown message type 14"),
        (127, b"x", "unknown message type 127"),
        (128, b"", "Notice ends in the middle of a field"),
    ],
)
def test_malformed_frames_are_refused_with_the_reason(number: int, payload: bytes, reason: str) -> None:
    """A payload has exactly its fields; the reason names what is wrong with it."""
    with pytest.raises(ProtocolError) as error:
        frame_at(frame(number, payload), 0)
    assert error.value.reason == reason


def test_a_hello_is_malformed_at_every_length_but_its_own() -> None:
    """Cut short at each byte, with the length to match, a payload is refused; whole, it is read."""
    payload = encode(m.Hello(1, (b"a", b"b"), (b"c",), "x"))[5:]
    for size in range(len(payload)):
        with pytest.raises(ProtocolError):
            frame_at(frame(1, payload[:size]), 0)
    assert frame_at(frame(1, payload), 0) is not None


@pytest.mark.parametrize(
    ("kind", "limit"),
    [(m.Hello, 65536), (m.Call, 2097152), (m.Data, 65537), (m.Description, 1048576), (m.Refused, 65536)],
)
def test_a_limit_is_the_last_size_allowed(kind: type[m.Message], limit: int) -> None:
    """The header of a frame at its limit is accepted, one byte more is refused before any payload."""
    assert frame_at(bytearray(limit.to_bytes(4, "big") + bytes([kind.number])), 0) is None
    with pytest.raises(ProtocolError) as error:
        frame_at(bytearray((limit + 1).to_bytes(4, "big") + bytes([kind.number])), 0)
    assert error.value.reason == f"{kind.__name__} of {limit + 1} bytes exceeds its limit of {limit}"


def test_full_frames_fit() -> None:
    """The largest DATA and CALL go through, and both ends agree on where they stop."""
    assert len(encode(m.Data(1, b"x" * 65536))) == 65542
    empty = len(encode(m.Call(b"", (), (), b"", b"", (), (), 0, 0, 0))) - 5
    largest = m.Call(b"x" * (2097152 - empty), (), (), b"", b"", (), (), 0, 0, 0)
    assert frame_at(bytearray(encode(largest)), 0) == (largest, 2097157)
    with pytest.raises(LocalProtocolError):
        encode(m.Call(b"x" * (2097153 - empty), (), (), b"", b"", (), (), 0, 0, 0))


@pytest.mark.parametrize(
    "message",
    [m.Signal(-1), m.Signal(256), m.Queued(2**32), m.Hello(65536, (), (), ""), m.Window(0, 2**32), m.Exit(-1, 0, ())],
)
def test_numbers_out_of_range_are_a_local_error(message: m.Message) -> None:
    """A number that does not fit its field is never cut to size."""
    with pytest.raises(LocalProtocolError):
        encode(message)


def test_a_text_that_cannot_be_encoded_is_a_local_error() -> None:
    """`encode` promises LocalProtocolError for a value that does not fit its field, a lone surrogate included."""
    with pytest.raises(LocalProtocolError):
        encode(m.Refused(77, "A\udcff", ""))


def test_what_came_before_a_violation_is_still_received() -> None:
    """Messages in front of a broken frame are yielded, then the violation is raised."""
    hello = m.Hello(1, (), (), "x")
    connection = Connection(SERVER)
    connection.receive_data(encode(hello) + b"\0\0\0\0\x7f")
    events = connection.events()
    assert next(events) == hello
    with pytest.raises(ProtocolError):
        next(events)


@pytest.mark.parametrize("number", [129, 200, 255])
@pytest.mark.parametrize("payload", [b"", b"\xff" * 65536])
def test_an_ignorable_type_takes_its_place_and_is_no_message(number: int, payload: bytes) -> None:
    """From 128 on an unknown type is skipped, whatever its payload is; it is skipped only when it is whole."""
    data = frame(number, payload)
    assert frame_at(data, 0) == (None, len(data))
    assert frame_at(data[:-1], 0) is None
    assert frame_at(data + encode(m.Ping()), len(data)) == (m.Ping(), len(data) + 5)


def test_an_ignorable_type_has_a_limit_as_well() -> None:
    """What is not known is not stored either, if it is too long."""
    with pytest.raises(ProtocolError) as error:
        frame_at(bytearray(b"\0\1\0\1\xff"), 0)
    assert error.value.reason == "message 255 of 65537 bytes exceeds its limit of 65536"


@pytest.mark.parametrize("message", [m.Data(0, "x"), m.Exit(0, 0, (1,)), m.Hello(1, "a", (), "")])  # type: ignore[arg-type]
def test_a_value_of_the_wrong_kind_is_a_local_error(message: m.Message) -> None:
    """A field takes its own kind alone; nothing is converted."""
    with pytest.raises(LocalProtocolError):
        encode(message)
