"""One call, made and seen through to its outcome. The exec path: it imports next to nothing."""

from __future__ import annotations

import errno
import os
import stat

from sidecall import __version__
from sidecall._record import Record
from sidecall.client.folders import folders_of
from sidecall.client.signals import SIGCONT, SIGINT, SIGSTOP, SIGTSTP, SignalWatch
from sidecall.errors import (
    EXIT_LOST,
    ConnectionLost,
    DescriptorsLost,
    LocalProtocolError,
    ProtocolError,
    ServiceUnavailable,
    SidecallError,
    UsageError,
    refusal,
)
from sidecall.outcome import EXITED, LOST, SIGNALED, TIMED_OUT, UNPLACED, Outcome, Usage
from sidecall.protocol import messages as m
from sidecall.protocol.connection import Connection
from sidecall.protocol.states import CALLER, IDLE
from sidecall.transport.address import connect
from sidecall.transport.channel import Channel
from sidecall.transport.loop import Poller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecall.transport.relay import Relay

_PATIENCE = 2
"""INT signals that the service is trusted to act on: it kills the command at the second. The next one leaves it."""

_ENDED = {
    m.ENDED_EXITED: EXITED,
    m.ENDED_SIGNALED: SIGNALED,
    m.ENDED_TIMED_OUT: TIMED_OUT,
    m.ENDED_UNPLACED: UNPLACED,
}
_ENDED_OTHERWISE = _ENDED.keys() - {m.ENDED_SIGNALED}
_LAST_SIGNAL = 64
"""SIGRTMAX. Source: signal(7)."""

_EXPLAINED = {
    TIMED_OUT: (
        "the command ran into its deadline and was stopped",
        "give it more time with `--timeout`, or in the service's configuration",
    ),
    UNPLACED: (
        "the command returned 0, but what it was to write could not be put into its place",
        "did it write the file that it was told to? The service's log says more",
    ),
}


class Request(Record):
    """What to call, and how.

    Attributes:
        path: the service's socket.
        command: the command's name.
        arguments: its arguments.
        environment: NAME=VALUE entries for it.
        directory: the working folder wanted, empty for the service's choice.
        timeout: seconds that it may run, 0 for no limit of the caller's.
        connect_wait: seconds to wait for the service to come up.
        may_wait: whether the call may wait in the queue.
        relay: relay every stream, pass none.
        forward_signals: send this process' signals to the command instead of acting on them.
    """

    path: str
    command: bytes
    arguments: tuple[bytes, ...] = ()
    environment: tuple[bytes, ...] = ()
    directory: bytes = b""
    timeout: float = 0.0
    connect_wait: float = 0.0
    may_wait: bool = True
    relay: bool = False
    forward_signals: bool = False


def make_call(
    request: Request,
    streams: tuple[int | None, int | None, int | None],
    on_queued: Callable[[int], None] = lambda _: None,
    on_started: Callable[[str], None] = lambda _: None,
) -> Outcome | bytes:
    """Make a call and wait for its outcome.

    Args:
        request: what to call.
        streams: this process' descriptors for the command's stdin, stdout and stderr; None for none. They stay
            open here.
        on_queued: called with the number of calls ahead if the call has to wait.
        on_started: called with the call's id once the command runs.

    Returns:
        How the command ended; or the JSON description of a command that was asked for its `--help`.

    Raises:
        ConnectionLost: the connection broke: whether and how the command ended is unknown.
        SidecallError: the call was refused; nothing was started.
    """
    for relay in (request.relay, True):
        modes = tuple(stream_mode(fd, relay=relay) for fd in streams)
        attempt = None
        try:
            attempt = _Attempt(request, streams, modes, on_queued, on_started)
            return attempt.run()
        except DescriptorsLost:
            if m.PASSED not in modes:
                raise
        except OSError as error:
            raise _shortage(error, asked=attempt is not None and attempt.asked) from error
    raise AssertionError("a call without passed descriptors cannot lose them")


def stream_mode(fd: int | None, *, relay: bool) -> int:
    """Return how a stream travels: passed unless it must not be.

    A terminal is relayed: O_NONBLOCK set on it by one side would hit the other. A directory is relayed: passed, it
    would lead out of a mount namespace. A closed descriptor is no stream.
    """
    if fd is None:
        return m.NULL
    try:
        is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
    except OSError:
        return m.NULL
    return m.RELAYED if relay or is_directory or os.isatty(fd) else m.PASSED


def _shortage(error: OSError, *, asked: bool) -> SidecallError:
    """Return what it means for a call that this process cannot do what it has to: it has no descriptor left, say."""
    reason = f"this process cannot go on: {error.strerror}"
    if asked:
        return ConnectionLost(f"{reason}; whether and how the command ended is unknown")
    return ServiceUnavailable(f"{reason}; nothing was started")


def _working_folder() -> bytes:
    """Return the working folder; nothing if it has been removed, which is no reason not to call."""
    try:
        return os.getcwdb()
    except FileNotFoundError:
        return b""


