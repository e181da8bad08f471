"""One command under way, with supervisors but without a server: its start, its signals, its end."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, cast

import pytest

from sidecall.calls.execution import Execution
from sidecall.calls.streams import ClientStreams
from sidecall.errors import NoSuchCommand
from sidecall.policy.plan import Plan
from sidecall.protocol import messages as m
from supervise.conftest import with_pool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sidecall.supervise.process import Ended, SupervisorPool
    from sidecall.transport.channel import ServerChannel


class NoChannel:
    """The connection of a client that passes and relays nothing."""

    socket = None
    broken = False


def run(
    argv: list[bytes], then: Callable[[Execution], None] = lambda _: None, timeout: float | None = None
) -> tuple[Ended, list[str]]:
    """Run a command to its end; return that, and what was reported on the way."""
    reported: list[str] = []

    async def main(pool: SupervisorPool) -> Ended:
        changed = asyncio.Event()
        channel = cast("ServerChannel", NoChannel())
        streams = ClientStreams(asyncio.get_running_loop(), channel, (m.NONE, m.NONE, m.NONE), changed.set)
        plan = Plan(argv, dict(os.environb), None, timeout, 0.2)

        def on_timeout() -> None:
            reported.append("timeout")
            execution.stop()

        def on_started() -> None:
            reported.append("started")
            then(execution)

        execution = Execution(plan, streams, changed, on_timeout)
        try:
            execution.start(pool, channel, on_started)
            ended = await execution.ended()
            await execution.drained()
            return ended
        finally:
            await execution.close()

    main_: Callable[[SupervisorPool], Awaitable[Ended]] = main
    return with_pool(main_), reported


def test_a_command_runs_to_its_end() -> None:
    """Its start is reported, then its end."""
    ended, reported = run([b"sh", b"-c", b"exit 3"])
    assert (ended.status, ended.stopped, reported) == (0x300, False, ["started"])


def test_a_program_that_does_not_exist() -> None:
    """No start is reported."""
    with pytest.raises(NoSuchCommand):
        run([b"no-such-program"])


def test_a_timeout_is_reported_once() -> None:
    """The command is stopped by its owner, who is told."""
    ended, reported = run([b"sleep", b"60"], timeout=0.05)
    assert (ended.status, ended.stopped, reported) == (signal.SIGTERM, True, ["started", "timeout"])


def test_a_second_interrupt_kills() -> None:
    """A command that ignores SIGINT and SIGTERM is killed at the second SIGINT within the grace period."""

    def interrupt(execution: Execution) -> None:
        execution.signal(signal.SIGINT)
        execution.signal(signal.SIGINT)

    ended, _ = run([b"env", b"--ignore-signal=INT,TERM", b"sleep", b"60"], interrupt)
    assert ended.status in {signal.SIGKILL, signal.SIGINT}  # `env` can get the first one before it ignores it


def test_a_signal_is_delivered() -> None:
    """To the command's process group."""
    ended, _ = run([b"sleep", b"60"], lambda execution: execution.signal(signal.SIGUSR1))
    assert ended.status == signal.SIGUSR1
