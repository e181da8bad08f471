"""The server's side of running commands: supervisors on its event loop, and a handle for each running command.

A signal, a stop or an exit is a message to or from the command's supervisor. Each wait has a bound: a supervisor that
does not report the end of a stopped command in time is killed through the fork server, and a fork server that does not
answer is killed too, which ends the service.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from sidecall.errors import CannotExecute, DescriptorsLost, ProtocolError, ServiceBusy, ServiceUnavailable
from sidecall.supervise.control import (
    AT_CHDIR,
    AT_CONFINE,
    AT_FORK,
    AT_INTERPRETER,
    AT_MALFORMED_DESCRIPTORS,
    AT_MISSING_DESCRIPTORS,
    DISCARD,
    EXITED,
    FORKED,
    FROM_CLIENT,
    NOT_FORKED,
    SIGNAL,
    STARTED,
    STOP,
    UNWANTED,
    Event,
    Job,
    receive_event,
    send_job,
    send_request,
)
from sidecall.supervise.executable import explain_exec, no_such_command

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecall.errors import SidecallError
    from sidecall.supervise.forkserver import ForkServer

Sources = tuple[int, int, int]
"""Where stdin, stdout and stderr come from: a descriptor, FROM_CLIENT, SAME_AS_STDOUT or UNWANTED."""

MAX_IDLE = 64
"""Supervisors that wait for their next command. One has 0.05 MB of its own; forking one takes 0.1 ms."""

STOP_MARGIN = 5.0
"""Seconds after the grace period within which a supervisor reports the end, or it is killed. It gives up after 2."""

KILL_MARGIN = 2.0
"""Seconds within which a killed supervisor is gone, or it is not waited for."""

ANSWER_WITHIN = 10.0
"""Seconds within which the fork server answers, or it is killed."""

_DISCARD_AGAIN = 1.0

_NO_RESOURCES = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETOOMANYREFS, errno.ENOBUFS})


class ResourceUsage(NamedTuple):
    """What the processes of a command used. Source: getrusage(2).

    Attributes:
        user_us: user time, in microseconds.
        system_us: system time, likewise.
        max_rss: the peak memory of the largest, in KiB.
    """

    user_us: int = 0
    system_us: int = 0
    max_rss: int = 0


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        status: its wait status (wait(2)).
        used: what it and all that descends from it used.
        stopped: whether it was still running when it was first stopped.
        terminated: how many background processes were terminated after it had exited by itself.
        kept: whether background processes were kept on purpose.
        remaining: how many processes could not be killed.
    """

    status: int
    used: ResourceUsage = field(default_factory=ResourceUsage)
    stopped: bool = False
    terminated: int = 0
    kept: bool = False
    remaining: int = 0


class SupervisorDied(Exception):
    """How a command ended is unknown: its supervisor was killed, or the command cannot be.

    Attributes:
        remaining: how many processes could not be killed, as far as known.
    """

    def __init__(self, remaining: int = 0) -> None:
        super().__init__()
        self.remaining = remaining


