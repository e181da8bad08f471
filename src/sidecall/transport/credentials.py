"""Who is at the other end, as the kernel tells it."""

from __future__ import annotations

from _socket import SO_PEERCRED, SOL_SOCKET, socket
from _struct import Struct

from sidecall._record import Record

_UCRED = Struct("iII")


class Peer(Record):
    """The peer's identity at the time it connected.

    There is no pid: across pid namespaces it is 0, and it may belong to somebody else by the time it is used.
    Source: unix(7), SO_PEERCRED.
    """

    uid: int
    gid: int


def peer_of(sock: socket) -> Peer:
    """Return who connected to, or listens on, the other end of a connected UNIX socket."""
    _pid, uid, gid = _UCRED.unpack(sock.getsockopt(SOL_SOCKET, SO_PEERCRED, _UCRED.size))
    return Peer(uid, gid)
