"""The processes that descend from this one, a subreaper. For the case that the fork server was killed.

`native/supervisor/descendants.c` does the same for each command, and explains it: processes are frozen before they are
killed, or a chain of forks would outrun the killing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_KILL_INTERVAL = 0.02
_FREEZE_ROUNDS = 100


class _Process(NamedTuple):
    pid: int
    parent: int
    state: bytes


def kill_descendants(patience: float) -> int:
    """Kill and reap every descendant, for up to `patience` seconds; return how many are left."""
    deadline = time.monotonic() + patience
    while _reap() and time.monotonic() < deadline:
        for _ in range(_FREEZE_ROUNDS):
            if not _signal_all(signal.SIGSTOP):
                break
            _reap()
        _signal_all(signal.SIGKILL)
        _wait_for_child(_KILL_INTERVAL)
    return sum(1 for _ in _descendants())


def _reap() -> bool:
    """Reap what has exited; return whether there is a child left, and so a descendant."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _wait_for_child(seconds: float) -> None:
    """Wait until a child exits, up to some seconds. It stays to be reaped. Without a child this returns at once."""
    was_blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    try:
        if not os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            signal.sigtimedwait([signal.SIGCHLD], seconds)
    except ChildProcessError:
        pass
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, was_blocked)


def _signal_all(number: int) -> bool:
    """Signal every descendant that is not stopped, or, with SIGKILL, every one; return whether one could be."""
    found = False
    for process in _descendants():
        if number == signal.SIGKILL or process.state not in b"Tt":
            with contextlib.suppress(OSError):
                os.kill(process.pid, number)
                found = True
    return found


def _descendants() -> Iterator[_Process]:
    """Yield every descendant that has not exited, each before its children are looked for."""
    pending = [(pid, os.getpid()) for pid in _children(os.getpid())]
    while pending:
        pid, parent = pending.pop()
        process = _look_up(pid)
        if process is not None and process.parent in {parent, os.getpid()}:
            yield process
            pending += [(child, pid) for child in _children(pid)]


def _children(parent: int) -> list[int]:
    """Return the children of a process, of all its threads."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{parent}/task"):
            with open(f"/proc/{parent}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
        return found
    seen = (_look_up(int(name)) for name in os.listdir("/proc") if name.isdecimal())
    return [process.pid for process in seen if process is not None and process.parent == parent]


def _look_up(pid: int) -> _Process | None:
    """Return what is known of a process; None if it has exited."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            after_name = file.read().rpartition(b")")[2]  # the name can have any byte: proc_pid_stat(5)
    except OSError:
        return None
    state, parent, *rest = after_name.split()
    is_zombie = state == b"X" or (state == b"Z" and int(rest[15]) <= 1)  # a leader can exit before its threads
    return None if is_zombie else _Process(pid, int(parent), state)
