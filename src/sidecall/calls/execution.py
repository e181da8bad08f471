"""One command under way: its streams, its process, its deadline, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import math
import os
import signal
import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from sidecall.errors import SidecallError
from sidecall.outcome import SIGNALED, from_wait_status
from sidecall.protocol import messages as m
from sidecall.supervise.control import Job
from sidecall.supervise.process import SupervisorDied
from sidecall.transport.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecall.outcome import Outcome
    from sidecall.policy.plan import Plan
    from sidecall.supervise.process import Ended, SupervisorPool, Process
    from sidecall.transport.channel import Channel

DRAIN_IDLE = 1.0
"""Seconds without a byte after which a pipe that outlives its process group is taken as drained."""

TSTP = int(signal.SIGTSTP)
_DELIVERED_AS = {TSTP: int(signal.SIGSTOP)}
"""The kernel ignores TSTP's default in an orphaned process group, and a new session is one. Source: setpgid(2)."""


@dataclass(frozen=True)
class End:
    """The end of a call, and whether it was the deadline's doing."""

    process: Ended
    timed_out: bool
    is_output_failed: bool = False

    @property
    def ok(self) -> bool:
        """Tell whether the command returned 0."""
        return not self.timed_out and self.process.status == 0

    def output_failed(self) -> End:
        """Return the end of a call whose command returned 0, but whose output could not be put into its place."""
        return replace(self, is_output_failed=True)

    @cached_property
    def _outcome(self) -> Outcome:
        return from_wait_status(self.process.status)

    def fields(self, message: m.Exit) -> dict[str, object]:
        """Return the end as fields of the audit log; times in seconds, memory in bytes."""
        kind = "output_failed" if self.is_output_failed else "timed-out" if self.timed_out else self._outcome.kind
        return {
            "outcome": kind,
            "value": self._outcome.value,
            "queued": message.queued_us / 1e6,
            "run": message.run_us / 1e6,
            "user": message.user_us / 1e6,
            "system": message.system_us / 1e6,
            "max_rss": message.max_rss,
        }

    def message(self, queued: float, run: float) -> m.Exit:
        """Return the EXIT message; `queued` and `run` are seconds."""
        outcome, used = self._outcome, self.process.used
        by_signal = m.ENDED_SIGNALED if outcome.kind == SIGNALED else m.ENDED_EXITED
        own_end = m.ENDED_OUTPUT_FAILED if self.is_output_failed else by_signal
        return m.Exit(
            ended=m.ENDED_TIMED_OUT if self.timed_out else own_end,
            value=outcome.value,
            core_dumped=int(outcome.core_dumped),
            queued_us=int(queued * 1e6),
            run_us=int(run * 1e6),
            user_us=used.user_us,
            system_us=used.system_us,
            max_rss=used.max_rss * 1024,
        )

    def words(self) -> str:
        """Return the end in words, for the log."""
        how = f"{self._outcome.kind} {self._outcome.value}"
        return f"timed out ({how})" if self.timed_out else how


def signalled_before_start(number: int, queued: float) -> m.Exit:
    """Return the EXIT of a call that a signal ended in the queue, after `queued` seconds."""
    return m.Exit(m.ENDED_SIGNALED, number, 0, int(queued * 1e6), 0, 0, 0, 0)


