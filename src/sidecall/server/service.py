"""A service that takes calls: its sessions, its slots and its load."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from threading import Thread
from typing import TYPE_CHECKING

from sidecall.errors import ConfigError, ServiceBusy, SidecallError, UsageError
from sidecall.protocol.messages import Pong
from sidecall.calls.admission import SHUTTING_DOWN, Admission
from sidecall.calls.threads import run_in_thread
from sidecall.calls.audit import Audit
from sidecall.server.notify import say
from sidecall.files.scratch import Scratch, clear
from sidecall.server.session import Session, refuse
from sidecall.transport.credentials import peer_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from sidecall.policy.config import Service
    from sidecall.server.acceptor import Acceptor
    from sidecall.supervise.process import SupervisorPool
    from sidecall.transport.credentials import Peer


TOO_MANY = ServiceBusy("this user has too many connections to the service", "try again later")


class CallService:
    """Takes calls for one service until it is told to stop.

    Args:
        config: what is offered.
        log: gets a line for each step of each call.
        read_config: reads the configuration again; None if there is none to read.
    """

    supervisors: SupervisorPool

    def __init__(
        self, config: Service, log: Callable[[str], None], read_config: Callable[[], Service] | None = None
    ) -> None:
        self.config = config
        self.log = log
        self.audit = Audit(config.audit, config.audit_format)
        self.scratch = Scratch()
        self.admission: Admission[Session] = Admission(config.slots, config.queue)
        self._read_config = read_config
        self._connections: dict[int, int] = {}
        self._sessions: dict[Session, None] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._ids = itertools.count(1)
        self._began = time.monotonic()
        self._ended = 0

    @property
    def drain(self) -> float:
        """Seconds that running calls have to end by themselves."""
        return self.config.drain

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

    def calls(self, peer: Peer) -> list[dict[str, object]]:
        """Return what a peer may know of the calls there are."""
        seen = (session.visible_to(peer) for session in self._sessions)
        return [call for call in seen if call is not None]

    def cancel_call(self, peer: Peer, call_id: str) -> dict[str, object]:
        """Cancel a call as if its caller had gone; return what it was.

        Raises:
            UsageError: there is none, or the peer may not know of it.
        """
        for session in list(self._sessions):
            if session.call_id == call_id and (call := session.visible_to(peer)) is not None:
                self.log(f"call {call_id} is cancelled by uid {peer.uid}")
                session.cancel()
                return call
        raise UsageError(f"there is no call {call_id!r}", "`sidecall status NAME` lists those there are")

    def leave(self, session: Session) -> None:
        """Free the slot or the place of a session, if it has one, and start those whose turn it is."""
        for following in self.admission.leave(session):
            following.grant_slot()

    def open(self, _doors: Sequence[Acceptor], supervisors: SupervisorPool) -> None:
        """Begin to serve."""
        self.supervisors = supervisors
        with contextlib.suppress(RuntimeError):  # no room for a thread
            Thread(target=clear, name="clear", daemon=True).start()

    def receive(self, listener: str, sock: socket.socket) -> None:
        """Serve one connection; one too many of a uid, or one too late, is refused before it is read."""
        peer = peer_of(sock)
        count = self._connections.get(peer.uid, 0)
        if self.admission.closed or count >= self.config.per_caller:
            refusal = ServiceBusy(*SHUTTING_DOWN) if self.admission.closed else TOO_MANY
            self.log(f"uid {peer.uid} has {count} connections, one more is refused: {refusal.reason}")
            with sock, contextlib.suppress(OSError):
                sock.send(refuse(refusal))
            return
        self._connections[peer.uid] = count + 1
        session = Session(self, sock, peer, listener, str(next(self._ids)))
        self._sessions[session] = None
        self._idle.clear()
        session.hear()

    def forget(self, session: Session, peer: Peer) -> None:
        """Let go of a session: its connection is closed, and nothing of its call is left."""
        del self._sessions[session]
        self._connections[peer.uid] -= 1
        if not self._connections[peer.uid]:
            del self._connections[peer.uid]
        self._ended += 1
        if not self._sessions:
            self._idle.set()

    async def reload(self) -> None:
        """Read the configuration again; keep the old one if the new one is wrong. To look up users may take long."""
        if self._read_config is None:
            say("there is no configuration to read again")
            return
        try:
            config = await run_in_thread(self._read_config)
            if sockets(config) != sockets(self.config):
                raise ConfigError("other sockets, or other modes of them, need a restart")
            audit = Audit(config.audit, config.audit_format)
        except SidecallError as error:
            say(f"the old configuration is kept: {error.reason}")
            return
        self.audit.close()
        self.audit = audit
        self.config = config
        for following in self.admission.resize(config.slots, config.queue):
            following.grant_slot()
        say("the configuration has been read again")

    def reject_queued(self) -> None:
        """Start nothing more; those that wait are told."""
        self.admission.close()
        for session in list(self._sessions):
            session.reject_queued()

    def cancel(self, grace: float | None) -> None:
        """Stop every call, within `grace` seconds; None for what was configured."""
        for session in list(self._sessions):
            session.cancel(grace)

    def close(self) -> None:
        """Remove what the service has made for itself; no call is left."""
        self.scratch.close()

    async def idle(self) -> None:
        """Wait until no session is left."""
        await self._idle.wait()


def sockets(config: Service) -> list[tuple[str, int]]:
    """Return the name and the mode of each socket."""
    return [(listen.name, listen.mode) for listen in config.listeners]
