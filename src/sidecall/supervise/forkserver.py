"""The fork server: a small process that starts supervisors. This is the server's handle of it.

It is the native program `sidecall-supervisor` (native/supervisor), which explains how the processes work together.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

from sidecall.errors import ConfigError
from sidecall.supervise.control import KILL, NEW, VERSION, receive_event, send_request
from sidecall.supervise.descendants import kill_descendants

if TYPE_CHECKING:
    from typing import Self

    from sidecall.supervise.control import Event

_NAME = "sidecall-supervisor"
_START_WITHIN = 10.0
_EXIT_WITHIN = 10.0
_KILL_WITHIN = 5.0


class ForkServer:
    """The server's handle. Make it with `start`.

    Attributes:
        pid: its process.
        sock: its control socket, not blocking: a stopped fork server does not stop the server.
        was_killed: whether it has exited too early, and was reaped.
        is_closed: whether it has been found out that its end of the socket is closed.
    """

    def __init__(self, pid: int, sock: socket.socket) -> None:
        self.pid = pid
        self.sock = sock
        self.was_killed = False
        self.is_closed = False

    @classmethod
    def start(cls) -> Self:
        """Start the fork server.

        Raises:
            ConfigError: there is no native supervisor for this machine, or it is one of another release.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            theirs.set_inheritable(True)
            program = supervisor_program()
            try:
                pid = os.posix_spawn(program, [_NAME, str(theirs.fileno()), VERSION], os.environ)
            except OSError as error:
                ours.close()
                raise _no_supervisor(f"cannot execute {program!r}: {error.strerror}") from error
        ours.settimeout(_START_WITHIN)
        try:
            is_ready = receive_event(ours) is not None
        except TimeoutError:
            is_ready = False
        ours.setblocking(False)
        started = cls(pid, ours)
        if not is_ready:
            started.kill()
            started.close()
            raise _no_supervisor(f"{program!r} is not the supervisor of this release")
        return started

    def new_supervisor(self, serial: int) -> socket.socket:
        """Request a supervisor; return its control socket. FORKED or NOT_FORKED follows.

        Raises:
            OSError: the fork server is gone or does not read, or there is no room for another descriptor.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            send_request(self.sock, NEW, serial, [theirs.fileno()])
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours

    def kill_supervisor(self, serial: int) -> None:
        """Have a supervisor killed, with all that it started. KILLED follows.

        Raises:
            OSError: the fork server is gone or does not read.
        """
        send_request(self.sock, KILL, serial)

    def read_events(self) -> list[Event]:
        """Return the events that are there."""
        events = []
        with contextlib.suppress(BlockingIOError):
            while (event := receive_event(self.sock)) is not None:
                events.append(event)
            self.is_closed = True
        return events

    def kill(self) -> None:
        """Kill the fork server. Supervisors then belong to this process, and stop when their control sockets close."""
        if not self.was_killed:
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Close the control socket, and wait until the fork server has exited; close those of supervisors before.

        One that takes longer than it has reason to is killed, and what it leaves as well. This ends within 15 seconds.
        """
        if not self.was_killed:
            if not self._exits_in_time():
                self.kill()
                self.was_killed = True
            with contextlib.suppress(ChildProcessError):
                self.was_killed |= os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]) < 0
        self.sock.close()
        if self.was_killed:
            kill_descendants(_KILL_WITHIN)

    def _exits_in_time(self) -> bool:
        """Ask the fork server to exit, also if it is stopped; return whether it has closed its control socket."""
        os.kill(self.pid, signal.SIGCONT)
        self.sock.settimeout(_EXIT_WITHIN)
        try:
            self.sock.shutdown(socket.SHUT_WR)
            while receive_event(self.sock) is not None:
                pass
        except TimeoutError:
            return False
        except OSError:  # not connected any more
            pass
        return True


def supervisor_program() -> str:
    """Return the path of the native supervisor, whether it exists or not; SIDECALL_SUPERVISOR names another one."""
    if "_sidecall" in sys.builtin_module_names:  # the standalone executable has it built in
        return "/proc/self/exe"
    return os.environ.get("SIDECALL_SUPERVISOR") or os.path.join(os.path.dirname(__file__), _NAME)


def _no_supervisor(reason: str) -> ConfigError:
    return ConfigError(
        f"serving needs the native supervisor: {reason}",
        "install the wheel for this machine, or build it with `pip install .`",
    )
