"""Where supervisors are born: a small process beside the server, that forks a supervisor when asked.

It is a subreaper too. A supervisor that is killed leaves its command's processes to the forkserver, which kills them. When the
server ends, however it does, its supervisors and the forkserver see it, stop what they keep, and end.

The forkserver and its supervisors are a native program (native/supervisor) where there is one that this machine can execute;
elsewhere they are forked off the server, and are Python. Both do the same, and tell the same.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from typing import TYPE_CHECKING

from sidecall.supervise.control import VERSION_OF_CONTROL

if TYPE_CHECKING:
    from typing import Self

_NAME = "sidecall-keeper"


class ForkServer:
    """The server's handle. Make it with `start`, before the process has threads or an event loop.

    Attributes:
        pid: the forkserver's process.
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
        """Start the forkserver.

        Raises:
            OSError: there is no room for another process.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            pid = _execute(theirs)
            is_native = pid is not None
            if pid is None:
                pid = _fork(theirs)
        ours.setblocking(False)  # a forkserver that is stopped must not stop its server
        return cls(pid, ours, is_native=is_native)

    def supervisor(self) -> socket.socket:
        """Return a line to a new supervisor.

        Raises:
            OSError: the forkserver is gone or busy, or there is no room for another descriptor.
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
        """Hang up, and wait until the forkserver has ended; close the supervisors' lines before."""
        self._line.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _execute(line: socket.socket) -> int | None:
    """Execute the native forkserver; return its pid, None if there is none for this machine."""
    line.set_inheritable(True)
    try:
        return os.posix_spawn(_program(), [_NAME, str(line.fileno()), VERSION_OF_CONTROL], os.environ)
    except OSError:
        return None


def _program() -> str:
    """Return the path of the native forkserver, be it there or not; an empty SIDECALL_SUPERVISOR stands for none."""
    if "_sidecall" in sys.builtin_module_names:  # the standalone executable has it built in
        return "/proc/self/exe"
    return os.environ.get("SIDECALL_SUPERVISOR", os.path.join(os.path.dirname(__file__), _NAME))


def _fork(line: socket.socket) -> int:
    pid = os.fork()
    if not pid:
        from sidecall.supervise.nurse import run_forkserver

        run_forkserver(line)
    return pid
