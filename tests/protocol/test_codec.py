"""Frames byte by byte: what is on the wire, and what is refused."""

from __future__ import annotations

import pytest

from sidecall.errors import LocalProtocolError, ProtocolError
from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode, frame_at
from sidecall.protocol.connection import Connection
from sidecall.protocol.states import SERVICE


def frame(number: int, payload: bytes) -> bytearray:
    """Return a frame as PROTOCOL.md section 2 writes it."""
    return bytearray(len(payload).to_bytes(4, "big") + bytes([number]) + payload)


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (m.Ping(), b"\0\0\0\0\x10"),
        (m.Hello(1, (b"pass",), "é"), b"\0\0\0\x14\x01\0\1\0\0\0\1\0\0\0\4pass\0\0\0\2\xc3\xa9"),
        (m.Queued(258), b"\0\0\0\4\x03\0\0\1\2"),
        (m.Data(2, b"\0\xff"), b"\0\0\0\3\x07\2\0\xff"),
        (m.Data(0, b""), b"\0\0\0\1\x07\0"),
        (m.Window(1, 65536), b"\0\0\0\5\x09\1\0\1\0\0"),
        (m.Refused(77, "no", ""), b"\0\0\0\x0b\x05\x4d\0\0\0\2no\0\0\0\0"),
        (
            m.Exit(1, 9, 0, 1, 2, 3, 4, 2**64 - 1),
            b"\0\0\0\x2b\x06\1\x09\0"
            + bytes.fromhex("0000000000000001")
            + bytes.fromhex("0000000000000002")
            + bytes.fromhex("0000000000000003")
            + bytes.fromhex("0000000000000004")
            + b"\xff" * 8,
        ),
    ],
)
def test_the_bytes_on_the_wire(message: m.Message, wire: bytes) -> None:
    """Another language meets exactly these bytes: big-endian, counted, nothing between the fields."""
    assert encode(message) == wire
    assert frame_at(bytearray(wire), 0) == (message, len(wire))


@pytest.mark.parametrize(
    ("number", "payload", "reason"),
    [
        (1, b"", "Hello ends in the middle of a field"),
        (1, b"\0\1\0\0\0\0\0\0\0\5ab", "Hello ends in the middle of a field"),
        (1, b"\0\1\0\0\0\2\0\0\0\1a\0\0\0\0", "Hello ends in the middle of a field"),
        (1, b"\0\1\xff\xff\xff\xff\0\0\0\0", "Hello announces 4294967295 strings, more than it can hold"),
        (1, b"\0\1\0\0\0\0\0\0\0\1\xff", "Hello has a text that is not UTF-8"),
        (4, b"\0\0\0\3\xed\xa0\x80", "Started has a text that is not UTF-8"),
        (3, b"\0\0\0", "Queued ends in the middle of a field"),
        (3, b"\0\0\0\0\0", "Queued has 1 bytes too many"),
        (16, b"xyz", "Ping has 3 bytes too many"),
        (18, b"\xff\xff\xff\xff", "Describe ends in the middle of a field"),
        (0, b"", "a frame of unknown type 0"),
        (12, b"", "a frame of unknown type 12"),
        (255, b"x", "a frame of unknown type 255"),
    ],
)
def test_malformed_frames_are_said_to_be(number: int, payload: bytes, reason: str) -> None:
    """A payload has exactly its fields; the reason says what is wrong with it."""
    with pytest.raises(ProtocolError) as error:
        frame_at(frame(number, payload), 0)
    assert error.value.reason == reason


def test_a_hello_is_malformed_at_every_length_but_its_own() -> None:
    """Cut short at each byte, with the length to match, a payload is refused; whole, it is read."""
    payload = encode(m.Hello(1, (b"pass", b"relay"), "x"))[5:]
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
    assert error.value.reason == f"{kind.__name__} of {limit + 1} bytes is over its {limit}"


def test_full_frames_fit() -> None:
    """The largest DATA and CALL go through, and both ends agree on where they stop."""
    assert len(encode(m.Data(1, b"x" * 65536))) == 65542
    empty = len(encode(m.Call(b"", (), (), b"", b"", (), 0, 0, 0, 0, 0))) - 5
    largest = m.Call(b"x" * (2097152 - empty), (), (), b"", b"", (), 0, 0, 0, 0, 0)
    assert frame_at(bytearray(encode(largest)), 0) == (largest, 2097157)
    with pytest.raises(LocalProtocolError):
        encode(m.Call(b"x" * (2097153 - empty), (), (), b"", b"", (), 0, 0, 0, 0, 0))


@pytest.mark.parametrize(
    "message",
    [m.Signal(-1), m.Signal(256), m.Queued(2**32), m.Hello(65536, (), ""), m.Pong(0, 0, 0, 0, 2**64, 0)],
)
def test_numbers_out_of_range_are_our_own_fault(message: m.Message) -> None:
    """A number that does not fit its field is never cut to size."""
    with pytest.raises(LocalProtocolError):
        encode(message)


def test_a_text_that_cannot_be_encoded_is_our_own_fault() -> None:
    """`encode` promises LocalProtocolError for a value that does not fit its field, a lone surrogate included."""
    with pytest.raises(LocalProtocolError):
        encode(m.Refused(77, "A\udcff", ""))


def test_what_came_before_a_violation_is_still_heard() -> None:
    """Messages in front of a broken frame are yielded, then the violation is raised."""
    hello = m.Hello(1, (), "x")
    connection = Connection(SERVICE)
    connection.receive_data(encode(hello) + b"\0\0\0\0\xff")
    events = connection.events()
    assert next(events) == hello
    with pytest.raises(ProtocolError):
        next(events)
