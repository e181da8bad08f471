"""Whatever a command starts is terminated, also what forks faster than it is killed."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from sidecall.supervise.control import Job, RunAs
from sidecall.supervise.descendants import kill_descendants
from sidecall.supervise.kernel import become_subreaper
from supervise.conftest import all_descendants, field, lives, with_pool

if TYPE_CHECKING:
    from sidecall.supervise.process import Ended, Process, SupervisorPool

CHAIN = "import os, time\nwhile not os.fork():\n    os.setsid()\n    os.write(1, b'x')\n    time.sleep(%s)"
"""Each process of it is replaced by its child, which is in a session of its own."""

BOMB = "b() { b & b & wait; b; }; echo; b"
"""Processes up to the limit; bash tries again for 15 seconds when it cannot fork."""

NOBODY = RunAs(uid=54321, gid=54321, groups=(), limits=((resource.RLIMIT_NPROC, 60),))
"""A user that has no other processes."""

PYTHON = [sys.executable, "-S", "-c"]
ADVERSARIES = {
    "chain": ([*PYTHON, CHAIN % 0.001], RunAs()),
    "fast chain": ([*PYTHON, CHAIN % 0], RunAs()),
    "bomb": (["bash", "-c", BOMB], NOBODY),
    "deaf bomb": (["bash", "-c", f"trap '' TERM; {BOMB}"], NOBODY),
}


def spawn(pool: SupervisorPool, argv: list[str], run_as: RunAs, stdout: int) -> Process:
    """Start a command that prints to a pipe only; close this process' descriptor of that."""
    job = Job([os.fsencode(word) for word in argv], dict(os.environb), None, 0.1, False, run_as)
    null = os.open(os.devnull, os.O_RDWR)
    try:
        return pool.spawn(job, (null, stdout, null))
    finally:
        os.close(null)
        os.close(stdout)


@pytest.mark.parametrize(("argv", "run_as"), ADVERSARIES.values(), ids=ADVERSARIES)
@pytest.mark.parametrize("how", ["stopped", "supervisor killed"])
def test_nothing_outruns_the_killing(argv: list[str], run_as: RunAs, how: str) -> None:
    """The pipe that all of them have open is closed when the end is reported, and the next command runs."""
    readable, writable = os.pipe()

    async def main(pool: SupervisorPool) -> None:
        process = spawn(pool, argv, run_as, writable)
        for _ in range(20 if run_as == RunAs() else 1):
            assert await asyncio.to_thread(os.read, readable, 1)
        if how == "stopped":
            process.stop(0.1)
            assert (await process.ended()).remaining == 0
        else:
            (supervisor,) = (pid for pid in all_descendants(pool._fork_server.pid) if is_supervisor(pid))
            os.kill(supervisor, signal.SIGKILL)
        while await asyncio.to_thread(os.read, readable, 65536):
            pass

    with_pool(main)
    os.close(readable)


def is_supervisor(pid: int) -> bool:
    """Tell whether a process is a supervisor that lives."""
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read() == "sidecall-super\n" and field(pid, 3) != "Z"
    except OSError:
        return False


def test_a_command_that_is_killed_by_its_own_child_is_cleaned_up() -> None:
    """It kills all that it may signal: the supervisor is another user's."""
    readable, writable = os.pipe()

    async def main(pool: SupervisorPool) -> Ended:
        return await spawn(pool, ["sh", "-c", "(kill -9 -1); sleep 100"], NOBODY, writable).ended()

    ended = with_pool(main)
    os.close(readable)
    assert (ended.status, ended.remaining) == (signal.SIGKILL, 0)


def in_a_subreaper(script: str) -> int:
    """Run a script below a process that is a subreaper; return how many descendants `kill_descendants` leaves it."""
    started, starting = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            become_subreaper()
            os.posix_spawn(
                sys.executable, [*PYTHON, script], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, starting, 1)]
            )
            os.close(starting)
            os.read(started, 1)
            os._exit(kill_descendants(20))
        finally:
            os._exit(255)
    os.close(starting)
    left = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    while os.read(started, 65536):
        pass
    os.close(started)
    return left


@pytest.mark.parametrize("script", [CHAIN % 0.001, "import os, signal; os.fork(); os.write(1, b'x'); signal.pause()"])
def test_the_server_kills_what_a_killed_fork_server_leaves(script: str) -> None:
    """Without a fork server the server is the parent of what is left."""
    assert in_a_subreaper(script) == 0


def test_without_descendants_there_is_nothing_to_wait_for() -> None:
    assert kill_descendants(0) == 0


def test_a_child_and_its_children_are_killed() -> None:
    """In one call; all of them are reaped."""
    readable, writable = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            become_subreaper()
            if not os.fork():
                if below := os.fork():
                    os.write(writable, b"%d %d" % (os.getpid(), below))
                signal.pause()
            names = os.read(readable, 100).split()
            left = kill_descendants(20)
            os._exit(left + sum(lives(int(name)) for name in names))
        finally:
            os._exit(255)
    os.close(readable)
    os.close(writable)
    assert os.waitpid(pid, 0)[1] == 0
