"""Tasks that start immediately, which asyncio's own can only from Python 3.12 on (`eager_start`)."""

from __future__ import annotations

import types
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine, Generator


def start_eager_task(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
    """Run a coroutine to its first wait; return a task for the rest, None if nothing is left.

    Before its first wait it is not in a task: `asyncio.current_task()` does not work there.
    """
    try:
        waited_for = work.send(None)
    except StopIteration:
        return None
    return loop.create_task(_rest(work, waited_for))


async def _rest(work: Coroutine[Any, Any, None], waited_for: object) -> None:
    await _go_on(work, waited_for)


@types.coroutine
def _go_on(work: Coroutine[Any, Any, None], waited_for: object) -> Generator[object, Any, None]:
    """Hand to and fro what the task and the work have for each other."""
    while True:
        try:
            value = yield waited_for
        except BaseException as error:  # to be cancelled, say
            step = partial(work.throw, error)
        else:
            step = partial(work.send, value)
        try:
            waited_for = step()
        except StopIteration:
            return