class SupervisorPool:
    """Starts commands, each under a supervisor that has no other. Make it on a running event loop.

    Args:
        fork_server: forks supervisors.
    """

    def __init__(self, fork_server: ForkServer) -> None:
        self._fork_server = fork_server
        self._loop = asyncio.get_running_loop()
        self._idle: list[_ControlSocket] = []
        self._forking: dict[int, _ControlSocket] = {}
        self._last_serial = 0
        self._unanswered = 0
        self._answer_timer: asyncio.TimerHandle | None = None
        self._to_discard: list[int] = []
        self._loop.add_reader(fork_server.sock.fileno(), self._read_fork_server)

    def spawn(
        self,
        job: Job,
        sources: Sources,
        connection: socket.socket | None = None,
        on_started: Callable[[], object] = lambda: None,
    ) -> Process:
        """Have a command started. Whether that succeeds is reported later: by `on_started`, or by the process' end.

        Args:
            job: what to run.
            sources: where its streams come from; descriptors among them are not needed here any longer.
            connection: the client's, if it passes a stream. The PASS frame has to be the next in it, and to be
                visible to a peek. Do not close it before `on_started` or the end.
            on_started: called when the command has been executed.

        Raises:
            ServiceBusy: no room for another process or descriptor.
            ServiceUnavailable: the fork server is gone.
        """
        is_passed = FROM_CLIENT in sources or UNWANTED in sources
        passed = connection.fileno() if connection is not None and is_passed else None
        return Process(self._send(job, sources, passed), self, job, on_started)

    def discard(self, sock: socket.socket) -> None:
        """Close a connection in which descriptors are queued, without waiting for what that closes. Returns at once.

        A supervisor gets it, and exits when its control socket is closed: exit(2) does not wait. It must be one that
        runs already, because whatever process holds the last reference closes the descriptors.
        """
        self._to_discard.append(sock.detach())
        self._flush_discards()

    def close(self) -> None:
        """Release the idle supervisors, while the loop still runs. What is still to be discarded is closed by exit."""
        self._loop.remove_reader(self._fork_server.sock.fileno())
        if self._answer_timer is not None:
            self._answer_timer.cancel()
        for control in [*self._idle, *self._forking.values()]:
            control.close()
        self._idle.clear()
        self._forking.clear()

    def take_back(self, control: _ControlSocket) -> None:
        """Keep a supervisor for the next command; for internal use."""
        if len(self._idle) >= MAX_IDLE:
            control.close()
            return
        control.on_event = partial(self._drop, control)
        self._idle.append(control)

    def kill(self, control: _ControlSocket) -> None:
        """Have a supervisor killed; for internal use."""
        with contextlib.suppress(OSError):
            self._fork_server.kill_supervisor(control.serial)
        self._expect_answer()

    def read_fork_server(self) -> None:
        """Handle what the fork server has reported by now; for internal use."""
        self._read_fork_server()

    def _send(self, job: Job, sources: Sources, connection: int | None) -> _ControlSocket:
        """Send a job to an idle supervisor, or to a new one; an idle one can have been killed just now."""
        try:
            while self._idle:
                with contextlib.suppress(ConnectionError):
                    return _given(self._idle.pop(), job, sources, connection)
            return self._give_new(job, sources, connection)
        except OSError as error:
            reason = f"the server cannot start a process: {error.strerror}"
            if error.errno in _NO_RESOURCES:
                raise ServiceBusy(reason, "try again later") from error
            raise ServiceUnavailable(reason) from error

    def _give_new(self, job: Job, sources: Sources, connection: int | None) -> _ControlSocket:
        """Send a job to a new supervisor.

        Raises:
            OSError: it does not get the job, with the reason why it could not be forked if that is why.
        """
        control = self._new()
        failures: list[Event | None] = []
        control.on_event = failures.append
        try:
            return _given(control, job, sources, connection)
        except ConnectionError:
            self._read_fork_server()  # it has answered before its end of the socket was closed
            if failures and failures[0] is not None:
                raise OSError(failures[0].number, os.strerror(failures[0].number)) from None
            raise

    def _new(self) -> _ControlSocket:
        self._last_serial = self._last_serial % 0xFFFFFFFF + 1
        control = _ControlSocket(self._fork_server.new_supervisor(self._last_serial), self._last_serial)
        self._forking[control.serial] = control
        self._expect_answer()
        return control

    def _drop(self, control: _ControlSocket, _event: Event | None) -> None:
        """Forget an idle supervisor. It has nothing to report, so if its socket is readable it was killed."""
        with contextlib.suppress(ValueError):
            self._idle.remove(control)
        control.close()

    def _expect_answer(self) -> None:
        self._unanswered += 1
        if self._answer_timer is None:
            self._answer_timer = self._loop.call_later(ANSWER_WITHIN, self._on_no_answer)

    def _on_no_answer(self) -> None:
        """Kill the fork server, unless it was this process that did not read its answer."""
        self._answer_timer = None
        before = self._unanswered
        self._read_fork_server()
        if self._unanswered == before:
            self._fork_server.kill()

    def _read_fork_server(self) -> None:
        for event in self._fork_server.read_events():
            self._on_answer(event)
        if self._fork_server.is_closed:  # it was killed: SIGCHLD reports that
            self._loop.remove_reader(self._fork_server.sock.fileno())

    def _on_answer(self, event: Event) -> None:
        self._unanswered -= 1
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None
        if self._unanswered:
            self._answer_timer = self._loop.call_later(ANSWER_WITHIN, self._on_no_answer)
        control = self._forking.pop(event.serial, None)
        if control is not None and event.kind == NOT_FORKED:
            control.on_event(event)
        elif control is not None and event.kind == FORKED and control.is_for_discards:
            self._idle.append(control)
            self._flush_discards()

    def _flush_discards(self) -> None:
        """Hand the sockets that are to be discarded to a supervisor that runs, or request one."""
        while self._to_discard and self._idle:
            control = self._idle.pop()
            with contextlib.suppress(OSError):
                while self._to_discard:
                    send_request(control.sock, DISCARD, 0, [self._to_discard[-1]])
                    os.close(self._to_discard.pop())  # not the last reference: the message has one
            control.close()
        if self._to_discard and not any(control.is_for_discards for control in self._forking.values()):
            self._request_for_discards()

    def _request_for_discards(self) -> None:
        try:
            control = self._new()
        except OSError:
            self._loop.call_later(_DISCARD_AGAIN, self._flush_discards)
            return
        control.is_for_discards = True
        control.on_event = partial(self._on_discarder_failed, control)

    def _on_discarder_failed(self, control: _ControlSocket, _event: Event | None) -> None:
        control.close()
        self._forking.pop(control.serial, None)
        self._loop.call_later(_DISCARD_AGAIN, self._flush_discards)


