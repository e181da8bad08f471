"""What the tests of this folder share: commands under keepers, without a server around them."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, TypeVar

from sidecall.supervise.line import Job
from sidecall.supervise.nursery import Nursery
from sidecall.supervise.process import Keepers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sidecall.supervise.process import Process

Result = TypeVar("Result")


def with_keepers(main: Callable[[Keepers], Awaitable[Result]]) -> Result:
    """Run a coroutine that starts commands; the nursery and every keeper are gone afterwards."""
    nursery = Nursery.start()

    async def body() -> Result:
        keepers = Keepers(nursery)
        try:
            return await main(keepers)
        finally:
            keepers.close()

    try:
        return asyncio.run(body())
    finally:
        nursery.close()


async def shell(keepers: Keepers, script: str, grace: float = 0.2, *, leave: bool = False, stdout: int = 2) -> Process:
    """Start a shell script with an empty stdin."""
    job = Job([b"sh", b"-c", script.encode()], dict(os.environb), None, grace, leave)
    null = os.open(os.devnull, os.O_RDWR)
    try:
        return keepers.spawn(job, (null, stdout, 2))
    finally:
        os.close(null)


async def first_line(keepers: Keepers, script: str, grace: float = 0.2, *, leave: bool = False) -> tuple[Process, int]:
    """Start a shell script and return it with the number that it prints first, such as a pid."""
    readable, writable = os.pipe()
    with open(readable) as lines:
        try:
            process = await shell(keepers, script, grace, leave=leave, stdout=writable)
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
