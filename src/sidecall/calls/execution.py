"""One command under way: its process, its streams and its timeout. What that means for the call is up to `call`."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import time
from typing import TYPE_CHECKING

from sidecall.errors import SidecallError
from sidecall.protocol.messages import ENDING_SIGNALS
from sidecall.supervise.control import Job
from sidecall.supervise.process import SupervisorDied

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecall.calls.streams import Streams
    from sidecall.policy.plan import Plan
    from sidecall.supervise.process import Ended, Process, SupervisorPool
    from sidecall.transport.channel import ServerChannel

DRAIN_IDLE = 1.0
"""Seconds without a byte after which a pipe that outlives its process group is taken as drained."""

TSTP = int(signal.SIGTSTP)
_DELIVERED_AS = {TSTP: int(signal.SIGSTOP)}
"""The kernel ignores TSTP's default in an orphaned process group, and a new session is one. Source: setpgid(2)."""


class Execution:
    """Runs one command.

    Args:
        plan: what to execute.
        streams: where its streams come from.
        changed: set whenever a stream moved or ended.
        on_timeout: called when the command has run for as long as it can.
    """

    def __init__(self, plan: Plan, streams: Streams, changed: asyncio.Event, on_timeout: Callable[[], None]) -> None:
        self._plan = plan
        self._streams = streams
        self._changed = changed
        self._on_timeout = on_timeout
        self._gives_up = False
        self._was_signaled = False
        self._interrupted = -math.inf
        self._failure: Exception | None = None
        self._process: Process | None = None

    def start(self, supervisors: SupervisorPool, channel: ServerChannel, on_started: Callable[[], None]) -> None:
        """Have the command executed with its streams.

        Args:
            supervisors: who executes it.
            channel: the client's, whose socket holds the passed descriptors.
            on_started: called when the command has been executed, before its streams flow.

        Raises:
            OSError: no room for another descriptor.
            ServiceUnavailable: no room for another process.
        """
        plan = self._plan

        def started() -> None:
            try:
                on_started()
                self._streams.start()
            except Exception as error:  # the call ends, and reports why
                self._failure = error
                self.stop()

        try:
            sources = self._streams.open(wants_stdin=plan.stdin)
            job = Job(
                plan.argv,
                plan.environ,
                plan.directory,
                plan.grace,
                plan.keeps_background,
                plan.run_as,
                self._streams.has_terminal,
                plan.confined_to,
            )
            self._process = supervisors.spawn(job, sources, channel.socket, started)
        finally:
            self._streams.close_ends()
        if plan.timeout is not None:
            timer = asyncio.get_running_loop().call_later(plan.timeout, self._on_timeout)
            self._process.on_end(timer.cancel)

    def signal(self, number: int) -> None:
        """Deliver a signal of the client to the command's process group.

        KILL, or a second INT within the grace period, kills all processes of the call.
        """
        if self._process is None:
            return
        self._was_signaled |= number in ENDING_SIGNALS
        if number == signal.SIGKILL:
            self._process.signal(number)
            self._process.stop(0)
            return
        if number == signal.SIGINT:
            now = time.monotonic()
            if now - self._interrupted < self._plan.grace:
                self._process.stop(0)
            self._interrupted = now
        self._process.signal(_DELIVERED_AS.get(number, number))

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal of the command another size."""
        self._streams.resize(rows, columns)

    def stop(self, grace: float | None = None) -> None:
        """Terminate the command and all that it started: TERM, `grace` seconds (None: its own), KILL. Does not wait."""
        self._gives_up = True
        self._changed.set()
        if self._process is not None:
            self._process.stop(self._plan.grace if grace is None else grace)

    async def ended(self) -> Ended:
        """Wait for the command's end; nothing that it started is left then.

        Raises:
            NoSuchCommand: the program was not found.
            CannotExecute: it, or its working directory, cannot be used.
            SupervisorDied: how it ended is unknown.
            OSError: its streams could not flow.
        """
        assert self._process is not None  # noqa: S101 `start` comes first
        ended = await self._process.ended()
        if self._failure is not None:
            raise self._failure
        return ended

    async def drained(self) -> None:
        """Wait until the client has been sent all output, or has closed the connection.

        A background process that is kept can hold a pipe open: after `DRAIN_IDLE` seconds in which the client had
        room and nothing came, it is not waited for. Nor is a client that takes nothing, once the call was stopped, or
        for the grace period once the client has sent a signal.
        """
        idle = 0.0
        while not self._streams.are_drained:
            self._changed.clear()
            try:
                async with asyncio.timeout(DRAIN_IDLE):
                    await self._changed.wait()
                idle = 0.0
            except TimeoutError:
                idle += DRAIN_IDLE
                if self._gives_up or (self._was_signaled and idle >= self._plan.grace):
                    return
                self._streams.end_idle()

    async def close(self) -> None:
        """Close every descriptor of the call; if something went wrong before its end, terminate the command too."""
        if self._process is not None and not self._process.gone:
            self._process.stop(self._plan.grace)
            with contextlib.suppress(SupervisorDied, SidecallError):
                await self._process.ended()
        self._streams.close()
