"""The bridge: the connected socket itself becomes an app's stdin and stdout. Nothing relays, nothing is lost."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

from sidecall.errors import SidecallError
from sidecall.server.service import accept
from sidecall.supervise.process import spawn
from sidecall.transport.credentials import peer_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from sidecall.supervise.process import Process
    from sidecall.transport.listener import Listener

_GRACE = 10.0
"""Seconds that an app has between TERM and KILL when the server ends."""


class Bridge:
    """Starts an app for each connection.

    Args:
        argv: the app and its arguments.
        max_children: how many run at once; further callers wait in the socket's backlog, in order.
        log: gets a line for the start and the end of each app.
    """

    def __init__(self, argv: Sequence[str], max_children: int, log: Callable[[str], None]) -> None:
        self._argv = [os.fsencode(word) for word in argv]
        self._free = asyncio.Semaphore(max_children)
        self._log = log
        self._apps: set[Process] = set()

    def end(self, tasks: asyncio.TaskGroup) -> None:
        """Stop every app."""
        for app in self._apps:
            tasks.create_task(app.stop(_GRACE))

    async def accept(self, listener: Listener, tasks: asyncio.TaskGroup) -> None:
        """Start an app for each connection, as many at once as allowed, until cancelled."""
        while True:
            await self._free.acquire()
            try:
                with await accept(listener) as sock:
                    app = self._start(sock, listener.path)
            except SidecallError as error:
                self._free.release()
                print(f"sidecall: {error.reason}", file=sys.stderr, flush=True)
                continue
            self._apps.add(app)
            tasks.create_task(self._see_out(app))

    def _start(self, sock: socket.socket, path: str) -> Process:
        sock.setblocking(True)  # an app expects to wait in read(2)
        environ = dict(os.environb) | ucspi_environment(sock, path)
        fd = sock.fileno()
        app = spawn(self._argv, environ, None, (fd, fd, sys.stderr.fileno()))
        self._log(f"app {app.pid} starts")
        return app

    async def _see_out(self, app: Process) -> None:
        try:
            ended = await app.finish(_GRACE)
            self._log(f"app {app.pid} ended with wait status {ended.status}")
        finally:
            self._apps.discard(app)
            self._free.release()


def ucspi_environment(sock: socket.socket, path: str) -> dict[bytes, bytes]:
    """Return the variables by which an app knows its peer, in the manner of UCSPI and s6-ipcserver."""
    peer = peer_of(sock)
    remote = sock.getpeername()
    return {
        b"PROTO": b"IPC",
        b"IPCLOCALPATH": os.fsencode(path),
        b"IPCREMOTEPATH": os.fsencode(remote) if isinstance(remote, str) else remote,
        b"IPCREMOTEEUID": str(peer.uid).encode(),
        b"IPCREMOTEEGID": str(peer.gid).encode(),
    }
