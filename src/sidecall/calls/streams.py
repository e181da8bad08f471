"""The three streams of a call: the sources of the command's descriptors, and the relayed streams."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING, Protocol

from sidecall.protocol import messages as m
from sidecall.supervise.control import FROM_CLIENT, SAME_AS_STDOUT, UNWANTED
from sidecall.transport.relay import Relay
from sidecall.transport.terminal import open_terminal, set_size

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from sidecall.supervise.process import Sources
    from sidecall.transport.channel import ServerChannel
    from sidecall.transport.relay import StreamMessage

_NAMES = ("stdin", "stdout", "stderr")


def _wide_pipe() -> tuple[int, int]:
    """Return a pipe with room for all bytes that a stream can have in flight, so that few switches are needed."""
    readable, writable = os.pipe2(os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # the pipe buffers of a user are limited: pipe(7)
        fcntl.fcntl(writable, fcntl.F_SETPIPE_SZ, m.INITIAL_WINDOW)
    return readable, writable


class Streams(Protocol):
    """What a call needs of its streams."""

    @property
    def moved(self) -> dict[str, int]:
        """How many bytes of each stream went through the server."""
        ...

    @property
    def are_drained(self) -> bool:
        """Tell whether all output is where it belongs."""
        ...

    @property
    def has_terminal(self) -> bool:
        """Tell whether the command runs in a terminal of its own."""
        ...

    def open_terminal(self, rows: int, columns: int, owner: int | None) -> None:
        """Open a terminal for the command."""
        ...

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal another size."""
        ...

    def open(self, *, wants_stdin: bool) -> Sources:
        """Return where the command gets its streams from; `close_ends` once it has them."""
        ...

    def close_ends(self) -> None:
        """Close the command's ends here: the command has them now, or never will."""
        ...

    def start(self) -> None:
        """Let the streams flow: the command has been executed."""
        ...

    def end_idle(self) -> None:
        """End each output stream from which nothing came although there was room for it."""
        ...

    def close(self) -> None:
        """Close every descriptor."""
        ...


class FileStreams:
    """The streams of a call that has no client: an empty stdin, and files that the command appends to itself.

    Args:
        stdout: the path of the file for stdout, which is there.
        stderr: likewise for stderr.

    Attributes:
        moved: nothing: no byte goes through the server.
        are_drained: always.
        has_terminal: never.
    """

    def __init__(self, stdout: str, stderr: str) -> None:
        self.moved: dict[str, int] = {}
        self.are_drained = True
        self.has_terminal = False
        self._paths = (stdout, stderr)
        self._ends: list[int] = []

    def open_terminal(self, rows: int, columns: int, owner: int | None) -> None:
        """Open none: a call in a terminal has streams, so it is not detached."""

    def resize(self, rows: int, columns: int) -> None:
        """Change nothing: see above."""

    def open(self, *, wants_stdin: bool) -> Sources:  # noqa: ARG002 it is empty anyway
        """Return the descriptors for the command; `close_ends` once it has them.

        Raises:
            OSError: a file cannot be opened, or there is no room for another descriptor.
        """
        self._ends.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        for path in self._paths:
            self._ends.append(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC))
        return self._ends[0], self._ends[1], self._ends[2]

    def close_ends(self) -> None:
        """Close the command's ends here: the command has them now, or never will."""
        while self._ends:
            os.close(self._ends.pop())

    def start(self) -> None:
        """Let nothing flow: the command writes by itself."""

    def end_idle(self) -> None:
        """End nothing: see `start`."""

    def close(self) -> None:
        """Close every descriptor."""
        self.close_ends()


