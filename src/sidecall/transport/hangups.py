"""Reports that peers hang up on sockets from which nothing is read, or on what nothing is written to at present.

Source: epoll_ctl(2), EPOLLRDHUP.
"""

from __future__ import annotations

import select
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecall.transport.channel import ServerChannel
    from sidecall.transport.loop import Loop


class HangUps:
    """Calls back once when a peer has closed its connection, or its sending side.

    An epoll of its own, itself watched on the loop: a loop can wait for data, but not for a hang-up behind unread data.

    Args:
        loop: where to wait.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._watched: dict[int, Callable[[], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._on_readable)

    def add(self, channel: ServerChannel, callback: Callable[[], None]) -> None:
        """Watch a connection, if it is not watched yet."""
        fd = channel.socket.fileno()
        if fd in self._watched:
            return
        self._watched[fd] = callback
        self._epoll.register(fd, select.EPOLLRDHUP | select.EPOLLONESHOT)

    def add_writer(self, fd: int, callback: Callable[[], None]) -> None:
        """Watch what is written to: its callback comes when it has no reader any more. A file has no such end."""
        with suppress(PermissionError):  # EPERM: epoll takes neither regular files nor some devices
            self._epoll.register(fd, select.EPOLLONESHOT)
            self._watched[fd] = callback

    def remove(self, channel: ServerChannel) -> None:
        """Watch a connection no longer, if it was; call it before the connection is closed."""
        fd = channel.socket.fileno()
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def close(self) -> None:
        """Watch nothing any more."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _on_readable(self) -> None:
        for fd, _ in self._epoll.poll(0):
            if (callback := self._watched.get(fd)) is not None:
                callback()