class _Attempt:
    """One connection's worth of a call."""

    def __init__(
        self,
        request: Request,
        streams: tuple[int | None, ...],
        modes: tuple[int, ...],
        on_queued: Callable[[int], None],
        on_started: Callable[[str], None],
    ) -> None:
        self._request = request
        self._modes = modes
        self._streams = streams
        self._on_queued = on_queued
        self._on_started = on_started
        self._result: Outcome | bytes | None = None
        self._error: SidecallError | None = None
        self._call_id = ""
        self._interrupts = 0
        self._loop = Poller()
        sock = connect(request.path, request.connect_wait)
        self._channel = Channel(self._loop, sock, Connection(CALLER), self._on_message, self._on_end)
        self._relay = self._open_relay() if m.RELAYED in modes else None

    @property
    def asked(self) -> bool:
        """Tell whether the call has been sent."""
        return self._channel.connection.states[CALLER] != IDLE

    def run(self) -> Outcome | bytes:
        signals = None
        try:
            if self._request.forward_signals:
                signals = SignalWatch(self._loop, m.SIGNALS, self._on_signal)
            self._send_request()
            while self._result is None and self._error is None:
                self._loop.run_once()
            if signals is not None:
                signals.close()  # from here on Ctrl-C ends the caller, not the ended command
            self._channel.close()
            self._flush()
        finally:
            if signals is not None:
                signals.close()
            if self._relay is not None:
                self._relay.close()
            self._channel.close()
        if self._error is not None:
            raise self._error
        assert self._result is not None  # noqa: S101 the loop ends with one of the two
        return self._result

    def _send_request(self) -> None:
        request, base = self._request, _working_folder()
        features = {m.PASSED: m.FEATURE_PASS, m.RELAYED: m.FEATURE_RELAY}
        needed = tuple(features[mode] for mode in sorted(set(self._modes)) if mode in features)
        call = m.Call(
            command=request.command,
            arguments=request.arguments,
            environment=request.environment,
            directory=request.directory,
            base=base,
            folders=folders_of(base, (request.directory, *request.arguments)),
            timeout_ms=max(1, round(request.timeout * 1000)) if request.timeout else 0,
            flags=0 if request.may_wait else m.FLAG_NO_WAIT,
            stdin=self._modes[0],
            stdout=self._modes[1],
            stderr=self._modes[2],
        )
        passed = [
            fd for fd, mode in zip(self._streams, self._modes, strict=True) if fd is not None and mode == m.PASSED
        ]
        hello = m.Hello(m.VERSION, needed, f"sidecall {__version__}")
        try:
            self._channel.send(hello, call, pass_descriptors=passed)
        except LocalProtocolError as error:
            raise UsageError(f"the call is too long: {error}", "send large things on stdin, or as a file") from error

    def _open_relay(self) -> Relay:
        from sidecall.transport.relay import Relay
        from sidecall.transport.streams import own_description

        relay = Relay(self._loop, self._channel)
        for stream, (fd, mode) in enumerate(zip(self._streams, self._modes, strict=True)):
            if fd is None or mode != m.RELAYED:
                continue
            if stream == m.STDIN:
                relay.read_from(stream, own_description(fd, os.O_RDONLY)[0])
            else:
                own, nonblocking = own_description(fd, os.O_WRONLY)
                relay.write_to(stream, own, nonblocking=nonblocking)
        return relay

    def _on_message(self, message: m.Message) -> None:
        if isinstance(message, m.Queued):
            self._on_queued(message.ahead)
        elif isinstance(message, m.Started):
            self._call_id = message.call_id
            if self._relay is not None:
                self._relay.start()
            self._on_started(message.call_id)
        elif isinstance(message, m.Refused):
            self._error = refusal(message.code, message.reason, message.hint)
        elif isinstance(message, m.Exit):
            self._on_exit(message)
        elif isinstance(message, m.Description):
            self._result = message.json
        elif isinstance(message, (m.Data, m.Eof, m.Window, m.Stop)) and self._relay is not None:
            self._relay.receive(message)

    def _on_end(self, error: SidecallError | None) -> None:
        if self._result is None and self._error is None:
            self._error = error or ConnectionLost(
                "the connection to the service was lost: whether and how the command ended is unknown",
                "look at the service's log before calling again",
            )

    def _on_signal(self, number: int) -> None:
        self._interrupts += number == SIGINT
        if self._interrupts > _PATIENCE:
            self._error = ConnectionLost(
                "interrupted again and again while the service does not act: how the command ended is unknown",
                "look at the service: is it stopped?",
            )
            return
        self._channel.send(m.Signal(number))
        if number == SIGTSTP:
            os.kill(os.getpid(), SIGSTOP)
            self._channel.send(m.Signal(SIGCONT))

    def _on_exit(self, end: m.Exit) -> None:
        by_signal = end.ended == m.ENDED_SIGNALED and 0 < end.value <= _LAST_SIGNAL
        if not by_signal and (end.ended not in _ENDED_OTHERWISE or not self._call_id):
            self._error = ProtocolError(f"the service reports an impossible end {end.ended}, {end.value}")
            return
        if not self._call_id:
            self._result = Outcome(SIGNALED, end.value, reason="interrupted before the command started")
            return
        kind = _ENDED[end.ended]
        reason, hint = _EXPLAINED.get(kind, ("", ""))
        self._result = Outcome(
            kind,
            0 if reason else end.value,
            core_dumped=bool(end.core_dumped),
            reason=reason,
            hint=hint,
            call_id=self._call_id,
            usage=Usage(
                queued=end.queued_us / 1e6,
                run=end.run_us / 1e6,
                user=end.user_us / 1e6,
                system=end.system_us / 1e6,
                max_rss=end.max_rss,
            ),
        )

    def _flush(self) -> None:
        """Write what arrived to where it belongs; an outcome whose output could not be written is none."""
        if self._relay is None:
            return
        self._relay.end_sinks()
        while self._relay.writing:
            self._loop.run_once()
        for stream, error in self._relay.write_errors.items():
            if error.errno != errno.EPIPE and isinstance(self._result, Outcome) and self._result.ok:
                name = ("stdin", "stdout", "stderr")[stream]
                self._result = Outcome(
                    LOST,
                    EXIT_LOST,
                    reason=f"the command returned 0, but its {name} could not be written: {error.strerror}",
                    call_id=self._call_id,
                    usage=self._result.usage,
                )
