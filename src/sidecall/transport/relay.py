"""Relayed streams of one call: DATA, EOF, WINDOW and STOP between a channel and descriptors.

The client reads stdin and writes stdout and stderr; the server does the reverse.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sidecall.protocol.messages import INITIAL_WINDOW, MAX_DATA, Data, Eof, Stop, Window
from sidecall.transport.streams import Sink, Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecall.transport.channel import Channel
    from sidecall.transport.hangups import HangUps
    from sidecall.transport.loop import Loop

    StreamMessage = Data | Eof | Window | Stop

_GRANT_AT = INITIAL_WINDOW // 4
"""Bytes consumed before they are granted again: few WINDOW frames, with three quarters of the window in flight."""


class Relay:
    """The relayed streams on one side of a call. It closes the descriptors that it gets.

    Args:
        loop: the event loop.
        channel: sends the messages.
        on_change: called whenever a stream has moved bytes or ended.
        hang_ups: reports readers that close their end while nothing is written to them; None: only a write detects it.

    Attributes:
        errors: the error that ended a stream early, by stream; EPIPE if its reader has closed its end.
        moved: bytes read or written, by stream.
    """

    def __init__(
        self,
        loop: Loop,
        channel: Channel,
        on_change: Callable[[], None] = lambda: None,
        hang_ups: HangUps | None = None,
    ) -> None:
        self._loop = loop
        self._channel = channel
        self._on_change = on_change
        self._hang_ups = hang_ups
        self._sources: dict[int, Source] = {}
        self._sinks: dict[int, Sink] = {}
        self._consumed: dict[int, int] = {}
        self.errors: dict[int, OSError] = {}
        self.moved = [0, 0, 0]

    def read_from(self, stream: int, fd: int, *, nonblocking: bool = False) -> None:
        """Read `fd` to its end and send that."""
        self._sources[stream] = Source(
            self._loop,
            fd,
            partial(self._on_data, stream),
            partial(self._on_end, stream),
            MAX_DATA,
            nonblocking=nonblocking,
        )

    def write_to(self, stream: int, fd: int, *, nonblocking: bool) -> None:
        """Write received bytes to `fd`, and close it at their end."""
        self._consumed[stream] = 0
        self._sinks[stream] = Sink(
            self._loop,
            fd,
            partial(self._on_written, stream),
            partial(self._on_closed, stream),
            nonblocking=nonblocking,
        )

    def start(self) -> None:
        """Start to read and write; the protocol allows that once the command has started.

        A call that was cancelled before is found to have started all the same: nothing is done for closed streams.
        """
        if self._hang_ups is not None:
            for sink in self._sinks.values():
                if not sink.closed:
                    self._hang_ups.add_writer(sink.fd, sink.on_hang_up)
        for stream in self._sources:
            self._allow(stream)

    def receive(self, message: StreamMessage) -> None:
        """Act on a message about one of the streams."""
        if isinstance(message, Data):
            self._sinks[message.stream].write(message.data)
        elif isinstance(message, Eof):
            self._sinks[message.stream].end()
        elif isinstance(message, Window):
            self._allow(message.stream)
        else:
            self._sources[message.stream].close()
        self._on_change()

    @property
    def reading(self) -> bool:
        """Tell whether a source has not ended."""
        return any(not source.closed for source in self._sources.values())

    @property
    def writing(self) -> bool:
        """Tell whether a sink has not ended."""
        return any(not sink.closed for sink in self._sinks.values())

    def end_idle_sources(self) -> None:
        """End each source whose receiver has credit left: nothing was read although it could be sent."""
        for stream, source in self._sources.items():
            if not source.closed and self._channel.connection.credit(stream):
                source.close()
                self._on_end(stream, None)

    def has_lost(self, stream: int) -> bool:
        """Return whether received bytes of a stream were not written."""
        return stream in self._sinks and self._sinks[stream].lost

    def break_off(self, error: OSError) -> None:
        """End each open sink with `error`; its pending bytes are dropped."""
        for sink in self._sinks.values():
            sink.break_off(error)

    def finish(self) -> None:
        """Stop reading, and end each sink when its pending bytes are written: the call has ended."""
        for source in self._sources.values():
            source.close()
        for sink in self._sinks.values():
            sink.end()

    def close(self) -> None:
        """Close every descriptor now."""
        for source in self._sources.values():
            source.close()
        for sink in self._sinks.values():
            sink.close()

    def _allow(self, stream: int) -> None:
        self._sources[stream].allow(self._channel.connection.credit(stream))

    def _on_data(self, stream: int, data: bytes) -> None:
        self.moved[stream] += len(data)
        self._channel.send(Data(stream, data))
        self._on_change()

    def _on_end(self, stream: int, error: OSError | None) -> None:
        if error is not None:
            self.errors[stream] = error
        self._channel.send(Eof(stream))
        self._on_change()

    def _on_written(self, stream: int, size: int) -> None:
        self.moved[stream] += size
        self._consumed[stream] += size
        if self._consumed[stream] >= _GRANT_AT:
            self._channel.send(Window(stream, self._consumed[stream]))
            self._consumed[stream] = 0

    def _on_closed(self, stream: int, error: OSError | None) -> None:
        if error is not None:
            self.errors[stream] = error
            self._channel.send(Stop(stream))
        self._on_change()
