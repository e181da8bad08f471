"""Calls that outlive their clients: who follows them, and who follows their records.

A detached call is handed over by its session before its command starts. From then on it counts as its owner's in the
place of a connection, is listed, cancelled and shut down as any other one, and nothing that happens to the client
changes anything. The session, and every other one that submits the same id, waits for the record to be decided.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sidecall.calls.events import LOST
from sidecall.calls.outcome import exit_of
from sidecall.calls.streams import FileStreams
from sidecall.errors import UsageError
from sidecall.protocol import messages as m

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from sidecall.calls.call import Call
    from sidecall.calls.outcome import End
    from sidecall.calls.records import Record
    from sidecall.errors import SidecallError
    from sidecall.server.service import CallService
    from sidecall.transport.channel import ServerChannel

POLL = 0.1
"""Seconds between two looks for output."""


_UNRECORDED = {"outcome": LOST, "reason": "the end of the call could not be recorded"}


class Claimed(UsageError):
    """The id of a call is taken.

    Args:
        record: the record that has it.
        is_same: whether that is of the same request: it is answered as the first one was.
    """

    def __init__(self, record: Record, *, is_same: bool) -> None:
        if is_same:
            super().__init__(f"the client has joined the call {record.id!r}, which was made before")
        else:
            super().__init__(
                f"the id {record.id!r} is that of a call with another request",
                "use another id, or remove that call with `sidecall rm` once it has ended",
            )
        self.record = record
        self.is_same = is_same


class Detached:
    """Follows a detached call in the place of a session.

    Args:
        service: what it is a call of.
        call: the call.
        record: its record.
        reserved: bytes that count as its owner's.

    Attributes:
        owner: whose it is.
        call: see above.
        record: see above.
        reserved: see above.
    """

    def __init__(self, service: CallService, call: Call, record: Record, reserved: int) -> None:
        self.owner = call.owner
        self.call: Call | None = call
        self.record = record
        self.reserved = reserved
        self._service = service

    @property
    def channel(self) -> ServerChannel:
        """Return nothing: there is no connection any more, and nothing that needs it happens."""
        raise AssertionError("a detached call has no connection")

    @property
    def has_left(self) -> bool:
        """Tell that the call goes on without its client."""
        return False

    def streams(self, _modes: tuple[int, int, int], _on_change: Callable[[], None]) -> FileStreams:
        """Return the files of the record."""
        return FileStreams(self.record.file("stdout"), self.record.file("stderr"))

    def on_queued(self, ahead: int) -> None:
        """Report nothing: the call has its slot."""

    def on_started(self, call_id: str) -> None:
        """Report nothing: the record has it by its event."""

    def on_notice(self, notice: str, hint: str) -> None:
        """Report nothing: the record has it."""

    def on_ended(self, end: End) -> None:
        """Report nothing: see above."""

    def on_refused(self, error: SidecallError) -> None:
        """Report that the command could not be started; the claim on its id is gone by now."""
        self.record.refusal = error

    def on_done(self) -> None:
        """Let go of the call."""
        self.record.is_decided = True
        self.record.notify()
        self._service.forget(self)
        self.call = None

    def stop(self, cause: str, grace: float | None = None) -> None:
        """Stop the call, within `grace` seconds (None: its own)."""
        if self.call is not None:
            self.call.stop(cause, grace)

    def reject_queued(self) -> None:
        """Let the call go on: it runs."""


class RecordReader:
    """Sends what a record has, and what its command still writes, over a connection.

    Args:
        loop: where to wait.
        channel: the client's.
        record: the record, of a command that has been started.
        request: what the client wants of it.
        on_done: called when all has been sent.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        channel: ServerChannel,
        record: Record,
        request: m.Follow,
        on_done: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._channel = channel
        self._record = record
        self._outcome: dict[str, Any] = {}
        self._waits = bool(request.wait)
        self._on_done = on_done
        self._timer: asyncio.Handle | None = None
        self._files: dict[int, int] = {}
        before = record.offsets(request.since) if request.since else (0, 0)
        self._offsets = {m.STDOUT: before[0], m.STDERR: before[1]}
        for stream, name in ((m.STDOUT, "stdout"), (m.STDERR, "stderr")):
            if request.streams[stream] == m.RELAYED:
                self._files[stream] = _open(record.file(name))
        record.watchers[self.go_on] = None

    def receive(self, message: m.Message) -> None:
        """Act on a message about a stream."""
        if isinstance(message, m.Stop):
            self._close(message.stream)
        self.go_on()

    def go_on(self) -> None:
        """Send what there is and the client has room for, a piece of each stream at a time."""
        if self._channel.closed:
            self.close()
            return
        self._stop_timer()
        if self._record.ended and not self._outcome:  # read now: the record can be removed from here on
            self._outcome = self._record.read("outcome.json") or _UNRECORDED
        is_last = bool(self._outcome) or not self._waits  # before reading: what is written meanwhile is not missed
        has_sent = False
        for stream in list(self._files):
            room = min(self._channel.connection.credit(stream), m.MAX_DATA)
            data = os.pread(self._files[stream], room, self._offsets[stream]) if room else b""
            if data:
                self._offsets[stream] += len(data)
                self._channel.send(m.Data(stream, data))
                has_sent = True
            elif room and is_last:
                self._close(stream)
                self._channel.send(m.Eof(stream))
        if has_sent:
            self._timer = self._loop.call_soon(self.go_on)
        elif not self._files and is_last:
            self._finish()
        elif not is_last and self._files:
            self._timer = self._loop.call_later(POLL, self.go_on)

    def close(self) -> None:
        """Let go of everything."""
        self._stop_timer()
        for stream in list(self._files):
            self._close(stream)
        self._record.watchers.pop(self.go_on, None)

    def _finish(self) -> None:
        self.close()
        if self._waits:
            self._channel.send(exit_of(self._outcome))
        self._on_done()

    def _close(self, stream: int) -> None:
        if stream in self._files:
            os.close(self._files.pop(stream))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _open(path: str) -> int:
    """Return a descriptor of a file; of an empty one if there is none: only a detached call has its output recorded."""
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
