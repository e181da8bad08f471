"""One command under way: its streams, its process, its deadline, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecall.outcome import SIGNALED, from_wait_status
from sidecall.protocol import messages as m
from sidecall.supervise.process import Ended, Process, spawn
from sidecall.transport.relay import Relay

if TYPE_CHECKING:
    from sidecall.server.policy import Plan
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

    def message(self, queued: float, run: float) -> m.Exit:
        """Return the EXIT message; `queued` and `run` are seconds."""
        outcome, usage = from_wait_status(self.process.status), self.process.usage
        by_signal = m.ENDED_SIGNALED if outcome.kind == SIGNALED else m.ENDED_EXITED
        return m.Exit(
            ended=m.ENDED_TIMED_OUT if self.timed_out else by_signal,
            value=outcome.value,
            core_dumped=int(outcome.core_dumped),
            queued_us=int(queued * 1e6),
            run_us=int(run * 1e6),
            user_us=int(usage.ru_utime * 1e6),
            system_us=int(usage.ru_stime * 1e6),
            max_rss=usage.ru_maxrss * 1024,  # Linux reports KiB: getrusage(2)
        )

    def words(self) -> str:
        """Return the end in words, for the log."""
        outcome = from_wait_status(self.process.status)
        how = f"{outcome.kind} {outcome.value}"
        return f"timed out ({how})" if self.timed_out else how


def signalled_before_start(number: int, queued: float) -> m.Exit:
    """Return the EXIT of a call that a signal ended in the queue, after `queued` seconds."""
    return m.Exit(m.ENDED_SIGNALED, number, 0, int(queued * 1e6), 0, 0, 0, 0)


class Execution:
    """Runs one command for one caller.

    Args:
        channel: the caller's; it holds the passed descriptors.
        call: what was asked for.
        cancelled: set when the caller is gone or the call is to end early.
        grace: seconds between TERM and KILL.
    """

    def __init__(self, channel: Channel, call: m.Call, cancelled: asyncio.Event, grace: float) -> None:
        self._channel = channel
        self._call = call
        self._cancelled = cancelled
        self._grace = grace
        self._interrupted = -math.inf
        self._progress = asyncio.Event()
        self._relay = Relay(asyncio.get_running_loop(), channel, self._progress.set)
        self._process: Process | None = None

    def start(self, plan: Plan) -> None:
        """Execute the command with its streams.

        Raises:
            NoSuchCommand: there is no such program.
            CannotExecute: it, or its working folder, cannot be used.
        """
        with contextlib.ExitStack() as child_ends:
            ends = []
            for stream, mode in enumerate(self._call.streams):
                ends.append(self._child_end(stream, mode))
                child_ends.callback(os.close, ends[-1])
            self._channel.refuse_descriptors()
            self._process = spawn(plan.argv, plan.environ, plan.folder, (ends[0], ends[1], ends[2]))

    def receive(self, message: m.Message) -> None:
        """Act on a message about a stream."""
        if isinstance(message, (m.Data, m.Eof, m.Window, m.Stop)):
            self._relay.receive(message)

    def signal(self, number: int) -> None:
        """Deliver a signal of the caller to the command's process group; a second INT within the grace kills it."""
        if self._process is None:
            return
        if number == signal.SIGINT:
            now = time.monotonic()
            if now - self._interrupted < self._grace:
                self._process.signal(signal.SIGKILL)
            self._interrupted = now
        self._process.signal(_DELIVERED_AS.get(number, number))

    async def ended(self, timeout: float | None) -> End:
        """Let the streams flow and wait for the command's end, its deadline (seconds) or its cancellation.

        Nothing of its process group is left when this returns.
        """
        assert self._process is not None  # noqa: S101 `start` comes first
        self._relay.start()
        tasks = [asyncio.ensure_future(wait()) for wait in (self._process.exited, self._cancelled.wait)]
        done, pending = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        if tasks[0] in done:
            return End(await self._process.finish(self._grace), timed_out=False)
        return End(await self._process.stop(self._grace), timed_out=not done)

    async def drained(self) -> None:
        """Wait until the caller has been sent all output, or is gone.

        A helper that left the process group may keep a pipe open: after `DRAIN_IDLE` seconds in which the caller had
        room and nothing came, it is not waited for.
        """
        while self._relay.reading and not self._cancelled.is_set():
            self._progress.clear()
            try:
                async with asyncio.timeout(DRAIN_IDLE):
                    await self._progress.wait()
            except TimeoutError:
                self._relay.end_idle_sources()

    async def close(self) -> None:
        """Close every descriptor of the call; if something went wrong before its end, stop the command too."""
        if self._process is not None and not self._process.gone:
            await self._process.stop(self._grace)
        self._relay.close()

    def _child_end(self, stream: int, mode: int) -> int:
        """Return the descriptor that the command gets for a stream."""
        if mode == m.PASSED:
            return self._channel.received.take()
        if mode == m.NULL:
            return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        readable, writable = os.pipe2(os.O_CLOEXEC)
        if stream == m.STDIN:
            os.set_blocking(writable, False)
            self._relay.write_to(stream, writable, nonblocking=True)
            return readable
        os.set_blocking(readable, False)
        self._relay.read_from(stream, readable)
        return writable
