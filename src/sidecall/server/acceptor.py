"""Takes connections off a listening socket, on an event loop."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable

_PASSING_ERRORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

_RETRY_AFTER = 0.1
"""Seconds to wait when there are no descriptors left for another caller."""

_BACKLOG = 4096
"""Connections that can wait: see `transport.listener`."""

_AT_ONCE = 64
"""Connections to take before others have their turn on the loop."""


class Acceptor:
    """Calls back with each connection while it is open.

    Args:
        loop: where to wait.
        listening: a non-blocking socket that listens.
        on_connection: gets each connected socket, and owns it.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, listening: socket.socket, on_connection: Callable[[socket.socket], None]
    ) -> None:
        listening.setblocking(False)
        self._loop = loop
        self._listening = listening
        self._on_connection = on_connection
        self._is_open = False

    def open(self) -> None:
        """Let connections in."""
        self._is_open = True
        self._loop.add_reader(self._listening.fileno(), self._take)

    def shut(self) -> None:
        """Let no more in for now; they wait in the socket's backlog, in order."""
        self._is_open = False
        self._loop.remove_reader(self._listening.fileno())

    def replace(self, listening: socket.socket) -> None:
        """Accept from another socket from now on; the old one can be closed already."""
        listening.setblocking(False)
        self._listening = listening
        if self._is_open:
            self.open()

    def close(self) -> None:
        """Let those in that are at the acceptor already, and no more."""
        for _ in range(_BACKLOG // _AT_ONCE):  # what was waiting; more can come than are taken
            if not self._take():
                break
        self.shut()

    def _take(self) -> bool:
        """Take some of those that wait; return False if nobody does."""
        for _ in range(_AT_ONCE):
            if not self._is_open:
                return False
            try:
                sock, _address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return False
            except OSError as error:
                if error.errno not in _PASSING_ERRORS:
                    raise
                self.shut()
                self._loop.call_later(_RETRY_AFTER, self._retry)
                return False
            self._on_connection(sock)
        return True

    def _retry(self) -> None:
        if self._listening.fileno() >= 0:
            self.open()
