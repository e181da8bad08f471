"""Bridge mode: the connected socket becomes a program's stdin and stdout, so nothing is relayed.

A client that speaks the protocol (`ping`, `doctor`, `status`, `exec`) introduces itself by its socket's address, and no
program is started for it. Connections are accepted while programs run, so that a busy bridge answers a health check.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, cast

import sidecall
from sidecall import texts
from sidecall.calls.log import log, log_bug
from sidecall.errors import EXIT_UNAVAILABLE, SidecallError
from sidecall.protocol import messages as m
from sidecall.protocol.connection import Connection
from sidecall.protocol.options import details
from sidecall.protocol.states import DONE, SERVER
from sidecall.supervise.control import Job
from sidecall.supervise.process import SupervisorDied
from sidecall.transport.address import is_introduced
from sidecall.transport.channel import ServerChannel
from sidecall.transport.credentials import peer_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from sidecall.server.acceptor import Acceptor
    from sidecall.supervise.process import Process, SupervisorPool

_GRACE = 10.0
"""Seconds that a program has between SIGTERM and SIGKILL when the server ends."""

_MAX_WAITING = 1000
"""Connections that wait here; further ones wait in the socket's backlog."""

_MAX_INQUIRIES = 64
_INQUIRY_TIMEOUT = 10.0
"""Seconds for an inquiry."""

_GREETING = m.hello(f"sidecall {sidecall.__version__} bridge")


class Bridge:
    """Starts a program for each connection, unless its client speaks the protocol: that one only asks.

    Args:
        argv: the program and its arguments.
        max_children: how many programs run concurrently; further connections wait, in order.
        path: the service's socket.
        is_verbose: whether the log gets a line for the start and the end of each program.
    """

    drain = 5.0
    _acceptor: Acceptor
    _supervisors: SupervisorPool

    def __init__(self, argv: Sequence[str], max_children: int, path: str, *, is_verbose: bool) -> None:
        self._argv = [os.fsencode(argument) for argument in argv]
        self._max_children = max_children
        self._path = path
        self._log: Callable[[str], None] = log if is_verbose else lambda _: None
        self._ending = False
        self._programs: dict[asyncio.Task[None], Process | None] = {}
        self._waiting: deque[socket.socket] = deque()
        self._inquiries: set[Inquiry] = set()
        self._began = time.monotonic()
        self._ended = 0

    def open(self, acceptors: Sequence[Acceptor], supervisors: SupervisorPool) -> None:
        """Begin to serve."""
        (self._acceptor,) = acceptors
        self._supervisors = supervisors

    def receive(self, _listener: str, sock: socket.socket) -> None:
        """Start a program for a connection, or let it wait; answer a client that only asks."""
        if is_introduced(sock) and len(self._inquiries) < _MAX_INQUIRIES:
            self._inquiries.add(Inquiry(sock, self.load, self._supervisors.discard, self._inquiries.discard))
            return
        if self._ending or is_introduced(sock):
            self._supervisors.discard(sock)
            return
        self._waiting.append(sock)
        self._start_waiting()
        if len(self._waiting) >= _MAX_WAITING:
            self._acceptor.pause()

    def load(self) -> m.Pong:
        """Return how busy the bridge is."""
        return m.Pong(
            details(
                {
                    "running": len(self._programs),
                    "slots": self._max_children,
                    "queued": len(self._waiting),
                    "queue": _MAX_WAITING,
                    "ended": self._ended,
                    "uptime_ms": int((time.monotonic() - self._began) * 1000),
                    "bridge": 1,
                }
            )
        )

    async def reload(self) -> None:
        """Report that there is nothing to reload."""
        log("a bridge has no configuration to read again")

    def reject_queued(self) -> None:
        """Start no further program."""
        self._ending = True
        while self._waiting:
            self._supervisors.discard(self._waiting.popleft())

    def cancel(self, grace: float | None) -> None:
        """Stop every program."""
        for program in self._programs.values():
            if program is not None:
                program.stop(_GRACE if grace is None else grace)

    async def idle(self) -> None:
        """Wait until no program is left."""
        while self._programs:
            await asyncio.wait(self._programs)
        for inquiry in [*self._inquiries]:
            inquiry.close()

    def _start_waiting(self) -> None:
        while self._waiting and len(self._programs) < self._max_children:
            task = asyncio.get_running_loop().create_task(self._serve(self._waiting.popleft()))
            self._programs[task] = None
            task.add_done_callback(self._on_done)

    async def _serve(self, sock: socket.socket) -> None:
        try:
            program = self._start(sock)
            self._programs[cast("asyncio.Task[None]", asyncio.current_task())] = program
            ended = await program.ended()
        except SidecallError as error:
            log(error.reason)
            return
        self._log(f"program ended status={ended.status}")

    def _start(self, sock: socket.socket) -> Process:
        """Start a program on a connection. It has the last reference: to close that can block on what a client sent."""
        try:
            sock.setblocking(True)  # a program expects to wait in read(2)
            environ = dict(os.environb) | ucspi_environment(sock, self._path)
            streams = sock.fileno(), sock.fileno(), 2
            job = Job(self._argv, environ, None, _GRACE, keep_background=False)
            program = self._supervisors.spawn(job, streams, on_started=partial(self._log, "program started"))
        except BaseException:
            self._supervisors.discard(sock)
            raise
        sock.close()
        return program

    def _on_done(self, task: asyncio.Task[None]) -> None:
        del self._programs[task]
        self._ended += 1
        if (error := task.exception()) is not None and not isinstance(error, SupervisorDied):
            log_bug(error)
        if not self._ending:
            self._start_waiting()
            self._acceptor.start()


