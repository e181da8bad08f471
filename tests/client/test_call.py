"""Calls against servers that answer one thing, or nothing: every wait ends, an end is known or reported as unknown."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from conftest import CLIENT, end, start, take_call
from sidecall.client import attempt
from sidecall.client.attempt import Reports, Request
from sidecall.client.call import make_call
from sidecall.errors import ConnectionLost, ServiceUnavailable
from sidecall.outcome import Outcome
from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HELLO = m.Hello(1, (), (b"later",), "test")


@pytest.fixture
def listener(directory: Path) -> Iterator[socket.socket]:
    """Return a socket that listens as the service `odd`."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(directory / "odd.sock"))
        sock.listen()
        yield sock


def answer(peer: socket.socket, *messages: m.Message) -> None:
    """Send messages."""
    peer.sendall(b"".join(map(encode, messages)))


def test_a_server_without_an_answer_is_given_up(listener: socket.socket) -> None:
    """It accepts nothing: after the connect timeout that is 69."""
    client = start("--connect-timeout", "0.1", "odd", "true")
    code, _, said = end_and_receive(client, listener)
    assert (code, said.splitlines()[0]) == (69, b"sidecall: the server does not answer")


def end_and_receive(client: subprocess.Popen[bytes], listener: socket.socket) -> tuple[int, bytes, bytes]:
    """Return how a client ended, then receive what it sent: descriptors that are under way keep its streams open."""
    client.wait(60)
    peer, _ = listener.accept()
    with peer:
        take_call(peer)
    return end(client)


def test_a_notice_is_printed_unless_quiet(listener: socket.socket) -> None:
    """On stderr, with its hint; nothing in it controls a terminal."""
    for options, expected in (((), b"sidecall: a \\x1b notice\nhint: do this\nsidecall: bare\n"), (("-q",), b"")):
        client = start(*options, "--no-stdin", "odd", "true")
        peer, _ = listener.accept()
        with peer:
            take_call(peer)
            notices = m.Notice("a \x1b notice", "do this"), m.Notice("bare", "")
            answer(peer, HELLO, m.Started("1"), *notices, m.Exit(0, 4, ()))
            assert end(client) == (4, b"", expected)


@pytest.mark.parametrize("mode", ["--no-stdin", "--relay"])
@pytest.mark.parametrize(
    ("reply", "status"), [(m.Refused(75, "cancelled", ""), -2), (m.Exit(m.ENDED_SIGNALED, 2, ()), -2), (None, 125)]
)
def test_a_signal_in_the_queue_ends_the_call(
    listener: socket.socket, mode: str, reply: m.Message | None, status: int
) -> None:
    """The client sends it, shuts its sending side down, and ends by it."""
    client = start(mode, "odd", "true", stdin=subprocess.DEVNULL)
    peer, _ = listener.accept()
    with peer:
        take_call(peer)
        answer(peer, HELLO, m.Queued(3))
        assert client.stderr is not None
        assert client.stderr.readline() == b"sidecall: waiting for a slot of odd, 3 ahead\n"
        client.send_signal(signal.SIGINT)
        received = b""
        while more := peer.recv(100):
            received += more
        assert received == encode(m.Signal(2))
        if reply is not None:
            answer(peer, reply)
        peer.close()
        assert end(client)[0] == status


def test_unknown_messages_that_can_be_ignored_are(listener: socket.socket) -> None:
    """So are unknown details; an unknown kind of end is an unknown outcome."""
    for ended, status in ((0, 6), (77, 125)):
        client = start("--no-stdin", "odd", "true")
        peer, _ = listener.accept()
        with peer:
            take_call(peer)
            answer(peer, HELLO)
            peer.sendall(b"\0\0\0\3\xc8new")
            answer(peer, m.Started("1"), m.Exit(ended, 6, (b"later=1", b"odd")))
            assert end(client)[0] == status


def test_a_need_that_the_client_does_not_have_is_named(listener: socket.socket) -> None:
    """Nothing is guessed."""
    client = start("--no-stdin", "odd", "true")
    peer, _ = listener.accept()
    with peer:
        take_call(peer)
        answer(peer, m.Hello(1, (b"flux",), (), "test"))
        code, _, said = end(client)
    assert (code, said.splitlines()[0]) == (
        76,
        b"sidecall: the server needs the feature 'flux', which this client does not have",
    )


def test_stopped_and_terminated_are_in_the_outcome(listener: socket.socket) -> None:
    """As the server reports them."""
    readable, writable = os.pipe()
    words = [CLIENT, "exec", "--no-stdin", "--outcome-fd", str(writable), "odd", "true"]
    client = subprocess.Popen(words, pass_fds=[writable], stderr=subprocess.PIPE)
    os.close(writable)
    peer, _ = listener.accept()
    with peer, open(readable, "rb") as outcome:
        take_call(peer)
        answer(peer, HELLO, m.Started("1"), m.Exit(1, 15, (b"stopped=shutdown", b"terminated=2")))
        assert b'"call": "1", "stopped": "shutdown", "terminated": 2, ' in outcome.read()
        assert end(client)[0] == -15


def serve_once(listener: socket.socket, *messages: m.Message) -> threading.Thread:
    """Answer one call in a thread, and keep the connection until the client closes it."""

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            take_call(peer)
            answer(peer, *messages)
            while peer.recv(1000):
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_a_call_is_reported_on_its_way(listener: socket.socket, directory: Path) -> None:
    """What is called back: queued, started, notices."""
    heard: list[object] = []
    reports = Reports(heard.append, heard.append, lambda *line: heard.append(line))
    thread = serve_once(listener, HELLO, m.Queued(1), m.Notice("n", "h"), m.Started("a-1"), m.Exit(0, 3, ()))
    outcome = make_call(Request(str(directory / "odd.sock"), b"true"), reports)
    thread.join()
    assert isinstance(outcome, Outcome)
    assert (outcome.exit_code, outcome.call_id, heard) == (3, "a-1", [1, ("n", "h"), "a-1"])


@pytest.mark.parametrize(
    ("constant", "messages", "error", "reason"),
    [
        ("ANSWER_TIMEOUT", (), ServiceUnavailable, "the server does not answer"),
        ("REPORT_MARGIN", (HELLO, m.Started("1")), ConnectionLost, "the timeout has passed, but the server does not"),
    ],
)
def test_every_wait_ends(
    listener: socket.socket, directory: Path, monkeypatch: pytest.MonkeyPatch,
    constant: str, messages: tuple[m.Message, ...], error: type[Exception], reason: str,
) -> None:  # fmt: skip
    """Neither a server without HELLO nor one that does not report a timeout holds a client."""
    monkeypatch.setattr(attempt, constant, 0.01)
    thread = serve_once(listener, *messages)
    with pytest.raises(error, match=reason):
        make_call(Request(str(directory / "odd.sock"), b"true", timeout=0.01))
    thread.join()
