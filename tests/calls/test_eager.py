"""Work begins at once, and becomes a task only where it has to wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sidecall.calls.eager import start_eager_task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def body() -> None:
        await main()

    asyncio.run(body())


def test_what_never_waits_is_done_at_once() -> None:
    done = []

    async def work() -> None:
        done.append("work")

    async def main() -> None:
        assert start_eager_task(asyncio.get_running_loop(), work()) is None
        assert done == ["work"]

    run(main)


def test_the_rest_goes_on_as_a_task() -> None:
    """It waits for several things, times out, and knows which task it is in once it has waited."""
    said: list[object] = []

    async def work(turn: asyncio.Future[str]) -> None:
        said.append("begun")
        said.append(await turn)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        said.append(asyncio.current_task())

    async def main() -> None:
        turn: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = start_eager_task(asyncio.get_running_loop(), work(turn))
        assert said == ["begun"]
        turn.set_result("turn")
        assert task is not None
        await task
        assert said == ["begun", "turn", task]

    run(main)


def test_an_error_is_raised_where_it_comes_up() -> None:
    """At once from the beginning, by the task from the rest."""

    async def work(wait: bool) -> None:
        if wait:
            await asyncio.sleep(0)
        raise ValueError("x")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(ValueError, match="x"):
            start_eager_task(loop, work(wait=False))
        task = start_eager_task(loop, work(wait=True))
        assert task is not None
        with pytest.raises(ValueError, match="x"):
            await task

    run(main)


def test_a_task_is_cancelled_where_it_waits() -> None:
    """The work may clean up, waiting once more, before it ends."""
    said = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            said.append("cleaned up")

    async def main() -> None:
        task = start_eager_task(asyncio.get_running_loop(), work())
        assert task is not None
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert said == ["cleaned up"]

    run(main)
