"""One side of one connection: bytes in, messages out, and the rules of flow control. No I/O, no clock.

Feed what arrives to `receive_data` and take the messages from `events`; `send` returns the bytes to write. A peer
that breaks the rules raises `ProtocolError`; a caller of this class that would, `LocalProtocolError`. Any other
exception is a bug.
"""

from __future__ import annotations

from sidecall.errors import LocalProtocolError, ProtocolError
from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode, frame_at
from sidecall.protocol.states import CALLER, SENDER, SERVICE, Conversation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_PEER = {CALLER: SERVICE, SERVICE: CALLER}


class _Stream:
    """A relayed stream's account: how many more bytes its sender may send, and whether it has ended."""

    def __init__(self) -> None:
        self.credit = m.INITIAL_WINDOW
        self.ended = False
        self.stopped = False


class Connection:
    """One side of a connection.

    Args:
        role: which side this is, `states.CALLER` or `states.SERVICE`.
    """

    def __init__(self, role: str) -> None:
        self.role = role
        self._conversation = Conversation()
        self._buffer = bytearray()
        self._streams: dict[int, _Stream] = {}

    @property
    def states(self) -> dict[str, str]:
        """The state of each role, as this side sees it."""
        return dict(self._conversation.states)

    def credit(self, stream: int) -> int:
        """Return how many bytes of a stream may be sent now; 0 for a stream that is not relayed or has ended."""
        account = self._streams.get(stream)
        if account is None or account.ended or account.stopped:
            return 0
        return account.credit

    def send(self, message: m.Message) -> bytes:
        """Account for a message of this side and return its frame.

        Raises:
            LocalProtocolError: it may not be sent now.
        """
        frame = encode(message)
        violation = self._account(self.role, message)
        if violation:
            raise LocalProtocolError(violation)
        return frame

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
                violation = self._account(_PEER[self.role], message)
                if violation:
                    raise ProtocolError(violation)
                yield message
        finally:
            del self._buffer[:start]

    def _account(self, sender: str, message: m.Message) -> str:
        """Apply a message to the state; return what is wrong with it, or an empty string."""
        name = type(message).__name__
        before = self._conversation.states[sender]
        if not self._conversation.says(sender, type(message)):
            return f"{name} does not fit a {sender} that is {before}"
        if isinstance(message, m.Call):
            return _unknown_flags(message) or self._open_streams(message)
        if isinstance(message, (m.Data, m.Eof, m.Window, m.Stop)):
            return self._account_stream(sender, message)
        return ""

    def _open_streams(self, call: m.Call) -> str:
        for stream, mode in enumerate(call.streams):
            if mode not in {m.NULL, m.PASSED, m.RELAYED}:
                return f"Call has an unknown mode {mode} for stream {stream}"
            if mode == m.RELAYED:
                self._streams[stream] = _Stream()
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


def _unknown_flags(call: m.Call) -> str:
    unknown = call.flags & ~m.FLAGS
    return f"Call has unknown flags {unknown:#010b}" if unknown else ""
