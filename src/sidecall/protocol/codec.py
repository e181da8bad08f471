"""Messages to bytes and back. What is not a well-formed frame is a `ProtocolError`, never a guess.

A frame is `u32 length, u8 type, payload`, big-endian; the length counts the payload alone.
"""

from __future__ import annotations

from _struct import Struct

from sidecall.errors import LocalProtocolError, ProtocolError
from sidecall.protocol.messages import MESSAGES, Message

HEADER = Struct("!IB")
_NUMBERS = {"u8": Struct("!B"), "u16": Struct("!H"), "u32": Struct("!I"), "u64": Struct("!Q")}
_U32 = _NUMBERS["u32"]


def encode(message: Message) -> bytes:
    """Return the whole frame of a message.

    Raises:
        LocalProtocolError: a value does not fit its field, or the message its limit.
    """
    parts = [b""]
    for kind, value in zip(message.KINDS, message.astuple(), strict=True):
        parts.append(_encode_field(kind, value, message))
    length = sum(map(len, parts))
    if length > message.limit:
        raise LocalProtocolError(f"{type(message).__name__} of {length} bytes is over its {message.limit}")
    parts[0] = HEADER.pack(length, message.number)
    return b"".join(parts)


def _encode_field(kind: str, value: object, message: Message) -> bytes:
    if isinstance(value, int) and kind in _NUMBERS:
        return _pack(_NUMBERS[kind], value, message)
    if isinstance(value, bytes):
        return value if kind == "rest" else _U32.pack(len(value)) + value
    if isinstance(value, str):
        return _encode_field("string", _utf8(value, message), message)
    if isinstance(value, tuple):
        return b"".join([_U32.pack(len(value)), *(_encode_field("string", item, message) for item in value)])
    raise LocalProtocolError(f"{type(message).__name__} has no place for {value!r}")


def _utf8(text: str, message: Message) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise LocalProtocolError(f"{type(message).__name__} has a text that is not Unicode") from error


def _pack(struct: Struct, value: int, message: Message) -> bytes:
    if not 0 <= value < 1 << 8 * struct.size:
        raise LocalProtocolError(f"{type(message).__name__}: {value} does not fit {struct.size} bytes")
    return struct.pack(value)


def frame_at(buffer: bytearray, start: int) -> tuple[Message, int] | None:
    """Decode the frame that begins at `start`; return it and where it ends, or None while it is incomplete.

    Raises:
        ProtocolError: the type is unknown, the frame too long or malformed. Said as early as the header allows.
    """
    if len(buffer) - start < HEADER.size:
        return None
    length, number = HEADER.unpack_from(buffer, start)
    message_type = MESSAGES.get(number)
    if message_type is None:
        raise ProtocolError(f"a frame of unknown type {number}", "is the peer a sidecall service or caller?")
    if length > message_type.limit:
        raise ProtocolError(f"{message_type.__name__} of {length} bytes is over its {message_type.limit}")
    begin = start + HEADER.size
    end = begin + length
    if len(buffer) < end:
        return None
    with memoryview(buffer) as view, view[begin:end] as payload:
        return _decode(message_type, payload), end


def _decode(message_type: type[Message], payload: memoryview) -> Message:
    reader = _Reader(payload, message_type.__name__)
    message = message_type(*[reader.field(kind) for kind in message_type.KINDS])
    reader.finish()
    return message


class _Reader:
    """Takes typed fields off a payload, front to back."""

    def __init__(self, payload: memoryview, name: str) -> None:
        self._payload = payload
        self._name = name
        self._at = 0

    def field(self, kind: str) -> object:
        struct = _NUMBERS.get(kind)
        if struct is not None:
            return self._number(struct)
        if kind == "rest":
            return self._take(len(self._payload) - self._at)
        if kind == "strings":
            return self._strings()
        taken = self._take(self._number(_U32))
        return self._decoded(taken) if kind == "text" else taken

    def finish(self) -> None:
        if self._at != len(self._payload):
            raise ProtocolError(f"{self._name} has {len(self._payload) - self._at} bytes too many")

    def _take(self, size: int) -> bytes:
        begin = self._at
        self._at += size
        if self._at > len(self._payload):
            raise self._cut_off()
        return bytes(self._payload[begin : self._at])

    def _number(self, struct: Struct) -> int:
        begin = self._at
        self._at += struct.size
        if self._at > len(self._payload):
            raise self._cut_off()
        number: int = struct.unpack_from(self._payload, begin)[0]
        return number

    def _strings(self) -> tuple[bytes, ...]:
        count = self._number(_U32)
        if count * _U32.size > len(self._payload) - self._at:
            raise ProtocolError(f"{self._name} announces {count} strings, more than it can hold")
        return tuple([self._take(self._number(_U32)) for _ in range(count)])

    def _decoded(self, text: bytes) -> str:
        try:
            return text.decode()
        except UnicodeDecodeError as error:
            raise ProtocolError(f"{self._name} has a text that is not UTF-8") from error

    def _cut_off(self) -> ProtocolError:
        return ProtocolError(f"{self._name} ends in the middle of a field")
