"""Calls of one service that are joined by pipes: none waits for a slot that another one holds."""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

import sidecall
from conftest import CLIENT, SIDECALL, both_modes, end, first_line, start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Run, Server

SIZE = 1_000_000
"""Bytes: more than pipes and windows hold, so that a call ends only if the other one runs."""
CLIENTS = sorted({CLIENT, SIDECALL})


@pytest.fixture
def one_slot(serve: Callable[..., Server]) -> Server:
    """Return a service with one slot."""
    return serve("--allow-any", "one", "--slots", "1", "--grace", "0.5")


def shell(script: str, client: str, mode: tuple[str, ...]) -> subprocess.CompletedProcess[bytes]:
    """Run a script with `call`, which calls the service. It ends, or the test fails."""
    define = f'set -o pipefail; call() {{ {client} exec {" ".join(mode)} one "$@"; }}\n'
    return subprocess.run(["bash", "-c", define + script], capture_output=True, check=False, timeout=60)


@both_modes
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    "pipeline",
    [
        f"call head -c {SIZE} /dev/zero | call wc -c",
        f"call head -c {SIZE} /dev/zero | call cat | call wc -c",
        f"call head -c {SIZE} /dev/zero | call cat | call cat | call cat | call cat | call wc -c",
        f"call sh -c 'head -c {SIZE} /dev/zero >&2' 2>&1 >/dev/null | call wc -c",
        f"{{ call head -c {SIZE // 2} /dev/zero & call head -c {SIZE // 2} /dev/zero; }} | call wc -c",
    ],
    ids=["two", "three", "six", "stderr", "two writers"],
)
@pytest.mark.usefixtures("one_slot")
def test_a_pipeline_ends_with_one_slot(pipeline: str, client: str, mode: tuple[str, ...]) -> None:
    """However many calls a pipe joins, in both stream modes and by both clients."""
    done = shell(pipeline, client, mode)
    assert (done.returncode, done.stdout.strip()) == (0, b"%d" % SIZE), done.stderr


@both_modes
@pytest.mark.usefixtures("one_slot")
def test_clients_of_both_kinds_are_joined(mode: tuple[str, ...]) -> None:
    """They name a pipe alike."""
    script = f"call head -c {SIZE} /dev/zero | {SIDECALL} exec {' '.join(mode)} one wc -c"
    assert shell(script, CLIENT, mode).stdout.strip() == b"%d" % SIZE


@both_modes
def test_two_that_wait_start_together(one_slot: Server, mode: tuple[str, ...]) -> None:
    """The slot is another call's; once it is free, both ends of the pipe start."""
    holder = start("one", "sh", "-c", "echo ready; read line")
    assert first_line(holder) == "ready"
    script = f"call head -c {SIZE} /dev/zero | call wc -c"
    define = f'call() {{ {CLIENT} exec {" ".join(mode)} one "$@"; }}\n'
    waiting = subprocess.Popen(["bash", "-c", define + script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert waiting.stderr is not None
    queued = 0
    while queued < 2:
        line = waiting.stderr.readline()
        assert line, "a client has ended"
        queued += b"waiting for a slot" in line
    holder.communicate(b"\n")
    assert end(waiting)[:2] == (0, b"%d\n" % SIZE)
    assert one_slot.process.poll() is None


@pytest.mark.usefixtures("one_slot")
def test_a_call_without_a_pipe_to_a_running_one_waits(sidecall: Run) -> None:
    """A pipe alone is no reason: its other end has to be a running call's, and one call at an end is enough."""
    reading, writing = os.pipe()
    holder = start("one", "sh", "-c", "echo ready >&2; cat", stdin=reading)
    assert holder.stderr is not None
    assert holder.stderr.readline() == b"ready\n"
    assert sidecall("exec", "--no-queue", "one", "true").returncode == 75
    assert start_and_end("--no-queue", "one", "true", stdin=reading) == 75
    writer = start("--no-queue", "one", "sh", "-c", "echo ready >&2; cat", stdout=writing)
    assert writer.stderr is not None
    assert writer.stderr.readline() == b"ready\n"
    assert start_and_end("--no-queue", "one", "true", stdout=writing) == 75
    os.close(reading)
    os.close(writing)
    writer.communicate(b"through")
    assert end(holder)[1] == b"through"


def start_and_end(*words: str, **options: int) -> int:
    """Return the exit code of a client."""
    caller = start(*words, **options)
    return end(caller)[0]


@pytest.mark.usefixtures("one_slot")
def test_calls_of_the_library_are_joined(directory: Path) -> None:
    """By a pipe that the program makes."""

    async def pipeline() -> sidecall.CompletedCall:
        reading, writing = os.pipe()
        head = ["head", "-c", str(SIZE), "/dev/zero"]
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(sidecall.run_async("one", head, stdin=sidecall.DEVNULL, stdout=writing))
            last = tasks.create_task(sidecall.run_async("one", ["wc", "-c"], stdin=reading, stdout=sidecall.PIPE))
            await first
            os.close(writing)
        os.close(reading)
        return last.result()

    assert (directory / "one.sock").exists()
    assert (asyncio.run(pipeline()).stdout or b"").strip() == b"%d" % SIZE
