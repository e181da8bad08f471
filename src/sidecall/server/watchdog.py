"""Logs when the event loop has not run for a while, and where it is: nothing in a server may block it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL = 2.0
"""Seconds within which the loop has to run once."""


class Watchdog:
    """Watches the running event loop from a thread, until it is closed.

    Args:
        log: gets a line each time that the loop stands still.
        interval: seconds between two looks.
    """

    def __init__(self, log: Callable[[str], None], interval: float = INTERVAL) -> None:
        self._log = log
        self._interval = interval
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._has_run = threading.Event()
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()
        self._has_run.set()

    def _watch(self) -> None:
        while not self._closed.wait(self._interval):
            self._has_run.clear()
            with contextlib.suppress(RuntimeError):  # it has just been closed
                self._loop.call_soon_threadsafe(self._has_run.set)
            if self._has_run.wait(self._interval) or self._closed.is_set():
                continue
            self._log(f"the event loop stands still in {self._place()}")
            while not self._has_run.wait(self._interval):  # once for each time
                if self._closed.is_set():
                    return

    def _place(self) -> str:
        frame = sys._current_frames().get(self._watched)  # noqa: SLF001 the documented way to another thread's stack
        stack = traceback.extract_stack(frame)[-3:]
        return " < ".join(f"{entry.name} ({entry.filename.rpartition('/')[2]}:{entry.lineno})" for entry in stack[::-1])