class Inquiry:
    """A connection to a bridge on which the protocol is spoken: PING is answered, everything else is refused.

    Args:
        sock: the connection.
        load: returns the answer to PING.
        discard: see `ServerChannel`.
        on_closed: called with the inquiry when its connection has been closed.
    """

    def __init__(
        self,
        sock: socket.socket,
        load: Callable[[], m.Pong],
        discard: Callable[[socket.socket], None],
        on_closed: Callable[[Inquiry], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._load = load
        self._on_closed = on_closed
        self._greeting: tuple[m.Message, ...] = (_GREETING,)
        self._channel = ServerChannel(
            loop,
            sock,
            Connection(SERVER),
            self._on_message,
            self._on_end,
            on_descriptors=self._refuse,
            on_awaited=self._on_awaited,
            discard=discard,
        )
        self._timer = loop.call_later(_INQUIRY_TIMEOUT, self.close)
        self._channel.start()

    def close(self) -> None:
        """Close the connection now."""
        self._forget()
        self._channel.close()

    def _forget(self) -> None:
        self._timer.cancel()
        self._on_closed(self)

    def _on_message(self, message: m.Message) -> None:
        if isinstance(message, m.Ping):
            self._send(self._load())
        elif not isinstance(message, m.Hello):
            self._refuse()

    def _on_awaited(self, size: int) -> None:
        if size > m.CONTROL_LIMIT:  # a CALL, of which nothing is stored
            self._refuse()

    def _on_end(self, _error: SidecallError | None) -> None:
        self.close()

    def _refuse(self) -> None:
        if self._channel.connection.states[SERVER] != DONE:
            self._send(m.Refused(EXIT_UNAVAILABLE, *texts.IS_BRIDGE()))
            self._channel.finish(self._forget)

    def _send(self, message: m.Message) -> None:
        greeting, self._greeting = self._greeting, ()
        self._channel.send(*greeting, message)


def ucspi_environment(sock: socket.socket, path: str) -> dict[bytes, bytes]:
    """Return the variables by which a program identifies its peer, in the manner of UCSPI and s6-ipcserver."""
    peer = peer_of(sock)
    remote = sock.getpeername()
    return {
        b"PROTO": b"IPC",
        b"IPCLOCALPATH": os.fsencode(path),
        b"IPCREMOTEPATH": os.fsencode(remote) if isinstance(remote, str) else remote,
        b"IPCREMOTEEUID": str(peer.uid).encode(),
        b"IPCREMOTEEGID": str(peer.gid).encode(),
    }
