"""A connected socket that speaks the protocol: messages in and out on a `Loop`.

Theory of operation. A client can attach any descriptor to any byte that it sends, and closing one can block for
minutes: a TCP socket with unsent data, a file of a FUSE daemon that does not answer. So a server never receives a
descriptor. It peeks (MSG_PEEK without a control buffer neither installs nor drops one), and reads exactly the bytes
that carry none, those of a few frames at once: thousands of short ones would hold up other connections.
Descriptors are only expected with PASS, and a PASS is left in the socket for the supervisor that the connection is lent
to (`has_descriptors`, `descriptors_taken`). Whatever else carries some ends the connection. A socket with unread
descriptors in its queue is not closed either, since that drops them: it goes to `discard`. Source: unix(7), recvmsg(2).

A server's last message is followed by a handshake (`finish`): it shuts its sending side down, reads and discards what
still comes, and closes when the client does. A server that closes at once makes forwarders such as socat(1) fail on
what the client still sends, and drop what they hold.
"""

from __future__ import annotations

import errno
import select
from collections import deque
from socket import MSG_CTRUNC, MSG_PEEK, SHUT_RDWR, SHUT_WR
from typing import TYPE_CHECKING

from sidecall.errors import DescriptorsLost, ProtocolError, SidecallError
from sidecall.protocol.messages import CALL_LIMIT, Pass
from sidecall.transport import descriptors

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence
    from socket import socket

    from sidecall.protocol.connection import Connection
    from sidecall.protocol.messages import Message
    from sidecall.transport.loop import Loop

_RECEIVE_SIZE = 64 * 1024

_LONGEST_QUEUE = 2 * CALL_LIMIT
"""Bytes in which PASS is searched: more than a socket holds, but for clients with CAP_NET_ADMIN. Source: socket(7)."""

DISCARD_LIMIT = 4 * 1024 * 1024
"""Bytes that are read and discarded after the last message: more than two relayed streams can have in flight."""

DISCARD_TIMEOUT = 5.0
"""Seconds for that."""


