"""A service that takes calls: its sessions, its slots and its load."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from collections import Counter
from threading import Thread
from typing import TYPE_CHECKING

from sidecall._kernel import trim_heap
from sidecall.calls.admission import SHUTTING_DOWN, Admission
from sidecall.calls.audit import Audit
from sidecall.calls.call import Host, Owner
from sidecall.calls.events import Events, LogReader
from sidecall.calls.log import RateLimit, key_value_pairs, log
from sidecall.calls.threads import run_in_thread
from sidecall.errors import CallDenied, ConfigError, ServiceBusy, SidecallError, UsageError
from sidecall.files.scratch import Scratch, clear, writable_directory
from sidecall.policy.config import is_operator
from sidecall.protocol.messages import Notice, Pong
from sidecall.protocol.options import details
from sidecall.server.session import Session
from sidecall.transport.credentials import UNMAPPED, peer_of
from sidecall.transport.hangups import HangUps

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from sidecall.calls.call import Call
    from sidecall.policy.config import Service
    from sidecall.server.acceptor import Acceptor
    from sidecall.supervise.process import SupervisorPool


_SHOWN = 3
"""Calls that are named as those that hold the slots."""

_LARGE = 64 * 1024
"""Bytes of a call after which the heap is trimmed: glibc keeps the free pages below a block that is in use."""

_TRIM_AFTER = 0.5


class CallService:
    """Takes calls for one service until it is told to stop.

    Args:
        config: what is offered.
        read_config: reads the configuration again; None if there is none to read.
        is_verbose: whether the log gets a line for each step of each call.

    Attributes:
        config: see above.
        host: what its calls run in.
        hang_ups: watches the connections of calls that wait.
    """

    supervisors: SupervisorPool
    host: Host
    hang_ups: HangUps

    def __init__(
        self, config: Service, read_config: Callable[[], Service] | None = None, *, is_verbose: bool = False
    ) -> None:
        self.config = config
        self._audit = Audit(config.audit, config.audit_format)
        self._events = Events(*self._readers(is_verbose))
        self._is_verbose = is_verbose
        self._scratch = Scratch()
        self._made = contextlib.ExitStack()
        self._made.callback(self._scratch.close)
        self._admission: Admission[Call] = Admission(config.slots, config.queue)
        self._read_config = read_config
        self._connections: Counter[tuple[str, int]] = Counter()
        self._bytes: Counter[tuple[str, int]] = Counter()
        self._sessions: dict[Session, None] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._run_token = os.urandom(5).hex()
        self._serial = itertools.count(1)
        self._began = time.monotonic()
        self._ended = 0
        self._refusals = RateLimit()
        self._trim_timer: asyncio.TimerHandle | None = None

    @property
    def drain(self) -> float:
        """Seconds that running calls have to end by themselves."""
        return self.config.drain

    def new_id(self) -> str:
        """Return the id of a new call: no other call has it, of this run of the server or another one."""
        return f"{self._run_token}-{next(self._serial)}"

    def load(self) -> Pong:
        """Return how busy the service is."""
        return Pong(
            details(
                {
                    "running": self._admission.slots_in_use,
                    "slots": self._admission.slots,
                    "queued": self._admission.waiting,
                    "queue": self._admission.queue,
                    "ended": self._ended,
                    "uptime_ms": int((time.monotonic() - self._began) * 1000),
                }
            )
        )

    def calls(self, asker: Owner) -> list[dict[str, object]]:
        """Return the calls that wait or run at the asker's listener: its own, or all for the server's user and root."""
        calls = [session.call for session in self._sessions if session.call is not None]
        return [call.describe() for call in calls if not call.has_ended and _can_see(asker, call.owner)]

    def cancel_call(self, asker: Owner, call_id: str) -> dict[str, object]:
        """Stop a call on request; return what it was.

        Raises:
            UsageError: there is none, or it cannot be shown.
        """
        for session in self._sessions:
            call = session.call
            if call is not None and call.id == call_id and not call.has_ended and _can_see(asker, call.owner):
                shown = call.describe()
                call.stop("operator")
                return shown
        raise UsageError(f"call {call_id!r} not found", "run `sidecall status NAME` to list the calls")

    def explain_wait(self, asker: Owner) -> Notice:
        """Return what holds the slots, as far as it can be shown, and what to do about it."""
        running = [call for call in self.calls(asker) if call["state"] == "running"]
        shown = [f"{call['command']} ({call['call']}, {call['seconds']:.0f} s)" for call in running[:_SHOWN]]
        more = self._admission.running - len(shown)
        if more > 0:
            shown.append(f"{more} more" if shown else f"{more} calls of other users")
        return Notice(
            f"still waiting: all {self._admission.slots} slots are in use by {', '.join(shown)}",
            "raise `slots` in the service configuration; a call that a running command makes needs a slot, "
            "and so does one on the other side of a filter (`A | filter | B`)",
        )

    def release(self, call: Call) -> None:
        """Free the slot or the place of a call, if it has one, and start those whose turn it is."""
        for following in self._admission.release(call):
            following.grant_slot()

    def open(self, _acceptors: Sequence[Acceptor], supervisors: SupervisorPool) -> None:
        """Begin to serve."""
        self.supervisors = supervisors
        self.hang_ups = HangUps(asyncio.get_running_loop())
        self._made.callback(self.hang_ups.close)
        self.host = Host(self._admission, self.release, supervisors, self._scratch, self._events)
        with contextlib.suppress(RuntimeError):  # no room for a thread
            Thread(target=clear, args=(_parents(self.config),), name="clear", daemon=True).start()

    def receive(self, listener: str, sock: socket.socket) -> None:
        """Serve one connection; one too many of a user at a listener, or one too late, is refused before it is read."""
        owner = Owner(listener, peer_of(sock))
        key = owner.key
        self._connections[key] += 1
        session = Session(self, sock, owner)
        self._sessions[session] = None
        self._idle.clear()
        try:
            if self._admission.closed:
                raise ServiceBusy(*SHUTTING_DOWN)
            if self._connections[key] > self.config.per_caller:
                reason = (
                    f"uid {owner.peer.uid} has {self.config.per_caller} connections to the socket {listener} already"
                )
                raise ServiceBusy(reason, "try again later, or raise `per-caller` in the service configuration")
            session.offer()
        except SidecallError as error:
            session.refuse(error, at_once=self._connections[key] > 2 * self.config.per_caller)
        else:
            session.start()

    def reserve(self, owner: Owner, size: int) -> None:
        """Count bytes that the server holds for a user.

        Raises:
            ServiceBusy: it would be more than `bytes_per_caller`.
        """
        if self._bytes[owner.key] + size > self.config.bytes_per_caller:
            reason = (
                f"the calls of uid {owner.peer.uid} at the socket {owner.listener} hold all the bytes that they can"
            )
            raise ServiceBusy(reason, "try again later, or raise `bytes-per-caller` in the service configuration")
        self._bytes[owner.key] += size

    def log_refusal(self, owner: Owner, error: SidecallError) -> None:
        """Log that a connection without a call has been refused; audit a user who is not allowed."""
        omitted = self._refusals.allows(owner.key)
        if omitted is None:
            return
        if isinstance(error, CallDenied):
            self._audit.record_refusal(owner, error)
        if self._is_verbose:
            fields = {"uid": owner.peer.uid, "listener": owner.listener, "code": error.code, "reason": error.reason}
            log(f"connection refused {key_value_pairs(fields)}{omitted}")

    def forget(self, session: Session) -> None:
        """Let go of a session: its connection is closed, and nothing of its call is left."""
        del self._sessions[session]
        key = session.owner.key
        self._connections[key] -= 1
        self._bytes[key] -= session.reserved
        if not self._connections[key]:
            del self._connections[key], self._bytes[key]
        self._ended += 1
        if session.reserved > _LARGE and self._trim_timer is None:
            self._trim_timer = asyncio.get_running_loop().call_later(_TRIM_AFTER, self._trim_heap)
        if not self._sessions:
            self._idle.set()

    def _trim_heap(self) -> None:
        self._trim_timer = None
        trim_heap()

    async def reload(self) -> None:
        """Read the configuration again; keep the old one if the new one is wrong. To look up users may take long."""
        if self._read_config is None:
            log("there is no configuration to read again")
            return
        try:
            config = await run_in_thread(self._read_config)
            if sockets(config) != sockets(self.config):
                raise ConfigError("other sockets, or other modes of them, need a restart")
            audit = Audit(config.audit, config.audit_format)
        except SidecallError as error:
            log(f"the old configuration is kept: {error.reason}")
            return
        self._audit.close()
        self._audit = audit
        self._events.readers = self._readers(self._is_verbose)
        self.config = config
        for following in self._admission.resize(config.slots, config.queue):
            following.grant_slot()
        log("the configuration has been read again")

    def reject_queued(self) -> None:
        """Start nothing more; those that wait are told."""
        self._admission.close()
        for session in list(self._sessions):
            session.reject_queued()

    def cancel(self, grace: float | None) -> None:
        """Stop every call, within `grace` seconds; None for what was configured."""
        for session in list(self._sessions):
            session.stop("shutdown", grace)

    def close(self) -> None:
        """Remove what the service has made for itself; no call is left."""
        self._audit.close()
        self._made.close()

    async def idle(self) -> None:
        """Wait until no session is left."""
        await self._idle.wait()

    def _readers(self, is_verbose: bool) -> list[Callable[[str, Call, dict[str, object]], None]]:
        readers: list[Callable[[str, Call, dict[str, object]], None]] = []
        if is_verbose:
            readers.append(LogReader(log))
        if self._audit.is_kept:
            readers.append(self._audit)
        return readers


def _can_see(asker: Owner, owner: Owner) -> bool:
    is_own = asker.peer.uid == owner.peer.uid != UNMAPPED
    return asker.listener == owner.listener and (is_own or is_operator(asker.peer))


def _parents(config: Service) -> list[str]:
    """Return the directories in which a server has directories of its own."""
    parents = [volume.path for volume in config.volumes if volume.writable]
    with contextlib.suppress(SidecallError):
        parents.append(writable_directory())
    return parents


def sockets(config: Service) -> list[tuple[str, int]]:
    """Return the name and the mode of each socket."""
    return [(listen.name, listen.mode) for listen in config.listeners]
