"""Work in a thread, whose result comes back to the loop."""

from __future__ import annotations

import asyncio
import threading
from threading import Event, Thread, current_thread

import pytest

from sidecall.calls.threads import run_in_thread


def test_its_error_is_raised_where_it_is_awaited() -> None:
    """As if it had been done on the spot."""
    with pytest.raises(ZeroDivisionError):
        asyncio.run(run_in_thread(lambda: 1 // 0))


def test_without_room_for_a_thread_it_is_done_on_the_spot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the loop waits, but the work is done."""

    def start(thread: Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Thread, "start", start)
    assert asyncio.run(run_in_thread(current_thread)) is current_thread()


def test_nobody_need_wait_for_it() -> None:
    """Work that is under way when its task is cancelled ends by itself, and complains of nothing."""
    go, ended = Event(), []

    async def main() -> None:
        task = asyncio.create_task(run_in_thread(lambda: ended.append(go.wait())))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    go.set()
    for thread in threading.enumerate():
        if thread.name == "run_in_thread":
            thread.join()
    assert ended == [True]