def _wide_pipe() -> tuple[int, int]:
    """Return a pipe with room for more than a stream may have under way: few switches between its two ends."""
    readable, writable = os.pipe2(os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # a user may have only so many
        fcntl.fcntl(writable, fcntl.F_SETPIPE_SZ, m.INITIAL_WINDOW)
    return readable, writable


class Execution:
    """Runs one command for one caller.

    Args:
        channel: the caller's; it holds the passed descriptors.
        call: what was asked for.
    """

    def __init__(self, channel: Channel, call: m.Call) -> None:
        self._channel = channel
        self._call = call
        self._grace = 0.0
        self._cancelled = False
        self._timed_out = False
        self._interrupted = -math.inf
        self._failure: Exception | None = None
        self._progress = asyncio.Event()
        self._relay = Relay(asyncio.get_running_loop(), channel, self._progress.set)
        self._process: Process | None = None

    def start(self, plan: Plan, supervisors: SupervisorPool, on_started: Callable[[], None]) -> None:
        """Have the command executed with its streams.

        Args:
            plan: what to execute.
            supervisors: who executes it.
            on_started: called when the command has been executed, before its streams flow.

        Raises:
            OSError: there is no room for another descriptor.
            ServiceUnavailable: nor for another process.
        """
        self._grace = plan.grace
        ends: list[int] = []
        try:
            for stream, mode in enumerate(self._call.streams):
                wanted = plan.stdin or stream != m.STDIN
                ends.append(self._child_end(stream, mode) if wanted else self._no_stdin(mode))
            self._channel.refuse_descriptors()
            runs_as = plan.identity
            job = Job(
                argv=plan.argv,
                environ=plan.environ,
                directory=plan.directory,
                grace=plan.grace,
                leave=plan.leaves_helpers,
                uid=runs_as.uid,
                gid=runs_as.gid,
                groups=runs_as.groups,
                umask=runs_as.umask,
                nice=runs_as.nice,
                limits=runs_as.limits,
            )
            self._on_started = on_started
            self._process = supervisors.spawn(job, (ends[0], ends[1], ends[2]), self._flow)
        finally:
            for end in ends:
                os.close(end)
        if plan.timeout is not None:
            deadline = asyncio.get_running_loop().call_later(plan.timeout, self._on_deadline)
            self._process.on_end(deadline.cancel)

    @property
    def has_started(self) -> bool:
        """Tell whether the command has been executed."""
        return self._process is not None and self._process.has_started

    @property
    def moved(self) -> dict[str, int]:
        """How many bytes of each relayed stream went through here; those of passed ones nobody counts."""
        names = ("stdin", "stdout", "stderr")
        return {
            name: self._relay.moved[stream]
            for stream, (name, mode) in enumerate(zip(names, self._call.streams, strict=True))
            if mode == m.RELAYED
        }

    def receive(self, message: m.Message) -> None:
        """Act on a message about a stream."""
        if isinstance(message, (m.Data, m.Eof, m.Window, m.Stop)):
            self._relay.receive(message)

    def signal(self, number: int) -> None:
        """Deliver a signal of the caller to the command's process group; a second INT within the grace kills."""
        if self._process is None:
            return
        if number == signal.SIGINT:
            now = time.monotonic()
            if now - self._interrupted < self._grace:
                self._process.stop(0)
            self._interrupted = now
        self._process.signal(_DELIVERED_AS.get(number, number))

    def cancel(self, grace: float | None = None) -> None:
        """Stop the command and all that it started: TERM, `grace` seconds (None: its own), KILL. Does not wait."""
        self._cancelled = True
        self._progress.set()
        if self._process is not None:
            self._process.stop(self._grace if grace is None else grace)

    async def ended(self) -> End:
        """Wait for the command's end; nothing that it started is left then.

        Raises:
            NoSuchCommand: there is no such program.
            CannotExecute: it, or its working directory, cannot be used.
            SupervisorDied: how it ended is unknown.
            OSError: its streams could not flow.
        """
        assert self._process is not None  # noqa: S101 `start` comes first
        process = await self._process.ended()
        if self._failure is not None:
            raise self._failure
        return End(process, timed_out=self._timed_out and process.stopped)

    async def drained(self) -> None:
        """Wait until the caller has been sent all output, or is gone.

        A helper that was left on purpose may keep a pipe open: after `DRAIN_IDLE` seconds in which the caller had room
        and nothing came, it is not waited for. Nor is, once the call was cancelled, a caller that takes nothing.
        """
        while self._relay.reading and not self._channel.broken:
            self._progress.clear()
            try:
                async with asyncio.timeout(DRAIN_IDLE):
                    await self._progress.wait()
            except TimeoutError:
                if self._cancelled:
                    return
                self._relay.end_idle_sources()

    async def close(self) -> None:
        """Close every descriptor of the call; if something went wrong before its end, stop the command too."""
        if self._process is not None and not self._process.gone:
            self._process.stop(self._grace)
            with contextlib.suppress(SupervisorDied, SidecallError):
                await self._process.ended()
        self._relay.close()

    def _flow(self) -> None:
        """Tell of the start, and let the streams flow. If that fails the call ends, and says why."""
        try:
            self._on_started()
            self._relay.start()
        except Exception as error:
            self._failure = error
            self.cancel()

    def _on_deadline(self) -> None:
        if self._process is not None and not self._cancelled:
            self._timed_out = True
            self._process.stop(self._grace)

    def _no_stdin(self, mode: int) -> int:
        """Return an empty stdin; what the caller sends is not taken, and it is told so."""
        unwanted = self._child_end(m.STDIN, mode)
        os.close(unwanted)
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _child_end(self, stream: int, mode: int) -> int:
        """Return the descriptor that the command gets for a stream."""
        if mode == m.PASSED:
            return self._channel.received.take()
        if mode == m.NULL:
            return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        readable, writable = _wide_pipe()
        if stream == m.STDIN:
            os.set_blocking(writable, False)
            self._relay.write_to(stream, writable, nonblocking=True)
            return readable
        os.set_blocking(readable, False)
        self._relay.read_from(stream, readable)
        return writable
