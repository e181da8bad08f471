"""One connection, from its HELLO to its end: who calls, what it asks, and a call's way through the queue."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import TYPE_CHECKING

import sidecall
from sidecall.errors import (
    DESCRIPTORS_LOST,
    DescriptorsLost,
    ProtocolError,
    ServiceBusy,
    ServiceUnavailable,
    SidecallError,
    one_line,
)
from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode
from sidecall.protocol.connection import Connection
from sidecall.protocol.states import DONE, SERVICE
from sidecall.policy import plan as policy
from sidecall.calls.admission import SHUTTING_DOWN
from sidecall.calls.threads import run_in_thread
from sidecall.policy.callers import UNMAPPED
from sidecall.policy.describe import describe
from sidecall.calls.eager import begin
from sidecall.calls.execution import TSTP, Execution, signalled_before_start
from sidecall.server.notify import say_bug
from sidecall.calls.preparation import check, prepare
from sidecall.supervise.process import SupervisorDied
from sidecall.transport.channel import Channel

if TYPE_CHECKING:
    import socket

    from sidecall.policy.config import Service
    from sidecall.calls.execution import End
    from sidecall.files.paths import Paths
    from sidecall.policy.plan import Plan
    from sidecall.server.service import CallService
    from sidecall.transport.credentials import Peer

REQUEST_TIMEOUT = 10.0
"""Seconds from connecting to asking for something; a caller says it all in its first write."""

CLOSE_TIMEOUT = 10.0
"""Seconds that a caller has to take the last message."""

MOST_UNREAD = 2 * m.CALL_LIMIT
"""Bytes that may wait for a caller to read them: more than two relayed streams have under way, or an answer."""

GREETING = m.Hello(m.VERSION, m.FEATURES, f"sidecall {sidecall.__version__}")

_SHOWN = 200
"""Bytes of a command's name in a list of calls."""


def refuse(error: SidecallError) -> bytes:
    """Return what refuses a connection before anything is read from it."""
    return encode(GREETING) + encode(m.Refused(error.code, error.reason, error.hint))


