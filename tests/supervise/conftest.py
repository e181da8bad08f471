"""What the tests of this directory share: commands under supervisors, without a server around them."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, TypeVar

from sidecall.supervise.control import Job
from sidecall.supervise.forkserver import ForkServer
from sidecall.supervise.process import SupervisorPool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sidecall.supervise.process import Process

Result = TypeVar("Result")


def with_keepers(main: Callable[[SupervisorPool], Awaitable[Result]]) -> Result:
    """Run a coroutine that starts commands; the forkserver and every supervisor are gone afterwards."""
    forkserver = ForkServer.start()

    async def body() -> Result:
        supervisors = SupervisorPool(forkserver)
        try:
            return await main(supervisors)
        finally:
            supervisors.close()

    try:
        return asyncio.run(body())
    finally:
        forkserver.close()


async def shell(supervisors: SupervisorPool, script: str, grace: float = 0.2, *, leave: bool = False, stdout: int = 2) -> Process:
    """Start a shell script with an empty stdin."""
    job = Job([b"sh", b"-c", script.encode()], dict(os.environb), None, grace, leave)
    null = os.open(os.devnull, os.O_RDWR)
    try:
        return supervisors.spawn(job, (null, stdout, 2))
    finally:
        os.close(null)


async def first_line(supervisors: SupervisorPool, script: str, grace: float = 0.2, *, leave: bool = False) -> tuple[Process, int]:
    """Start a shell script and return it with the number that it prints first, such as a pid."""
    readable, writable = os.pipe()
    with open(readable) as lines:
        try:
            process = await shell(supervisors, script, grace, leave=leave, stdout=writable)
        finally:
            os.close(writable)
        return process, int(await asyncio.to_thread(lines.readline) or 0)


def lives(pid: int) -> bool:
    """Tell whether a process is there, be it as a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
