"""A server's life: ready, serving, draining, cancelling, gone. What it serves is a `Server` of either mode.

INT and TERM begin the end: TERM lets what runs end by itself for a while, INT does not; the next one cancels, and one
more kills. HUP reads the configuration again. As pid 1 of a container it reaps every orphan.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from sidecall.calls.log import log
from sidecall.errors import ConfigError, ServiceBusy
from sidecall.server.acceptor import Acceptor
from sidecall.server.notify import notify
from sidecall.server.watchdog import Watchdog
from sidecall.supervise.forkserver import ForkServer
from sidecall.supervise.kernel import become_subreaper
from sidecall.supervise.process import SupervisorPool, reset_inherited_signals

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence
    from typing import Protocol

    from sidecall.transport.listener import Listener

    class Server(Protocol):
        """What `run` needs of a service of either mode."""

        @property
        def drain(self) -> float:
            """Seconds that what runs has to end by itself after TERM."""
            ...

        def open(self, acceptors: Sequence[Acceptor], supervisors: SupervisorPool, /) -> None:
            """Begin to serve: connections come through the acceptors, commands are started by supervisors."""
            ...

        def receive(self, listener: str, sock: socket.socket, /) -> None:
            """Serve one connection to a listener."""
            ...

        async def reload(self) -> None:
            """Read the configuration again; keep the old one if the new one is wrong."""
            ...

        def reject_queued(self) -> None:
            """Start nothing more, and say so to those that wait."""
            ...

        def cancel(self, grace: float | None, /) -> None:
            """Stop all that runs, within `grace` seconds; None for what was configured."""
            ...

        async def idle(self) -> None:
            """Wait until nothing is served any more."""
            ...


_EXIT_NO_FORK_SERVER = 70
_WATCH_INTERVAL = 2.0
"""Seconds between two looks at whether the sockets are still there."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ListenerSpec(NamedTuple):
    """How to open a listener, and what the log has after its path once it is open."""

    listen: Callable[[], Listener]
    description: str


def run(specs: Mapping[str, ListenerSpec], server: Server) -> int:
    """Listen and serve until INT or TERM.

    Args:
        specs: where to listen, by the names that the server has for the listeners.
        server: what to do with the connections.

    Returns:
        The code to exit with, or minus the signal to die of.

    Raises:
        ServiceBusy: another server is already listening.
        ConfigError: the socket cannot be made.
    """
    reset_inherited_signals()
    become_subreaper()
    forkserver = ForkServer.start()
    try:
        _raise_descriptor_limit()
        with contextlib.ExitStack() as stack:
            opened = {name: stack.enter_context(spec.listen()) for name, spec in specs.items()}
            descriptions = {name: spec.description for name, spec in specs.items()}
            return asyncio.run(ServerRunner(opened, descriptions, server, forkserver).serve())
    finally:
        forkserver.close()


class ServerRunner:
    """Runs a server from its first connection to its last."""

    def __init__(
        self, listeners: Mapping[str, Listener], descriptions: Mapping[str, str], server: Server, forkserver: ForkServer
    ) -> None:
        self._listeners = listeners
        self._descriptions = descriptions
        self._server = server
        self._fork_server = forkserver
        self._code = 0
        self._signals: asyncio.Queue[int] = asyncio.Queue()

    async def serve(self) -> int:
        """Serve until INT or TERM; return the code to exit with, or minus the signal to die of."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._signals.put_nowait, number)
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        self._reap()  # what has ended by now
        acceptors = [
            Acceptor(loop, listener.sock, partial(self._server.receive, name))
            for name, listener in self._listeners.items()
        ]
        supervisors = SupervisorPool(self._fork_server)
        self._server.open(acceptors, supervisors)
        for acceptor in acceptors:
            acceptor.start()
        for name, listener in self._listeners.items():
            log(f"serving {listener.path} ({self._descriptions[name]})")
        notify("READY=1")
        watch = asyncio.create_task(self._watch_listeners(acceptors, supervisors))
        watchdog = Watchdog(log)
        ending = await self._next_ending()
        watch.cancel()
        notify("STOPPING=1")
        for listener in self._listeners.values():
            listener.unlink()
        self._server.reject_queued()
        for acceptor in acceptors:
            acceptor.drain()
        for listener in self._listeners.values():
            listener.close(supervisors.discard)
        if ending == signal.SIGTERM:
            await self._idle_or_signal(self._server.drain)
        self._server.cancel(None)
        if not await self._idle_or_signal(None):
            self._server.cancel(0.0)
            await self._server.idle()
        supervisors.close()
        watchdog.close()
        _stop_listening_to_signals(loop)
        return -ending if ending == signal.SIGINT else self._code

    async def _watch_listeners(self, acceptors: Sequence[Acceptor], supervisors: SupervisorPool) -> None:
        """Listen again where a socket has been removed; end the server where another one has taken its place."""
        is_reported = False
        while True:
            await asyncio.sleep(_WATCH_INTERVAL)
            for listener, acceptor in zip(self._listeners.values(), acceptors, strict=True):
                try:
                    if (old := listener.restore()) is not None:
                        acceptor.replace(listener.sock)
                        supervisors.discard(old)
                        log(f"the socket was removed; serving {listener.path} again")
                        is_reported = False
                except ServiceBusy as error:
                    log(f"the socket was removed, and {error.reason}; shutting down")
                    self._code = error.code
                    self._signals.put_nowait(signal.SIGTERM)
                    return
                except ConfigError as error:
                    if not is_reported:
                        log(f"the socket was removed, and the server cannot replace it: {error.reason}")
                    is_reported = True

    async def _next_ending(self) -> int:
        """Serve until INT or TERM, and return which."""
        while True:
            number = await self._signals.get()
            if number != signal.SIGHUP:
                return number
            notify("RELOADING=1")
            await self._server.reload()
            notify("READY=1")

    async def _idle_or_signal(self, seconds: float | None) -> bool:
        """Wait until nothing is served, for a signal or for some time; tell whether nothing is served."""
        idle = asyncio.create_task(self._server.idle())
        ending = asyncio.create_task(self._next_ending())
        await asyncio.wait((idle, ending), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        is_idle = idle.done()
        for task in (idle, ending):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        return is_idle

    def _reap(self) -> None:
        """Reap the children that have ended: orphans, if this is the pid 1 of a container; else only the forkserver."""
        with contextlib.suppress(ChildProcessError):
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                if pid == self._fork_server.pid:
                    self._fork_server.was_killed = True
                    log("the fork server died; shutting down")
                    self._code = _EXIT_NO_FORK_SERVER
                    self._signals.put_nowait(signal.SIGTERM)


def _stop_listening_to_signals(loop: asyncio.AbstractEventLoop) -> None:
    """Take the handlers back before the loop closes: it closes what they write to first. Nothing is left to be told."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    for number in (*_SIGNALS, signal.SIGCHLD):
        loop.remove_signal_handler(number)


def _raise_descriptor_limit() -> None:
    """Each waiting call holds up to four descriptors; the soft limit's usual 1024 is only for select(2).

    SupervisorPool, and so commands, have been forked off before and keep the old limit.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
