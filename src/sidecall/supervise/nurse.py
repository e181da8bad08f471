"""The forkserver's own side, in Python: for where there is no native one, which does the same (native/supervisor)."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import traceback
from errno import EAGAIN
from typing import TYPE_CHECKING

from sidecall.supervise import descendants
from sidecall.supervise.supervisor import Supervisor
from sidecall.supervise.kernel import become_subreaper, set_name
from sidecall.supervise.control import FAILED, Event, receive, send_reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

_STRIKE_AGAIN_MS = 20


def run_forkserver(line: socket.socket) -> NoReturn:
    """Be the forkserver whose server is at the other end of a line, in a process that was forked for it."""
    _as_process("sidecall-nurse", line, lambda woken: _Nurse(line, woken).run())


class _Nurse:
    """The forkserver's own side."""

    def __init__(self, line: socket.socket, woken: int) -> None:
        self._line = line
        self._woken = woken
        self._keepers: set[int] = set()
        self._poll = select.poll()
        self._poll.register(line, select.POLLIN)
        self._poll.register(woken, select.POLLIN)
        self._strays = False
        self._hung_up = False

    def run(self) -> None:
        """Make supervisors until the server hangs up, and see all of them out."""
        become_subreaper()
        os.setsid()  # a Ctrl-C at the server's terminal is the server's
        while not self._hung_up or self._keepers or self._strays:
            ready = dict(self._poll.poll(_STRIKE_AGAIN_MS if self._strays else None))
            if self._woken in ready:
                os.read(self._woken, 4096)
            self._reap()
            if self._strays:
                descent.signal_children(signal.SIGKILL, spare=frozenset(self._keepers))
            if self._line.fileno() in ready:
                self._answer()

    def _reap(self) -> None:
        """Reap what has ended. After a supervisor that did not end by itself, children that are no supervisors are strays."""
        try:
            for pid, status, _ in descent.reap():
                if pid in self._keepers:
                    self._keepers.discard(pid)
                    self._strays |= status != 0
        except ChildProcessError:
            self._strays = False
        else:
            self._strays &= bool(set(descent.children()) - self._keepers)

    def _answer(self) -> None:
        data, lines = receive(self._line, 1)
        if not data:
            self._hung_up = True
            self._poll.unregister(self._line)
            return
        with socket.socket(fileno=lines[0]) as line:
            try:
                pid = os.fork()
            except OSError as error:  # no room for another process, for now
                _decline(line, error)
                return
            if not pid:
                _as_process("sidecall-keeper", line, lambda woken: _keep(line, woken))
            self._keepers.add(pid)


def _decline(line: socket.socket, error: OSError) -> None:
    """Say on a supervisor's line that there is none. Its first job comes at once, and has to be read: see `receive`."""
    _, descriptors = receive(line, 4)
    for descriptor in descriptors:
        os.close(descriptor)
    line.shutdown(socket.SHUT_RD)
    send_reply(line, Event(FAILED, error.errno or EAGAIN))


def _keep(line: socket.socket, woken: int) -> None:
    become_subreaper()
    Supervisor(line, woken).run()


def _as_process(name: str, line: socket.socket, main: Callable[[int], None]) -> NoReturn:
    """Be a process of this module until `main` returns; it gets a descriptor that is readable after a SIGCHLD.

    Of what the parent had open it keeps the line and stdin, stdout and stderr.
    """
    code = 70
    try:
        _close_all_but(line.fileno())
        set_name(name)
        readable, writable = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _ignore)  # not ignored: that would be inherited by commands
        signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
        main(readable)
        code = 0
    except BaseException:  # whatever it is, this fork must not return into the server's code
        traceback.print_exc()
    finally:
        os._exit(code)


def _close_all_but(kept: int) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != kept:
            with contextlib.suppress(OSError):
                os.close(int(name))


def _ignore(_number: int, _frame: object) -> None:
    """Interrupt system calls; the wakeup descriptor tells the rest."""
