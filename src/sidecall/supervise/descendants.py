"""The processes that descend from this one: reaping and signalling them. For a subreaper without other children.

Two facts make this exact. A descendant whose parent ends becomes a child of its subreaper, at once; so as long as any
descendant lives this process has a child, and wait(2) knows. And a child's pid and process group are its own until this
process has reaped it; so both can be signalled without hitting somebody else. Source: wait(2), credentials(7).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import resource
    from collections.abc import Iterator


_AGAIN = 0.005
"""Seconds between two rounds of KILL."""


def reap() -> Iterator[tuple[int, int, resource.struct_rusage]]:
    """Reap every child that has ended; yield its pid, its wait status (wait(2)) and what it used.

    Raises:
        ChildProcessError: there is no child left, and so no descendant either.
    """
    while True:
        pid, status, usage = os.wait4(-1, os.WNOHANG)
        if not pid:
            return
        yield pid, status, usage


def signal_children(number: int, spare: frozenset[int] = frozenset()) -> None:
    """Signal every child, and the process group that it is in, except those spared.

    A group is hit as a whole, so a member that forks meanwhile does not get away. Deeper descendants become children
    when their parents end: repeat this with KILL until `reap` finds none.
    """
    for pid in children():
        if pid in spare:
            continue
        with contextlib.suppress(ProcessLookupError, PermissionError):
            group = os.getpgid(pid)
            if group != os.getpgrp():
                os.killpg(group, number)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def end_children() -> None:
    """Kill every child, and whatever becomes one because of that, until there is none."""
    with contextlib.suppress(ChildProcessError):
        while True:
            signal_children(signal.SIGKILL)
            time.sleep(_AGAIN)
            for _ in reap():
                pass


def signal_descendants(*numbers: int, but_group: int) -> None:
    """Send signals to every descendant that is not in process group `but_group`, once each."""
    seen = _processes()
    family = {os.getpid()}
    while more := {pid for pid, (parent, _) in seen.items() if parent in family} - family:
        family |= more
    for pid in family - {os.getpid()}:
        if seen[pid][1] != but_group:
            with contextlib.suppress(OSError):
                _signal_member(pid, family, numbers)


def _signal_member(pid: int, family: set[int], numbers: tuple[int, ...]) -> None:
    """Signal a process if it still is of the family: its pid may be somebody else's by now."""
    pidfd = os.pidfd_open(pid)
    try:
        if _parent_and_group(str(pid))[0] in family:
            for number in numbers:
                signal.pidfd_send_signal(pidfd, number)
    finally:
        os.close(pidfd)


def children() -> list[int]:
    """Return this process' children; one that ends meanwhile may hide another, see proc_pid_task(5)."""
    me = os.getpid()
    try:
        with open(f"/proc/self/task/{me}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [pid for pid, (parent, _) in _processes().items() if parent == me]


def _processes() -> dict[int, tuple[int, int]]:
    """Return the parent and the process group of every process that can be seen."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError):
                found[int(name)] = _parent_and_group(name)
    return found


def _parent_and_group(pid: str) -> tuple[int, int]:
    with open(f"/proc/{pid}/stat", "rb") as file:
        after_name = file.read().rpartition(b")")[2]  # the name itself may have any byte: proc_pid_stat(5)
    _state, parent, group = after_name.split()[:3]
    return int(parent), int(group)
