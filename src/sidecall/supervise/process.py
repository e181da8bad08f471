"""The server's side of running commands: supervisors on its event loop, and a handle for each command under way.

A signal, a stop or an end is a message to or from the command's supervisor; nothing here touches a pid.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from sidecall.errors import CannotExecute, ServiceUnavailable
from sidecall.supervise.executable import explain_exec
from sidecall.supervise.control import (
    EXITED,
    CHDIR_FAILED,
    REPLY_SIZE,
    SIGNAL,
    STARTED,
    STOP,
    Job,
    Event,
    ResourceUsage,
    decode_reply,
    send_job,
    send_order,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecall.errors import SidecallError
    from sidecall.supervise.forkserver import ForkServer

_MOST_IDLE = 64
_MOST_IDLE_PYTHON = 16
"""SupervisorPool that wait for their next command. A native one has 0.05 MB of its own, a Python one 2 MB; making one takes a
tenth of a millisecond, and a whole one."""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        status: its wait status (wait(2)).
        used: what it and all that descended from it used.
        stopped: whether it was still running when it was first stopped.
    """

    status: int
    used: ResourceUsage
    stopped: bool


class SupervisorDied(Exception):
    """A supervisor was killed: how its command ended is unknown. The forkserver kills what it kept."""


class SupervisorPool:
    """Starts commands, each under a supervisor that has no other.

    Args:
        forkserver: where supervisors come from.
    """

    def __init__(self, forkserver: ForkServer) -> None:
        self._nursery = forkserver
        self._idle: list[ControlSocket] = []
        self._most_idle = _MOST_IDLE if forkserver.is_native else _MOST_IDLE_PYTHON

    def spawn(
        self, job: Job, streams: tuple[int, int, int], on_started: Callable[[], object] = lambda: None
    ) -> Process:
        """Have a command started. Whether that succeeds is told later: by `on_started`, or by the process' end.

        Args:
            job: what to run.
            streams: the descriptors that become its stdin, stdout and stderr; they are not needed here any longer.
            on_started: called when the command has been executed.

        Raises:
            ServiceUnavailable: there is no room for another process or descriptor.
        """
        return Process(self._send(job, streams), self._take_back, job, on_started)

    def close(self) -> None:
        """Let the idle supervisors go, while the loop still runs."""
        while self._idle:
            self._idle.pop().close()

    def _send(self, job: Job, streams: tuple[int, int, int]) -> ControlSocket:
        """Give a job to an idle supervisor, or to a new one; an idle one may have been killed just now."""
        try:
            while self._idle:
                with contextlib.suppress(ConnectionError):
                    return _given(self._idle.pop(), job, streams)
            return _given(ControlSocket(self._nursery.supervisor()), job, streams)
        except OSError as error:
            raise ServiceUnavailable(f"the service cannot start a process: {error.strerror}") from error

    def _take_back(self, line: ControlSocket) -> None:
        if len(self._idle) >= self._most_idle:
            line.close()
            return
        line.on_reply = partial(self._drop, line)
        self._idle.append(line)

    def _drop(self, line: ControlSocket, _reply: Event | None) -> None:
        """Forget an idle supervisor. It has nothing to say, so if its line is readable it has been killed."""
        with contextlib.suppress(ValueError):
            self._idle.remove(line)
        line.close()


class ControlSocket:
    """The line to one supervisor, on the loop from its first command to its last.

    Attributes:
        sock: a non-blocking socket.
        on_reply: gets each message of the supervisor, None once the supervisor is gone.
    """

    on_reply: Callable[[Event | None], None]

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        asyncio.get_running_loop().add_reader(sock.fileno(), self._readable)

    def close(self) -> None:
        """Hang up, if that has not been done: the supervisor stops what it keeps, and ends."""
        if self.sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self.sock.fileno())
            self.sock.close()

    def _readable(self) -> None:
        try:
            message = self.sock.recv(REPLY_SIZE)
        except OSError:
            message = b""
        self.on_reply(decode_reply(message) if message else None)


