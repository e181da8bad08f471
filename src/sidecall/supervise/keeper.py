"""The keeper: a process of its own that runs one command at a time and knows all that descends from it.

It is a subreaper, so whatever a command starts stays below it, in whatever session or group, orphaned or not; and since
there is one command at a time, all of it belongs to that command. A keeper blocks, polls and reaps; it decides nothing
but the order TERM, grace period, KILL. When the server's end of its line closes it stops what it keeps, and ends.
"""

from __future__ import annotations

import array
import contextlib
import errno
import marshal
import os
import resource
import select
import signal
import socket
import subprocess
import time
from typing import NamedTuple

from sidecall.supervise import descent
from sidecall.supervise.executable import is_about
from sidecall.supervise.execute import execute

LINGER = 0.5
"""Seconds that helpers have to finish by themselves after their command did: `tee` in `> >(tee log)`, say."""

RUN, SIGNAL, STOP = "run", "signal", "stop"
"""What a server says: run a job (with descriptors: stdin, stdout, stderr); signal the group; stop all."""

STARTED, FAILED, GONE = "started", "failed", "gone"
"""What a keeper says: the command runs; could not be executed (errno, and whether its working folder was to blame);
has ended, and nothing of it is left. Each is short, whatever names are in the job."""

_STRIKE_AGAIN = 0.02
"""Seconds between two rounds of KILL, if no child's end comes before."""

_POLITELY = (signal.SIGTERM, signal.SIGCONT)
"""What asks a process to end; one that is stopped cannot act on TERM alone."""

_LONGEST_MESSAGE = 32 * 1024
"""Bytes; a socket takes several such at once: net.core.wmem_default is 208 KiB. Source: socket(7)."""


class Job(NamedTuple):
    """What to run.

    Attributes:
        argv: the command's words.
        environ: its whole environment.
        folder: its working folder, None for the keeper's own.
        grace: seconds between TERM and KILL.
        leave: leave helpers running when the command has ended by itself.
        uid: the user to become, None for the keeper's.
        gid: the group to become, None for the keeper's.
        groups: the supplementary groups to have, None for the keeper's.
        umask: its file mode creation mask; -1 for the keeper's.
        nice: how much less of a processor it wants: nice(2).
        limits: pairs of a resource (RLIMIT_…) and its limit: setrlimit(2).
    """

    argv: list[bytes]
    environ: dict[bytes, bytes]
    folder: bytes | None
    grace: float
    leave: bool
    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None
    umask: int = -1
    nice: int = 0
    limits: tuple[tuple[int, int], ...] = ()

    @property
    def is_plain(self) -> bool:
        """Tell whether the command runs as the keeper does, and where the keeper is."""
        return self.folder is None and all(getattr(self, key) == usual for key, usual in self._field_defaults.items())

    def apply(self) -> None:
        """Take on what can only be taken on in the new process, right before the command."""
        for which, most in self.limits:
            resource.setrlimit(which, (most, most))
        if self.nice:
            os.nice(self.nice)


class Used(NamedTuple):
    """What all reaped processes of a job used: seconds, seconds, KiB. Source: getrusage(2)."""

    user: float = 0.0
    system: float = 0.0
    max_rss: int = 0

    def plus(self, usage: resource.struct_rusage) -> Used:
        """Return the sum with one more process."""
        return Used(self.user + usage.ru_utime, self.system + usage.ru_stime, max(self.max_rss, usage.ru_maxrss))


def send(line: socket.socket, *message: str | bytes | float | tuple[float, ...] | None) -> None:
    """Say one message; a peer that is gone is found out when reading."""
    try:
        line.send(marshal.dumps(message))
    except ConnectionError:  # a reset, if it had something left to read: see `receive`
        pass


def send_job(line: socket.socket, job: Job, streams: tuple[int, int, int]) -> None:
    """Say RUN, with a job. One that is too long for a message travels as a file in memory.

    Raises:
        OSError: there is no room for another descriptor, or the peer is gone.
    """
    message = marshal.dumps((RUN, *job))
    if len(message) <= _LONGEST_MESSAGE:
        socket.send_fds(line, [message], streams)
        return
    file = os.memfd_create("job")
    try:
        with open(file, "wb", closefd=False) as stream:
            stream.write(message)
        socket.send_fds(line, [marshal.dumps((RUN,))], [*streams, file])
    finally:
        os.close(file)