class Session:
    """Serves one connection. A call runs as a task of its own from where it has to wait; all else is done at once.

    Attributes:
        call_id: what its call is called, in logs and to its caller.
    """

    def __init__(self, service: CallService, sock: socket.socket, peer: Peer, listener: str, call_id: str) -> None:
        self.call_id = call_id
        self._service = service
        self._peer = peer
        self._listener = listener
        self._came = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._channel = Channel(self._loop, sock, Connection(SERVICE), self._on_message, self._on_end)
        self._patience: asyncio.TimerHandle | None = None
        self._greeting: tuple[m.Message, ...] = (GREETING,)
        self._offered: tuple[Service, Service] | None = None
        self._call: m.Call | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_serving = False
        self._turn: asyncio.Future[None] | None = None
        self._is_cancelled = False
        self._is_finishing = False
        self._execution: Execution | None = None
        self._ended_by = 0
        self._starts_stopped = False
        self._dropped_because = ("the call was cancelled while it waited", "")
        self._plan: Plan | None = None

    def hear(self) -> None:
        """Take what the caller has said by now: most have said it all, and nobody need wait for them. Then listen."""
        self._channel.hear()
        self._channel.listen()
        if not self._is_serving and not self._is_finishing:
            self._patience = self._loop.call_later(REQUEST_TIMEOUT, self._on_silence)

    def cancel(self, grace: float | None = None) -> None:
        """End the call as if its caller had gone, within `grace` seconds; None for what was configured."""
        self._is_cancelled = True
        if not self._is_serving or self._is_finishing:
            self._finish()
        elif self._execution is not None:
            self._execution.cancel(grace)
        else:
            self.grant_slot()

    def visible_to(self, peer: Peer) -> dict[str, object] | None:
        """Return what a peer may know of the call; None if that is nothing, or if there is none."""
        if self._call is None or peer.uid not in {0, os.geteuid(), self._peer.uid} - {UNMAPPED}:
            return None
        return {
            "call": self.call_id,
            "state": "waiting" if self._execution is None else "running",
            "command": policy.command_name(self._call.command[:_SHOWN]),
            "uid": self._peer.uid,
            "seconds": round(time.monotonic() - self._came, 3),
        }

    def reject_queued(self) -> None:
        """Refuse the call if it waits, or has not come yet; one that runs goes on."""
        if self._call is None:
            self._refuse(ServiceBusy(*SHUTTING_DOWN))
            self.cancel()
        elif self._turn is not None and not self._turn.done():
            self._dropped_because = SHUTTING_DOWN
            self.cancel()

    def grant_slot(self) -> None:
        """Let the call go on, if it waits: it has a slot now, or will not get one."""
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)

    def _finish(self) -> None:
        """Close the connection once the caller has taken the last message, or does not.

        A caller that is stopped for a while may still have output of its command to take: it has until it goes.
        """
        self._is_finishing = True
        self._stop_timer()
        self._channel.finish(self._on_closed)
        if not self._channel.closed and (self._execution is None or self._is_cancelled):
            self._patience = self._loop.call_later(CLOSE_TIMEOUT, self._channel.close)

    def _stop_timer(self) -> None:
        if self._patience is not None:
            self._patience.cancel()

    def _on_closed(self) -> None:
        self._stop_timer()
        self._service.forget(self, self._peer)

    def _on_silence(self) -> None:
        self._refuse(ProtocolError(f"no request within {REQUEST_TIMEOUT:g} seconds"))
        self.cancel()

    def _on_end(self, error: SidecallError | None) -> None:
        if error is None:
            self.cancel()
        else:
            self._on_violation(error)

    def _on_violation(self, error: SidecallError) -> None:
        """Refuse the call if it is certain that it will not start; in any case cancel it."""
        if self._execution is None:
            self._refuse(error)
        self.cancel()

    def _on_message(self, message: m.Message) -> None:
        if self._answered:
            return  # the answer has been given; what crosses it on the way is nobody's fault
        try:
            if self._channel.unsent > MOST_UNREAD:
                raise ProtocolError("the caller asks on, but does not read the answers")
            self._handle(message)
        except SidecallError as error:
            self._on_violation(error)

    def _handle(self, message: m.Message) -> None:
        if isinstance(message, m.Hello):
            self._greet(message)
        elif isinstance(message, m.Ping):
            self._send(self._service.load())
        elif isinstance(message, m.Describe):
            self._send(m.Description(describe(self._offer(), policy.command_name(message.command))))
        elif isinstance(message, m.Status):
            self._send(m.Calls(json.dumps(self._service.calls(self._peer)).encode()))
        elif isinstance(message, m.Cancel):
            self._send(m.Calls(json.dumps([self._service.cancel_call(self._peer, message.call_id)]).encode()))
        elif isinstance(message, m.Call):
            self._take_call(message)
        elif isinstance(message, m.Signal):
            self._signal(message.signal)
        elif self._execution is not None:
            self._execution.receive(message)

    def _signal(self, number: int) -> None:
        """Deliver a signal to the command; before its start, one that would end it ends the call."""
        if number not in m.SIGNALS:
            raise ProtocolError(f"signal {number} cannot be forwarded")
        if self._execution is not None:
            if self._plan is None or number in self._plan.signals:
                self._execution.signal(number)
            else:
                self._service.log(f"call {self.call_id} does not take signal {number}")
        elif number in m.ENDING_SIGNALS:
            self._ended_by = self._ended_by or number
            self.cancel()
        else:
            self._starts_stopped = number == TSTP

    def _greet(self, hello: m.Hello) -> None:
        if hello.version != m.VERSION:
            raise ProtocolError(
                f"this service speaks version {m.VERSION} of the protocol, the caller {hello.version}",
                "use the same release of sidecall on both sides",
            )
        for feature in hello.features:
            if feature not in m.FEATURES:
                name = feature.decode(errors="backslashreplace")
                raise ProtocolError(f"the feature {name!r} is not known here")
        self._offer()

    def _offer(self) -> Service:
        """Return what this caller may call here, by the configuration as it is now.

        Raises:
            CallDenied: nothing.
        """
        config = self._service.config
        if self._offered is None or self._offered[0] is not config:
            self._offered = config, config.at(self._listener, self._peer)
        return self._offered[1]

    @property
    def _answered(self) -> bool:
        """Tell whether the last word has been said."""
        return self._channel.connection.states[SERVICE] == DONE

    def _take_call(self, call: m.Call) -> None:
        if policy.wants_help(self._offer(), call):
            self._send(m.Description(describe(self._offer(), policy.command_name(call.command))))
            self.cancel()
            return
        self._stop_timer()
        self._call = call
        self._is_serving = True
        self._task = begin(self._loop, self._serve(call))

    async def _serve(self, call: m.Call) -> None:
        """See a call to its end; whatever happens, nothing of it is left."""
        try:
            await self._admit_and_execute(call)
        except SidecallError as error:
            self._refuse(error)
        except SupervisorDied:
            self._lose("the process that kept it was killed")
        except OSError as error:
            self._refuse(ServiceUnavailable(f"the service cannot serve the call: {error.strerror}"))
        except Exception as error:  # a bug in one session must not end the others
            say_bug(error)
            self._lose(one_line(f"a bug in the service: {type(error).__name__}: {error}"))
        finally:
            self._finish()

    async def _admit_and_execute(self, call: m.Call) -> None:
        self._check_descriptors(call)
        arrived = time.monotonic()
        try:
            await self._admitted(call)
            if self._answered:
                return  # the caller broke the protocol while it waited
            if self._ended_by:
                self._service.log(f"call {self.call_id} ends by signal {self._ended_by} before its start")
                self._record(outcome="signaled before its start", signal=self._ended_by)
                self._send(signalled_before_start(self._ended_by, time.monotonic() - arrived))
            else:
                await self._execute(call, arrived)
        finally:
            self._service.leave(self)

    def _check_descriptors(self, call: m.Call) -> None:
        command = policy.command_of(self._offer(), call)
        passed = call.streams.count(m.PASSED)
        if passed and command is not None and not command.passes:
            raise DescriptorsLost("this command takes no passed descriptors", "relay the streams: `--relay`")
        if len(self._channel.received) < passed:
            raise DescriptorsLost("the passed descriptors did not arrive", "relay the streams: `--relay`")
        if len(self._channel.received) > passed:
            raise ProtocolError("more descriptors than passed streams arrived")

    async def _admitted(self, call: m.Call) -> None:
        """Wait for a slot. What can be refused is refused before the wait.

        Raises:
            ServiceBusy: there will be none.
            SidecallError: see `policy.plan`.
        """
        admission = self._service.admission
        if not admission.has_room:
            self._plan = check(self._offer(), call)
        place = admission.admit(self, queue_allowed=not call.flags & m.FLAG_NO_WAIT)
        if place:
            self._send(m.Queued(place - 1))
            self._service.log(f"call {self.call_id} waits, {place - 1} ahead of it")
            self._turn = self._loop.create_future()
            await self._turn
        if self._is_cancelled and not self._ended_by:
            raise ServiceBusy(*self._dropped_because)

    async def _execute(self, call: m.Call, arrived: float) -> None:
        execution = self._execution = Execution(self._channel, call)
        try:
            began = time.monotonic()
            end, paths = await self._run(execution, call)
            times = began - arrived, time.monotonic() - began
            self._service.leave(self)
            await execution.drained()
            message = end.message(*times)
            self._service.log(f"call {self.call_id} {end.words()} after {times[1]:.3f} s")
            if self._service.audit.is_kept:
                self._record(**end.fields(message), files=paths.used, bytes=execution.moved)
            self._send(message)  # the log is never behind what a caller knows
        finally:
            await execution.close()

    async def _run(self, execution: Execution, call: m.Call) -> tuple[End, Paths]:
        """Execute a call's command, with what it needs around it; return its end, and the files that it named."""
        prepared = prepare(self._offer(), call, self.call_id, self._service.scratch)
        try:
            self._plan = prepared.plan
            self._service.log(f"call {self.call_id} starts: {os.fsdecode(call.command)}")
            execution.start(prepared.plan, self._service.supervisors, lambda: self._send(m.Started(self.call_id)))
            if self._starts_stopped:
                execution.signal(TSTP)
            end = await execution.ended()
            if end.ok and prepared.paths.replaces and (failure := await run_in_thread(prepared.paths.commit)):
                self._service.log(f"call {self.call_id}: {failure}")
                end = end.output_failed()
        finally:
            await prepared.remove()
        return end, prepared.paths

    def _record(self, **fields: object) -> None:
        """Write the call's line of the audit log."""
        if not self._service.audit.is_kept:
            return
        if self._call is not None:
            fields["command"] = policy.command_name(self._call.command[:_SHOWN])
            fields["environment"] = [os.fsdecode(entry.partition(b"=")[0]) for entry in self._call.environment]
        if self._plan is not None:
            fields["parameters"] = self._plan.parameters
        self._service.audit.record(self.call_id, self._listener, self._peer, **fields)

    def _send(self, *messages: m.Message) -> None:
        greeting, self._greeting = self._greeting, ()
        self._channel.send(*greeting, *messages)

    def _lose(self, reason: str) -> None:
        """Write down that nobody knows how the call ended; its caller knows by the end of the stream without an end."""
        if self._answered:
            return
        self._service.log(f"call {self.call_id} is lost: {reason}")
        self._record(outcome="lost", reason=reason)

    def _refuse(self, error: SidecallError) -> None:
        """Say why, if that can still be said: not twice, and after the start the call is lost instead."""
        if self._answered:
            return
        if self._execution is not None and self._execution.has_started:
            self._lose(error.reason)
            return
        code = DESCRIPTORS_LOST if isinstance(error, DescriptorsLost) else error.code
        self._service.log(f"call {self.call_id} refused: {error.reason}")
        self._record(outcome="refused", code=code, reason=error.reason, rule=error.rule or type(error).__name__)
        self._send(m.Refused(code, error.reason, error.hint))