class Process:
    """A command. `ended` tells its end; nothing that it started is left then.

    Args:
        line: the one to its supervisor.
        give_back: gets the line when the supervisor is free again.
        job: what the supervisor was told to run.
        on_started: called when the command has been executed.

    Attributes:
        has_started: whether it has.
    """

    def __init__(
        self, line: ControlSocket, give_back: Callable[[ControlSocket], None], job: Job, on_started: Callable[[], object]
    ) -> None:
        self.has_started = False
        self._line = line
        self._give_back = give_back
        self._job = job
        self._on_started = on_started
        self._end: Ended | SupervisorDied | SidecallError | None = None
        self._at_end: list[Callable[[], object]] = []
        line.on_reply = self._hear

    @property
    def gone(self) -> bool:
        """Tell whether nothing of the command is left, or there never was anything, or its supervisor was lost."""
        return self._end is not None

    async def ended(self) -> Ended:
        """Wait until the command and everything that it started are gone.

        Raises:
            NoSuchCommand: there is no such program.
            CannotExecute: there is one, but executing it failed.
            SupervisorDied: nobody knows; if the command has not started, not even whether it did.
        """
        if self._end is None:
            told = asyncio.get_running_loop().create_future()
            self._at_end.append(partial(_resolve, told))
            await told
        assert self._end is not None  # noqa: S101 told
        if isinstance(self._end, Ended):
            return self._end
        raise self._end

    def on_end(self, callback: Callable[[], object]) -> None:
        """Call back when nothing of the command is left, or its supervisor was lost: now, if that is so already."""
        if self._end is None:
            self._at_end.append(callback)
        else:
            callback()

    def signal(self, number: int) -> None:
        """Send a signal to the command's process group; nothing happens once the command has ended."""
        self._say(SIGNAL, number)

    def stop(self, grace: float) -> None:
        """Have everything that the command started stopped: TERM, up to `grace` seconds, KILL. Does not wait."""
        if not self._say(STOP, round(grace * 1e9)):
            self._line.sock.shutdown(socket.SHUT_WR)  # the supervisor takes it as our end, and stops what it keeps

    def abandon(self) -> None:
        """Hang up, if that has not been done: the supervisor stops everything and ends."""
        self._line.close()

    def _say(self, kind: int, value: int) -> bool:
        """Send a word to the supervisor, unless all is over; return False if the line is full."""
        if self.gone:
            return True
        try:
            send_order(self._line.sock, kind, value)
        except BlockingIOError:
            return False
        return True

    def _hear(self, reply: Event | None) -> None:
        if reply is None:
            self.abandon()
            self._tell(SupervisorDied())
        elif reply.kind == STARTED:
            self.has_started = True
            self._on_started()
        elif reply.kind == EXITED:
            (ControlSocket.close if reply.left else self._give_back)(self._line)
            self._tell(Ended(reply.number, reply.used, reply.stopped))
        else:
            self._give_back(self._line)
            self._tell(_explain(reply, self._job))

    def _tell(self, end: Ended | SupervisorDied | SidecallError) -> None:
        self._end = end
        for callback in self._at_end:
            callback()


def _resolve(told: asyncio.Future[None]) -> None:
    if not told.done():  # nobody waits any more
        told.set_result(None)


def _given(line: ControlSocket, job: Job, streams: tuple[int, int, int]) -> ControlSocket:
    """Give a job to a supervisor; return its line, or close it.

    Raises:
        OSError: the supervisor is gone, or did not get the job.
    """
    try:
        send_job(line.sock, job, streams)
    except OSError:
        line.close()
        raise
    return line


def _explain(failure: Event, job: Job) -> SidecallError:
    """Return what a failed start means to the person who called."""
    blamed = job.directory if failure.kind == CHDIR_FAILED else None
    error = OSError(failure.number, os.strerror(failure.number), blamed)
    if error.errno in {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}:
        return CannotExecute(f"cannot start {os.fsdecode(job.argv[0])!r}: {error.strerror}", "try again later")
    directory = None if job.directory is None else os.fsdecode(job.directory)
    path = {"PATH": os.fsdecode(job.environ.get(b"PATH", os.defpath.encode()))}
    return explain_exec(error, os.fsdecode(job.argv[0]), directory, path)


def reset_inherited_signals() -> None:
    """Undo what this process' parent left ignored or blocked, so that commands start with a clean slate.

    A shell that starts a server with `&` makes it ignore INT and QUIT, and exec keeps that (execve(2)): no command
    would ever end on a forwarded Ctrl-C. Python's own choices (PIPE, XFSZ) are undone by `subprocess`.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
