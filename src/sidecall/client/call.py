"""One call, made and seen through to its outcome. The exec path: it imports next to nothing.

`Attempt` is the call itself, on any loop; `make_call` drives it by a loop of its own, `aio` by asyncio's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from dataclasses import dataclass
import errno
import fcntl
import os
import stat
from socket import SHUT_WR

from sidecall import __version__
from sidecall.client.directory_ids import directory_ids
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
from sidecall.outcome import EXITED, LOST, SIGNALED, TIMED_OUT, OUTPUT_FAILED, Outcome, Usage
from sidecall.protocol import messages as m
from sidecall.protocol.connection import Connection
from sidecall.protocol.options import STOPPED_BY, Details, call_options
from sidecall.protocol.states import CLIENT, IDLE
from sidecall.transport.address import connect
from sidecall.transport.channel import Channel
from sidecall.transport.loop import Poller

if TYPE_CHECKING:
    from socket import socket
    from collections.abc import Callable, Iterator, Mapping

    from sidecall.transport.loop import Loop
    from sidecall.transport.relay import Relay

    Fds = tuple[int | None, int | None, int | None]
    Modes = tuple[int, ...]

_PATIENCE = 2
"""INT signals that the service is trusted to act on: it kills the command at the second. The next one leaves it."""

_ENDED = {
    m.ENDED_EXITED: EXITED,
    m.ENDED_SIGNALED: SIGNALED,
    m.ENDED_TIMED_OUT: TIMED_OUT,
    m.ENDED_OUTPUT_FAILED: OUTPUT_FAILED,
}
_LAST_SIGNAL = 64
"""SIGRTMAX. Source: signal(7)."""

_ASKED_FOR_DESCRIPTION = {(b"--help",), (b"-h",)}
"""The arguments that a DESCRIPTION answers: PROTOCOL.md, section 5."""

_LOST_BYTES = ("stdin could not be read", "stdout could not be written", "stderr could not be written")

_EXPLAINED = {
    TIMED_OUT: (
        "the command timed out and was terminated",
        "raise `--timeout`, or `timeout` in the service configuration",
    ),
    OUTPUT_FAILED: (
        "the command exited with 0, but its output file could not be created",
        "check that the command writes the file it was given; see the service log",
    ),
    LOST: (
        "the service reports an end of a kind unknown to this client: the exit status of the command is unknown",
        "use the same release of sidecall on both sides",
    ),
}


@dataclass(frozen=True)
class Request:
    """What to call, and how.

    Attributes:
        path: the service's socket.
        command: the command's name.
        arguments: its arguments.
        environment: NAME=VALUE entries for it.
        directory: the working directory wanted, empty for the service's choice.
        timeout: seconds that it may run, 0 for no limit of the caller's.
        connect_timeout: seconds to wait for the service to start.
        queue: whether the call can wait for a slot.
        relay: relay every stream, pass none.
        streams: this process' descriptors for the command's stdin, stdout and stderr; None for none. They stay open
            here.
    """

    path: str
    command: bytes
    arguments: tuple[bytes, ...] = ()
    environment: tuple[bytes, ...] = ()
    directory: bytes = b""
    timeout: float = 0.0
    connect_timeout: float = 0.0
    queue: bool = True
    relay: bool = False
    streams: Fds = (None, None, None)


def make_call(
    request: Request,
    on_queued: Callable[[int], None] = lambda _: None,
    on_started: Callable[[str], None] = lambda _: None,
    *,
    forward_signals: bool = False,
) -> Outcome | bytes:
    """Make a call and wait for its outcome.

    An exception on the way, KeyboardInterrupt for one, cancels the call, and goes on once nothing of it is left; a
    second one at once.

    Args:
        request: what to call.
        on_queued: called with the number of calls ahead if the call has to wait.
        on_started: called with the call's id once the command runs.
        forward_signals: send this process' signals to the command instead of acting on them.

    Returns:
        How the command ended; or the JSON description of a command that was asked for its `--help`.

    Raises:
        ConnectionLost: the connection broke: whether and how the command ended is unknown.
        SidecallError: the call was refused; nothing was started.
    """
    for modes in stream_mode_plans(request):
        loop = Poller()
        sock = connect(request.path, request.connect_timeout)
        attempt = Attempt(loop, sock, request, modes, on_queued=on_queued, on_started=on_started)
        try:
            _run_to_completion(attempt, loop, forward_signals=forward_signals)
            return attempt.result()
        except DescriptorsLost:
            if m.PASSED not in modes:
                raise
        except OSError as error:
            raise attempt.resource_error(error) from error
    raise AssertionError("a call without passed descriptors cannot lose them")


def _run_to_completion(attempt: Attempt, loop: Poller, *, forward_signals: bool) -> None:
    signals = None
    try:
        if forward_signals:
            signals = SignalWatch(loop, m.SIGNALS, attempt.signal)
        attempt.start()
        _run(attempt, loop)
        if signals is not None:
            signals.close()  # from here on Ctrl-C ends the caller, not the ended command
        while not attempt.done:
            loop.run_once()
    finally:
        if signals is not None:
            signals.close()
        attempt.close()


def _run(attempt: Attempt, loop: Poller) -> None:
    try:
        while attempt.running:
            loop.run_once()
    except BaseException:
        attempt.cancel()
        while attempt.running:  # another exception leaves at once
            loop.run_once()
        raise


def stream_mode_plans(request: Request) -> Iterator[Modes]:
    """Yield how the streams can travel: as they should, and where descriptors do not get through, all relayed."""
    for relay in (request.relay, True):
        modes = [stream_mode(fd, relay=relay) for fd in request.streams]
        if modes[1:] == [m.RELAYED, m.RELAYED] and _are_one_file(request.streams[1], request.streams[2]):
            modes[2] = m.SAME_AS_STDOUT
        yield tuple(modes)


def _are_one_file(first: int | None, second: int | None) -> bool:
    """Tell whether two descriptors are the same file, opened alike: output to both has to keep its order."""
    if first is None or second is None:
        return False
    one, other = os.fstat(first), os.fstat(second)
    if (one.st_dev, one.st_ino) != (other.st_dev, other.st_ino):
        return False
    return fcntl.fcntl(first, fcntl.F_GETFL) == fcntl.fcntl(second, fcntl.F_GETFL)


def stream_mode(fd: int | None, *, relay: bool) -> int:
    """Return how a stream travels: passed unless it must not be.

    A terminal is relayed: O_NONBLOCK set on it by one side would hit the other. A directory is relayed: passed, it
    would lead out of a mount namespace. A closed descriptor is no stream.
    """
    if fd is None:
        return m.NONE
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return m.NONE
    is_terminal = stat.S_ISCHR(mode) and os.isatty(fd)
    return m.RELAYED if relay or is_terminal or stat.S_ISDIR(mode) else m.PASSED


def _working_directory() -> bytes:
    """Return the working directory; nothing if it has been removed, which is no reason not to call."""
    try:
        return os.getcwdb()
    except FileNotFoundError:
        return b""


class Attempt:
    """One connection's worth of a call: `start` it, let the loop run until it is `done`, take the `result`.

    Whatever happens, `close` it; a call that has not ended is cancelled by that.

    Args:
        loop: where to wait.
        sock: a connection to the service; the attempt owns it.
        request: what to call.
        modes: how each of its streams travels, one of `stream_mode_plans`.
        on_queued: called with the number of calls ahead if the call has to wait.
        on_started: called with the call's id once the command runs.
        on_done: called when the attempt is done, perhaps more than once.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket,
        request: Request,
        modes: Modes,
        *,
        on_queued: Callable[[int], None] = lambda _: None,
        on_started: Callable[[str], None] = lambda _: None,
        on_done: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._request = request
        self._modes = modes
        self._on_queued = on_queued
        self._on_started = on_started
        self._on_done = on_done
        self._channel = Channel(loop, sock, Connection(CLIENT), self._on_message, self._on_end)
        self._channel.start()
        self._relay: Relay | None = None
        self._end: Outcome | bytes | SidecallError | None = None
        self._call_id = ""
        self._interrupts = 0

    @property
    def running(self) -> bool:
        """Tell whether the service has not said yet how the call ended."""
        return self._end is None

    @property
    def done(self) -> bool:
        """Tell whether the call has ended, and all that arrived is where it belongs."""
        return self._end is not None and not (self._relay is not None and self._relay.writing)

    def start(self) -> None:
        """Send the call.

        Raises:
            UsageError: it is too long.
            OSError: this process has no descriptors left for relaying.
        """
        if m.RELAYED in self._modes:
            self._open_relay()
        streams = zip(self._request.streams, self._modes, strict=True)
        passed = [fd for fd, mode in streams if fd is not None and mode == m.PASSED]
        hello = m.Hello(m.VERSION, (), tuple(sorted(m.FEATURES)), f"sidecall {__version__}")
        try:
            self._channel.send(hello, self._call())
            if passed:
                self._channel.send(m.Pass(), pass_descriptors=passed)
        except LocalProtocolError as error:
            raise UsageError(f"the call is too long: {error}", "send large things on stdin, or as a file") from error

    def signal(self, number: int) -> None:
        """Send a signal of this process to the command; stop with TSTP, as the command does."""
        self._interrupts += number == SIGINT
        if self._interrupts > _PATIENCE:
            self._finish_with(
                ConnectionLost(
                    "interrupted again and again while the service does not act: how the command ended is unknown",
                    "look at the service: is it stopped?",
                )
            )
            return
        self._channel.send(m.Signal(number))
        if number == SIGTSTP:
            os.kill(os.getpid(), SIGSTOP)
            self._channel.send(m.Signal(SIGCONT))

    def resource_error(self, error: OSError) -> SidecallError:
        """Return what it means for the call that this process cannot go on: it has no descriptor left, say."""
        reason = f"this process cannot go on: {error.strerror or error}"
        if self._channel.connection.states[CLIENT] == IDLE:
            return ServiceUnavailable(f"{reason}; nothing was started")
        return ConnectionLost(f"{reason}; whether and how the command ended is unknown")

    def cancel(self) -> None:
        """Have the service stop the call, and drop what it still says; once it has ended nothing of it is left."""
        if self.running:
            try:
                self._sock.shutdown(SHUT_WR)
            except OSError:
                pass  # the service is gone, and the end of the stream about to be read
            if self._relay is not None:
                self._relay.close()

    def close(self) -> None:
        """Close the connection and every descriptor of the attempt."""
        if self._relay is not None:
            self._relay.close()
        self._channel.close()

    def result(self) -> Outcome | bytes:
        """Return how the call ended, or the description that was asked for; see `make_call`."""
        if isinstance(self._end, SidecallError):
            raise self._end
        assert self._end is not None  # noqa: S101 nobody asks before the attempt is done
        if isinstance(self._end, Outcome) and self._end.ok and self._relay is not None:
            return _unless_lost(self._end, self._relay.errors)
        return self._end

    def _call(self) -> m.Call:
        request, base = self._request, _working_directory()
        return m.Call(
            command=request.command,
            arguments=request.arguments,
            environment=request.environment,
            directory=request.directory,
            base=base,
            directory_ids=directory_ids(base, (request.directory, *request.arguments)),
            options=call_options(request.timeout, can_queue=request.queue),
            stdin=self._modes[0],
            stdout=self._modes[1],
            stderr=self._modes[2],
        )

    def _open_relay(self) -> None:
        from sidecall.transport.relay import Relay
        from sidecall.transport.streams import own_description

        relay = self._relay = Relay(self._loop, self._channel, self._tell)
        for stream, (fd, mode) in enumerate(zip(self._request.streams, self._modes, strict=True)):
            if fd is None or mode != m.RELAYED:
                continue
            if stream == m.STDIN:
                relay.read_from(stream, own_description(fd, os.O_RDONLY)[0])
            else:
                own, nonblocking = own_description(fd, os.O_WRONLY)
                relay.write_to(stream, own, nonblocking=nonblocking)

    def _on_message(self, message: m.Message) -> None:
        if self._end is not None:
            return
        if isinstance(message, m.Hello):
            self._on_hello(message)
        elif isinstance(message, m.Queued):
            self._on_queued(message.ahead)
        elif isinstance(message, m.Started):
            self._call_id = message.call_id
            if self._relay is not None:
                self._relay.start()
            self._on_started(message.call_id)
        elif isinstance(message, m.Refused):
            self._finish_with(refusal(message.code, message.reason, message.hint))
        elif isinstance(message, m.Exit):
            self._finish_with(_end_of(message, self._call_id))
        elif isinstance(message, m.Description):
            self._finish_with(self._described(message))
        elif isinstance(message, (m.Data, m.Eof, m.Window, m.Stop)) and self._relay is not None:
            self._relay.receive(message)

    def _on_hello(self, message: m.Hello) -> None:
        if message.version != m.VERSION:
            self._finish_with(
                ProtocolError(f"the service speaks version {message.version} of the protocol, not {m.VERSION}")
            )
        for feature in message.needs:
            if feature not in m.FEATURES:
                name = feature.decode(errors="backslashreplace")
                self._finish_with(ProtocolError(f"the service needs the feature {name!r}, unknown to this client"))

    def _described(self, message: m.Description) -> bytes | ProtocolError:
        if self._request.arguments in _ASKED_FOR_DESCRIPTION:
            return message.json
        return ProtocolError("the service described the command instead of running it")

    def _on_end(self, error: SidecallError | None) -> None:
        self._finish_with(
            error
            or ConnectionLost(
                "the connection to the service was lost: whether and how the command ended is unknown",
                "look at the service's log before calling again",
            )
        )

    def _finish_with(self, end: Outcome | bytes | SidecallError) -> None:
        """Take the call as ended; what arrived is still to be written."""
        if self._end is not None:
            return
        self._end = end
        self._channel.close()
        if self._relay is not None:
            self._relay.finish()
        self._tell()

    def _tell(self) -> None:
        if self.done:
            self._on_done()


