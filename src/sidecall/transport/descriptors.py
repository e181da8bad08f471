"""Passing descriptors over a socket. Only the client's side: a server leaves receiving to supervisors.

Source: cmsg(3), unix(7).
"""

from __future__ import annotations

from socket import SCM_RIGHTS, SO_OOBINLINE, SOL_SOCKET, socket
from struct import pack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def send(sock: socket, data: bytes, descriptors: Sequence[int]) -> int:
    """Send bytes with descriptors attached to the first of them; return how many bytes went out."""
    if not descriptors:
        return sock.send(data)
    packed = pack(f"{len(descriptors)}i", *descriptors)
    return sock.sendmsg([data], [(SOL_SOCKET, SCM_RIGHTS, packed)])


def keep_urgent_inline(sock: socket) -> None:
    """Let an urgent byte (MSG_OOB) stand in line: outside it, a peek does not show the descriptors that it carries."""
    sock.setsockopt(SOL_SOCKET, SO_OOBINLINE, 1)
