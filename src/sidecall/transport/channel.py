"""A connected socket that speaks the protocol: messages in and out on a `Loop`."""

from __future__ import annotations

import errno

from sidecall.errors import DescriptorsLost, SidecallError
from sidecall.transport import descriptors
from sidecall.transport.descriptors import Descriptors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Sequence

    from sidecall.protocol.connection import Connection
    from sidecall.protocol.messages import Message
    from sidecall.transport.loop import Loop

_RECEIVE_SIZE = 64 * 1024


class Channel:
    """Sends and receives messages over one socket, which it owns; see `listen`.

    Args:
        loop: where to wait.
        sock: a connected socket; it is made non-blocking.
        connection: this side's protocol state.
        on_message: called with each message of the peer.
        on_end: called once when nothing more will come: with None at the end of the stream, with the error if the
            peer broke the protocol, or if what it passed could not be taken.

    Attributes:
        broken: whether the peer is gone, and takes nothing any more.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket,
        connection: Connection,
        on_message: Callable[[Message], None],
        on_end: Callable[[SidecallError | None], None],
    ) -> None:
        sock.setblocking(False)
        self.connection = connection
        self.received = Descriptors()
        self._loop = loop
        self._sock = sock
        self._on_message = on_message
        self._on_end = on_end
        self._pending = bytearray()
        self._accepts_descriptors = True
        self.broken = False
        self._has_ended = False
        self._on_closed: Callable[[], None] | None = None

    def listen(self) -> None:
        """Hear whatever comes from now on, if it has not all been heard yet."""
        if not self.closed and not self._has_ended:
            self._loop.add_reader(self._sock.fileno(), self.hear)

    @property
    def closed(self) -> bool:
        """Tell whether the socket is closed."""
        return self._sock.fileno() < 0

    @property
    def unsent(self) -> int:
        """How many bytes wait for the peer to read what came before them."""
        return len(self._pending)

    def send(self, *messages: Message, pass_descriptors: Sequence[int] = ()) -> None:
        """Send messages in one write, descriptors with the first byte; what the socket cannot take now follows.

        A peer that is gone is not an error here: `on_end` tells, after all that it said has been read.

        Raises:
            DescriptorsLost: the kernel does not pass the descriptors, and nothing was sent: too many are under way
                already, for one. Source: unix(7), ETOOMANYREFS.
        """
        data = b"".join(map(self.connection.send, messages))
        if self.closed or self.broken:
            return
        if self._pending:
            self._pending += data
            return
        sent = self._try_send(data, pass_descriptors)
        if sent < len(data) and not self.broken:
            self._pending += data[sent:]
            self._loop.add_writer(self._sock.fileno(), self._writable)

    def refuse_descriptors(self) -> None:
        """Close what was passed and not taken, and let the kernel discard any that still come."""
        self._accepts_descriptors = False
        self.received.close()

    def finish(self, on_closed: Callable[[], None]) -> None:
        """Close the socket once all that was sent is in the kernel's hands, and call back."""
        self._on_closed = on_closed
        if not self._pending:
            self.close()

    def close(self) -> None:
        """Close the socket now, and every descriptor that was not taken."""
        if not self.closed:
            self._loop.remove_reader(self._sock.fileno())
            if self._pending:
                self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
            if self._on_closed is not None:
                self._on_closed()
        self.received.close()
        self._pending.clear()

    def hear(self) -> None:
        """Take what has come by now, and act on it."""
        try:
            data = self._receive()
            if data:
                self._dispatch(data)
                return
            error = None
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            error = None
        except SidecallError as failure:
            error = failure
        self._has_ended = True
        if not self.closed:
            self._loop.remove_reader(self._sock.fileno())
        self._on_end(error)

    def _try_send(self, data: bytes | memoryview, passed: Sequence[int] = ()) -> int:
        try:
            return descriptors.send(self._sock, data, passed)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self.broken = True
            if passed and error.errno not in {errno.EPIPE, errno.ECONNRESET}:
                raise DescriptorsLost(f"the streams cannot be passed: {error.strerror}") from error
            return 0

    def _writable(self) -> None:
        with memoryview(self._pending) as view:
            sent = self._try_send(view)
        del self._pending[: len(self._pending) if self.broken else sent]
        if not self._pending:
            self._loop.remove_writer(self._sock.fileno())
            if self._on_closed is not None:
                self.close()

    def _receive(self) -> bytes:
        if self._accepts_descriptors:
            return descriptors.receive(self._sock, _RECEIVE_SIZE, self.received)
        return self._sock.recv(_RECEIVE_SIZE)

    def _dispatch(self, data: bytes) -> None:
        self.connection.receive_data(data)
        for message in self.connection.events():
            self._on_message(message)
            if self.closed:
                return
