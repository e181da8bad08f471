"""A call: a thing of its own, from CALL to EXIT, whoever follows it.

Theory of operation. `run` is the whole way, top to bottom: check, wait for a slot, execute, drain, create outputs, end.
`TRANSITIONS` is the same as a table: from each state, what can happen, which state that leads to, who causes it and
which event records it. A call is moved by `run`, by its supervisor (started, exited) and by whoever stops it; every
move goes through `_move`, so a move that the table does not have is a bug that is found at once.

Whoever follows a call is a `Follower`: it is told of the queue, the start and the end, and lends its streams. It never
touches the state. The other way round the follower has `run`, `stop` and `signal`. The session of a connection follows
a call, and hands one that is detached over to another follower (`follower`) just before its command starts.

A stop has a cause: one of `STOPPED_BY`. The first one counts. It is reported if the command
was still running when it was stopped, or if the call had not started yet.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sidecall.calls import events
from sidecall.calls.admission import SHUTTING_DOWN, PipeEnd
from sidecall.calls.execution import TSTP, Execution
from sidecall.calls.log import log_bug
from sidecall.calls.outcome import End, signaled_before_start
from sidecall.calls.preparation import check, prepare, shared_directory
from sidecall.calls.threads import run_in_thread
from sidecall.errors import (
    DescriptorsLost,
    ProtocolError,
    ServiceBusy,
    ServiceUnavailable,
    SidecallError,
    one_line,
    refusal_code,
)
from sidecall.policy import plan as policy
from sidecall.policy.parameters import shortened
from sidecall.protocol import messages as m
from sidecall.protocol.options import CallOptions
from sidecall.supervise.process import SupervisorDied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sidecall.calls.admission import Admission
    from sidecall.calls.preparation import Prepared
    from sidecall.calls.streams import Streams
    from sidecall.files.scratch import Scratch
    from sidecall.policy.config import Service
    from sidecall.policy.plan import Plan
    from sidecall.supervise.process import SupervisorPool
    from sidecall.transport.channel import ServerChannel
    from sidecall.transport.credentials import Peer

RECEIVED = "received"
QUEUED = "queued"
STARTING = "starting"
RUNNING = "running"
STOPPING = "stopping"
DRAINING = "draining"
COMMITTING = "committing"
ENDED = "ended"


class Move(NamedTuple):
    """A row of the table: which state something leads to, who causes it, and the event that records it (or none)."""

    to: str
    by: str
    records: str = ""


_REFUSE = Move(ENDED, "policy, admission or supervisor", events.REFUSED)
_LOSE = Move(ENDED, "server", events.LOST)

TRANSITIONS: Mapping[str, Mapping[str, Move]] = {
    RECEIVED: {
        "queue": Move(QUEUED, "admission", events.QUEUED),
        "start": Move(STARTING, "admission"),
        "refuse": _REFUSE,
        "lose": _LOSE,
    },
    QUEUED: {
        "start": Move(STARTING, "admission"),
        "end": Move(ENDED, "client's signal", events.ENDED),
        "refuse": _REFUSE,
        "lose": _LOSE,
    },
    STARTING: {
        "started": Move(RUNNING, "supervisor", events.STARTED),
        "stop": Move(STOPPING, "client, timeout, operator or shutdown", events.STOPPING),
        "end": Move(ENDED, "client's signal", events.ENDED),
        "refuse": _REFUSE,
        "lose": _LOSE,
    },
    RUNNING: {
        "stop": Move(STOPPING, "client, timeout, operator or shutdown", events.STOPPING),
        "exited": Move(DRAINING, "supervisor"),
        "lose": _LOSE,
    },
    STOPPING: {
        "started": Move(STOPPING, "supervisor", events.STARTED),
        "exited": Move(DRAINING, "supervisor"),
        "refuse": _REFUSE,
        "lose": _LOSE,
    },
    DRAINING: {
        "commit": Move(COMMITTING, "server"),
        "end": Move(ENDED, "server", events.ENDED),
        "lose": _LOSE,
    },
    COMMITTING: {
        "end": Move(ENDED, "server", events.ENDED),
        "lose": _LOSE,
    },
    ENDED: {},
}


@dataclass(frozen=True)
class Owner:
    """Whose call it is: who called, and at which listener."""

    listener: str
    peer: Peer

    @property
    def key(self) -> tuple[str, int]:
        """What is bounded, and kept apart from all others: a user at a listener."""
        return self.listener, self.peer.uid


class Follower(Protocol):
    """What a call needs of whoever follows it."""

    @property
    def channel(self) -> ServerChannel:
        """Return the client's connection, whose socket holds the passed descriptors."""
        ...

    @property
    def has_left(self) -> bool:
        """Tell whether the call is to end since its client has disconnected."""
        ...

    def streams(self, modes: tuple[int, int, int], on_change: Callable[[], None]) -> Streams:
        """Return the call's streams; another follower can follow it from here on."""
        ...

    def on_queued(self, ahead: int) -> None:
        """Report that the call waits."""
        ...

    def on_started(self, call_id: str) -> None:
        """Report that the command has been executed."""
        ...

    def on_notice(self, notice: str, hint: str) -> None:
        """Report something that changes nothing, to a person."""
        ...

    def on_ended(self, end: End) -> None:
        """Report how the call ended."""
        ...

    def on_refused(self, error: SidecallError) -> None:
        """Report that the call has not started and will not."""
        ...

    def on_done(self) -> None:
        """Let go of the call: nothing of it is left."""
        ...


