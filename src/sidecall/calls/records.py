"""Records of calls: a directory for each, so that a call can outlive its client, and its outcome the server.

Theory of operation. The records of a server are in DIRECTORY/LISTENER/UID/ID/, so owners have ids of their own:

    request.json   who asked for what, with secrets masked; and a digest of the request
    events         what has happened, a line of JSON each
    outcome.json   how the call ended; it appears whole, by a rename
    stdout, stderr what a detached command wrote, by itself; `marks` has their sizes by time

An id is claimed before the command starts, and the claim goes if the command could not be started: so a call is made at
most once by its id. A server holds a lock (flock(2)) on the directory. At its start it takes over what is there: a
record without an outcome is of a call whose server was killed, and from then on *lost*. Room for the outcome is
allocated with the claim, so a disk that is full then does not lose it.

Memory has of each record what is needed to find and to remove it; what people ask for is read from the files. Limits
are for one user at one listener: at the start and at the end of a call the records that ended first are removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from threading import Thread
from typing import TYPE_CHECKING, Any

from sidecall.calls.events import ENDED, FINAL, LOST, STARTED
from sidecall.calls.log import log
from sidecall.errors import ConfigError, ServiceBusy
from sidecall.files.scratch import remove
from sidecall.policy.parameters import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sidecall.calls.call import Call
    from sidecall.errors import SidecallError
    from sidecall.policy.config import RecordRules
    from sidecall.protocol.messages import Call as Request

OwnerKey = tuple[str, int]
"""Whose a record is: the listener and the uid."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_OUTCOME_ROOM = 4096
"""Bytes that are allocated for an outcome."""

_REMOVED = ".removed-"
_SLOW = 1 << 20
"""Bytes from which on a record is removed in a thread: to free blocks takes time."""


class Record:
    """One record.

    Attributes:
        key: whose it is.
        id: the id of its call.
        path: its directory.
        is_decided: whether the command has been started, or will not be.
        refusal: why it was not.
        ended: when the call ended, in seconds since the epoch; 0 while it has not.
        size: bytes of its output, as far as known.
        notice: a line for a person about its start, and a hint.
        watchers: called when it is decided, and when it has ended.
    """

    def __init__(self, key: OwnerKey, call_id: str, path: str) -> None:
        self.key = key
        self.id = call_id
        self.path = path
        self.is_decided = False
        self.refusal: SidecallError | None = None
        self.ended = 0.0
        self.size = 0
        self.notice: tuple[str, str] | None = None
        self.watchers: dict[Callable[[], None], None] = {}

    def file(self, name: str) -> str:
        """Return the path of one of its files."""
        return os.path.join(self.path, name)

    def read(self, name: str) -> dict[str, Any]:
        """Return what a JSON file of it has; nothing if there is no such file, or it is damaged."""
        try:
            with open(self.file(name), encoding="utf-8") as file:
                content = json.load(file)
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def is_of(self, request: Request) -> bool:
        """Tell whether it is of the same request."""
        return self.read("request.json").get("digest") == digest(request)

    def measure(self) -> int:
        """Look how much the command has written by now; note it by the time, if that has changed."""
        sizes = [os.stat(self.file(name)).st_size for name in ("stdout", "stderr")]
        if sum(sizes) != self.size:
            self.size = sum(sizes)
            with contextlib.suppress(OSError):
                self._append("marks", f"{int(time.time() * 1000)} {sizes[0]} {sizes[1]}\n")
        return self.size

    def offsets(self, since: int) -> tuple[int, int]:
        """Return how much had been written to stdout and stderr before a time, in milliseconds, at the least."""
        before = (0, 0)
        with contextlib.suppress(OSError), open(self.file("marks"), encoding="ascii") as file:
            for line in file:
                at, *sizes = map(int, line.split())
                if at > since:
                    break
                before = (sizes[0], sizes[1])
        return before

    def notify(self) -> None:
        """Call the watchers."""
        for watcher in list(self.watchers):
            watcher()

    def add_event(self, event: str, fields: dict[str, object]) -> None:
        """Append a line to its events."""
        self._append("events", as_json({"time": round(time.time(), 3), "event": event} | fields) + "\n")

    def _append(self, name: str, text: str) -> None:
        fd = os.open(self.file(name), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)

    def describe(self) -> dict[str, object]:
        """Return what STATUS shows of a call that has ended."""
        request, outcome = self.read("request.json"), self.read("outcome.json")
        shown = {name: request[name] for name in ("command", "directory") if name in request}
        parameters = shortened(request.get("parameters", {}))
        known = {name: outcome[name] for name in ("outcome", "value", "stopped", "reason", "ended") if name in outcome}
        seconds = round(outcome.get("run", 0.0), 3)
        return (
            {"call": self.id, "state": "ended", "uid": self.key[1], "seconds": seconds, "parameters": parameters}
            | shown
            | known
        )


