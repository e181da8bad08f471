"""Questions to a service that start nothing: is it there, and what may be called."""

from __future__ import annotations

from typing import TYPE_CHECKING
from dataclasses import dataclass
import json
import select
import time

from sidecall import __version__
from sidecall.errors import ProtocolError, ServiceUnavailable, refusal
from sidecall.protocol import messages as m
from sidecall.protocol.connection import Connection
from sidecall.protocol.options import Details
from sidecall.protocol.states import CLIENT
from sidecall.transport.address import connect

if TYPE_CHECKING:
    from socket import socket
    from collections.abc import Iterator


MALFORMED = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""What working with an answer raises that is not the JSON it should be."""


def as_json(answer: bytes) -> str:
    """Return an answer as JSON that is known to be some, and to be printable.

    Raises:
        ProtocolError: it is none.
    """
    try:
        return json.dumps(json.loads(answer))
    except MALFORMED as error:
        raise ProtocolError("the service answered with something that is no JSON") from error


@dataclass(frozen=True)
class PingReply:
    """A service that answered: its round-trip time in seconds, its software and its load."""

    round_trip: float
    software: str
    load: Details


def ping(path: str, connect_timeout: float = 0.0, timeout: float = 5.0) -> PingReply:
    """Ask a service whether it is there.

    Args:
        path: its socket.
        connect_timeout: seconds to wait for it to start.
        timeout: seconds to wait for the answer.

    Raises:
        SidecallError: nobody listens, or what listens does not answer as a service does.
    """
    software, answer, seconds = _ask(path, m.Ping(), connect_timeout, timeout)
    if not isinstance(answer, m.Pong):
        raise ProtocolError(f"the service answered PING with {type(answer).__name__}")
    return PingReply(seconds, software, Details(answer.details))


def describe(path: str, command: bytes = b"", connect_timeout: float = 0.0, timeout: float = 5.0) -> bytes:
    """Return the JSON description of what may be called; see `ping` for the rest.

    Raises:
        SidecallError: nobody listens, the command does not exist, or the answer is none.
    """
    _, answer, _ = _ask(path, m.Describe(command), connect_timeout, timeout)
    if not isinstance(answer, m.Description):
        raise ProtocolError(f"the service answered DESCRIBE with {type(answer).__name__}")
    return answer.json


def calls(path: str, connect_timeout: float = 0.0, timeout: float = 5.0) -> bytes:
    """Return the calls that a service has, as far as this user may see them, as a JSON array; see `ping`.

    Raises:
        SidecallError: nobody listens, or the answer is none.
    """
    return _ask_for_calls(path, m.Status(), connect_timeout, timeout)


def cancel(path: str, call_id: str, timeout: float = 5.0) -> bytes:
    """Have a call stopped as if its caller had gone; return what it was, as a JSON array; see `ping`.

    Raises:
        UsageError: there is no such call, or this user may not see it.
        SidecallError: nobody listens, or the answer is none.
    """
    return _ask_for_calls(path, m.Cancel(call_id), 0.0, timeout)


def _ask_for_calls(path: str, question: m.Message, connect_timeout: float, timeout: float) -> bytes:
    _, answer, _ = _ask(path, question, connect_timeout, timeout)
    if not isinstance(answer, m.Calls):
        raise ProtocolError(f"the service answered {type(question).__name__} with {type(answer).__name__}")
    return answer.json


def _ask(path: str, question: m.Message, connect_timeout: float, timeout: float) -> tuple[str, m.Message, float]:
    """Return the service's software, its answer to a question, and how long that took, in seconds."""
    sock = connect(path, connect_timeout)
    try:
        began = time.monotonic()
        connection = Connection(CLIENT)
        hello = connection.send(m.Hello(m.VERSION, (), tuple(sorted(m.FEATURES)), f"sidecall {__version__}"))
        sock.sendall(hello + connection.send(question))
        software = ""
        for message in _messages(sock, connection, began + timeout):
            if isinstance(message, m.Refused):
                raise refusal(message.code, message.reason, message.hint)
            if not isinstance(message, m.Hello):
                return software, message, time.monotonic() - began
            software = message.software
    except OSError as error:
        raise ServiceUnavailable(f"the connection to {path} broke: {error.strerror}") from error
    finally:
        sock.close()
    raise ServiceUnavailable(f"what listens on {path} closed the connection", "is it a bridge, or socat?")


def _messages(sock: socket, connection: Connection, deadline: float) -> Iterator[m.Message]:
    while select.select([sock], [], [], max(0.0, deadline - time.monotonic()))[0]:
        data = sock.recv(65536)
        if not data:
            return
        connection.receive_data(data)
        yield from connection.events()
    raise ServiceUnavailable("the service does not answer in time", "is it a bridge, or stopped?")
