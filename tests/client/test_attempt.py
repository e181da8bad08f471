"""One attempt at a call, on a loop that the test turns, against a server that is a bare socket."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from conftest import take_call
from sidecall.client import attempt as attempt_module
from sidecall.client.attempt import Attempt, Reports, Request
from sidecall.client.streams import StreamPlan
from sidecall.errors import ConnectionLost, ProtocolError, ServiceUnavailable, UsageError
from sidecall.outcome import EXITED, LOST, SIGNALED, Outcome
from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode
from sidecall.transport.loop import Poller

if TYPE_CHECKING:
    from collections.abc import Iterator

HELLO = m.Hello(1, (), (), "test")
NO_STREAMS = StreamPlan((m.NONE, m.NONE, m.NONE))
STDOUT_RELAYED = StreamPlan((m.NONE, m.RELAYED, m.NONE))


class Server:
    """The other end of an attempt."""

    def __init__(self) -> None:
        self.loop = Poller()
        self.ours, self.sock = socket.socketpair()

    def attempt(self, request: Request, plan: StreamPlan = NO_STREAMS) -> Attempt:
        """Start an attempt, and take what it sends."""
        made = Attempt(self.loop, self.ours, request, plan, Reports())
        made.start()
        take_call(self.sock)
        return made

    def answer(self, attempt: Attempt, *messages: m.Message) -> None:
        """Send messages, and turn the loop once: they come in one piece."""
        self.sock.sendall(b"".join(map(encode, messages)))
        if attempt.running:
            self.loop.run_once()


@pytest.fixture
def server() -> Iterator[Server]:
    """Return a server; both ends are closed after the test."""
    made = Server()
    yield made
    made.ours.close()
    made.sock.close()


@pytest.mark.parametrize("asked", ["--help", "-h"])
def test_a_description_is_an_answer_to_a_question_only(server: Server, asked: str) -> None:
    """What was not asked for is a violation, however it looks."""
    attempt = server.attempt(Request("x", b"c", (asked.encode(),)))
    server.answer(attempt, HELLO, m.Description(b"{}"))
    assert attempt.result() == b"{}"
    attempt.close()


@pytest.mark.parametrize("arguments", [(), (b"--help", b"more"), (b"--", b"--help"), (b"--helpful",)])
def test_a_description_that_was_not_asked_for_is_a_violation(server: Server, arguments: tuple[bytes, ...]) -> None:
    """It must not look like the success of a command."""
    attempt = server.attempt(Request("x", b"c", arguments))
    server.answer(attempt, HELLO, m.Description(b"{}"))
    with pytest.raises(ProtocolError):
        attempt.result()
    attempt.close()


def test_what_follows_the_end_changes_nothing(server: Server) -> None:
    """The first end counts."""
    attempt = server.attempt(Request("x", b"c"))
    server.answer(attempt, HELLO, m.Started("1"), m.Exit(0, 3, ()))
    attempt.signal(signal.SIGINT)
    attempt.cancel()
    outcome = attempt.result()
    assert isinstance(outcome, Outcome)
    assert (outcome.kind, outcome.value, outcome.call_id) == (EXITED, 3, "1")
    attempt.close()


def test_the_third_signal_in_a_row_ends_it(server: Server) -> None:
    """Signals that a command uses for itself are not counted."""
    attempt = server.attempt(Request("x", b"c"))
    server.answer(attempt, HELLO, m.Started("1"))
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH) * 3:
        attempt.signal(number)
    attempt.signal(signal.SIGINT)
    attempt.signal(signal.SIGTERM)
    assert attempt.running
    attempt.signal(signal.SIGINT)
    assert not attempt.running
    with pytest.raises(ConnectionLost, match="interrupted repeatedly"):
        attempt.result()
    attempt.close()


def test_signals_that_are_not_in_a_row_are_the_commands(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command can use SIGINT for itself, as an interactive one does."""
    monkeypatch.setattr(attempt_module, "IN_A_ROW", -1.0)
    attempt = server.attempt(Request("x", b"c"))
    server.answer(attempt, HELLO, m.Started("1"))
    for _ in range(10):
        attempt.signal(signal.SIGINT)
    assert attempt.running
    assert server.sock.recv(1000) == encode(m.Signal(2)) * 10
    attempt.close()