class _Owned:
    """The records of one owner."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.ended: dict[Record, None] = {}
        """In the order in which they ended."""


class Records:
    """The records of one server.

    Args:
        rules: where they are, and how much is kept.

    Attributes:
        rules: see above.

    Raises:
        ConfigError: the directory cannot be used, or another server uses it.
    """

    def __init__(self, rules: RecordRules) -> None:
        self.rules = rules
        self._owners: dict[OwnerKey, _Owned] = {}
        self._of: dict[Call, Record] = {}
        self._fd = _open_directory(rules.directory)
        try:
            self._take_over()
        except OSError as error:
            os.close(self._fd)
            raise ConfigError(f"cannot read the records in {rules.directory!r}: {error.strerror}") from error

    def close(self) -> None:
        """Give the directory up."""
        os.close(self._fd)

    def find(self, key: OwnerKey, call_id: str) -> Record | None:
        """Return an owner's record of an id."""
        owned = self._owners.get(key)
        return None if owned is None else owned.records.get(call_id)

    def of_listener(self, listener: str) -> Iterator[Record]:
        """Yield all records of a listener, those of one owner by their age."""
        for (name, _), owned in list(self._owners.items()):
            if name == listener:
                yield from list(owned.records.values())

    def claim(self, call: Call) -> Record:
        """Make the record of a call that is about to start; its id must not be taken.

        Raises:
            ServiceBusy: there is no room for it.
        """
        key = call.owner.key
        if key in self._owners:
            self._make_room(self._owners[key])
        owned = self._owners.setdefault(key, _Owned())
        if sum(record.size for record in owned.records.values()) > self.rules.bytes:
            raise ServiceBusy(
                f"the running calls of this user have written more than the {self.rules.bytes} bytes that are recorded",
                "raise `bytes` under `[records]` in the service configuration",
            )
        record = Record(key, call.id, os.path.join(self._directory_of(key), call.id))
        try:
            uid = os.path.dirname(record.path)
            for parent in (os.path.dirname(uid), uid):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(parent, 0o700)
            os.mkdir(record.path, 0o700)
            try:
                _write_new(record, call)
            except OSError:
                remove(record.path)
                raise
        except OSError as error:
            raise ServiceBusy(
                f"cannot record the call: {error.strerror}", "make room on the disk of the service's records"
            ) from error
        owned.records[call.id] = record
        self._of[call] = record
        return record

    def remove(self, record: Record) -> None:
        """Remove a record."""
        owned = self._owners[record.key]
        owned.records.pop(record.id, None)
        owned.ended.pop(record, None)
        if not owned.records:
            del self._owners[record.key]
        hidden = os.path.join(self.rules.directory, f"{_REMOVED}{os.urandom(8).hex()}")
        with contextlib.suppress(OSError):
            os.rename(record.path, hidden)
        if record.size < _SLOW:
            remove(hidden)
            return
        try:
            Thread(target=remove, args=(hidden,), name="remove").start()
        except RuntimeError:  # no room for a thread
            remove(hidden)

    def expire(self) -> None:
        """Remove what is older than it can be."""
        for owned in list(self._owners.values()):
            self._make_room(owned, 0)

    def __call__(self, event: str, call: Call, fields: dict[str, object]) -> None:
        """Record an event of a call that has a record."""
        record = self._of.get(call)
        if record is None:
            return
        try:
            record.add_event(event, fields)
        except OSError as error:
            log(f"call {call.id}: cannot record an event: {error.strerror}")
        if event == STARTED:
            record.is_decided = True
            record.notify()
        elif event in FINAL:
            del self._of[call]
            if event in {ENDED, LOST}:
                self._end(record, ({} if event == ENDED else {"outcome": LOST}) | fields)
            else:
                self.remove(record)

    def _end(self, record: Record, outcome: dict[str, object]) -> None:
        with contextlib.suppress(OSError):  # there is none of a call that is not detached
            record.measure()
        record.ended = time.time()
        try:
            _write_outcome(record, outcome | {"ended": round(record.ended, 3)})
        except OSError as error:
            log(f"call {record.id}: cannot record its end: {error.strerror}")
        owned = self._owners[record.key]
        owned.ended[record] = None
        record.is_decided = True
        record.notify()
        self._make_room(owned, 0)

    def _make_room(self, owned: _Owned, more: int = 1) -> None:
        """Remove the ended records that are too many, too old or too large, with `more` that are about to come."""
        size = sum(record.size for record in owned.records.values())
        oldest = time.time() - self.rules.age
        for record in list(owned.ended):
            if len(owned.ended) + more <= self.rules.count and size <= self.rules.bytes and record.ended >= oldest:
                return
            size -= record.size
            self.remove(record)

    def _directory_of(self, key: OwnerKey) -> str:
        listener, uid = key
        name = listener.replace("%", "%25").replace("/", "%2F")
        return os.path.join(self.rules.directory, name, str(uid))

    def _take_over(self) -> None:
        """Take over the records that are there."""
        found = []
        with os.scandir(self.rules.directory) as listeners:
            for listener in listeners:
                if listener.name.startswith(_REMOVED):
                    remove(listener.path)
                elif listener.is_dir(follow_symlinks=False):
                    found += list(_found_at(listener))
        for record in sorted(found, key=lambda record: record.ended):
            owned = self._owners.setdefault(record.key, _Owned())
            owned.records[record.id] = record
            owned.ended[record] = None
        self.expire()


