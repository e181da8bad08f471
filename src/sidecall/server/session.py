"""One connection: it speaks the protocol, and follows a call.

What a client asks for in passing (PING, DESCRIBE, STATUS, CANCEL) is answered at once. A CALL becomes a `Call`, which
goes its own way; the session hands it what the client says, tells the client what it reports, and closes the connection
when it has ended. A CALL with passed streams is begun when PASS has arrived, with or without its descriptors. A call
that is detached is handed over before its command starts: see `detached`.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import sidecall
from sidecall.calls.admission import SHUTTING_DOWN
from sidecall.calls.call import QUEUED, Call, Owner
from sidecall.calls.eager import start_eager_task
from sidecall.calls.streams import ClientStreams
from sidecall.errors import ProtocolError, ServiceBusy, SidecallError, refusal_code
from sidecall.policy import plan as policy
from sidecall.policy.describe import describe
from sidecall.protocol import messages as m
from sidecall.protocol.connection import Connection
from sidecall.protocol.states import DONE, RUNNING, SERVER
from sidecall.server.detached import Claimed, RecordReader
from sidecall.transport.channel import ServerChannel

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sidecall.calls.outcome import End
    from sidecall.calls.records import Record
    from sidecall.calls.streams import Streams
    from sidecall.policy.config import Service
    from sidecall.server.service import CallService

REQUEST_TIMEOUT = 10.0
"""Seconds from connecting to a request; a client sends it in its first write."""

CLOSE_TIMEOUT = 10.0
"""Seconds that a client has to take the last message."""

EXPLAIN_WAIT_AFTER = 5.0
"""Seconds in the queue after which the client is told what holds the slots: two calls can wait for each other."""

MAX_UNSENT = 2 * m.CALL_LIMIT
"""Bytes that can wait for a client to read them: more than two relayed streams have in flight, or an answer."""

GREETING = m.hello(f"sidecall {sidecall.__version__}")


class Session:
    """Serves one connection.

    Args:
        service: what it is a session of.
        sock: the connection.
        owner: whose it is.

    Attributes:
        owner: see above.
        channel: the connection.
        call: what the client called; None before.
        reserved: bytes that count as its owner's.
    """

    def __init__(self, service: CallService, sock: socket.socket, owner: Owner) -> None:
        self.owner = owner
        self.call: Call | None = None
        self._service = service
        self._loop = asyncio.get_running_loop()
        self.channel = ServerChannel(
            self._loop,
            sock,
            Connection(SERVER),
            self._on_message,
            self._on_end,
            on_descriptors=self._on_pass,
            on_awaited=self._reserve,
            discard=service.supervisors.discard,
        )
        self._timer: asyncio.TimerHandle | None = None
        self._wait_timer: asyncio.TimerHandle | None = None
        self._greeting: tuple[m.Message, ...] = (GREETING,)
        self._offered: tuple[Service, Service] | None = None
        self._streams: ClientStreams | None = None
        self._record: Record | None = None
        self._reader: RecordReader | None = None
        self.reserved = 0

    def start(self) -> None:
        """Take what the client has sent by now, then listen: most have sent all of it."""
        self._timer = self._loop.call_later(REQUEST_TIMEOUT, self._on_silence)
        self.channel.on_readable()
        if not self.channel.has_descriptors:
            self.channel.start()

    def refuse(self, error: SidecallError, *, at_once: bool = False) -> None:
        """Refuse the connection: no call of it begins any more.

        Args:
            error: why.
            at_once: whether it is closed without waiting for the client to read that.
        """
        if self._can_refuse:
            self._service.log_refusal(self.owner, error)
            self.on_refused(error)
        self._close()
        if at_once:
            self.channel.close()

    def stop(self, cause: str, grace: float | None = None) -> None:
        """Stop the call, within `grace` seconds (None: its own); a connection without one is closed.

        A connection that follows the record of a call is told of its end, but has only so much time for that.
        """
        if self._record is not None and cause == "shutdown" and grace != 0:
            self._record.watchers[self._limit_following] = None
            self._limit_following()
        elif self.call is None or self.call.has_ended:
            self._close()
            if grace == 0:
                self.channel.close()
        else:
            self.call.stop(cause, grace)

    def reject_queued(self) -> None:
        """Refuse the call if it waits, or has not come yet; one that runs goes on."""
        if self.call is not None:
            self.call.reject_queued()
        elif self._record is None and self._can_refuse:
            self.refuse(ServiceBusy(*SHUTTING_DOWN))

    # What a call reports: see `calls.call.Follower`.

    @property
    def has_left(self) -> bool:
        """Tell whether the client has closed the connection, or its sending side."""
        return self.channel.has_hung_up

    def streams(self, modes: tuple[int, int, int], on_change: Callable[[], None]) -> Streams:
        """Return the streams; a socket with descriptors in it is watched until a supervisor has taken them.

        A detached call is handed over here, just before its command starts.

        Raises:
            Claimed: its id is taken.
            ServiceBusy: it cannot be recorded.
        """
        self._stop_explaining()
        if self.call is not None and self.call.is_detached:
            detached = self._service.detach(self.call, self.reserved)
            self._join(detached.record)
            return detached.streams(modes, on_change)
        if self.call is not None and (failure := self._service.record_attached(self.call)):
            self._send(m.Notice(failure.reason, failure.hint))
        self._watch_hang_up()
        self._streams = ClientStreams(self._loop, self.channel, modes, on_change)
        return self._streams

    def on_queued(self, ahead: int) -> None:
        """Report that the call waits. A socket with descriptors in it is not read, so it is watched for a hang-up."""
        self._send(m.Queued(ahead))
        self._wait_timer = self._loop.call_later(EXPLAIN_WAIT_AFTER, self._explain_wait)
        self._watch_hang_up()

    def on_started(self, call_id: str) -> None:
        """Report that the command has been executed; its supervisor has received the descriptors by now."""
        if self.channel.has_descriptors:
            self._service.hang_ups.remove(self.channel)
            self.channel.descriptors_taken()
        self._send(m.Started(call_id))

    def on_notice(self, notice: str, hint: str) -> None:
        """Report something that changes nothing, to a person."""
        self._send(m.Notice(notice, hint))

    def on_ended(self, end: End) -> None:
        """Report how the call ended."""
        if end.process.terminated:
            self._send(_terminated(end.process.terminated))
        self._send(end.message())

    def on_refused(self, error: SidecallError) -> None:
        """Report that the call has not started and will not; or join the one that has the same id."""
        if isinstance(error, Claimed) and error.is_same:
            self._join(error.record)
        else:
            self._send(_refused(error))

    def on_done(self) -> None:
        """Close the connection, unless it waits for another call with the same id."""
        if self._record is None:
            self._close()

    # The connection.

    def _on_message(self, message: m.Message) -> None:
        if self._has_answered:
            return  # what crosses the answer on its way is nobody's fault
        try:
            if self.channel.unsent > MAX_UNSENT:
                raise ProtocolError("the client sends requests, but does not read the answers")
            self._handle(message)
        except SidecallError as error:
            self._on_violation(error)

    def _handle(self, message: m.Message) -> None:
        if isinstance(message, m.Hello):
            self._greet(message)
        elif isinstance(message, m.Ping):
            self._send(self._service.load())
        elif isinstance(message, m.Describe):
            self._send(m.Description(describe(self.offer(), policy.command_name(message.command))))
        elif isinstance(message, m.Status):
            self._send_calls(with_ended=bool(message.ended))
        elif isinstance(message, m.Cancel):
            self._send(m.Calls(json.dumps([self._service.cancel_call(self.owner, message.call_id)]).encode()))
        elif isinstance(message, m.Remove):
            self._send(m.Calls(json.dumps([self._service.remove_record(self.owner, message.call_id)]).encode()))
        elif isinstance(message, m.Follow):
            self._follow(message)
        elif isinstance(message, m.Call):
            self._receive_call(message)
        else:
            self._handle_in_call(message)

    def _handle_in_call(self, message: m.Message) -> None:
        if isinstance(message, m.Pass):
            self._on_pass()  # something in between has dropped its descriptors, which the call finds out
        elif isinstance(message, m.Signal):
            if message.signal not in m.SIGNALS:
                raise ProtocolError(f"signal {message.signal} cannot be forwarded")
            if self.call is not None:
                self.call.signal(message.signal)
        elif isinstance(message, m.Resize):
            if self.call is not None:
                self.call.resize(message.rows, message.columns)
        elif self._reader is not None:
            self._reader.receive(message)
        elif self._streams is not None and isinstance(message, (m.Data, m.Eof, m.Window, m.Stop)):
            self._streams.receive(message)

    def _greet(self, hello: m.Hello) -> None:
        if hello.version != m.VERSION:
            raise ProtocolError(
                f"this server speaks version {m.VERSION} of the protocol, the client {hello.version}",
                "use the same release of sidecall on both sides",
            )
        for feature in hello.needs:
            if feature not in m.FEATURES:
                name = feature[:100].decode(errors="backslashreplace")
                raise ProtocolError(f"unknown feature {name!r}", "use the same release of sidecall on both sides")
        self.offer()

    def offer(self) -> Service:
        """Return what the client can call here, by the configuration as it is now.

        Raises:
            CallDenied: nothing.
        """
        config = self._service.config
        if self._offered is None or self._offered[0] is not config:
            self._offered = config, config.at(self.owner.listener, self.owner.peer)
        return self._offered[1]

    def _reserve(self, size: int) -> None:
        """Count bytes that the server is going to hold.

        Raises:
            ServiceBusy: its owner has too many here.
        """
        if size > self.reserved:
            self._service.reserve(self.owner, size - self.reserved)
            self.reserved = size

    def _receive_call(self, request: m.Call) -> None:
        self._reserve(len(request.command) + sum(map(len, request.arguments)) + sum(map(len, request.environment)))
        if policy.wants_help(self.offer(), request):
            self._send(m.Description(describe(self.offer(), policy.command_name(request.command))))
            self._close()
            return
        call = Call(self._service.new_id(), self.owner, request, self.offer, self._service.host, self)
        if call.is_detached:
            try:
                self._service.check_detached(call)
            except Claimed as claimed:
                if not claimed.is_same:
                    raise
                self._join(claimed.record)
                return
        self.call = call
        if m.PASSED not in request.streams:
            self._begin()

    def _on_pass(self) -> None:
        """Begin the call, which has waited for PASS; the channel's callback and message are the same event."""
        if self._has_answered:
            return
        if self.call is None or self.call.is_begun:
            self._on_violation(ProtocolError("Pass without a call that passes streams, or repeated"))
        else:
            self._begin()

    def _begin(self) -> None:
        assert self.call is not None  # noqa: S101 as its callers know
        self._stop_timer()
        start_eager_task(self._loop, self.call.run())

    def _join(self, record: Record) -> None:
        """Answer as soon as it is certain whether the command of a detached call has been started."""
        self._stop_timer()
        self.call = None
        self._record = record
        record.watchers[self._on_decided] = None
        self._on_decided()

    def _on_decided(self) -> None:
        record = self._record
        if record is None or not record.is_decided:
            return
        record.watchers.pop(self._on_decided, None)
        if record.refusal is not None:
            self.on_refused(record.refusal)
        else:
            if record.notice is not None:
                self._send(m.Notice(*record.notice))
            self._send(m.Started(record.id))
        self._close()

    def _follow(self, request: m.Follow) -> None:
        """Send the record of a call; what it is to wait for may take as long as its command."""
        record = self._service.record(self.owner, request.call_id)
        if not record.is_decided:
            raise ServiceBusy(f"the call {record.id!r} is about to start", "try again")
        self._stop_timer()
        self._record = record
        self._send(m.Started(record.id))
        self._reader = RecordReader(self._loop, self.channel, record, request, self._close)
        self._reader.go_on()

    def _limit_following(self) -> None:
        if self._record is not None and self._record.ended and self._timer is None:
            self._timer = self._loop.call_later(CLOSE_TIMEOUT, self.stop, "shutdown", 0.0)

    def _send_calls(self, *, with_ended: bool) -> None:
        if with_ended:
            self._service.with_ended_calls(self.owner, lambda calls: self._send(m.Calls(calls)))
        else:
            self._send(m.Calls(json.dumps(self._service.calls(self.owner)).encode()))

    @property
    def _has_answered(self) -> bool:
        """Tell whether the last message has been sent."""
        return self.channel.connection.states[SERVER] == DONE

    @property
    def _can_refuse(self) -> bool:
        """Tell whether a refusal can be sent."""
        return self.channel.connection.states[SERVER] not in {RUNNING, DONE}

    def _send(self, *messages: m.Message) -> None:
        greeting, self._greeting = self._greeting, ()
        self.channel.send(*greeting, *messages)

    def _on_silence(self) -> None:
        self._on_violation(ProtocolError(f"no request within {REQUEST_TIMEOUT:g} seconds"))

    def _on_hang_up(self) -> None:
        """The client of a waiting call has gone, or wants it to end: a signal that it sent cannot be read."""
        self.stop("client")

    def _on_end(self, error: SidecallError | None) -> None:
        if error is None:
            self.stop("client")
        else:
            self._on_violation(error)

    def _on_violation(self, error: SidecallError) -> None:
        """The client broke the protocol: it is refused, or its call ends."""
        if self.call is not None and self.call.is_begun:
            self.call.violate(error)
        else:
            self.refuse(error)

    def _close(self) -> None:
        """Close the connection once the client has taken the last message, or does not.

        A client that is stopped for a while can still have output of its command to take: it has until it goes.
        """
        self._stop_timer()
        self.channel.finish(self._on_closed)
        is_patient = self._reader is not None or (
            self.call is not None and self.call.has_started and not self.call.stop_cause
        )
        if not self.channel.closed and not is_patient:
            self._timer = self._loop.call_later(CLOSE_TIMEOUT, self.channel.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _explain_wait(self) -> None:
        if self.call is not None and self.call.state == QUEUED:
            self._send(self._service.explain_wait(self.owner))

    def _watch_hang_up(self) -> None:
        if self.channel.has_descriptors:
            self._service.hang_ups.add(self.channel, self._on_hang_up)

    def _stop_explaining(self) -> None:
        if self._wait_timer is not None:
            self._wait_timer.cancel()
            self._wait_timer = None

    def _on_closed(self) -> None:
        """Let go of everything: nothing of a call waits for the garbage collector."""
        self._stop_timer()
        self._stop_explaining()
        self._service.hang_ups.remove(self.channel)
        self._service.forget(self)
        if self._reader is not None:
            self._reader.close()
        if self._record is not None:
            for watcher in (self._on_decided, self._limit_following):
                self._record.watchers.pop(watcher, None)
        self.call = self._streams = self._offered = self._record = self._reader = None


def _terminated(count: int) -> m.Notice:
    processes = "1 background process was" if count == 1 else f"{count} background processes were"
    return m.Notice(
        f"{processes} terminated when the command had exited",
        'have the command wait for them, or set `background = "keep"` in the service configuration',
    )


def _refused(error: SidecallError) -> m.Refused:
    return m.Refused(refusal_code(error), error.reason, error.hint)
