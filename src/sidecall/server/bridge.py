"""The bridge: the connected socket itself becomes an app's stdin and stdout. Nothing relays, nothing is lost."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import TYPE_CHECKING, cast

from sidecall.calls.log import log, log_bug
from sidecall.errors import SidecallError
from sidecall.supervise.control import Job
from sidecall.supervise.process import SupervisorDied
from sidecall.transport.credentials import peer_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from sidecall.server.acceptor import Acceptor
    from sidecall.supervise.process import Process, SupervisorPool

_GRACE = 10.0
"""Seconds that an app has between TERM and KILL when the server ends."""


class Bridge:
    """Starts an app for each connection.

    Args:
        argv: the app and its arguments.
        max_children: how many run at once; further callers wait in the socket's backlog, in order.
        path: the service's socket.
        is_verbose: whether the log gets a line for the start and the end of each program.
    """

    drain = 5.0
    _acceptor: Acceptor
    _supervisors: SupervisorPool

    def __init__(self, argv: Sequence[str], max_children: int, path: str, *, is_verbose: bool) -> None:
        self._argv = [os.fsencode(word) for word in argv]
        self._max_children = max_children
        self._path = path
        self._log: Callable[[str], None] = log if is_verbose else lambda _: None
        self._ending = False
        self._apps: dict[asyncio.Task[None], Process | None] = {}

    def open(self, acceptors: Sequence[Acceptor], supervisors: SupervisorPool) -> None:
        """Begin to serve."""
        (self._acceptor,) = acceptors
        self._supervisors = supervisors

    def receive(self, _listener: str, sock: socket.socket) -> None:
        """Start an app for a connection; while as many as allowed run, the others wait at the acceptor."""
        if self._ending:
            self._supervisors.discard(sock)
            return
        task = asyncio.get_running_loop().create_task(self._serve(sock))
        self._apps[task] = None
        task.add_done_callback(self._on_done)
        if len(self._apps) >= self._max_children:
            self._acceptor.pause()

    async def reload(self) -> None:
        """Say that there is nothing to reload."""
        log("a bridge has no configuration to read again")

    def reject_queued(self) -> None:
        """Start nothing more."""
        self._ending = True

    def cancel(self, grace: float | None) -> None:
        """Stop every app."""
        for app in self._apps.values():
            if app is not None:
                app.stop(_GRACE if grace is None else grace)

    async def idle(self) -> None:
        """Wait until no app is left."""
        while self._apps:
            await asyncio.wait(self._apps)

    async def _serve(self, sock: socket.socket) -> None:
        try:
            app = self._start(sock)
            self._apps[cast("asyncio.Task[None]", asyncio.current_task())] = app
            ended = await app.ended()
        except SidecallError as error:
            log(error.reason)
            return
        self._log(f"an app ended with wait status {ended.status}")

    def _start(self, sock: socket.socket) -> Process:
        """Start an app on a connection. It has the last reference: to close that can block on what a client sent."""
        try:
            sock.setblocking(True)  # an app expects to wait in read(2)
            environ = dict(os.environb) | ucspi_environment(sock, self._path)
            streams = sock.fileno(), sock.fileno(), 2
            job = Job(self._argv, environ, None, _GRACE, keep_background=False)
            app = self._supervisors.spawn(job, streams, on_started=partial(self._log, "an app starts"))
        except BaseException:
            self._supervisors.discard(sock)
            raise
        sock.close()
        return app

    def _on_done(self, task: asyncio.Task[None]) -> None:
        del self._apps[task]
        if (error := task.exception()) is not None and not isinstance(error, SupervisorDied):
            log_bug(error)
        if not self._ending:
            self._acceptor.start()


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
