"""One supervised command: started in a session of its own, always reaped, stopped as a whole process group.

Runs on asyncio with a pidfd: no thread, no SIGCHLD handler, no signal to a pid that may be somebody else's by now.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecall.errors import CannotExecute
from sidecall.supervise.executable import explain_exec

if TYPE_CHECKING:
    import resource
    from collections.abc import Mapping, Sequence

LINGER = 0.5
"""Seconds that helpers have to finish by themselves after their command did: `tee` in `> >(tee log)`, say."""

_POLL = 0.01
"""Seconds between looks at a process group whose leader is gone; the kernel has no event for a group's end."""


@dataclass(frozen=True)
class Ended:
    """How a process ended: its wait status (wait(2)) and what it used (getrusage(2))."""

    status: int
    usage: resource.struct_rusage


class Process:
    """A running command. Make one with `spawn`, and always await `finish` or `stop`: they reap it."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self.pid = child.pid
        self._child = child
        self._pidfd = os.pidfd_open(child.pid)
        self._exited = asyncio.Event()
        self._ended: Ended | None = None
        self._group_gone = False
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_exit)

    @property
    def gone(self) -> bool:
        """Tell whether the command has been reaped and its process group has no members left."""
        return self._group_gone

    async def exited(self) -> None:
        """Wait until the command itself has ended; it is not reaped yet, and helpers may still run."""
        await self._exited.wait()

    def signal(self, number: int) -> None:
        """Send a signal to the whole process group; nothing happens if it is gone."""
        if not self._group_gone:
            # EPERM: what is left of the group has become somebody else
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    async def finish(self, grace: float) -> Ended:
        """Wait for the command's end, see to it that its process group is gone, and return how the command ended.

        Helpers that it left behind get `LINGER` seconds, TERM, `grace` seconds, KILL.
        """
        await self.exited()
        try:
            async with asyncio.timeout(LINGER):
                return await self._gone()
        except TimeoutError:
            return await self.stop(grace)

    async def stop(self, grace: float) -> Ended:
        """End the whole process group: TERM, up to `grace` seconds, KILL. Return how the command ended."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)  # a stopped process cannot act on TERM
        try:
            async with asyncio.timeout(grace):
                return await self._gone()
        except TimeoutError:
            self.signal(signal.SIGKILL)
            return await self._gone()

    async def _gone(self) -> Ended:
        await self._exited.wait()
        ended = self._reap()
        while self._group_exists():
            await asyncio.sleep(_POLL)
        return ended

    def _on_exit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        self._exited.set()

    def _reap(self) -> Ended:
        if self._ended is None:
            _, status, usage = os.wait4(self.pid, 0)
            os.close(self._pidfd)
            self._child.returncode = os.waitstatus_to_exitcode(status)
            self._ended = Ended(status, usage)
        return self._ended

    def _group_exists(self) -> bool:
        """Tell whether the group has members left. Its number cannot be reused before it is empty."""
        if self._group_gone:
            return False
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-self.pid, os.WNOHANG)[0]:
                pass  # an orphan of the group that became our child, because we are its init
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            self._group_gone = True
        except PermissionError:
            pass
        else:
            # Twice: a member that forks and ends while /proc is being read may be missed together with its child.
            self._group_gone = not (_has_living_members(self.pid) or _has_living_members(self.pid))
        return not self._group_gone


def _has_living_members(group: int) -> bool:
    """Tell whether a process group has a member that is no zombie.

    killpg(2) counts zombies too, and the pid 1 of a container may never reap those that it inherits. Source: proc(5).
    """
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                state, _parent, its_group = file.read().rpartition(b")")[2].split()[:3]
                if int(its_group) == group and state not in {b"Z", b"X"}:
                    return True
    return False


def spawn(
    argv: Sequence[bytes],
    environ: Mapping[bytes, bytes],
    folder: bytes | None,
    streams: tuple[int, int, int],
) -> Process:
    """Start a command as the leader of a new session.

    Args:
        argv: its words; the first one is looked up in the PATH of `environ`.
        environ: its whole environment.
        folder: its working folder, None for this process' own.
        streams: the descriptors that become its stdin, stdout and stderr; they stay open here.

    Raises:
        NoSuchCommand: there is no such program.
        CannotExecute: there is one, but executing it failed.
    """
    try:
        child = subprocess.Popen(
            argv,
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
            env=environ,
            cwd=folder,
            start_new_session=True,
        )
    except OSError as error:
        where = None if folder is None else os.fsdecode(folder)
        path = {"PATH": os.fsdecode(environ.get(b"PATH", os.defpath.encode()))}
        raise explain_exec(error, os.fsdecode(argv[0]), where, path) from error
    try:
        return Process(child)
    except OSError as error:  # no descriptor is left for the pidfd
        child.kill()
        child.wait()
        raise CannotExecute(f"cannot watch {os.fsdecode(argv[0])!r}: {error.strerror}") from error


def reset_inherited_signals() -> None:
    """Undo what this process' parent left ignored or blocked, so that commands start with a clean slate.

    A shell that starts a server with `&` makes it ignore INT and QUIT, and exec keeps that (execve(2)): no command
    would ever end on a forwarded Ctrl-C. Python's own choices (PIPE, XFSZ) are undone by `subprocess`.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
