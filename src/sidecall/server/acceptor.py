"""Accepts connections of a listening socket, on an event loop."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from sidecall.transport.listener import BACKLOG

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable

_TRANSIENT_ERRORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

_RETRY_AFTER = 0.1
"""Seconds to wait if there is no descriptor left for another connection."""

_AT_ONCE = 64
"""Connections to accept before other work on the loop."""


class Acceptor:
    """Calls back with each connection, unless it is paused.

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

    def start(self) -> None:
        """Accept connections from now on."""
        self._is_open = True
        self._loop.add_reader(self._listening.fileno(), self._take)

    def pause(self) -> None:
        """Accept no more for now; connections wait in the socket's backlog, in order."""
        self._is_open = False
        self._loop.remove_reader(self._listening.fileno())

    def replace(self, listening: socket.socket) -> None:
        """Accept the pending connections of the old socket, and those of another one from now on."""
        was_open = self._is_open
        self.drain()
        listening.setblocking(False)
        self._listening = listening
        if was_open:
            self.start()

    def drain(self) -> None:
        """Accept the pending connections, then stop."""
        for _ in range(BACKLOG // _AT_ONCE):  # what was waiting; more can come than are taken
            if not self._take():
                break
        self.pause()

    def _take(self) -> bool:
        """Accept some of the pending connections; return False if there are no more."""
        for _ in range(_AT_ONCE):
            if not self._is_open:
                return False
            try:
                sock, _address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return False
            except OSError as error:
                if error.errno not in _TRANSIENT_ERRORS:
                    raise
                self.pause()
                self._loop.call_later(_RETRY_AFTER, self._retry)
                return False
            self._on_connection(sock)
        return True

    def _retry(self) -> None:
        if self._listening.fileno() >= 0:
            self.start()
