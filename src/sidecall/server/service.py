"""A service that takes calls: its socket, its sessions, its end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import resource
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING

from sidecall.protocol.messages import Pong
from sidecall.server.admission import Admission
from sidecall.server.session import Session
from sidecall.supervise.process import reset_inherited_signals
from sidecall.transport.address import socket_path
from sidecall.transport.listener import Listener

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Protocol

    from sidecall.server.config import Service

    class Server(Protocol):
        """What `run` needs of a service of either mode."""

        async def accept(self, listener: Listener, tasks: asyncio.TaskGroup, /) -> None:
            """Serve connections, in tasks of the group, until cancelled."""
            ...

        def end(self, tasks: asyncio.TaskGroup, /) -> None:
            """See to it that every task of the group ends soon."""
            ...


_PASSING_ERRORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED}

_RETRY_ACCEPT = 0.1
"""Seconds to wait when there are no descriptors left for another caller."""


class CallService:
    """Takes calls for one service until it is told to stop.

    Args:
        config: what is offered.
        log: gets a line for each step of each call.
    """

    def __init__(self, config: Service, log: Callable[[str], None]) -> None:
        self.config = config
        self.log = log
        self.admission: Admission[Session] = Admission(config.slots, config.queue)
        self._sessions: set[Session] = set()
        self._ids = itertools.count(1)
        self._began = time.monotonic()
        self._ended = 0

    def load(self) -> Pong:
        """Return how busy the service is."""
        return Pong(
            running=self.admission.running,
            slots=self.admission.slots,
            queued=self.admission.waiting,
            queue=self.admission.queue,
            ended=self._ended,
            uptime_ms=int((time.monotonic() - self._began) * 1000),
        )

    def leave(self, session: Session) -> None:
        """Free the slot or the place of a session, if it has one, and start those whose turn it is."""
        for following in self.admission.leave(session):
            following.take_turn()

    async def accept(self, listener: Listener, tasks: asyncio.TaskGroup) -> None:
        """Take calls, each as a task of its own, until cancelled."""
        while True:
            session = Session(self, await accept(listener), str(next(self._ids)))
            self._sessions.add(session)
            tasks.create_task(self._run(session))

    def end(self, _tasks: asyncio.TaskGroup) -> None:
        """Cancel every call; each sees to its own end."""
        for session in self._sessions:
            session.cancel()

    async def _run(self, session: Session) -> None:
        try:
            await session.run()
        except Exception:  # a bug in one session must not end the others
            traceback.print_exc()
        finally:
            self._sessions.discard(session)
            self._ended += 1


async def accept(listener: Listener) -> socket.socket:
    """Return the next connection; a shortage of descriptors or memory is waited out."""
    while True:
        try:
            sock, _ = await asyncio.get_running_loop().sock_accept(listener.sock)
            return sock
        except OSError as error:
            if error.errno not in _PASSING_ERRORS:
                raise
            await asyncio.sleep(_RETRY_ACCEPT)


def run(name: str, mode: int, announcement: str, server: Server) -> None:
    """Listen on a service's socket and serve until INT or TERM.

    Args:
        name: the service's name, or the path of its socket.
        mode: the socket's permission bits.
        announcement: what the ready line on stderr says after the socket's path.
        server: what to do with the connections.

    Raises:
        ServiceBusy: somebody serves it already.
        ConfigError: the socket cannot be made.
        UsageError: the name cannot be one.
    """
    reset_inherited_signals()
    _raise_descriptor_limit()
    with Listener(socket_path(name, os.environ), mode) as listener:
        listener.sock.setblocking(False)
        asyncio.run(_until_signalled(listener, announcement, server))


async def _until_signalled(listener: Listener, announcement: str, server: Server) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    print(f"sidecall: serving {listener.path} ({announcement})", file=sys.stderr, flush=True)
    async with asyncio.TaskGroup() as tasks:
        accepting = tasks.create_task(server.accept(listener, tasks))
        await stop.wait()
        accepting.cancel()
        listener.close()
        server.end(tasks)


def _raise_descriptor_limit() -> None:
    """Each waiting call holds up to four descriptors; the soft limit's usual 1024 is only for select(2)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
