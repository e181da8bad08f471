"""One side of one connection: bytes in, messages out, and the rules of flow control. No I/O, no clock.

Feed what arrives to `receive_data` and take the messages from `events`; `send` returns the bytes to write. A peer
that breaks the rules raises `ProtocolError`; a caller of this class that would, `LocalProtocolError`. Any other
exception is a bug.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecall.errors import LocalProtocolError, ProtocolError
from sidecall.protocol import messages as m
from sidecall.protocol.codec import HEADER, encode, frame_at
from sidecall.protocol.states import CLIENT, IDLE, SENDER, SERVER, Conversation

if TYPE_CHECKING:
    from collections.abc import Iterator

TURN = 16
"""Frames of a client that a server handles before it is the turn of other connections: a call begins with three."""

_PEER = {CLIENT: SERVER, SERVER: CLIENT}


class _Stream:
    """A relayed stream's account: how many more bytes its sender can send, and whether it has ended."""

    def __init__(self) -> None:
        self.credit = m.INITIAL_WINDOW
        self.ended = False
        self.stopped = False


class Connection:
    """One side of a connection.

    Args:
        role: which side this is, `states.CLIENT` or `states.SERVER`.
    """

    def __init__(self, role: str) -> None:
        self.role = role
        self._conversation = Conversation()
        self._buffer = bytearray()
        self._streams: dict[int, _Stream] = {}
        self._expects_pass = False

    @property
    def states(self) -> dict[str, str]:
        """The state of each role, as this side sees it."""
        return dict(self._conversation.states)

    def credit(self, stream: int) -> int:
        """Return how many bytes of a stream can be sent now; 0 for a stream that is not relayed or has ended."""
        account = self._streams.get(stream)
        if account is None or account.ended or account.stopped:
            return 0
        return account.credit

    def send(self, message: m.Message) -> bytes:
        """Account for a message of this side and return its frame.

        Raises:
            LocalProtocolError: it cannot be sent now.
        """
        frame = encode(message)
        violation = self._account(self.role, message)
        if violation:
            raise LocalProtocolError(violation)
        return frame

    @property
    def awaited(self) -> int:
        """Return the length of the frame that has begun to arrive; 0 if none has."""
        return HEADER.unpack_from(self._buffer)[0] if len(self._buffer) >= HEADER.size else 0

    @property
    def expects_pass(self) -> bool:
        """Tell whether PASS is the next message of the client: it has sent a CALL with passed streams."""
        return self._expects_pass

    def offset_of_pass(self, data: bytes) -> int:
        """Return where in bytes that come next a frame of PASS begins; -1 if there is none among the next TURN frames.

        What comes before it has to be whole frames, after what was received but not yet complete.
        """
        for at, length, number in self._frames(data):
            if number == m.Pass.number and not length:
                return at
        return -1

    def size_of_turn(self, data: bytes) -> int:
        """Return how many of the bytes that come next are to be received at once: those of up to TURN frames."""
        count, end = 0, 0
        for at, length, _ in self._frames(data):
            count, end = count + 1, at + HEADER.size + length
        return end if count == TURN and 0 < end < len(data) else len(data)

    def _frames(self, data: bytes) -> Iterator[tuple[int, int, int]]:
        """Yield offset, length and number of the next TURN frames at most, as far as their headers have come."""
        at = -len(self._buffer)
        for _ in range(TURN):
            buffered = len(self._buffer) + at
            header = self._buffer[buffered : buffered + HEADER.size] + data[max(at, 0) : max(at + HEADER.size, 0)]
            if len(header) < HEADER.size:
                return
            length, number = HEADER.unpack_from(header)
            yield at, length, number
            at += HEADER.size + length

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer; `events` returns what they complete."""
        self._buffer += data

    def events(self) -> Iterator[m.Message]:
        """Yield each complete message received, in order.

        Raises:
            ProtocolError: the peer broke the protocol; nothing after this point can be trusted.
        """
        start = 0
        try:
            while (found := frame_at(self._buffer, start)) is not None:
                message, start = found
                violation = self._violation(_PEER[self.role], message)
                if violation:
                    raise ProtocolError(violation)
                if message is not None:
                    yield message
        finally:
            del self._buffer[:start]

    def _violation(self, sender: str, message: m.Message | None) -> str:
        """Apply a received message, None for an ignored one; return what is wrong with it, or an empty string."""
        if message is not None:
            return self._account(sender, message)
        return "" if self._conversation.states[sender] != IDLE else f"the {sender} does not begin with Hello"

    def _account(self, sender: str, message: m.Message) -> str:
        """Apply a message to the state; return what is wrong with it, or an empty string."""
        name = type(message).__name__
        before = self._conversation.states[sender]
        if not self._conversation.move(sender, type(message)):
            return f"{name} does not fit a {sender} that is {before}"
        if isinstance(message, (m.Call, m.Follow)):
            return self._open_streams(message)
        if sender == CLIENT and self._expects_pass != isinstance(message, m.Pass):
            return "Pass is missing" if self._expects_pass else "Pass without passed streams, or repeated"
        if isinstance(message, m.Pass):
            self._expects_pass = False
        if isinstance(message, (m.Data, m.Eof, m.Window, m.Stop)):
            return self._account_stream(sender, message)
        return ""

    def _open_streams(self, call: m.Call | m.Follow) -> str:
        for stream, mode in enumerate(call.streams):
            if mode not in m.STREAM_MODES:
                return f"unknown mode {mode} for stream {stream}"
            if mode == m.SAME_AS_STDOUT and stream != m.STDERR:
                return f"stream {stream} cannot be the same as stdout"
            if isinstance(call, m.Follow) and mode not in {m.NONE, m.RELAYED}:
                return f"stream {stream} of a call that is followed can only be relayed"
            if mode == m.RELAYED:
                self._streams[stream] = _Stream()
        self._expects_pass = m.PASSED in call.streams
        return ""

    def _account_stream(self, sender: str, message: m.Data | m.Eof | m.Window | m.Stop) -> str:
        name = type(message).__name__
        stream = self._streams.get(message.stream)
        if stream is None:
            return f"{name} for stream {message.stream}, which is not relayed"
        if (SENDER[message.stream] == sender) != isinstance(message, (m.Data, m.Eof)):
            return f"{name} for stream {message.stream} comes from the wrong side"
        if isinstance(message, m.Window):
            return self._grant(stream, message)
        if isinstance(message, m.Stop):
            stream.stopped = True
            return ""
        if stream.ended:
            return f"{name} for stream {message.stream}, which has ended"
        return self._consume(stream, message)

    @staticmethod
    def _grant(stream: _Stream, message: m.Window) -> str:
        if stream.credit + message.credit > m.INITIAL_WINDOW:
            return f"Window for stream {message.stream} grants more than was consumed"
        stream.credit += message.credit
        return ""

    @staticmethod
    def _consume(stream: _Stream, message: m.Data | m.Eof) -> str:
        if isinstance(message, m.Eof):
            stream.ended = True
            return ""
        if len(message.data) > stream.credit:
            return f"Data for stream {message.stream} is over its window"
        stream.credit -= len(message.data)
        return ""
