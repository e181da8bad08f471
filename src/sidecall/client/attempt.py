"""One attempt at a call: one connection, from HELLO to the end, on any loop.

Every wait ends. A server that answers nothing is given up after the connect timeout, or ANSWER_TIMEOUT; one that does
not report the end of a call with a timeout, REPORT_MARGIN after that. The third signal in a row ends the client. Once a
call was stopped, output that a reader does not take is dropped after FLUSH_TIME. native/client/call.c decides alike.
"""

from __future__ import annotations

import errno
import math
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecall import __version__, texts
from sidecall.client.directory_ids import directory_ids
from sidecall.client.outcome import check_streams, outcome_of
from sidecall.client.streams import pipe_ids
from sidecall.errors import (
    ConnectionLost,
    LocalProtocolError,
    ProtocolError,
    ServiceUnavailable,
    SidecallError,
    UsageError,
    refusal,
)
from sidecall.outcome import DETACHED, SIGNALED, TIMED_OUT, Outcome
from sidecall.protocol import messages as m
from sidecall.protocol.connection import Connection
from sidecall.protocol.options import call_options
from sidecall.protocol.states import CLIENT, IDLE, SERVER, WAITING
from sidecall.transport.address import ANSWER_TIMEOUT
from sidecall.transport.channel import Channel
from sidecall.transport.hangups import HangUps
from sidecall.transport.relay import Relay
from sidecall.transport.streams import own_description

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

    from sidecall.client.outcome import End
    from sidecall.client.streams import Fds, StreamPlan
    from sidecall.client.terminal import Terminal
    from sidecall.transport.loop import Loop, Timer

PATIENCE = 2
"""Signals that the server is expected to act on: it kills the command at the second INT. The next ends the client."""

IN_A_ROW = 5.0
"""Seconds between signals that are counted together: a command can use INT for itself."""

REPORT_MARGIN = 30.0
"""Seconds after the timeout for the server's grace period, 10 s by default."""

FLUSH_TIME = 5.0
"""Seconds for output that a reader does not take, after the call was stopped."""

_INSISTENT = m.ENDING_SIGNALS - {signal.SIGUSR1, signal.SIGUSR2}
_ASKED_FOR_DESCRIPTION = {(b"--help",), (b"-h",)}
"""The arguments that a DESCRIPTION answers: PROTOCOL.md, section 5."""


