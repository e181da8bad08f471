"""Passing descriptors over a socket: how a client sends them, and how a server looks for them without receiving any.

Source: cmsg(3), unix(7).
"""

from __future__ import annotations

import mmap
import os
from functools import cache
from socket import MSG_CTRUNC, MSG_PEEK, SCM_RIGHTS, SO_OOBINLINE, SOL_SOCKET, socket
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


def begin_at(sock: socket, size: int) -> bool:
    """Tell whether the next `size` bytes carry no descriptors, and what carries some begins right behind them.

    A peek alone does not tell: it goes on to the first buffer of the queue that carries some, however few bytes are
    asked for. So it is given memory that cannot be written behind the first `size` bytes. The kernel stops there,
    before it looks at that buffer's descriptors; and it stops earlier if a buffer has bytes on both sides.
    """
    try:
        peeked, _, flags, _ = sock.recvmsg_into([bytearray(size), _unwritable()], 0, MSG_PEEK)
    except OSError:  # EFAULT: the first buffer has bytes on both sides
        return False
    return peeked == size and not flags & MSG_CTRUNC


@cache
def _unwritable() -> mmap.mmap:
    """Return memory behind the end of its file: the kernel's write to it fails with EFAULT. Source: mmap(2)."""
    file = os.memfd_create("unwritable", os.MFD_CLOEXEC)
    try:
        os.ftruncate(file, mmap.PAGESIZE)
        memory = mmap.mmap(file, mmap.PAGESIZE)
        os.ftruncate(file, 0)
    finally:
        os.close(file)
    return memory
