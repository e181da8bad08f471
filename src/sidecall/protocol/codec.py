"""Messages to bytes and back. What is not a well-formed frame is a `ProtocolError`, never a guess.

A frame is `u32 length, u8 type, payload`, big-endian; the length counts the payload alone.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError  # noqa: N812 it is a class

from sidecall.errors import LocalProtocolError, ProtocolError
from sidecall.protocol.messages import CONTROL_LIMIT, FIRST_IGNORABLE, MESSAGES, Message

HEADER = Struct("!IB")
_U32 = Struct("!I")
_NUMBERS = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q"}
_LAYOUTS: dict[type[Message], list[Struct | str]] = {}


def _layout(message_type: type[Message]) -> list[Struct | str]:
    """Return the kinds of a message's fields, each run of numbers as one Struct."""
    layout = _LAYOUTS.get(message_type)
    if layout is None:
        layout = _LAYOUTS[message_type] = []
        run = ""
        for kind in (*(kind for kind, _ in message_type.layout), ""):
            if kind in _NUMBERS:
                run += _NUMBERS[kind]
                continue
            if run:
                layout.append(Struct("!" + run))
            run = ""
            if kind:
                layout.append(kind)
    return layout


def encode(message: Message) -> bytes:
    """Return the whole frame of a message.

    Raises:
        LocalProtocolError: a value does not fit its field, or the message its limit.
    """
    parts, at = [b""], 0
    values = tuple(vars(message).values())  # a dataclass sets its fields in their order
    for step in _layout(type(message)):
        if isinstance(step, Struct):
            begin, at = at, at + len(step.format) - 1
            parts.append(_pack(step, values[begin:at], message))
        else:
            parts.append(_encode_field(step, values[at], message))
            at += 1
    length = sum(map(len, parts))
    if length > message.limit:
        raise LocalProtocolError(f"{type(message).__name__} of {length} bytes exceeds its limit of {message.limit}")
    parts[0] = HEADER.pack(length, message.number)
    return b"".join(parts)


def _pack(struct: Struct, values: tuple[object, ...], message: Message) -> bytes:
    try:
        return struct.pack(*values)
    except StructError as error:
        raise LocalProtocolError(f"{type(message).__name__}: {values} do not fit their fields: {error}") from error


def _encode_field(kind: str, value: object, message: Message) -> bytes:
    if kind == "rest" and isinstance(value, bytes):
        return value
    if kind == "strings" and isinstance(value, tuple):
        return b"".join([_U32.pack(len(value)), *[_string(item, message) for item in value]])
    if kind == "text" and isinstance(value, str):
        value = _utf8(value, message)
    return _string(value, message)


def _utf8(text: str, message: Message) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise LocalProtocolError(f"{type(message).__name__} has a text that is not Unicode") from error


def _string(value: object, message: Message) -> bytes:
    if not isinstance(value, bytes):
        raise LocalProtocolError(f"{type(message).__name__} cannot hold {value!r}")
    return _U32.pack(len(value)) + value


def frame_at(buffer: bytearray, start: int) -> tuple[Message | None, int] | None:
    """Decode the frame that begins at `start`; return it and where it ends, or None while it is incomplete.

    In place of a message of an unknown type that can be ignored there is None.

    Raises:
        ProtocolError: the type is unknown, the frame too long or malformed. Raised as early as the header allows.
    """
    if len(buffer) - start < HEADER.size:
        return None
    length, number = HEADER.unpack_from(buffer, start)
    message_type = MESSAGES.get(number)
    if message_type is None and number < FIRST_IGNORABLE:
        raise ProtocolError(f"unknown message type {number}", "check that the peer is sidecall")
    name, limit = (f"message {number}", CONTROL_LIMIT) if message_type is None else _name_and_limit(message_type)
    if length > limit:
        raise ProtocolError(f"{name} of {length} bytes exceeds its limit of {limit}")
    begin = start + HEADER.size
    end = begin + length
    if len(buffer) < end:
        return None
    if message_type is None:
        return None, end
    with memoryview(buffer) as view, view[begin:end] as payload:
        return _decode(message_type, payload), end


def _name_and_limit(message_type: type[Message]) -> tuple[str, int]:
    return message_type.__name__, message_type.limit


def _decode(message_type: type[Message], payload: memoryview) -> Message:
    values: list[object] = []
    reader = _Reader(payload, message_type.__name__)
    for step in _layout(message_type):
        if isinstance(step, Struct):
            values += reader.numbers(step)
        else:
            values.append(reader.field(step))
    reader.finish()
    return message_type(*values)


class _Reader:
    """Takes fields off a payload, front to back."""

    def __init__(self, payload: memoryview, name: str) -> None:
        self._payload = payload
        self._size = len(payload)
        self._name = name
        self._at = 0

    def numbers(self, struct: Struct) -> tuple[int, ...]:
        """Return as many numbers as a Struct has."""
        begin = self._at
        self._at += struct.size
        if self._at > self._size:
            raise self._cut_off()
        return struct.unpack_from(self._payload, begin)

    def field(self, kind: str) -> object:
        """Return a field that is not a number."""
        if kind == "rest":
            return self._take(self._size - self._at)
        if kind == "strings":
            return self._strings()
        taken = self._string()
        return self._decoded(taken) if kind == "text" else taken

    def finish(self) -> None:
        """Make sure that nothing is left."""
        if self._at != self._size:
            raise ProtocolError(f"{self._name} has {self._size - self._at} excess bytes")

    def _take(self, size: int) -> bytes:
        begin = self._at
        self._at += size
        if self._at > self._size:
            raise self._cut_off()
        return bytes(self._payload[begin : self._at])

    def _string(self) -> bytes:
        return self._take(*self.numbers(_U32))

    def _strings(self) -> tuple[bytes, ...]:
        (count,) = self.numbers(_U32)
        if count * _U32.size > self._size - self._at:
            raise ProtocolError(f"{self._name} announces {count} strings, more than fit")
        return tuple([self._string() for _ in range(count)])

    def _decoded(self, text: bytes) -> str:
        try:
            return text.decode()
        except UnicodeDecodeError as error:
            raise ProtocolError(f"{self._name} has a text that is not UTF-8") from error

    def _cut_off(self) -> ProtocolError:
        return ProtocolError(f"{self._name} ends in the middle of a field")