def receive(line: socket.socket, descriptors: int = 0) -> tuple[bytes, list[int]]:
    """Return the next message and the descriptors with it, not inheritable; nothing once the peer is gone.

    A peer that had something left to read when it went is told by ECONNRESET. Source: unix(7), connect(2).
    `socket.recv_fds` would do, if it did not drop its flags (Python 3.11 to 3.13).
    """
    received = array.array("i")
    try:
        room = socket.CMSG_LEN(descriptors * received.itemsize)
        data, controls, _, _ = line.recvmsg(_LONGEST_MESSAGE, room, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return b"", []
    for _, _, packed in controls:
        received.frombytes(packed[: len(packed) // received.itemsize * received.itemsize])
    return data, received.tolist()


class Keeper:
    """Runs the jobs that come over a line, one after the other.

    Args:
        line: a blocking SOCK_SEQPACKET socket to the server.
        woken: a descriptor that is readable after a SIGCHLD.
    """

    def __init__(self, line: socket.socket, woken: int) -> None:
        self._line = line
        self._woken = woken
        self._poll = select.poll()
        self._poll.register(line, select.POLLIN)
        self._poll.register(woken, select.POLLIN)
        self._hung_up = False

    def run(self) -> None:
        """Keep until the server hangs up, or helpers that are to be left need this process no longer."""
        while not self._hung_up:
            job, streams = self._next_job()
            if job is None:
                return
            child = self._spawn(job, streams)
            if child is not None and not self._see_out(_Kept(job, child)):
                return

    def _next_job(self) -> tuple[Job | None, list[int]]:
        """Wait for a job; a signal that crossed the end of the last one on its way is nobody's."""
        while True:
            data, descriptors = receive(self._line, 4)
            if not data:
                return None, []
            word, *values = marshal.loads(data)  # noqa: S302 the server's own words
            if word != RUN:
                continue
            if not values:
                with open(descriptors.pop(), "rb") as file:
                    file.seek(0)
                    _, *values = marshal.load(file)  # noqa: S302
            return Job(*values), descriptors

    def _spawn(self, job: Job, streams: list[int]) -> int | None:
        """Execute the command as the leader of a session of its own; return its pid, None if that failed."""
        try:
            child = execute(job, streams)
        except subprocess.SubprocessError:
            send(self._line, FAILED, errno.EPERM, False)
            return None
        except OSError as error:
            send(self._line, FAILED, error.errno or errno.EIO, is_about(error, job.folder))
            return None
        finally:
            for stream in streams:
                os.close(stream)
        send(self._line, STARTED)
        return child

    def _see_out(self, kept: _Kept) -> bool:
        """Watch a command to its end and stop all that is left of it; return False if helpers were left on purpose."""
        while left := kept.lives():
            if kept.status is not None and kept.job.leave and not kept.stopping:
                break
            self._wait(kept)
        send(self._line, GONE, kept.status, tuple(kept.used), kept.stopped, left)
        return not left

    def _wait(self, kept: _Kept) -> None:
        """Wait for a child's end, a word of the server or the next thing to do, and see to it."""
        ready = dict(self._poll.poll(kept.act()))
        if self._woken in ready:
            os.read(self._woken, 4096)
        if self._line.fileno() in ready:
            self._obey(kept)

    def _obey(self, kept: _Kept) -> None:
        data, _ = receive(self._line)
        if not data:
            self._hung_up = True
            self._poll.unregister(self._line)
            kept.stop(kept.job.grace)
            return
        word, value = marshal.loads(data)  # noqa: S302 the server's own words
        if word == SIGNAL:
            kept.signal(value)
        else:
            kept.stop(value)


class _Kept:
    """One running command and the plan for its end."""

    def __init__(self, job: Job, pid: int) -> None:
        self.job = job
        self.status: int | None = None
        self.used = Used()
        self.stopping = False
        self.stopped = False
        self._pid = pid
        self._next_at: float | None = None

    def lives(self) -> bool:
        """Reap what has ended; tell whether anything is left."""
        try:
            for pid, status, usage in descent.reap():
                self.used = self.used.plus(usage)
                if pid == self._pid:
                    self.status, self.stopped = status, self.stopping
                    if not self.stopping:
                        self._next_at = time.monotonic() + LINGER
        except ChildProcessError:
            return False
        return True

    def signal(self, number: int) -> None:
        """Signal the command's process group, which is its own until it has been reaped."""
        if self.status is None:
            with contextlib.suppress(PermissionError):  # it has become somebody else
                os.killpg(self._pid, number)

    def stop(self, grace: float) -> None:
        """Begin to stop everything, or hurry: TERM now, KILL after `grace` seconds; without grace KILL at once."""
        now = time.monotonic()
        if self.stopping:
            assert self._next_at is not None  # noqa: S101 set with `stopping`
            self._next_at = min(self._next_at, now + grace)
            return
        self.lives()  # what has ended by now ends by itself, though it was not reaped yet
        self.stopping = True
        self._next_at = now + grace
        if grace > 0:
            for number in _POLITELY:
                self.signal(number)
            descent.signal_descendants(*_POLITELY, but_group=self._pid if self.status is None else 0)

    def act(self) -> float | None:
        """Do what is due; return the milliseconds until something is due again, None if nothing is planned."""
        if self._next_at is None:
            return None
        if self._next_at <= time.monotonic():
            if self.stopping:
                descent.signal_children(signal.SIGKILL)
                self._next_at = time.monotonic() + _STRIKE_AGAIN
            else:
                self.stop(self.job.grace)
        return max(0.0, (self._next_at - time.monotonic()) * 1000)