class _ControlSocket:
    """The control socket of one supervisor, on the loop from its first command to its last.

    Attributes:
        sock: a non-blocking socket.
        serial: the number by which the fork server knows the supervisor.
        is_for_discards: whether it was requested for connections to discard.
        on_event: gets each event of the supervisor, None once the supervisor is gone.
    """

    on_event: Callable[[Event | None], None]

    def __init__(self, sock: socket.socket, serial: int) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.serial = serial
        self.is_for_discards = False
        asyncio.get_running_loop().add_reader(sock.fileno(), self.read)

    def close(self) -> None:
        """Close the socket, if that has not been done: the supervisor stops everything and exits."""
        if self.sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self.sock.fileno())
            self.sock.close()

    def read(self) -> None:
        """Handle the next event, if there is one."""
        with contextlib.suppress(BlockingIOError):
            self.on_event(receive_event(self.sock))


class Process:
    """A command. `ended` reports its end; nothing that it started is left then.

    Args:
        control: the control socket of its supervisor.
        pool: gets the control socket when the supervisor is free again.
        job: what the supervisor runs.
        on_started: called when the command has been executed.

    Attributes:
        has_started: whether it has.
    """

    def __init__(
        self, control: _ControlSocket, pool: SupervisorPool, job: Job, on_started: Callable[[], object]
    ) -> None:
        self.has_started = False
        self._control = control
        self._pool = pool
        self._job = job
        self._on_started = on_started
        self._end: Ended | SupervisorDied | SidecallError | None = None
        self._at_end: list[Callable[[], object]] = []
        self._overdue: asyncio.TimerHandle | None = None
        control.on_event = self._on_event

    @property
    def gone(self) -> bool:
        """Tell whether the end is known, or known to stay unknown."""
        return self._end is not None

    async def ended(self) -> Ended:
        """Wait until the command and everything that it started have exited.

        Raises:
            NoSuchCommand: there is no such program.
            CannotExecute: there is one, but executing it failed.
            ServiceBusy: no room for another process.
            DescriptorsLost: fewer descriptors arrived than the client announced.
            ProtocolError: more arrived, or one of a directory.
            SupervisorDied: the end is unknown; if the command has not started, also whether it did.
        """
        if self._end is None:
            told = asyncio.get_running_loop().create_future()
            self._at_end.append(partial(_resolve, told))
            await told
        assert self._end is not None  # noqa: S101 told
        if isinstance(self._end, Ended):
            return self._end
        raise self._end.with_traceback(None)

    def on_end(self, callback: Callable[[], object]) -> None:
        """Call back when the end is known, or known to stay unknown: now, if it is."""
        if self._end is None:
            self._at_end.append(callback)
        else:
            callback()

    def signal(self, number: int) -> None:
        """Send a signal to the command's process group; nothing happens once the command has exited."""
        self._request(SIGNAL, number)

    def stop(self, grace: float) -> None:
        """Have everything that the command started stopped: SIGTERM, up to `grace` seconds, SIGKILL. Does not wait.

        The end is known within `grace` + `STOP_MARGIN` + `KILL_MARGIN` seconds, whatever happens to the supervisor.
        """
        if self.gone:
            return
        if not self._request(STOP, round(grace * 1e9)):
            self._control.sock.shutdown(socket.SHUT_WR)  # the supervisor stops everything when it has read to the end
        loop = asyncio.get_running_loop()
        at = loop.time() + grace + STOP_MARGIN
        if self._overdue is None or at < self._overdue.when():
            self._bound(at, self._on_overdue)

    def abandon(self) -> None:
        """Close the control socket, if that has not been done: the supervisor stops everything and exits."""
        self._control.close()

    def _request(self, kind: int, value: int) -> bool:
        """Send a request, unless all is over; return False if the socket is full."""
        if self.gone:
            return True
        try:
            send_request(self._control.sock, kind, value)
        except BlockingIOError:
            return False
        except ConnectionError:  # noticed when reading
            return True
        return True

    def _bound(self, at: float, then: Callable[[], None]) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
        self._overdue = asyncio.get_running_loop().call_at(at, then)

    def _on_overdue(self) -> None:
        """Have the supervisor killed, unless it was this process that did not read its report."""
        self._control.read()
        if not self.gone:
            self._pool.kill(self._control)
            self._bound(asyncio.get_running_loop().time() + KILL_MARGIN, self._on_unkillable)

    def _on_unkillable(self) -> None:
        if not self.gone:
            self._on_event(None)

    def _on_event(self, event: Event | None) -> None:
        if event is None:
            self._pool.read_fork_server()  # why there is no supervisor, perhaps
            if self.gone:
                return
            self.abandon()
            self._finish(SupervisorDied())
        elif event.kind == STARTED:
            self.has_started = True
            self._on_started()
        elif event.kind == NOT_FORKED:
            self.abandon()
            self._finish(_explain(Event(event.kind, AT_FORK, number=event.number), self._job))
        else:
            if event.is_last:
                self.abandon()
            else:
                self._pool.take_back(self._control)
            self._finish(_end_of(event) if event.kind == EXITED else _explain(event, self._job))

    def _finish(self, end: Ended | SupervisorDied | SidecallError) -> None:
        self._end = end
        if self._overdue is not None:
            self._overdue.cancel()
        del self._on_started
        callbacks, self._at_end = self._at_end, []
        for callback in callbacks:
            callback()


