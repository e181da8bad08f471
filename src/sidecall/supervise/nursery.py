"""Where keepers are born: a small process beside the server, that forks a keeper when asked.

It is a subreaper too. A keeper that is killed leaves its command's processes to the nursery, which kills them. When the
server ends, however it does, its keepers and the nursery see it, stop what they keep, and end.

The nursery and its keepers are a native program (native/keeper) where there is one that this machine can execute;
elsewhere they are forked off the server, and are Python. Both do the same, and tell the same.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from typing import TYPE_CHECKING

from sidecall.supervise.line import LAYOUT

if TYPE_CHECKING:
    from typing import Self

_NAME = "sidecall-keeper"


class Nursery:
    """The server's handle. Make it with `start`, before the process has threads or an event loop.

    Attributes:
        pid: the nursery's process.
        is_native: whether it is not Python.
        was_killed: whether it has ended before its time, as somebody who reaped it found.
    """

    def __init__(self, pid: int, line: socket.socket, *, is_native: bool) -> None:
        self.pid = pid
        self.is_native = is_native
        self.was_killed = False
        self._line = line

    @classmethod
    def start(cls) -> Self:
        """Start the nursery.

        Raises:
            OSError: there is no room for another process.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            pid = _execute(theirs)
            is_native = pid is not None
            if pid is None:
                pid = _fork(theirs)
        ours.setblocking(False)  # a nursery that is stopped must not stop its server
        return cls(pid, ours, is_native=is_native)

    def keeper(self) -> socket.socket:
        """Return a line to a new keeper.

        Raises:
            OSError: the nursery is gone or busy, or there is no room for another descriptor.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            socket.send_fds(self._line, [b"."], [theirs.fileno()])
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours

    def close(self) -> None:
        """Hang up, and wait until the nursery has ended; close the keepers' lines before."""
        self._line.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _execute(line: socket.socket) -> int | None:
    """Execute the native nursery; return its pid, None if there is none for this machine."""
    line.set_inheritable(True)
    try:
        return os.posix_spawn(_program(), [_NAME, str(line.fileno()), LAYOUT], os.environ)
    except OSError:
        return None


def _program() -> str:
    """Return the path of the native nursery, be it there or not; an empty SIDECALL_KEEPER stands for none."""
    if "_sidecall" in sys.builtin_module_names:  # the standalone executable has it built in
        return "/proc/self/exe"
    return os.environ.get("SIDECALL_KEEPER", os.path.join(os.path.dirname(__file__), _NAME))


def _fork(line: socket.socket) -> int:
    pid = os.fork()
    if not pid:
        from sidecall.supervise.nurse import be_nursery

        be_nursery(line)
    return pid