class Channel:
    """Sends and receives messages over one socket, which it owns.

    Args:
        loop: where to wait.
        sock: a connected socket; it is made non-blocking.
        connection: this side's protocol state.
        on_message: called with each message of the peer.
        on_end: called once when nothing more comes: with None at the end of the stream, with the error if the
            peer broke the protocol.

    Attributes:
        broken: whether the peer has closed the connection, and takes nothing any more.
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
        self.broken = False
        self._loop = loop
        self._sock = sock
        self._on_message = on_message
        self._on_end = on_end
        self._pending: deque[tuple[bytes, Sequence[int]]] = deque()
        self._unsent = 0
        self._has_ended = False

    def start(self) -> None:
        """Call back with what comes from now on, if the stream has not ended yet."""
        if not self.closed and not self._has_ended:
            self._loop.add_reader(self._sock.fileno(), self.on_readable)

    @property
    def closed(self) -> bool:
        """Tell whether the socket is closed."""
        return self._sock.fileno() < 0

    @property
    def unsent(self) -> int:
        """How many bytes wait for the peer to read what came before them."""
        return self._unsent

    def send(self, *messages: Message, pass_descriptors: Sequence[int] = ()) -> None:
        """Send messages in one write, descriptors with the first byte; what the socket cannot take now follows.

        A peer that has closed the connection is not an error here: `on_end` reports it, after all that it sent.

        Raises:
            DescriptorsLost: the kernel does not pass the descriptors, and nothing was sent: too many are in flight
                already, for one. Source: unix(7), ETOOMANYREFS.
        """
        data = b"".join(map(self.connection.send, messages))
        if self.closed or self.broken:
            return
        sent = 0 if self._pending else self._try_send(data, pass_descriptors)
        if sent < len(data) and not self.broken:
            if not self._pending:
                self._loop.add_writer(self._sock.fileno(), self._on_writable)
            self._pending.append((data[sent:], () if sent else pass_descriptors))
            self._unsent += len(data) - sent

    def shut_down_sending(self) -> None:
        """Tell the peer that nothing more comes from here."""
        try:
            self._sock.shutdown(SHUT_WR)
        except OSError:
            pass  # the peer has closed the connection, which is about to be read

    def close(self) -> None:
        """Close the socket now."""
        if not self.closed:
            self._stop_waiting()
            self._sock.close()

    def on_readable(self) -> None:
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
        try:
            self._on_end(error)
        finally:
            del error  # its traceback has this frame, and so the frame itself and what the connection holds

    def _receive(self) -> bytes:
        """Return what has come; nothing at the end of the stream."""
        return self._sock.recv(_RECEIVE_SIZE)

    def _try_send(self, data: bytes, passed: Sequence[int] = ()) -> int:
        try:
            return descriptors.send(self._sock, data, passed)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self.broken = True
            if passed and error.errno not in {errno.EPIPE, errno.ECONNRESET}:
                raise DescriptorsLost(f"cannot pass the streams: {error.strerror}") from error
            return 0

    def _on_writable(self) -> None:
        try:
            self._send_pending()
        except SidecallError as error:
            self._on_end(error)

    def _send_pending(self) -> None:
        while self._pending and not self.broken:
            data, passed = self._pending[0]
            sent = self._try_send(data, passed)
            self._unsent -= sent
            if sent < len(data):
                if sent:
                    self._pending[0] = data[sent:], ()
                break
            self._pending.popleft()
        if self.broken:
            self._pending.clear()
            self._unsent = 0
        if not self._pending:
            self._loop.remove_writer(self._sock.fileno())
            self._on_all_sent()

    def _on_all_sent(self) -> None:
        """Go on, now that nothing is pending."""

    def _stop_waiting(self) -> None:
        self._loop.remove_reader(self._sock.fileno())
        if self._pending:
            self._loop.remove_writer(self._sock.fileno())
        self._pending.clear()

    def _dispatch(self, data: bytes) -> None:
        self.connection.receive_data(data)
        for message in self.connection.events():
            self._on_message(message)
            if self.closed:
                return


class ServerChannel(Channel):
    """The server's end: it receives no descriptors, and closes by a handshake.

    Args:
        loop: see `Channel`; asyncio's, since the handshake has a time limit.
        sock: see `Channel`.
        connection: see `Channel`.
        on_message: see `Channel`.
        on_end: see `Channel`.
        on_descriptors: called when a PASS with descriptors is next in the socket; nothing is read until
            `descriptors_taken`.
        on_awaited: called with the length of a frame of which a part has come; it raises if that is too much.
        discard: disposes of a socket whose queue holds descriptors, without closing them here.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket,
        connection: Connection,
        on_message: Callable[[Message], None],
        on_end: Callable[[SidecallError | None], None],
        *,
        on_descriptors: Callable[[], None],
        on_awaited: Callable[[int], None],
        discard: Callable[[socket], None],
    ) -> None:
        super().__init__(loop, sock, connection, on_message, on_end)
        self._timers = loop
        descriptors.keep_urgent_inline(sock)
        self.has_descriptors = False
        self._on_descriptors = on_descriptors
        self._on_awaited = on_awaited
        self._discard = discard
        self._on_closed: Callable[[], None] | None = None
        self._discarded = -1
        self._timer: asyncio.TimerHandle | None = None

    @property
    def socket(self) -> socket:
        """The socket itself, to lend to a supervisor while `has_descriptors`."""
        return self._sock

    @property
    def has_hung_up(self) -> bool:
        """Tell whether the client has closed the connection, or its sending side, by now."""
        if self.closed or self._has_ended:
            return True
        poll = select.poll()
        poll.register(self._sock, select.POLLRDHUP)
        return bool(poll.poll(0))

    def descriptors_taken(self) -> None:
        """Read on: a supervisor has received PASS."""
        self.has_descriptors = False
        self.connection.receive_data(self.connection_pass)
        for _ in self.connection.events():
            pass
        self.start()

    connection_pass = bytes(4) + bytes([Pass.number])
    """The frame that a supervisor has read in this channel's place."""

    def finish(self, on_closed: Callable[[], None]) -> None:
        """Send what is pending, then shut the sending side down; once the client has as well, close and call back."""
        if self._on_closed is not None or self.closed:
            return
        self._on_closed = on_closed
        if not self._pending:
            self._on_all_sent()

    def close(self) -> None:
        """Close the socket now, and call back; if its queue holds descriptors it is discarded instead."""
        if self.closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._stop_waiting()
        if self._on_closed is not None:
            self._on_closed()
        if self.has_descriptors or self._holds_descriptors():
            self._discard(self._sock)
        else:
            self._sock.close()
        self._on_message = self._on_end = self._on_descriptors = self._on_awaited = _ignore  # no circle is left
        self._on_closed = None

    def _dispatch(self, data: bytes) -> None:
        try:
            super()._dispatch(data)
            if not self.closed and (awaited := self.connection.awaited):
                self._on_awaited(awaited)
        except SidecallError:
            if self._discarded < 0:  # what follows the last message is discarded, also if it came with the request
                raise

    def _receive(self) -> bytes:
        data, _, flags, _ = self._sock.recvmsg(_RECEIVE_SIZE, 0, MSG_PEEK)
        if not flags & MSG_CTRUNC:
            return self._sock.recv(self.connection.size_of_turn(data)) if data else data
        if len(data) == _RECEIVE_SIZE:  # the descriptors can be behind what was peeked, with a PASS behind a long CALL
            data = self._sock.recv(_LONGEST_QUEUE, MSG_PEEK)
        before = self.connection.offset_of_pass(data)
        if before < 0:
            raise ProtocolError("descriptors without Pass", "use the same release of sidecall on both sides")
        if before and not descriptors.begin_at(self._sock, before):
            raise DescriptorsLost("the descriptors are not with Pass alone", "relay the streams: `--relay`")
        if before:
            return self._sock.recv(before)
        if not self.connection.expects_pass:
            raise ProtocolError("Pass without passed streams, or repeated")
        self._loop.remove_reader(self._sock.fileno())
        self.has_descriptors = True
        self._on_descriptors()
        raise BlockingIOError

    def on_readable(self) -> None:
        """Take what has come by now, and act on it; after the last message, discard it."""
        if self._discarded < 0:
            super().on_readable()
        else:
            self._discard_received()

    def _discard_received(self) -> None:
        """Discard what comes after the last message; close at its end, and where descriptors come, or too much."""
        try:
            data, _, flags, _ = self._sock.recvmsg(_RECEIVE_SIZE, 0, MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # the client has closed its end without reading the last message
            self.close()
            return
        self._discarded += len(data)
        if not data or flags & MSG_CTRUNC or self._discarded > DISCARD_LIMIT:
            self.close()
        else:
            self._sock.recv(len(data))

    def _holds_descriptors(self) -> bool:
        """Tell whether unread descriptors are left, once no more can come."""
        try:
            self._sock.shutdown(SHUT_RDWR)
            while True:
                data, _, flags, _ = self._sock.recvmsg(_RECEIVE_SIZE, 0, MSG_PEEK)
                if flags & MSG_CTRUNC:
                    return True
                if not data:
                    return False
                self._sock.recv(len(data))
        except OSError:
            return False

    def _on_all_sent(self) -> None:
        if self._on_closed is None:
            return
        if self.broken or self._has_ended or self.has_descriptors:
            self.close()
            return
        self.shut_down_sending()
        self._discarded = 0
        self._timer = self._timers.call_later(DISCARD_TIMEOUT, self.close)
        self._loop.add_reader(self._sock.fileno(), self.on_readable)


def _ignore(*_: object) -> None:
    pass