def _found_at(listener: os.DirEntry[str]) -> Iterator[Record]:
    """Yield the records in the directory of a listener; what is none is removed."""
    name = listener.name.replace("%2F", "/").replace("%25", "%")
    with os.scandir(listener.path) as uids:
        for uid in uids:
            if not uid.name.isdecimal() or not uid.is_dir(follow_symlinks=False):
                continue
            with os.scandir(uid.path) as entries:
                for entry in entries:
                    record = Record((name, int(uid.name)), entry.name, entry.path)
                    if os.path.exists(record.file("request.json")):
                        yield _taken_over(record)
                    else:
                        remove(entry.path)  # its server was killed while it was claimed: nothing had been started


def _taken_over(record: Record) -> Record:
    record.is_decided = True
    for name in ("stdout", "stderr"):
        with contextlib.suppress(OSError):
            record.size += os.stat(record.file(name)).st_size
    try:
        record.ended = os.stat(record.file("outcome.json")).st_mtime
    except FileNotFoundError:
        record.ended = time.time()
        reason = "the server was killed before the call ended"
        _write_outcome(record, {"outcome": LOST, "reason": reason, "ended": round(record.ended, 3)})
    return record


def _open_directory(path: str) -> int:
    """Return a descriptor of the directory, which is locked by that."""
    try:
        os.makedirs(path, 0o700, exist_ok=True)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(
            f"cannot use the directory of records {path!r}: {error.strerror}", "check `directory` under `[records]`"
        ) from error
    try:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigError(
                f"another user can write to the directory of records {path!r}",
                f"run `chown {os.geteuid()} {path}` and `chmod go-w {path}`, or choose another one",
            )
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise ConfigError(
            f"another server uses the directory of records {path!r}", "give each service a directory of its own"
        ) from error
    except ConfigError:
        os.close(fd)
        raise
    return fd


def _write_new(record: Record, call: Call) -> None:
    """Write what is known at the start; the request comes last, and makes it a record."""
    room = os.open(record.file("outcome.new"), _NEW, 0o600)
    try:
        os.posix_fallocate(room, 0, _OUTCOME_ROOM)
    finally:
        os.close(room)
    if call.is_detached:
        for name in ("stdout", "stderr"):
            os.close(os.open(record.file(name), _NEW, 0o600))
    request = {
        "call": call.id,
        "listener": call.owner.listener,
        "uid": call.owner.peer.uid,
        "gid": call.owner.peer.gid,
        "command": call.command,
        "parameters": call.parameters,
        "directory": call.directory,
        "environment": call.environment_names(),
        "detached": call.is_detached,
        "time": round(time.time(), 3),
        "digest": digest(call.request),
    }
    fd = os.open(record.file("request.json"), _NEW, 0o600)
    with open(fd, "wb") as file:
        file.write(as_json(request).encode())


def _write_outcome(record: Record, outcome: dict[str, object]) -> None:
    text = as_json(outcome).encode()
    new = record.file("outcome.new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(text)
        file.truncate()
    os.rename(new, record.file("outcome.json"))


def as_json(fields: dict[str, Any]) -> str:
    """Return fields as JSON, in ASCII alone."""
    return json.dumps(fields, default=str)


def digest(request: Request) -> str:
    """Return what two requests have in common if they ask for the same."""
    try:  # without hashlib, which loads OpenSSL
        from _sha2 import sha512  # type: ignore[import-not-found,unused-ignore]
    except ImportError:  # before Python 3.12
        from _sha512 import sha512  # type: ignore[import-not-found,unused-ignore]

    asked = (request.command, request.arguments, request.environment, request.directory, request.base, request.options)
    return str(sha512(repr(asked).encode()).hexdigest())
