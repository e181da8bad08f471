"""The watchdog: a loop that stands still is reported once, with the place; one that runs is not."""

from __future__ import annotations

import asyncio
import threading

from sidecall.server.watchdog import Watchdog


def test_a_loop_that_stands_still_is_reported_with_its_place() -> None:
    """The line names the function that blocks it."""
    lines: list[str] = []
    reported = threading.Event()

    def log(line: str) -> None:
        lines.append(line)
        reported.set()

    def block_the_loop() -> None:
        reported.wait(60)

    async def serve() -> None:
        watchdog = Watchdog(log, 0.01)
        block_the_loop()
        await asyncio.sleep(0)
        watchdog.close()

    asyncio.run(serve())
    assert reported.is_set()
    assert "block_the_loop (test_watchdog.py:" in lines[0]


def test_a_loop_that_runs_is_not_reported() -> None:
    """Nor is one that waits for something."""
    lines: list[str] = []

    async def serve() -> None:
        watchdog = Watchdog(lines.append, 2.0)
        for _ in range(100):
            await asyncio.sleep(0.001)
        watchdog.close()

    asyncio.run(serve())
    assert lines == []
