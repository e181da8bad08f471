"""Signals of this process on a loop, and dying of one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from sidecall.client.signals import SignalWatch
from sidecall.transport.loop import Poller


def test_a_signal_is_a_callback_on_the_loop() -> None:
    """Each watched signal calls back once, and does what it did before once the watch is closed."""
    before = signal.getsignal(signal.SIGUSR1)
    got: list[int] = []
    loop = Poller()
    watch = SignalWatch(loop, [signal.SIGUSR1, signal.SIGUSR2], got.append)
    os.kill(os.getpid(), signal.SIGUSR1)
    loop.run_once()
    os.kill(os.getpid(), signal.SIGUSR2)
    loop.run_once()
    watch.close()
    watch.close()
    assert got == [signal.SIGUSR1, signal.SIGUSR2]
    assert signal.getsignal(signal.SIGUSR1) is before


def test_an_ignored_signal_stays_ignored() -> None:
    """nohup(1) means it."""
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    got: list[int] = []
    loop = Poller()
    watch = SignalWatch(loop, [signal.SIGUSR1, signal.SIGUSR2], got.append)
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR2)
        loop.run_once()
    finally:
        watch.close()
        signal.signal(signal.SIGUSR1, before)
    assert got == [signal.SIGUSR2]


@pytest.mark.parametrize("number", [1, 2, 9, 11, 13, 15, 34, 64])
def test_a_process_dies_of_any_signal(number: int) -> None:
    """Also of one that Python cannot handle, and without a core dump."""
    script = f"from sidecall.client.signals import kill_self; kill_self({number})"
    done = subprocess.Popen([sys.executable, "-c", script])
    _, status = os.waitpid(done.pid, 0)
    done.returncode = -number
    assert (os.WTERMSIG(status), os.WCOREDUMP(status)) == (number, False)