@dataclass(frozen=True)
class Request:
    """What to call, and how.

    Attributes:
        path: the service's socket.
        command: the command's name.
        arguments: its arguments.
        environment: NAME=VALUE entries for it.
        directory: the working directory wanted, empty for the service's choice.
        timeout: seconds that it can run, 0 for no limit of the client's.
        connect_timeout: seconds to wait for the service to start.
        queue: whether the call can wait for a slot.
        relay: relay every stream, pass none.
        detach: the id of a call that outlives its client, empty for one that the server chooses; None for another call.
        streams: this process' descriptors for the command's stdin, stdout and stderr; None for none. They stay open
            here.
        terminal: the terminal of this process that the command's stands for; None if the command gets none.
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
    detach: bytes | None = None
    streams: Fds = (None, None, None)
    terminal: Terminal | None = None


@dataclass(frozen=True)
class Reports:
    """What is called back on the way of a call.

    Attributes:
        on_queued: called with the number of calls ahead if the call has to wait.
        on_started: called with the call's id once the command runs.
        on_notice: called with a line of the server for a person, and a hint that can be empty.
        on_lost_bytes: called with a line about an error of a relayed stream that does not change the outcome.
    """

    on_queued: Callable[[int], None] = lambda _: None
    on_started: Callable[[str], None] = lambda _: None
    on_notice: Callable[[str, str], None] = lambda _, __: None
    on_lost_bytes: Callable[[str], None] = lambda _: None


class Attempt:
    """`start` it, let the loop run until it is `done`, take the `result`.

    Whatever happens, `close` it; a call that has not ended is cancelled by that.

    Args:
        loop: where to wait.
        sock: a connection to the service; the attempt owns it.
        request: what to call.
        plan: how its streams travel, one of `streams.stream_plans`.
        reports: what to call back.
        on_done: called when the attempt is done, perhaps more than once.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket,
        request: Request,
        plan: StreamPlan,
        reports: Reports,
        *,
        on_done: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._request = request
        self._plan = plan
        self._reports = reports
        self._on_done = on_done
        self._channel = Channel(loop, sock, Connection(CLIENT), self._on_message, self._on_end)
        self._channel.start()
        self._relay: Relay | None = None
        self._hang_ups: HangUps | None = None
        self._unreadable = -1
        self._end: End | None = None
        self._call_id = ""
        self._interrupts = 0
        self._interrupted = -math.inf
        self._cancelled_by = 0
        self._timer: Timer | None = None

    @property
    def running(self) -> bool:
        """Tell whether the server has not reported yet how the call ended."""
        return self._end is None

    @property
    def done(self) -> bool:
        """Tell whether the call has ended, and all that arrived has been written."""
        return self._end is not None and not (self._relay is not None and self._relay.writing)

    def start(self) -> None:
        """Send the call.

        Raises:
            DescriptorsLost: the kernel does not pass the descriptors.
            UsageError: the call is too long.
            OSError: this process can have no more descriptors.
        """
        self._set_timer(self._request.connect_timeout or ANSWER_TIMEOUT, self._on_no_answer)
        if m.RELAYED in self._plan.modes:
            self._open_relay()
        passed = self._passed()
        needs = () if self._request.terminal is None else (m.TERMINAL_FEATURE,)
        hello = m.hello(f"sidecall {__version__}", needs)
        try:
            self._channel.send(hello, self._first_request())
        except LocalProtocolError as error:
            raise UsageError(f"the call is too long: {error}", texts.CALL_TOO_LONG.hint) from error
        if passed:
            self._channel.send(m.Pass(), pass_descriptors=passed)

    def signal(self, number: int) -> None:
        """Send a signal of this process to the command; stop with TSTP, as the command does."""
        if not self.running:
            return
        if number == signal.SIGWINCH:
            self._report_size()
            return
        if self._is_last_straw(number):
            if self._relay is not None:
                self._relay.close()  # nothing is flushed: the client ends at once
            self._finish_with(ConnectionLost(*texts.NOT_STOPPED()))
            return
        self.send_signal(number)
        if number == signal.SIGTSTP:
            self._restore_terminal()
            os.kill(os.getpid(), signal.SIGSTOP)
            self._channel.send(m.Signal(signal.SIGCONT))
        if number in {signal.SIGTSTP, signal.SIGCONT}:
            self._retake_terminal()

    def send_signal(self, number: int) -> None:
        """Send a signal to the command."""
        if not self.running:
            return
        self._channel.send(m.Signal(number))
        is_waiting = self._channel.connection.states[SERVER] == WAITING
        if number in m.ENDING_SIGNALS and is_waiting and not self._cancelled_by:
            self._cancelled_by = number  # a server that waits for PASS does not read SIGNAL, but finds the end
            self._channel.shut_down_sending()

    def resource_error(self, error: OSError) -> SidecallError:
        """Return what it means for the call that this process cannot continue: it has no descriptor left, for one."""
        reason = error.strerror or str(error)
        if self._channel.connection.states[CLIENT] == IDLE:
            return ServiceUnavailable(*texts.NOTHING_STARTED(error=reason))
        return ConnectionLost(f"cannot continue: {reason}; the exit status of the command is unknown")

    def cancel(self) -> None:
        """Have the server stop the call, and drop what it still sends; once it has ended nothing of it is left."""
        if self.running:
            self._channel.shut_down_sending()
            if self._relay is not None:
                self._relay.close()

    def close(self) -> None:
        """Close the connection and every descriptor of the attempt."""
        self._set_timer(0, None)
        self._restore_terminal()
        if self._relay is not None:
            self._relay.close()
        if self._hang_ups is not None:
            self._hang_ups.close()
            self._hang_ups = None
        if self._unreadable >= 0:
            os.close(self._unreadable)
            self._unreadable = -1
        self._channel.close()

    def result(self) -> Outcome | bytes:
        """Return how the call ended, or the description that was asked for; see `call.make_call`."""
        end = self._end
        assert end is not None  # noqa: S101 nobody asks before the attempt is done
        if self._relay is not None:
            end = check_streams(end, self._relay, self._reports.on_lost_bytes)
        if isinstance(end, SidecallError):
            raise end
        return end

    def _first_request(self) -> m.Message:
        """Return what is asked for."""
        request, base = self._request, _working_directory()
        stdin, stdout, stderr = modes = self._plan.modes
        return m.Call(
            command=request.command,
            arguments=request.arguments,
            environment=request.environment,
            directory=request.directory,
            base=base,
            directory_ids=directory_ids(base, (request.directory, *request.arguments)),
            options=call_options(
                request.timeout,
                can_queue=request.queue,
                pipes=pipe_ids(request.streams, modes),
                terminal=None if request.terminal is None else request.terminal.request,
                detach=request.detach,
            ),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )

    def _passed(self) -> list[int]:
        """Return the descriptors to pass."""
        streams = zip(self._request.streams, self._plan.modes, strict=True)
        passed = [fd for fd, mode in streams if fd is not None and mode == m.PASSED]
        if self._plan.is_stdin_unreadable:
            passed[0] = self._unreadable = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        return passed

    def _open_relay(self) -> None:
        self._hang_ups = HangUps(self._loop)
        relay = self._relay = Relay(self._loop, self._channel, self._tell, self._hang_ups)
        for stream, (fd, mode) in enumerate(zip(self._request.streams, self._plan.modes, strict=True)):
            if fd is None or mode != m.RELAYED:
                continue
            own, nonblocking = own_description(fd, os.O_RDONLY if stream == m.STDIN else os.O_WRONLY)
            if stream == m.STDIN:
                relay.read_from(stream, own, nonblocking=nonblocking)
            else:
                relay.write_to(stream, own, nonblocking=nonblocking)

    def _on_message(self, message: m.Message) -> None:
        if not self.running:
            return
        if isinstance(message, m.Hello):
            self._on_hello(message)
        elif isinstance(message, m.Queued):
            self._reports.on_queued(message.ahead)
        elif isinstance(message, m.Started):
            self._on_started(message.call_id)
        elif isinstance(message, m.Refused):
            self._on_refused(message)
        elif isinstance(message, m.Exit):
            self._finish_with(outcome_of(message, self._call_id))
        elif isinstance(message, m.Notice):
            self._reports.on_notice(message.notice, message.hint)
        elif isinstance(message, m.Description):
            self._on_description(message)
        elif isinstance(message, (m.Data, m.Eof, m.Window, m.Stop)) and self._relay is not None:
            self._relay.receive(message)

    def _on_hello(self, message: m.Hello) -> None:
        self._set_timer(0, None)
        if message.version != m.VERSION:
            self._finish_with(ProtocolError(*texts.VERSION_UNKNOWN(version=message.version, own=m.VERSION)))
        for need in message.needs:
            if need not in m.FEATURES:
                name = need[:100].decode(errors="backslashreplace")
                self._finish_with(ProtocolError(*texts.NEED_UNKNOWN(name=f"'{name}'")))

    def _on_started(self, call_id: str) -> None:
        self._call_id = call_id
        if self._request.detach is not None:
            self._finish_with(Outcome(DETACHED, call_id=call_id))
            return
        if self._request.timeout:
            self._set_timer(self._request.timeout + REPORT_MARGIN, self._on_timeout_ignored)
        self._reports.on_started(call_id)
        if self._request.terminal is not None:
            self._request.terminal.make_raw()
        if self._relay is not None:
            self._relay.start()

    def _retake_terminal(self) -> None:
        """Use the terminal again: while this process was stopped, a shell has, and its size can have changed."""
        if self._request.terminal is not None and self._call_id:
            self._request.terminal.make_raw()
        self._report_size()

    def _report_size(self) -> None:
        if self._request.terminal is not None:
            self._channel.send(m.Resize(*self._request.terminal.request[:2]))

    def _restore_terminal(self) -> None:
        if self._request.terminal is not None:
            self._request.terminal.restore()

    def _on_refused(self, message: m.Refused) -> None:
        if self._cancelled_by:
            self._finish_with(Outcome(SIGNALED, self._cancelled_by))
        else:
            self._finish_with(refusal(message.code, message.reason, message.hint))

    def _on_description(self, message: m.Description) -> None:
        if self._request.arguments in _ASKED_FOR_DESCRIPTION:
            self._finish_with(message.json)
        else:
            self._finish_with(ProtocolError(*texts.NOT_ASKED_TO_DESCRIBE()))

    def _on_end(self, error: SidecallError | None) -> None:
        self._finish_with(error or ConnectionLost(*texts.CONNECTION_LOST()))

    def _on_no_answer(self) -> None:
        self._finish_with(ServiceUnavailable(*texts.NO_ANSWER()))

    def _on_timeout_ignored(self) -> None:
        self._finish_with(ConnectionLost(*texts.TIMEOUT_IGNORED()))

    def _is_last_straw(self, number: int) -> bool:
        """Count a signal that asks to end; return whether it is the one that the client obeys itself."""
        if number not in _INSISTENT:
            return False
        now = time.monotonic()
        if now - self._interrupted > IN_A_ROW:
            self._interrupts = 0
        self._interrupted = now
        self._interrupts += 1
        return self._interrupts > PATIENCE

    def _finish_with(self, end: End) -> None:
        """Take the call as ended; what arrived is still to be written."""
        if self._end is not None:
            return
        self._end = end
        self._channel.close()
        self._set_timer(0, None)
        if self._relay is not None:
            self._relay.finish()
            if self._was_stopped:
                self._set_timer(FLUSH_TIME, self._drop_output)
        self._restore_terminal()
        self._tell()

    @property
    def _was_stopped(self) -> bool:
        """Tell whether the call was stopped, so that its reader has no claim on output that it does not take."""
        end = self._end
        by_server = isinstance(end, Outcome) and (end.stopped or end.kind == TIMED_OUT)
        return bool(by_server) or time.monotonic() - self._interrupted < REPORT_MARGIN

    def _drop_output(self) -> None:
        if self._relay is not None:
            self._relay.break_off(TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))

    def _set_timer(self, delay: float, callback: Callable[[], None] | None) -> None:
        """Call back after `delay` seconds, instead of what was set before."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay, callback) if callback is not None else None

    def _tell(self) -> None:
        if self.done:
            self._on_done()


def _working_directory() -> bytes:
    """Return the working directory; nothing if it has been removed, which is no reason not to call."""
    try:
        return os.getcwdb()
    except FileNotFoundError:
        return b""
