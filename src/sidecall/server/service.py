"""A service that takes calls: its sessions, its slots and its load."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import time
from collections import Counter
from threading import Thread
from typing import TYPE_CHECKING

from sidecall._kernel import trim_heap
from sidecall.calls.admission import SHUTTING_DOWN, Admission
from sidecall.calls.audit import Audit
from sidecall.calls.call import Host, Owner
from sidecall.calls.eager import start_eager_task
from sidecall.calls.events import Events, LogReader
from sidecall.calls.log import RateLimit, key_value_pairs, log
from sidecall.calls.records import Records
from sidecall.calls.threads import run_in_thread
from sidecall.errors import CallDenied, ConfigError, ProtocolError, ServiceBusy, SidecallError, UsageError
from sidecall.files.scratch import Scratch, clear, writable_directory
from sidecall.policy.config import is_operator
from sidecall.protocol.messages import NONE, Notice, Pong
from sidecall.protocol.options import details
from sidecall.server.detached import Claimed, Detached
from sidecall.server.session import Session
from sidecall.transport.credentials import UNMAPPED, peer_of
from sidecall.transport.hangups import HangUps

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from sidecall.calls.call import Call
    from sidecall.calls.events import Reader
    from sidecall.calls.records import Record
    from sidecall.policy.config import RecordRules, Service
    from sidecall.server.acceptor import Acceptor
    from sidecall.supervise.process import SupervisorPool


_SHOWN = 3
"""Calls that are named as those that hold the slots."""

_LARGE = 64 * 1024
"""Bytes of a call after which the heap is trimmed: glibc keeps the free pages below a block that is in use."""

_TRIM_AFTER = 0.5

_MEASURE_INTERVAL = 1.0
"""Seconds between two looks at how much detached calls have written."""


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
        self._records: Records | None = None
        self._events = Events(*self._readers(is_verbose))
        self._is_verbose = is_verbose
        self._scratch = Scratch()
        self._made = contextlib.ExitStack()
        self._made.callback(self._scratch.close)
        self._admission: Admission[Call] = Admission(config.slots, config.queue)
        self._read_config = read_config
        self._connections: Counter[tuple[str, int]] = Counter()
        self._bytes: Counter[tuple[str, int]] = Counter()
        self._sessions: dict[Session | Detached, None] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._run_token = os.urandom(5).hex()
        self._serial = itertools.count(1)
        self._began = time.monotonic()
        self._ended = 0
        self._refusals = RateLimit()
        self._trim_timer: asyncio.TimerHandle | None = None
        self._measure_timer: asyncio.TimerHandle | None = None

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

    def with_ended_calls(self, asker: Owner, answer: Callable[[bytes], None]) -> None:
        """Call back with the JSON of the calls there are, and of those that have ended and can be shown.

        Their records are read in a thread.
        """
        calls = self.calls(asker)
        if self._records is not None:
            self._records.expire()
        records = [record for record in self._visible(asker) if record.ended]

        async def read() -> None:
            answer(await run_in_thread(lambda: json.dumps([*calls, *(each.describe() for each in records)]).encode()))

        start_eager_task(asyncio.get_running_loop(), read())

    def record(self, asker: Owner, call_id: str) -> Record:
        """Return a record: the asker's own, or any of the listener that it can see.

        Raises:
            UsageError: there is none, or several users have one.
        """
        visible = [record for record in self._visible(asker) if record.id == call_id]
        own = [record for record in visible if record.key == asker.key]
        found = own or visible
        if not found:
            raise UsageError(f"there is no record of a call {call_id!r}", "`sidecall status --all NAME` lists them")
        if len(found) > 1:
            uids = ", ".join(str(record.key[1]) for record in found)
            raise UsageError(f"several users have a call {call_id!r}: {uids}", "ask as one of them")
        return found[0]

    def remove_record(self, asker: Owner, call_id: str) -> dict[str, object]:
        """Remove the record of a call that has ended; return what it was.

        Raises:
            UsageError: there is none, it cannot be shown, or the call has not ended.
        """
        record = self.record(asker, call_id)
        if not record.ended:
            raise UsageError(f"the call {call_id!r} has not ended", "`sidecall kill` cancels it")
        assert self._records is not None  # noqa: S101 it has one
        shown = record.describe()
        self._records.remove(record)
        return shown

    def check_detached(self, call: Call) -> None:
        """Check whether a call can be detached.

        Raises:
            UsageError: this service records no calls.
            ProtocolError: it has a stream of its client.
            Claimed: its id is taken.
        """
        if self._records is None:
            raise UsageError(
                "this service records no calls, so none can be detached",
                "name a directory under `[records]` in the service configuration, or by `serve --records`",
            )
        if set(call.request.streams) != {NONE}:
            raise ProtocolError("a detached call has no streams of its client")
        if (record := self._records.find(call.owner.key, call.id)) is not None:
            raise Claimed(record, is_same=record.is_of(call.request))

    def detach(self, call: Call, reserved: int) -> Detached:
        """Let a call outlive its client from here on; `reserved` bytes of it count as its owner's.

        Raises:
            Claimed: its id is taken.
            ServiceBusy: it cannot be recorded.
        """
        self.check_detached(call)
        assert self._records is not None  # noqa: S101 as has been checked
        record = self._records.claim(call)
        record.notice = call.notice
        detached = Detached(self, call, record, reserved)
        self._sessions[detached] = None
        self._connections[call.owner.key] += 1
        self._bytes[call.owner.key] += reserved
        call.hand_over(detached)
        if self._measure_timer is None:
            self._measure_timer = asyncio.get_running_loop().call_later(_MEASURE_INTERVAL, self._measure)
        return detached

    def record_attached(self, call: Call) -> SidecallError | None:
        """Record a call that is not detached, if that is configured; return why it is made without a record.

        Raises:
            ServiceBusy: it cannot be recorded, and has to be.
        """
        if self._records is None or not self._limits.attached:
            return None
        try:
            self._records.claim(call)
        except ServiceBusy as error:
            if self._limits.required:
                raise
            log(f"call {call.id} is not recorded: {error.reason}")
            return error
        return None

    def _measure(self) -> None:
        """Stop the detached calls that have written too much."""
        self._measure_timer = None
        for detached in [each for each in self._sessions if isinstance(each, Detached)]:
            self._measure_timer = self._measure_timer or asyncio.get_running_loop().call_later(
                _MEASURE_INTERVAL, self._measure
            )
            with contextlib.suppress(OSError):
                if detached.record.measure() > self._limits.bytes_per_call:
                    detached.stop("limit")

    @property
    def _limits(self) -> RecordRules:
        assert self._records is not None  # noqa: S101 as its callers know
        return self._records.rules

    def _visible(self, asker: Owner) -> list[Record]:
        """Return the records that can be shown to a client."""
        if self._records is None:
            return []
        records = self._records.of_listener(asker.listener)
        return [record for record in records if _can_see_uid(asker, record.key[1])]

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
        if self.config.records is not None:
            self._records = Records(self.config.records)
            self._made.callback(self._records.close)
            self._events.readers = self._readers(self._is_verbose)
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

    def forget(self, session: Session | Detached) -> None:
        """Let go of a session, or of a detached call: nothing of it is left."""
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
            if _records_directory(config) != _records_directory(self.config):
                raise ConfigError("another directory of records needs a restart")
            audit = Audit(config.audit, config.audit_format)
        except SidecallError as error:
            log(f"the old configuration is kept: {error.reason}")
            return
        self._audit.close()
        self._audit = audit
        self._events.readers = self._readers(self._is_verbose)
        self.config = config
        if self._records is not None and config.records is not None:
            self._records.rules = config.records
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

    def _readers(self, is_verbose: bool) -> list[Reader]:
        readers: list[Reader] = []
        if is_verbose:
            readers.append(LogReader(log))
        if self._audit.is_kept:
            readers.append(self._audit)
        if self._records is not None:
            readers.append(self._records)
        return readers


def _can_see(asker: Owner, owner: Owner) -> bool:
    return asker.listener == owner.listener and _can_see_uid(asker, owner.peer.uid)


def _can_see_uid(asker: Owner, uid: int) -> bool:
    """Tell whether calls of a user at the listener that is asked can be shown."""
    return asker.peer.uid == uid != UNMAPPED or is_operator(asker.peer)


def _records_directory(config: Service) -> str:
    return "" if config.records is None else config.records.directory


def _parents(config: Service) -> list[str]:
    """Return the directories in which a server has directories of its own."""
    parents = [volume.path for volume in config.volumes if volume.writable]
    with contextlib.suppress(SidecallError):
        parents.append(writable_directory())
    return parents


def sockets(config: Service) -> list[tuple[str, int]]:
    """Return the name and the mode of each socket."""
    return [(listen.name, listen.mode) for listen in config.listeners]