def _resolve(told: asyncio.Future[None]) -> None:
    if not told.done():  # nobody waits any more
        told.set_result(None)


def _given(control: _ControlSocket, job: Job, sources: Sources, connection: int | None) -> _ControlSocket:
    """Send a job to a supervisor; return its control socket, or close it.

    Raises:
        OSError: the supervisor is gone, or did not get the job.
    """
    try:
        send_job(control.sock, job, sources, connection)
    except OSError:
        control.close()
        raise
    return control


def _end_of(event: Event) -> Ended | SupervisorDied:
    if event.number < 0:
        return SupervisorDied(event.remaining)
    return Ended(
        event.number,
        ResourceUsage(event.user_us, event.system_us, event.max_rss),
        bool(event.was_running),
        event.terminated,
        bool(event.kept),
        event.remaining,
    )


def _explain(failure: Event, job: Job) -> SidecallError:
    """Return what a failed start means to the user of the client. The file system is not asked: it might block."""
    program = os.fsdecode(job.argv[0])
    directory = None if job.directory is None else os.fsdecode(job.directory)
    reason = os.strerror(failure.number)
    error: SidecallError
    if failure.stage == AT_FORK or failure.number in _NO_RESOURCES:
        error = ServiceBusy(f"cannot start {program!r}: {reason}", "try again later")
    elif failure.stage == AT_MISSING_DESCRIPTORS:
        error = DescriptorsLost("the passed descriptors did not arrive", "use `--relay`")
    elif failure.stage == AT_MALFORMED_DESCRIPTORS:
        error = ProtocolError("the passed descriptors are not those of three streams, or one is of a directory")
    elif failure.stage == AT_INTERPRETER:
        error = CannotExecute(f"the interpreter that {program!r} names does not exist")
    elif failure.stage == AT_CONFINE:
        error = CannotExecute(f"cannot confine {program!r}: {reason}", "check `landlock` with `sidecall serve --check`")
    elif failure.stage == AT_CHDIR:
        error = explain_exec(OSError(failure.number, reason, directory), program, directory)
    elif failure.number == errno.EACCES and job.confined_to:
        hint = "`landlock` must include the program and its interpreter or loader"
        error = CannotExecute(f"cannot execute {program!r}: {reason}", hint)
    elif failure.number == errno.ENOENT:
        error = no_such_command(program)
    else:
        error = explain_exec(OSError(failure.number, reason), program, directory)
    return error


def reset_inherited_signals() -> None:
    """Undo what this process' parent left ignored or blocked, so that commands start with the defaults.

    A shell that starts a server with `&` makes it ignore INT and QUIT, and exec keeps that (execve(2)): no command
    would ever end on a forwarded Ctrl-C.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
