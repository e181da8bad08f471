"""Requests to a server that start nothing: whether it responds, what can be called, which calls it has."""

from __future__ import annotations

import json
import select
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecall import __version__, texts
from sidecall.errors import ProtocolError, ServiceUnavailable, refusal
from sidecall.protocol import messages as m
from sidecall.protocol.connection import Connection
from sidecall.protocol.options import Details
from sidecall.protocol.states import CLIENT
from sidecall.transport.address import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from socket import socket


MALFORMED = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""What working with an answer raises that is not the expected JSON."""


def as_json(answer: bytes) -> str:
    """Return an answer as valid, printable JSON.

    Raises:
        ProtocolError: it is not JSON.
    """
    try:
        return json.dumps(json.loads(answer))
    except MALFORMED as error:
        raise ProtocolError("the answer of the server is not JSON") from error


@dataclass(frozen=True)
class PingReply:
    """A server that answered: its round-trip time in seconds, its software and its load."""

    round_trip: float
    software: str
    load: Details


def ping(path: str, connect_timeout: float = 0.0, timeout: float = 5.0) -> PingReply:
    """Check whether a server responds.

    Args:
        path: its socket.
        connect_timeout: seconds to wait for it to start.
        timeout: seconds to wait for the answer.

    Raises:
        SidecallError: no server is listening, or it does not answer as one does.
    """
    software, answer, seconds = _ask(path, m.Ping(), connect_timeout, timeout)
    if not isinstance(answer, m.Pong):
        raise _unexpected(m.Ping(), answer)
    return PingReply(seconds, software, Details(answer.details))


def describe(path: str, command: bytes = b"", connect_timeout: float = 0.0, timeout: float = 5.0) -> bytes:
    """Return the JSON description of what can be called; see `ping` for the rest.

    Raises:
        SidecallError: no server is listening, the command does not exist, or the answer is not a description.
    """
    _, answer, _ = _ask(path, m.Describe(command), connect_timeout, timeout)
    if not isinstance(answer, m.Description):
        raise _unexpected(m.Describe(command), answer)
    return answer.json


def calls(path: str, connect_timeout: float = 0.0, timeout: float = 5.0, *, with_ended: bool = False) -> bytes:
    """Return the calls of a server that this user is allowed to see, as a JSON array; see `ping`.

    Args:
        path: its socket.
        connect_timeout: seconds to wait for it to start.
        timeout: seconds to wait for the answer.
        with_ended: whether to return those that have ended and are recorded, too.

    Raises:
        SidecallError: no server is listening, or the answer is not a list of calls.
    """
    return _ask_for_calls(path, m.Status(int(with_ended)), connect_timeout, timeout)


def cancel(path: str, call_id: str, timeout: float = 5.0) -> bytes:
    """Cancel a call; return what it was, as a JSON array; see `ping`.

    Raises:
        UsageError: there is no such call, or this user is not allowed to see it.
        SidecallError: no server is listening, or the answer is not a list of calls.
    """
    return _ask_for_calls(path, m.Cancel(call_id), 0.0, timeout)


def remove(path: str, call_id: str, timeout: float = 5.0) -> bytes:
    """Remove the record of a call that has ended; return what it was, as a JSON array; see `ping`.

    Raises:
        UsageError: there is no such record, this user is not allowed to see it, or the call has not ended.
        SidecallError: no server is listening, or the answer is not a list of calls.
    """
    return _ask_for_calls(path, m.Remove(call_id), 0.0, timeout)


def _ask_for_calls(path: str, question: m.Message, connect_timeout: float, timeout: float) -> bytes:
    _, answer, _ = _ask(path, question, connect_timeout, timeout)
    if not isinstance(answer, m.Calls):
        raise _unexpected(question, answer)
    return answer.json


def _unexpected(question: m.Message, answer: m.Message) -> ProtocolError:
    name = type(question).__name__.upper()
    return ProtocolError(*texts.ANSWER_UNEXPECTED(request=name, answer=type(answer).__name__))


def _ask(path: str, question: m.Message, connect_timeout: float, timeout: float) -> tuple[str, m.Message, float]:
    """Return the server's software, its answer to a request, and how long that took, in seconds."""
    with connect(path, connect_timeout, timeout) as sock:
        began = time.monotonic()
        connection = Connection(CLIENT)
        hello = connection.send(m.hello(f"sidecall {__version__}"))
        software = ""
        try:
            sock.sendall(hello + connection.send(question))
            for message in _messages(sock, connection, began + timeout):
                if isinstance(message, m.Refused):
                    raise refusal(message.code, message.reason, message.hint)
                if isinstance(message, m.Hello):
                    software = message.software
                elif not isinstance(message, m.Notice):
                    return software, message, time.monotonic() - began
        except OSError:
            pass  # it has closed the connection
    raise ServiceUnavailable(*texts.CONNECTION_CLOSED(path=path))


def _messages(sock: socket, connection: Connection, deadline: float) -> Iterator[m.Message]:
    while select.select([sock], [], [], max(0.0, deadline - time.monotonic()))[0]:
        data = sock.recv(65536)
        if not data:
            return
        connection.receive_data(data)
        yield from connection.events()
    raise ServiceUnavailable(*texts.NO_ANSWER())
