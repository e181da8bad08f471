"""Attributes of processes that the standard library does not set."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from sidecall.supervise.kernel import become_subreaper, die_with_parent, set_name

if TYPE_CHECKING:
    from collections.abc import Callable


def in_a_child(body: Callable[[], bool]) -> int:
    """Return the wait status of a child that exits with 0 if its body returns true."""
    pid = os.fork()
    if not pid:
        os._exit(0 if body() else 1)
    return os.waitpid(pid, 0)[1]


def test_a_subreaper_is_the_parent_of_orphans() -> None:
    def body() -> bool:
        become_subreaper()
        readable, writable = os.pipe()
        if not os.fork():
            if not os.fork():
                os.read(readable, 1)
                os._exit(7)
            os._exit(3)
        assert os.waitpid(-1, 0)[1] == 3 << 8
        os.write(writable, b"x")
        return os.waitpid(-1, 0)[1] == 7 << 8

    assert in_a_child(body) == 0


def test_a_process_dies_with_its_parent() -> None:
    readable, writable = os.pipe()

    def body() -> bool:
        if not os.fork():
            die_with_parent(signal.SIGKILL)
            os.write(writable, b"x")
            signal.pause()
        os.close(writable)
        return os.read(readable, 1) == b"x"

    assert in_a_child(body) == 0
    os.close(writable)
    assert os.read(readable, 1) == b""
    os.close(readable)


def test_a_process_has_a_name() -> None:
    def body() -> bool:
        set_name("fifteen-letters")
        return Path("/proc/self/comm").read_text() == "fifteen-letters\n"

    assert in_a_child(body) == 0
