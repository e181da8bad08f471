"""The terminal of this process while a command uses it: raw, and afterwards as it was. Imported for `exec -t` alone.

The command has a terminal of its own, on the server. So the one here passes every key on as it is typed, and shows what
comes without changing it. native/client/terminal.c does the same.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import termios
import tty
from contextlib import suppress
from typing import Any

from sidecall.protocol.options import TerminalRequest
from sidecall.transport.terminal import get_size

RESET = b"\x1b7\x1b[?1049l\x1b[?1;1000;1002;1003;1004;1006;2004l\x1b[?7;25h\x1b>\x1b[0m"
"""Save the cursor, leave the alternate screen; reset cursor keys, mouse, focus and paste modes; wrap lines, show the
cursor; reset the keypad and colours. Where the alternate screen is not used, leaving it restores the saved cursor.
Source: XTerm Control Sequences."""


class Terminal:
    """A terminal that a command can use.

    Args:
        fd: a descriptor of it, which stays open here.

    Attributes:
        is_raw: whether it is raw at present.

    Raises:
        OSError: this process can have no more descriptors.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
        self._term = os.environb.get(b"TERM", b"")
        self._before: list[Any] = []
        self._was_raw = False
        self.is_raw = False

    @property
    def request(self) -> TerminalRequest:
        """The size that it has now, and its type."""
        return TerminalRequest(*get_size(self._fd), self._term)

    def make_raw(self) -> None:
        """Pass every key on, change no output. In the background this process is stopped by that: SIGTTOU."""
        with suppress(termios.error):
            if not self.is_raw:
                self._before = termios.tcgetattr(self._fd)
            self._was_raw = self.is_raw = True
            tty.setraw(self._fd, termios.TCSANOW)

    def restore(self) -> None:
        """Set it as it was, unless this process is in the background: then the shell has done that."""
        if not self.is_raw:
            return
        self.is_raw = False
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
        with suppress(termios.error):
            if not self._is_of_another_job():
                termios.tcsetattr(self._fd, termios.TCSANOW, self._before)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def reset(self) -> None:
        """Undo what a command might have set that did not exit by itself. Nothing is written if that would block."""
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        if self._was_raw and self._term not in {b"", b"dumb"} and not self._is_of_another_job() and poll.poll(0):
            with suppress(OSError):
                os.write(self._fd, RESET)

    def _is_of_another_job(self) -> bool:
        try:
            return os.tcgetpgrp(self._fd) != os.getpgrp()
        except OSError:
            return False  # it is not the controlling terminal, so it has no jobs of ours
