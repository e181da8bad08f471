"""Work on files that may take long, in a thread: the loop, and with it every other call, goes on meanwhile."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


async def run_in_thread(work: Callable[[], Result]) -> Result:
    """Return what `work` returns, or raise what it raises. Where there is no room for a thread the loop waits for it.

    A thread for each piece: what takes long holds up no other piece, as it would in `asyncio.to_thread`'s few threads.
    """
    outcome: Future[Result] = Future()
    outcome.set_running_or_notify_cancel()  # so that it is set even if nobody waits any more

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # it is raised again where it is awaited
            outcome.set_exception(error)

    try:
        Thread(target=run, name="run_in_thread").start()
    except RuntimeError:
        run()
    return await asyncio.wrap_future(outcome)