def test_a_signal_in_the_queue_is_the_end_whatever_the_server_refuses_with(server: Server) -> None:
    """The server finds the end of the stream; a signal that ends nothing does not shut it."""
    attempt = server.attempt(Request("x", b"c"))
    server.answer(attempt, HELLO, m.Queued(0))
    attempt.signal(signal.SIGCONT)
    attempt.signal(signal.SIGTERM)
    attempt.signal(signal.SIGINT)
    assert server.sock.recv(1000) == encode(m.Signal(18)) + encode(m.Signal(15))
    assert server.sock.recv(1) == b""
    server.answer(attempt, m.Refused(75, "cancelled", ""))
    outcome = attempt.result()
    assert isinstance(outcome, Outcome)
    assert (outcome.kind, outcome.value) == (SIGNALED, 15)
    attempt.close()


def test_cancelling_shuts_the_sending_side(server: Server) -> None:
    """It goes on until the server has reported the end."""
    attempt = server.attempt(Request("x", b"c"))
    server.answer(attempt, HELLO, m.Started("1"))
    attempt.cancel()
    assert attempt.running
    assert server.sock.recv(1) == b""
    server.answer(attempt, m.Exit(1, 15, (b"stopped=client",)))
    outcome = attempt.result()
    assert isinstance(outcome, Outcome)
    assert outcome.stopped == "client"
    attempt.close()


def test_output_is_written_before_it_is_done(server: Server) -> None:
    """An end that has been reported is not the end while a reader still has to take output."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    full = 0
    try:
        while True:
            full += os.write(writable, bytes(1 << 16))
    except BlockingIOError:
        pass
    attempt = server.attempt(Request("x", b"c", relay=True, streams=(None, writable, None)), STDOUT_RELAYED)
    os.close(writable)
    server.answer(attempt, HELLO, m.Started("1"), m.Data(1, b"rest"), m.Eof(1), m.Exit(0, 0, ()))
    assert (attempt.running, attempt.done) == (False, False)
    taken = b""
    while not attempt.done:
        taken += os.read(readable, 1 << 20)
        server.loop.run_once()
    attempt.close()
    taken += b"".join(iter(lambda: os.read(readable, 1 << 20), b""))
    os.close(readable)
    assert taken == bytes(full) + b"rest"
    outcome = attempt.result()
    assert isinstance(outcome, Outcome)
    assert outcome.exit_code == 0


def test_output_that_cannot_be_written_is_no_success(server: Server) -> None:
    """A full disk, though the command exited with 0."""
    with open("/dev/full", "wb") as full:
        request = Request("x", b"c", relay=True, streams=(None, full.fileno(), None))
        attempt = server.attempt(request, STDOUT_RELAYED)
        server.answer(attempt, HELLO, m.Started("1"), m.Data(1, b"lost"), m.Eof(1), m.Exit(0, 0, ()))
        while not attempt.done:
            server.loop.run_once()
        outcome = attempt.result()
        attempt.close()
    assert isinstance(outcome, Outcome)
    assert (outcome.kind, outcome.reason) == (LOST, "cannot write stdout: No space left on device")


def test_a_call_that_is_too_long_is_not_sent(server: Server) -> None:
    """It is the caller's mistake."""
    attempt = Attempt(server.loop, server.ours, Request("x", b"x" * m.CALL_LIMIT), NO_STREAMS, Reports())
    with pytest.raises(UsageError, match="the call is too long"):
        attempt.start()
    attempt.close()
    assert server.sock.recv(1) == b""


def test_a_shortage_before_the_call_is_told_from_one_after_it(server: Server) -> None:
    """Before it nothing was started; after it nothing is known."""
    attempt = Attempt(server.loop, server.ours, Request("x", b"c"), NO_STREAMS, Reports())
    assert isinstance(attempt.resource_error(OSError(24, "Too many open files")), ServiceUnavailable)
    attempt.start()
    assert isinstance(attempt.resource_error(OSError(24, "Too many open files")), ConnectionLost)
    attempt.close()
