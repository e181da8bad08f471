"""Both loops that transport runs on, behind one way to drive them, and a strict check that nothing is left open."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING

import pytest

from sidecall.transport import descriptors
from sidecall.transport.loop import Poller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sidecall.transport.loop import Loop


descriptors._unwritable()  # a descriptor that stays


class Driver:
    """Runs a loop until something is the case."""

    def __init__(self, loop: Poller | asyncio.AbstractEventLoop) -> None:
        self.loop: Loop = loop
        self._loop = loop

    def until(self, holds: Callable[[], bool]) -> None:
        """Run the loop until `holds` returns true; fail after a minute."""
        deadline = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < deadline
            self.once()

    def once(self) -> None:
        """Run the loop for one round."""
        if isinstance(self._loop, Poller):
            self._loop.run_once()
        else:
            self._loop.run_until_complete(asyncio.sleep(0))

    def idle(self) -> None:
        """Let everything that is ready happen."""
        if isinstance(self._loop, Poller):
            while self._loop._poll.poll(0):
                self._loop.run_once()
        else:
            for _ in range(20):
                self.once()


@pytest.fixture(params=["poller", "asyncio"])
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    """Return a driver of the client's loop, then of the server's."""
    if request.param == "poller":
        yield Driver(Poller())
        return
    loop = asyncio.new_event_loop()
    yield Driver(loop)
    loop.close()


def open_descriptors() -> dict[int, str]:
    """Return what every open descriptor of this process leads to."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


@pytest.fixture(autouse=True)
def same_descriptors() -> Iterator[None]:
    """Check that after a test the very same descriptors are open as before it."""
    before = open_descriptors()
    yield
    assert open_descriptors() == before
