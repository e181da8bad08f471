"""The identity of a peer, as the kernel reports it."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from socket import SO_PEERCRED, SOL_SOCKET, socket
from struct import Struct, iter_unpack

from sidecall._kernel import getsockopt

_UCRED = Struct("iII")

_SO_PEERGROUPS = 59
"""Linux 4.13; its number on x86 and Arm."""

_MOST_GROUPS = 65536
"""NGROUPS_MAX. Source: getgroups(2)."""

UNMAPPED = 65534
"""What the kernel reports for every uid and gid without a mapping: nobody is identified by it. Source:
user_namespaces(7)."""


@dataclass(frozen=True)
class Peer:
    """The peer's identity at the time it connected.

    There is no pid: across pid namespaces it is 0, and by the time it is used it can be another process'.
    Source: unix(7), SO_PEERCRED.

    Attributes:
        uid: its effective user id.
        gid: its effective group id.
        groups: its supplementary group ids.
    """

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


def uid_of(sock: socket) -> int:
    """Return the uid of the process that connected to, or listens on, the other end of a connected UNIX socket."""
    uid: int = _UCRED.unpack(sock.getsockopt(SOL_SOCKET, SO_PEERCRED, _UCRED.size))[1]
    return uid


def peer_of(sock: socket) -> Peer:
    """Return the identity of the process at the other end of a connected UNIX socket."""
    _pid, uid, gid = _UCRED.unpack(sock.getsockopt(SOL_SOCKET, SO_PEERCRED, _UCRED.size))
    return Peer(uid, gid, tuple(group for (group,) in iter_unpack("I", _groups(sock))))


def _groups(sock: socket) -> bytes:
    try:
        return sock.getsockopt(SOL_SOCKET, _SO_PEERGROUPS, 1024)
    except OSError as error:
        if error.errno == errno.ENOPROTOOPT:
            return b""
    return getsockopt(sock.fileno(), SOL_SOCKET, _SO_PEERGROUPS, _MOST_GROUPS * 4)