def _end_of(end: m.Exit, call_id: str) -> Outcome | ProtocolError:
    """Return what an EXIT reports; `call_id` is empty if the command has not been started."""
    details = Details(end.details)
    kind = _ENDED.get(end.ended, LOST)
    by_signal = kind == SIGNALED and 0 < end.value <= _LAST_SIGNAL
    if not by_signal and (kind == SIGNALED or not call_id):
        return ProtocolError(f"the service reports an impossible end {end.ended}, {end.value}")
    reason, hint = _EXPLAINED.get(kind, ("", ""))
    if not call_id:
        reason = "interrupted before the command started"
    return Outcome(
        kind,
        end.value if kind in {EXITED, SIGNALED} else 0,
        core_dumped=details.number(b"core-dumped") == 1,
        reason=reason,
        hint=hint,
        call_id=call_id,
        stopped=details.choice(b"stopped", STOPPED_BY),
        terminated=details.number(b"terminated"),
        usage=_usage(details) if call_id else None,
    )


def _usage(details: Details) -> Usage:
    queued, run, user, system = (
        details.number(name) / 1e6 for name in (b"queued-us", b"run-us", b"user-us", b"system-us")
    )
    return Usage(queued, run, user, system, details.number(b"max-rss"))


def _unless_lost(outcome: Outcome, errors: Mapping[int, OSError]) -> Outcome:
    """Return an outcome of 0; but a command has not succeeded if bytes from or to it are lost."""
    for stream, error in sorted(errors.items()):
        if error.errno != errno.EPIPE:
            return Outcome(
                LOST,
                EXIT_LOST,
                reason=f"the command returned 0, but its {_LOST_BYTES[stream]}: {error.strerror}",
                call_id=outcome.call_id,
                usage=outcome.usage,
            )
    return outcome
