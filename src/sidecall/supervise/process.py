"""The server's side of running commands: keepers on its event loop, and a handle for each command under way.

A signal, a stop or an end is a message to or from the command's keeper; nothing here touches a pid.
"""

from __future__ import annotations

import asyncio
import errno
import marshal
import os
import signal
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecall.errors import CannotExecute, ServiceUnavailable
from sidecall.supervise import keeper
from sidecall.supervise.executable import explain_exec
from sidecall.supervise.keeper import Job, Used

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecall.errors import SidecallError
    from sidecall.supervise.nursery import Nursery

_MOST_IDLE = 16
"""Keepers that wait for their next command; making one takes about a millisecond."""

_LONGEST_MESSAGE = 4096


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        status: its wait status (wait(2)).
        used: what it and all that descended from it used.
        stopped: whether it was still running when it was first stopped.
    """

    status: int
    used: Used
    stopped: bool


class KeeperLost(Exception):
    """A keeper was killed: how its command ended is unknown. The nursery kills what it kept."""


class Keepers:
    """Starts commands, each under a keeper that has no other.

    Args:
        nursery: where keepers come from.
    """

    def __init__(self, nursery: Nursery) -> None:
        self._nursery = nursery
        self._idle: list[socket.socket] = []

    async def spawn(self, job: Job, streams: tuple[int, int, int]) -> Process:
        """Start a command.

        Args:
            job: what to run.
            streams: the descriptors that become its stdin, stdout and stderr; they stay open here.

        Raises:
            NoSuchCommand: there is no such program.
            CannotExecute: there is one, but executing it failed.
            ServiceUnavailable: there is no room for another process or descriptor.
            KeeperLost: whether it was started is unknown.
        """
        line = self._send(job, streams)
        process = Process(line)
        try:
            failure = await process.started()
        except BaseException:
            process.abandon()
            raise
        if failure is not None:
            self._take_back(process)
            raise _explain(failure, job)
        process.hand_back_to(self._take_back)
        return process

    def close(self) -> None:
        """Let the idle keepers go, while the loop still runs."""
        while self._idle:
            self._drop(self._idle[-1])

    def _send(self, job: Job, streams: tuple[int, int, int]) -> socket.socket:
        """Give a job to an idle keeper, or to a new one; an idle one may have been killed just now."""
        while self._idle:
            line = self._idle.pop()
            asyncio.get_running_loop().remove_reader(line.fileno())
            try:
                keeper.send_job(line, job, streams)
            except ConnectionError:
                line.close()
            else:
                return line
        try:
            line = self._nursery.keeper()
            line.setblocking(False)
            keeper.send_job(line, job, streams)
        except OSError as error:
            raise ServiceUnavailable(f"the service cannot start a process: {error.strerror}") from error
        return line

    def _take_back(self, process: Process) -> None:
        line = process.release()
        if len(self._idle) >= _MOST_IDLE:
            line.close()
            return
        self._idle.append(line)
        asyncio.get_running_loop().add_reader(line.fileno(), self._drop, line)

    def _drop(self, line: socket.socket) -> None:
        """Forget an idle keeper. It has nothing to say, so if its line is readable it has been killed."""
        asyncio.get_running_loop().remove_reader(line.fileno())
        self._idle.remove(line)
        line.close()


class Process:
    """A running command. `ended` tells its end; nothing that it started is left then."""

    def __init__(self, line: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._line = line
        self._started: asyncio.Future[OSError | None] = loop.create_future()
        self._gone: asyncio.Future[Ended] = loop.create_future()
        self._gone.add_done_callback(lambda future: future.exception())  # nobody may be left to ask
        self._hand_back: Callable[[Process], None] = Process.abandon
        loop.add_reader(line.fileno(), self._readable)

    @property
    def gone(self) -> bool:
        """Tell whether nothing of the command is left, or its keeper was lost."""
        return self._gone.done()

    async def started(self) -> OSError | None:
        """Wait until the command has been executed; return what went wrong, if something did.

        Raises:
            KeeperLost: nobody knows.
        """
        return await self._started

    async def ended(self) -> Ended:
        """Wait until the command and everything that it started are gone.

        Raises:
            KeeperLost: nobody knows.
        """
        return await asyncio.shield(self._gone)

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call back when nothing of the command is left, or its keeper was lost."""
        self._gone.add_done_callback(lambda _: callback())

    def hand_back_to(self, owner: Callable[[Process], None]) -> None:
        """Say who gets the line when the command is gone; until then it is closed."""
        self._hand_back = owner

    def signal(self, number: int) -> None:
        """Send a signal to the command's process group; nothing happens once the command has ended."""
        self._say(keeper.SIGNAL, number)

    def stop(self, grace: float) -> None:
        """Have everything that the command started stopped: TERM, up to `grace` seconds, KILL. Does not wait."""
        if not self._say(keeper.STOP, float(grace)):
            self._line.shutdown(socket.SHUT_WR)  # the keeper takes it as our end, and stops what it keeps

    def release(self) -> socket.socket:
        """Give up the line to the keeper and return it."""
        asyncio.get_running_loop().remove_reader(self._line.fileno())
        return self._line

    def abandon(self) -> None:
        """Hang up, if that has not been done: the keeper stops everything and ends."""
        if self._line.fileno() >= 0:
            self.release().close()

    def _say(self, word: str, value: float) -> bool:
        """Send a word to the keeper, unless all is over; return False if the line is full."""
        if self.gone:
            return True
        try:
            keeper.send(self._line, word, value)
        except BlockingIOError:
            return False
        return True

    def _readable(self) -> None:
        data = self._receive()
        if not data:
            self._lost()
            return
        word, *values = marshal.loads(data)  # noqa: S302 the keeper is our own process
        if word == keeper.STARTED:
            self._started.set_result(None)
        elif word == keeper.FAILED:
            number, name = values
            self._started.set_result(OSError(number, os.strerror(number), name))
        elif word == keeper.GONE:
            status, used, stopped, left = values
            self._gone.set_result(Ended(status, Used(*used), stopped))
            (Process.abandon if left else self._hand_back)(self)

    def _receive(self) -> bytes:
        try:
            return self._line.recv(_LONGEST_MESSAGE)
        except OSError:
            return b""

    def _lost(self) -> None:
        self.abandon()
        for future in (self._started, self._gone):
            if not future.done():
                future.set_exception(KeeperLost())


def _explain(error: OSError, job: Job) -> SidecallError:
    """Return what a failed start means to the person who called."""
    if error.errno in {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}:
        return CannotExecute(f"cannot start {os.fsdecode(job.argv[0])!r}: {error.strerror}", "try again later")
    folder = None if job.folder is None else os.fsdecode(job.folder)
    path = {"PATH": os.fsdecode(job.environ.get(b"PATH", os.defpath.encode()))}
    return explain_exec(error, os.fsdecode(job.argv[0]), folder, path)


def reset_inherited_signals() -> None:
    """Undo what this process' parent left ignored or blocked, so that commands start with a clean slate.

    A shell that starts a server with `&` makes it ignore INT and QUIT, and exec keeps that (execve(2)): no command
    would ever end on a forwarded Ctrl-C. Python's own choices (PIPE, XFSZ) are undone by `subprocess`.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
