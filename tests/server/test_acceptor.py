"""Taking connections: at once, not while paused, and what is pending before it stops."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

from sidecall.server.acceptor import Acceptor

if TYPE_CHECKING:
    from pathlib import Path


class Failing(socket.socket):
    """A listening socket whose first accept finds no descriptor left."""

    failures = 1

    def accept(self) -> tuple[socket.socket, object]:
        """Fail once, then accept."""
        if Failing.failures:
            Failing.failures -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


def listening(path: Path, stack: ExitStack, kind: type[socket.socket] = socket.socket) -> socket.socket:
    """Return a listening socket."""
    sock = stack.enter_context(kind(socket.AF_UNIX))
    sock.bind(str(path))
    sock.listen(10)
    return sock


def connect(path: Path, stack: ExitStack) -> None:
    """Connect to it."""
    stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))


async def until(taken: list[socket.socket], count: int) -> None:
    """Let the loop run until so many connections have been taken."""
    while len(taken) < count:
        await asyncio.sleep(0)


def test_connections_wait_while_it_is_paused(tmp_path: Path) -> None:
    """They are taken when it starts again; `drain` takes what is pending, and nothing later."""

    async def main(stack: ExitStack) -> None:
        taken: list[socket.socket] = []
        sock = listening(tmp_path / "x", stack)
        acceptor = Acceptor(asyncio.get_running_loop(), sock, lambda s: taken.append(stack.enter_context(s)))
        acceptor.start()
        connect(tmp_path / "x", stack)
        await until(taken, 1)
        acceptor.pause()
        connect(tmp_path / "x", stack)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(taken) == 1
        acceptor.start()
        await until(taken, 2)
        connect(tmp_path / "x", stack)
        acceptor.drain()
        assert len(taken) == 3
        connect(tmp_path / "x", stack)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(taken) == 3

    with ExitStack() as stack:
        asyncio.run(main(stack))


def test_a_shortage_of_descriptors_passes(tmp_path: Path) -> None:
    """It tries again by itself."""

    async def main(stack: ExitStack) -> None:
        taken: list[socket.socket] = []
        sock = listening(tmp_path / "x", stack, Failing)
        acceptor = Acceptor(asyncio.get_running_loop(), sock, lambda s: taken.append(stack.enter_context(s)))
        connect(tmp_path / "x", stack)
        acceptor.start()
        await until(taken, 1)
        acceptor.pause()

    with ExitStack() as stack:
        asyncio.run(main(stack))
    assert Failing.failures == 0
