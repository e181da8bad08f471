"""Passing descriptors over a socket, with one owner at any time.

A received descriptor is in a `Descriptors` bag until somebody takes it; what is left is closed with the bag.
Facts from cmsg(3), unix(7) and DESIGN.md section 7.
"""

from __future__ import annotations

import os
import stat
from _socket import CMSG_LEN, MSG_CMSG_CLOEXEC, MSG_CTRUNC, SCM_RIGHTS, SOL_SOCKET, socket
from _struct import calcsize, pack, unpack

from sidecall.errors import ProtocolError, ServiceBusy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_DESCRIPTORS = 3
"""A call has three streams; nothing else is ever passed."""

_INT = calcsize("i")


class Descriptors:
    """Received descriptors that nobody has taken yet; `close` them in the end."""

    def __init__(self) -> None:
        self._owned: list[int] = []

    def __len__(self) -> int:
        return len(self._owned)

    def add(self, received: Sequence[int]) -> None:
        """Become the owner of `received`."""
        self._owned += received

    def take(self) -> int:
        """Hand the oldest descriptor over to the caller of this method, who has to close it."""
        return self._owned.pop(0)

    def close(self) -> None:
        """Close every descriptor that was not taken."""
        while self._owned:
            os.close(self._owned.pop())


def send(sock: socket, data: bytes | memoryview, descriptors: Sequence[int]) -> int:
    """Send bytes with descriptors attached to the first of them; return how many bytes went out."""
    if not descriptors:
        return sock.send(data)
    packed = pack(f"{len(descriptors)}i", *descriptors)
    return sock.sendmsg([data], [(SOL_SOCKET, SCM_RIGHTS, packed)])


def receive(sock: socket, size: int, into: Descriptors) -> bytes:
    """Receive up to `size` bytes, and any descriptors with them into the bag.

    Raises:
        ProtocolError: more than three descriptors were sent, or a directory, which would lead out of a mount
            namespace.
        ServiceBusy: this process has no room for another descriptor, so that some were lost.
    """
    # CMSG_LEN, not CMSG_SPACE: the padding of the latter has room for a fourth descriptor.
    data, ancillary, flags, _ = sock.recvmsg(size, CMSG_LEN(MAX_DESCRIPTORS * _INT), MSG_CMSG_CLOEXEC)
    for level, kind, packed in ancillary:
        if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
            count = len(packed) // _INT
            into.add(unpack(f"{count}i", packed[: count * _INT]))
    if flags & MSG_CTRUNC and len(into) < MAX_DESCRIPTORS:
        raise ServiceBusy("the service has no descriptors left", "raise its limit of open files (ulimit -n)")
    if flags & MSG_CTRUNC or len(into) > MAX_DESCRIPTORS:
        raise ProtocolError(f"more than {MAX_DESCRIPTORS} descriptors were passed")
    for fd in into._owned:  # noqa: SLF001 the bag's own module
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise ProtocolError("a directory was passed as a stream", "pass files, pipes or sockets")
    return data
