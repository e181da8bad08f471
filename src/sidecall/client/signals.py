"""Signals of this process as events on a loop, and dying of one."""

from __future__ import annotations

import os
import resource
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from sidecall.supervise.kernel import disable_core_dumps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sidecall.transport.loop import Loop


class SignalWatch:
    """Calls back on a loop, outside of any other code, for each signal that this process gets.

    A signal that is ignored stays ignored: nohup(1), and a shell's `&`, mean it.

    Args:
        loop: where to call back.
        numbers: which signals.
        callback: gets the signal's number.
    """

    def __init__(self, loop: Loop, numbers: Iterable[int], callback: Callable[[int], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._readable, self._writable = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._previous_wakeup = signal.set_wakeup_fd(self._writable, warn_on_full_buffer=False)
        self._previous = {
            number: signal.signal(number, _ignore)
            for number in numbers
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        loop.add_reader(self._readable, self._on_readable)

    def close(self) -> None:
        """Let signals do again what they did before."""
        if self._readable < 0:
            return
        self._loop.remove_reader(self._readable)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_wakeup)
        os.close(self._readable)
        os.close(self._writable)
        self._readable = -1

    def _on_readable(self) -> None:
        for number in os.read(self._readable, 512):
            if number in self._previous:
                self._callback(number)


def _ignore(_number: int, _frame: object) -> None:
    """Interrupt system calls; the wakeup descriptor does the rest."""


def kill_self(number: int) -> int:
    """End this process by a signal, as the command was ended, without a second core dump.

    Returns:
        The code to exit with, as shells report the signal, if this process survives: pid 1 of a container does.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    disable_core_dumps()
    with suppress(OSError, ValueError):  # KILL and STOP have no other action; 32 and 33 belong to libc
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    return 128 + number
