"""Relayed streams of one call: DATA, EOF, WINDOW and STOP between a channel and descriptors.

Both sides use it: the caller reads stdin and writes stdout and stderr, the service does the reverse.
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
"""Bytes consumed before they are granted again: few WINDOW frames, and three quarters still under way."""


class Relay:
    """The relayed streams of one side of a call. It owns the descriptors that it is given.

    Args:
        loop: where to wait.
        channel: where the messages go.
        on_change: called whenever a stream moved or ended.
        hang_ups: reports the readers that close their end while nothing is written to them, once the streams flow;
            without it only a write finds out.

    Attributes:
        errors: by which streams broke off before their end; EPIPE means that a reader has closed its end.
        moved: bytes that were read or written, of each stream.
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
        """Send what `fd` gives, to its end."""
        self._sources[stream] = Source(
            self._loop,
            fd,
            partial(self._on_data, stream),
            partial(self._on_end, stream),
            MAX_DATA,
            nonblocking=nonblocking,
        )

    def write_to(self, stream: int, fd: int, *, nonblocking: bool) -> None:
        """Write what arrives to `fd`, and close it at the end."""
        self._consumed[stream] = 0
        self._sinks[stream] = Sink(
            self._loop,
            fd,
            partial(self._on_written, stream),
            partial(self._on_closed, stream),
            nonblocking=nonblocking,
        )

    def start(self) -> None:
        """Let the streams flow; the protocol allows it once the command has started."""
        if self._hang_ups is not None:
            for sink in self._sinks.values():
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
        """End each source whose reader has room for more: nothing came although it could."""
        for stream, source in self._sources.items():
            if not source.closed and self._channel.connection.credit(stream):
                source.close()
                self._on_end(stream, None)

    def has_lost(self, stream: int) -> bool:
        """Tell whether bytes of a stream arrived and were not written."""
        return stream in self._sinks and self._sinks[stream].lost

    def break_off(self, error: OSError) -> None:
        """Write no more to any sink that has not ended, because of `error`."""
        for sink in self._sinks.values():
            sink.break_off(error)

    def finish(self) -> None:
        """Read no more, and end each sink once what arrived is written: the call is over."""
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