class ClientStreams:
    """The streams of a call that a client follows: passed descriptors, relayed streams, a terminal, or none.

    A terminal is one file for all three streams of the command. What the client sends as stdin is typed there, what
    appears there is sent as stdout. Once either ends the terminal hangs up, as one whose window was closed.

    Args:
        loop: the event loop.
        channel: the client's connection, whose socket holds the passed descriptors.
        modes: the mode of each stream.
        on_change: called whenever a relayed stream has moved bytes or ended.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        channel: ServerChannel,
        modes: tuple[int, int, int],
        on_change: Callable[[], None],
    ) -> None:
        self._channel = channel
        self._modes = modes
        self._relay = Relay(loop, channel, on_change)
        self._ends: list[int] = []
        self._terminal = -1

    @property
    def has_terminal(self) -> bool:
        """Tell whether the command runs in a terminal."""
        return self._terminal >= 0

    @property
    def moved(self) -> dict[str, int]:
        """Bytes of each relayed stream; those of passed streams do not cross the server."""
        return {name: self._relay.moved[i] for i, name in enumerate(_NAMES) if self._modes[i] == m.RELAYED}

    def open_terminal(self, rows: int, columns: int, owner: int | None) -> None:
        """Run the command in a terminal; see `transport.terminal.open_terminal`. Call it before `open`.

        Raises:
            ServiceUnavailable: there is none.
            OSError: no room for another descriptor.
        """
        self._terminal, end = open_terminal(rows, columns, owner)
        self._ends.append(end)
        self._relay.read_from(m.STDOUT, os.dup(self._terminal))
        self._relay.write_to(m.STDIN, os.dup(self._terminal), nonblocking=True)

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of the terminal, if there is one."""
        if self.has_terminal:
            set_size(self._terminal, rows, columns)

    def open(self, *, wants_stdin: bool) -> Sources:
        """Return the sources of the command's streams; call `close_ends` when the command has them.

        Raises:
            OSError: this process has no descriptor left.
        """
        if self.has_terminal:
            return self._ends[0], self._ends[0], SAME_AS_STDOUT
        return tuple(  # type: ignore[return-value]  # three, as the modes are
            self._source(stream, mode, wanted=wants_stdin or stream != m.STDIN)
            for stream, mode in enumerate(self._modes)
        )

    def close_ends(self) -> None:
        """Close the command's ends of relayed streams: it has them, or will not start."""
        while self._ends:
            os.close(self._ends.pop())

    def start(self) -> None:
        """Start to relay: the command has been executed."""
        self._relay.start()

    def receive(self, message: StreamMessage) -> None:
        """Act on a message about a stream."""
        if self.has_terminal and isinstance(message, (m.Eof, m.Stop)):
            self._hang_up()
        self._relay.receive(message)

    @property
    def are_drained(self) -> bool:
        """Return whether all output has been sent to the client, or the client has disconnected."""
        return self._channel.broken or not self._relay.reading

    def end_idle(self) -> None:
        """End each output stream that was idle although the client had credit."""
        self._relay.end_idle_sources()

    def close(self) -> None:
        """Close every descriptor."""
        self.close_ends()
        self._hang_up()

    def _hang_up(self) -> None:
        """Close every descriptor of the relay; the processes in a terminal get SIGHUP by that."""
        self._relay.close()
        if self.has_terminal:
            os.close(self._terminal)
            self._terminal = -1

    def _source(self, stream: int, mode: int, *, wanted: bool) -> int:
        if mode == m.PASSED:
            return FROM_CLIENT if wanted else UNWANTED
        if mode == m.SAME_AS_STDOUT:
            return SAME_AS_STDOUT
        end = self._relayed_end(stream) if mode == m.RELAYED else os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._ends.append(end)
        if not wanted and mode == m.RELAYED:  # the client's EOF or STOP ends what nobody reads
            os.close(self._ends.pop())
            self._ends.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        return self._ends[-1]

    def _relayed_end(self, stream: int) -> int:
        readable, writable = _wide_pipe()
        if stream == m.STDIN:
            os.set_blocking(writable, False)
            self._relay.write_to(stream, writable, nonblocking=True)
            return readable
        os.set_blocking(readable, False)
        self._relay.read_from(stream, readable)
        return writable