@dataclass(frozen=True)
class Host:
    """What a call needs of the server that it runs in.

    Attributes:
        admission: the slots and the queue.
        release: gives a call's slot, or its place in the queue, to the next one.
        supervisors: who executes commands.
        scratch: where directories of a call's own are made.
        events: the account of what happens.
    """

    admission: Admission[Call]
    release: Callable[[Call], None]
    supervisors: SupervisorPool
    scratch: Scratch
    events: events.Events


class Call:
    """One call.

    Args:
        unique_id: an id that no other call has.
        owner: whose it is.
        request: what is asked for.
        offer: returns what the owner can call, by the configuration as it is now.
        host: the server.
        follower: who is told, and lends the streams.

    Raises:
        ProtocolError: an option of the request is unknown or malformed.
        UsageError: the id that the client has chosen is invalid.

    Attributes:
        id: its id: the unique one or, if it is detached, the one that its client has chosen.
        owner: see above.
        request: see above.
        is_detached: whether it outlives its client.
        follower: see above.
        state: one of the states above.
        notice: a line for a person about its start, and a hint.
        stop_cause: who stopped it; empty if nobody did.
        is_begun: whether `run` has begun.
        has_started: whether the command has been executed: from then on the call can be lost, not refused.
    """

    def __init__(  # noqa: PLR0917 what a call is made of
        self,
        unique_id: str,
        owner: Owner,
        request: m.Call,
        offer: Callable[[], Service],
        host: Host,
        follower: Follower,
    ) -> None:
        self.owner = owner
        self.request = self._request = request
        self.follower = follower
        self.state = RECEIVED
        self.stop_cause = ""
        self._options = CallOptions(request.options)
        self._terminal = self._options.terminal
        if self._terminal is not None and request.streams != m.IN_TERMINAL:
            raise ProtocolError("a call in a terminal relays stdin and stdout, and has stdout as stderr")
        self._unique_id = unique_id
        self.id = self._options.detach or unique_id
        self.is_detached = self._options.detach is not None
        self._offer = offer
        self._host = host
        self._received_at = time.monotonic()
        self._plan: Plan | None = None
        self._execution: Execution | None = None
        self._turn: asyncio.Future[None] | None = None
        self._dropped_because = ("the call was cancelled before it started", "")
        self._ended_by = 0
        self._starts_stopped = False
        self.notice: tuple[str, str] | None = None
        self._moved: Mapping[str, int] = {}
        self.is_begun = False
        self.has_started = False

    @property
    def command(self) -> str:
        """The command's name, as text."""
        return policy.command_name(self.request.command[:_SHOWN])

    def environment_names(self) -> list[str]:
        """Return the names of the variables that the client sets."""
        return [entry.partition(b"=")[0].decode(errors="backslashreplace") for entry in self.request.environment]

    @property
    def parameters(self) -> Mapping[str, object]:
        """What the client asked for, with secrets masked; empty until it has been checked."""
        return {} if self._plan is None else self._plan.parameters

    @property
    def directory(self) -> str:
        """The directory at the service that the client has chosen; without one, where the client itself is."""
        return (self.request.directory or self.request.base).decode(errors="backslashreplace")

    def describe(self) -> dict[str, object]:
        """Return what STATUS shows of the call: little enough for the calls of a full queue to fit into one answer."""
        return {
            "call": self.id,
            "state": "waiting" if self.state in {RECEIVED, QUEUED} else "running",
            "command": self.command,
            "uid": self.owner.peer.uid,
            "seconds": round(time.monotonic() - self._received_at, 3),
            "parameters": shortened(self.parameters),
            "directory": self.directory[:_SHOWN],
        }

    def hand_over(self, follower: Follower) -> None:
        """Have another follower follow the call from here on; nothing of the first one is kept."""
        self.follower = follower
        del self._offer

    async def run(self) -> None:
        """Take the call from CALL to EXIT; whatever happens, nothing of it is left."""
        self.is_begun = True
        self._host.events.emit(events.RECEIVED, self)
        try:
            await self._run()
        except SidecallError as error:
            self._refuse(error)
        except SupervisorDied:
            self._lose("its supervisor was killed")
        except OSError as error:
            self._refuse(ServiceUnavailable(f"cannot serve the call: {error.strerror}"))
        except Exception as error:  # a bug in one call must not end the others
            log_bug(error)
            self._lose(one_line(f"a bug in the server: {type(error).__name__}: {error}"))
        finally:
            self._host.release(self)
            self.follower.on_done()

    async def _run(self) -> None:
        self._check_streams()
        await self._choose_directory()
        await self._get_slot()
        if self._ended_by:
            self._end(signaled_before_start(self._ended_by, time.monotonic() - self._received_at))
            return
        if self.stop_cause or self.follower.has_left:
            raise ServiceBusy(*self._dropped_because)
        self._check_streams()  # the configuration can have changed meanwhile
        prepared = prepare(
            self._offer(), self._request, self._options, self.id, self._host.scratch, name=self._unique_id
        )
        try:
            end = await self._execute(prepared)
        finally:
            await prepared.remove()
        self._end(end, files=prepared.paths.used)

    def _check_streams(self) -> None:
        command = policy.command_of(self._offer(), self.request)
        passed = m.PASSED in self.request.streams
        if passed and command is not None and not command.passes:
            raise DescriptorsLost("this command takes no passed descriptors", "relay the streams: `--relay`")
        if passed and not self.follower.channel.has_descriptors:
            raise DescriptorsLost("the passed descriptors did not arrive", "relay the streams: `--relay`")

    async def _choose_directory(self) -> None:
        """Run any command in the client's working directory, if that is the same here; else have the client told."""
        request = self._request
        is_default = request.base in {b"", b"/"} or not request.directory_ids  # not chosen, or not known
        if self._offer().commands is not None or request.directory or is_default:
            return
        directory = await shared_directory(request)
        if directory is None:
            base = os.fsdecode(request.base)
            self.notice = (
                f"the command runs in {os.getcwd()}: {base} is not the same directory at the service",
                "choose a directory of the service with `--cwd DIR`",
            )
        else:
            self._request = replace(request, directory=directory)

    async def _get_slot(self) -> None:
        """Wait for a slot. What can be refused is refused before the wait.

        Raises:
            ServiceBusy: there will be none.
            SidecallError: see `policy.plan`.
        """
        admission = self._host.admission
        if not admission.has_room:
            self._plan = check(self._offer(), self._request, self._options)
        place = admission.admit(self, can_queue=self._options.can_queue, ends=self._pipe_ends())
        if not place:
            for joined in admission.start_waiting():
                joined.grant_slot()
        else:
            self._move("queue", ahead=place - 1)
            self.follower.on_queued(place - 1)
            self._turn = asyncio.get_running_loop().create_future()
            if not self.stop_cause:
                await self._turn
        if not self.stop_cause or self._ended_by:
            self._move("start")

    def _pipe_ends(self) -> Iterator[PipeEnd]:
        """Yield the ends of pipes that the client names; a wrong name only joins the calls of its own owner."""
        for stream, pipe in enumerate(self._options.pipes):
            if pipe:
                yield PipeEnd(self.owner.key, pipe, is_read=stream == m.STDIN)

    async def _execute(self, prepared: Prepared) -> End:
        """Run the command to its end, send its output and create its files."""
        plan = self._plan = prepared.plan
        changed = asyncio.Event()
        channel = self.follower.channel
        streams = self.follower.streams(self.request.streams, changed.set)
        execution = self._execution = Execution(plan, streams, changed, self._on_timeout)
        try:
            if self._terminal is not None:
                streams.open_terminal(self._terminal.rows, self._terminal.columns, plan.run_as.uid)
            began = time.monotonic()
            execution.start(self._host.supervisors, channel, self._on_started)
            del channel  # nothing of a client that has gone is kept
            if self._starts_stopped:
                execution.signal(TSTP)
            ended = await execution.ended()
            self._move("exited")
            stopped = self.stop_cause if ended.stopped else ""
            end = End(ended, began - self._received_at, time.monotonic() - began, stopped)
            self._host.release(self)
            await execution.drained()
            if end.ok and prepared.paths.has_outputs and (failure := await self._commit(prepared)):
                self._host.events.emit(events.OUTPUT_FAILED, self, reason=failure)
                end = end.without_output(failure)
            return end
        finally:
            self._moved = streams.moved
            await execution.close()
            self._execution = None

    async def _commit(self, prepared: Prepared) -> str:
        """Create the outputs; return why that failed, or an empty string.

        A client that is killed ends its command's stdin, and a command that takes this for the end of its input exits
        with 0 before it is stopped. What it has written is not complete.
        """
        if self.stop_cause == "client" or self.follower.has_left:
            return "the client has disconnected"
        self._move("commit")
        return await run_in_thread(prepared.paths.commit)

    def grant_slot(self) -> None:
        """Let the call go on, if it waits: it has a slot now, or will not get one."""
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)

    def stop(self, cause: str, grace: float | None = None) -> None:
        """Drop the call if it waits; terminate its command if it runs, within `grace` seconds (None: its own)."""
        self.stop_cause = self.stop_cause or cause
        if self._execution is None:
            self.grant_slot()
            return
        if "stop" in TRANSITIONS[self.state]:
            self._move("stop", cause=cause)
        self._execution.stop(grace)

    def reject_queued(self) -> None:
        """Drop the call if it waits, since the server shuts down; one that runs goes on."""
        if self.state in {RECEIVED, QUEUED}:
            self._dropped_because = SHUTTING_DOWN
            self.stop("shutdown")

    def signal(self, number: int) -> None:
        """Deliver a signal of the client to the command; before its start, one that would end it ends the call."""
        if self.state in {RECEIVED, QUEUED}:
            if number in m.ENDING_SIGNALS:
                self._ended_by = self._ended_by or number
                self.stop("client")
            else:
                self._starts_stopped = number == TSTP
        elif self._plan is not None and number not in self._plan.signals:
            self._host.events.emit(events.SIGNAL_REFUSED, self, signal=number)
        elif self._terminal is not None and number in _HANG_UP_SIGNALS:
            self.stop("client")
        elif self._execution is not None:
            self._execution.signal(number)

    def resize(self, rows: int, columns: int) -> None:
        """Give the call's terminal another size.

        Raises:
            ProtocolError: it has none.
        """
        if self._terminal is None:
            raise ProtocolError("Resize for a call without a terminal")
        self._terminal = self._terminal._replace(rows=rows, columns=columns)
        if self._execution is not None:
            self._execution.resize(rows, columns)

    @property
    def has_ended(self) -> bool:
        """Tell whether the call has ended, one way or another."""
        return self.state == ENDED

    def _on_started(self) -> None:
        self.has_started = True
        self._move("started")
        self.follower.on_started(self.id)
        if self.notice:
            self.follower.on_notice(*self.notice)

    def _on_timeout(self) -> None:
        if not self.stop_cause:
            self.stop("timeout")

    def _move(self, what: str, **fields: object) -> None:
        """Move to the next state by the table, and record it."""
        move = TRANSITIONS[self.state][what]
        self.state = move.to
        if move.records:
            self._host.events.emit(move.records, self, **fields)

    def _end(self, end: End, **fields: object) -> None:
        """Record the end, then report it: the log is never behind what a client knows."""
        if self._host.events.is_read:
            self._move("end", **end.fields(), **fields, bytes=self._moved)
        else:
            self._move("end")
        self.follower.on_ended(end)

    def _refuse(self, error: SidecallError) -> None:
        """Refuse the call; once its command has started it is lost instead."""
        if self.state == ENDED:
            return
        if self.has_started:
            self._lose(error.reason)
            return
        rule = error.rule or type(error).__name__
        self._move("refuse", code=refusal_code(error), reason=error.reason, rule=rule)
        self.follower.on_refused(error)

    def _lose(self, reason: str) -> None:
        """Record that it is unknown how the call ended; its client knows by the end of the stream without an end."""
        if self.state != ENDED:
            self._move("lose", reason=reason)

    def violate(self, error: SidecallError) -> None:
        """End the call since its client broke the protocol: refuse it if it is certain that it will not start."""
        if self.state in {RECEIVED, QUEUED} and not self._ended_by:
            self._refuse(error)
        self.stop("client")


_HANG_UP_SIGNALS = {signal.SIGHUP, signal.SIGTERM}
"""Signals of a client that stop a call in a terminal. Its command gets both: an interactive shell ignores SIGTERM."""

_SHOWN = 200
"""Bytes of a command's name, and characters of a directory, in a list of calls."""
