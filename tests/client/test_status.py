"""Requests that start nothing, on servers that answer as they should or not."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from conftest import end, first_line, start
from sidecall.client.status import as_json, calls, cancel, describe, ping
from sidecall.errors import NoSuchCommand, ProtocolError, ServiceUnavailable, UsageError
from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Server

HELLO = m.Hello(1, (), (), "other 1.0")


@contextmanager
def answering(directory: Path, *messages: m.Message) -> Iterator[str]:
    """Serve one connection that gets these messages; yield the socket's path."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "odd.sock"))
        listener.listen()

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(b"".join(map(encode, messages)))

        thread = threading.Thread(target=serve)
        thread.start()
        yield str(directory / "odd.sock")
        thread.join()


def test_what_a_server_answers(tool: Server) -> None:
    """Load, description, calls; and a call is cancelled by its id."""
    path = str(tool.path)
    reply = ping(path)
    assert (reply.software[:9], reply.load.number(b"slots"), reply.round_trip > 0) == ("sidecall ", 4, True)
    assert json.loads(describe(path))["any_command"] is True
    assert calls(path) == b"[]"
    client = start("tool", "sh", "-c", "echo ready; exec sleep 60")
    first_line(client)
    (row,) = json.loads(calls(path))
    assert json.loads(cancel(path, row["call"]))[0]["call"] == row["call"]
    assert end(client)[0] == -15
    with pytest.raises(UsageError):
        cancel(path, row["call"])


def test_a_refusal_is_raised(directory: Path) -> None:
    """With the reason and the hint of the server."""
    with answering(directory, HELLO, m.Refused(127, "no such command: 'x'", "y")) as path:
        with pytest.raises(NoSuchCommand) as error:
            describe(path, b"x")
        assert (error.value.reason, error.value.hint) == ("no such command: 'x'", "y")


def test_another_answer_violates_the_protocol(directory: Path) -> None:
    """A notice before the answer is none."""
    reason = "the server answered PING with Calls"
    with (
        answering(directory, HELLO, m.Notice("n", ""), m.Calls(b"[]")) as path,
        pytest.raises(ProtocolError, match=reason),
    ):
        ping(path)


def test_a_server_that_closes_has_not_answered(directory: Path) -> None:
    """As a bridge does whose program exits."""
    reason = "closed the connection without an answer"
    with answering(directory) as path, pytest.raises(ServiceUnavailable, match=reason):
        ping(path)


def test_a_server_that_is_silent_is_given_up(directory: Path) -> None:
    """It listens, and accepts nothing."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "odd.sock"))
        listener.listen()
        with pytest.raises(ServiceUnavailable, match="the server does not answer"):
            ping(str(directory / "odd.sock"), timeout=0.01)


def test_an_answer_is_printed_only_as_json() -> None:
    """What is not JSON is an error."""
    assert as_json(b'{"a":1}') == '{"a": 1}'
    with pytest.raises(ProtocolError):
        as_json(b"\xff")
