"""What the tests of this directory share: commands under pool, without a server around them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sidecall.supervise.control import Job
from sidecall.supervise.forkserver import ForkServer
from sidecall.supervise.process import SupervisorPool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sidecall.supervise.process import Process

Result = TypeVar("Result")


def with_pool(main: Callable[[SupervisorPool], Awaitable[Result]]) -> Result:
    """Run a coroutine that starts commands; the fork server and every supervisor are gone afterwards."""
    fork_server = ForkServer.start()

    async def body() -> Result:
        pool = SupervisorPool(fork_server)
        try:
            return await main(pool)
        finally:
            pool.close()

    try:
        return asyncio.run(body())
    finally:
        fork_server.close()


async def shell(
    pool: SupervisorPool, script: str, grace: float = 0.2, *, keep: bool = False, stdout: int = 2
) -> Process:
    """Start a shell script with an empty stdin."""
    job = Job([b"sh", b"-c", script.encode()], dict(os.environb), None, grace, keep)
    null = os.open(os.devnull, os.O_RDWR)
    try:
        return pool.spawn(job, (null, stdout, 2))
    finally:
        os.close(null)


async def first_line(
    pool: SupervisorPool, script: str, grace: float = 0.2, *, keep: bool = False
) -> tuple[Process, int]:
    """Start a shell script and return it with the number that it prints first, such as a pid."""
    readable, writable = os.pipe()
    with open(readable) as lines:
        try:
            process = await shell(pool, script, grace, keep=keep, stdout=writable)
        finally:
            os.close(writable)
        return process, int(await asyncio.to_thread(lines.readline) or 0)


def lives(pid: int) -> bool:
    """Tell whether a process exists, also as a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def has_ended(pid: int) -> bool:
    """Tell whether a process is a zombie, or not there."""
    try:
        return field(pid, 3) == "Z"
    except OSError:
        return True


def field(pid: int, index: int) -> str:
    """Return a field of a process' stat file, by its number in proc_pid_stat(5), from 3 on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[index - 3]


def parent_of(pid: int) -> int:
    """Return the parent of a process."""
    return int(field(pid, 4))


def all_descendants(root: int) -> set[int]:
    """Return every process below another one, out of all that there are."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError):
                parents[int(name)] = parent_of(int(name))
    family = {root}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return family - {root}
