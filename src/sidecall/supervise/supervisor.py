"""The supervisor: a process of its own that runs one command at a time and knows all that descends from it.

It is a subreaper, so whatever a command starts stays below it, in whatever session or group, orphaned or not; and since
there is one command at a time, all of it belongs to that command. A supervisor blocks, polls and reaps; it decides nothing
but the order TERM, grace period, KILL. When the server's end of its line closes it stops what it keeps, and ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from errno import EIO, EPERM
from typing import TYPE_CHECKING

from sidecall.supervise import descendants
from sidecall.supervise.executable import is_about
from sidecall.supervise.execute import execute
from sidecall.supervise.control import (
    FAILED,
    EXITED,
    CHDIR_FAILED,
    RUN,
    SIGNAL,
    STARTED,
    Job,
    Event,
    ResourceUsage,
    decode_order,
    read_job,
    receive,
    send_reply,
)

if TYPE_CHECKING:
    import resource
    import socket

BACKGROUND_GRACE = 0.5
"""Seconds that helpers have to finish by themselves after their command did: `tee` in `> >(tee log)`, """

_KILL_INTERVAL = 0.02
"""Seconds between two rounds of KILL, if no child's end comes before."""

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGCONT)
"""What asks a process to end; one that is stopped cannot act on TERM alone."""


class Supervisor:
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
            if child is not None and not self._wait_and_clean_up(_RunningCommand(job, child)):
                return

    def _next_job(self) -> tuple[Job | None, list[int]]:
        """Wait for a job; a signal that crossed the end of the last one on its way is nobody's."""
        while True:
            message, descriptors = receive(self._line, 4)
            if not message:
                return None, []
            if message[0] == RUN:
                return read_job(message, descriptors), descriptors

    def _spawn(self, job: Job, streams: list[int]) -> int | None:
        """Execute the command as the leader of a session of its own; return its pid, None if that failed."""
        try:
            child = execute(job, streams)
        except subprocess.SubprocessError:
            send_reply(self._line, Event(FAILED, EPERM))
            return None
        except OSError as error:
            kind = CHDIR_FAILED if is_about(error, job.directory) else FAILED
            send_reply(self._line, Event(kind, error.errno or EIO))
            return None
        finally:
            for stream in streams:
                os.close(stream)
        send_reply(self._line, Event(STARTED))
        return child

    def _wait_and_clean_up(self, kept: _RunningCommand) -> bool:
        """Watch a command to its end and stop all that is left of it; return False if helpers were left on purpose."""
        while left := kept.lives():
            if kept.status is not None and kept.job.leave and not kept.stopping:
                break
            self._wait(kept)
        assert kept.status is not None  # noqa: S101 the command is reaped
        send_reply(self._line, Event(EXITED, kept.status, kept.used, kept.stopped, left))
        return not left

    def _wait(self, kept: _RunningCommand) -> None:
        """Wait for a child's end, a word of the server or the next thing to do, and see to it."""
        ready = dict(self._poll.poll(kept.act()))
        if self._woken in ready:
            os.read(self._woken, 4096)
        if self._line.fileno() in ready:
            self._handle_request(kept)

    def _handle_request(self, kept: _RunningCommand) -> None:
        message, _ = receive(self._line)
        if not message:
            self._hung_up = True
            self._poll.unregister(self._line)
            kept.stop(kept.job.grace)
            return
        kind, value = decode_order(message)
        if kind == SIGNAL:
            kept.signal(value)
        else:
            kept.stop(value / 1e9)


class _RunningCommand:
    """One running command and the plan for its end."""

    def __init__(self, job: Job, pid: int) -> None:
        self.job = job
        self.status: int | None = None
        self.used = ResourceUsage()
        self.stopping = False
        self.stopped = False
        self._pid = pid
        self._next_at: float | None = None

    def lives(self) -> bool:
        """Reap what has ended; tell whether anything is left."""
        try:
            for pid, status, usage in descent.reap():
                self.used = _sum(self.used, usage)
                if pid == self._pid:
                    self.status, self.stopped = status, self.stopping
                    if not self.stopping:
                        self._next_at = time.monotonic() + BACKGROUND_GRACE
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
            for number in _STOP_SIGNALS:
                self.signal(number)
            descent.signal_descendants(*_STOP_SIGNALS, but_group=self._pid if self.status is None else 0)

    def act(self) -> float | None:
        """Do what is due; return the milliseconds until something is due again, None if nothing is planned."""
        if self._next_at is None:
            return None
        if self._next_at <= time.monotonic():
            if self.stopping:
                descent.signal_children(signal.SIGKILL)
                self._next_at = time.monotonic() + _KILL_INTERVAL
            else:
                self.stop(self.job.grace)
        return max(0.0, (self._next_at - time.monotonic()) * 1000)


def _sum(used: ResourceUsage, usage: resource.struct_rusage) -> ResourceUsage:
    """Return what has been used, with one more process."""
    return ResourceUsage(
        used.user_us + round(usage.ru_utime * 1e6),
        used.system_us + round(usage.ru_stime * 1e6),
        max(used.max_rss, usage.ru_maxrss),
    )
