"""The services whose sockets are in a directory, each with its state."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecall import texts
from sidecall.client.status import ping
from sidecall.errors import CallDenied, ServiceUnavailable, SidecallError
from sidecall.transport.address import directory_denied

if TYPE_CHECKING:
    from sidecall.client.status import PingReply

SERVING, BRIDGE, REFUSED = "serving", "bridge", "refused"
STALE, NOT_ANSWERING = "stale socket", "not answering"

_AT_ONCE = 32
"""Sockets that are asked at once: one that does not answer holds up no other."""


@dataclass(frozen=True)
class ServiceState:
    """A socket in the directory.

    Attributes:
        name: what `sidecall exec` calls it.
        state: one of the states above.
        reason: why it is not `serving`; empty if it is.
        reply: its answer; None if it is not `serving`.
    """

    name: str
    state: str
    reason: str = ""
    reply: PingReply | None = None


def services(directory: str, timeout: float = 5.0) -> list[ServiceState]:
    """Return the services of a directory, by name.

    Args:
        directory: where their sockets are.
        timeout: seconds for each to answer.

    Raises:
        ServiceUnavailable: there is no such directory.
        CallDenied: this user is not allowed to list it.
    """
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(".sock"))
    except PermissionError as error:
        raise directory_denied(directory, "read") from error
    except OSError as error:
        raise ServiceUnavailable(*texts.SOCKETS_MISSING(directory=directory)) from error
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda name: _state(directory, name, timeout), names))


def _state(directory: str, name: str, timeout: float) -> ServiceState:
    path, shown = os.path.join(directory, name), name.removesuffix(".sock")
    try:
        reply = ping(path, timeout=timeout)
        if reply.load.number(b"bridge"):
            return ServiceState(shown, BRIDGE, texts.IS_BRIDGE.reason)
        return ServiceState(shown, SERVING, reply=reply)
    except CallDenied as error:
        return ServiceState(shown, REFUSED, error.reason)
    except SidecallError as error:
        is_stale = error.reason == texts.SOCKET_STALE(path=path)[0]
        return ServiceState(shown, STALE if is_stale else NOT_ANSWERING, error.reason)
