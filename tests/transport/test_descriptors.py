"""Passing descriptors, and finding them in a socket's queue without receiving any."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from sidecall.transport import descriptors

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return two connected sockets."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def receive(sock: socket.socket, size: int) -> tuple[bytes, int]:
    """Receive bytes, and return how many descriptors came with them; close these."""
    data, passed, _, _ = socket.recv_fds(sock, size, 253)
    for fd in passed:
        os.close(fd)
    return data, len(passed)


def test_descriptors_arrive_with_the_first_byte(pair: tuple[socket.socket, socket.socket]) -> None:
    """They are the same files, in order."""
    assert descriptors.send(pair[0], b"xyz", [0, 2]) == 3
    data, passed, _, _ = socket.recv_fds(pair[1], 1, 3)
    assert data == b"x"
    assert [os.fstat(fd).st_ino for fd in passed] == [os.fstat(fd).st_ino for fd in (0, 2)]
    for fd in passed:
        os.close(fd)
    assert receive(pair[1], 10) == (b"yz", 0)


def test_without_descriptors_there_is_no_control_message(pair: tuple[socket.socket, socket.socket]) -> None:
    """A plain send, which works over any stream."""
    assert descriptors.send(pair[0], b"xyz", ()) == 3
    assert receive(pair[1], 10) == (b"xyz", 0)


def test_they_begin_right_behind_bytes_without_any(pair: tuple[socket.socket, socket.socket]) -> None:
    """Exactly that boundary is found, however many writes come before it, and nothing is taken out of the queue."""
    for piece in (b"ab", b"c", b"def"):
        pair[0].send(piece)
    descriptors.send(pair[0], b"PASS!", [0])
    pair[0].send(b"more")
    assert [size for size in range(1, 16) if descriptors.begin_at(pair[1], size)] == [2, 3, 6]
    assert receive(pair[1], 6) == (b"abcdef", 0)
    assert receive(pair[1], 5) == (b"PASS!", 1)


def test_the_rest_of_a_write_that_was_read_in_part_counts(pair: tuple[socket.socket, socket.socket]) -> None:
    """The boundary is where the buffer ends, wherever it began."""
    pair[0].send(b"abcdef")
    descriptors.send(pair[0], b"PASS!", [0])
    assert receive(pair[1], 4) == (b"abcd", 0)
    assert descriptors.begin_at(pair[1], 2)
    assert not descriptors.begin_at(pair[1], 1)
    receive(pair[1], 2)
    receive(pair[1], 5)


@pytest.mark.parametrize("earlier", [0, 3])
def test_descriptors_on_earlier_bytes_are_not_at_the_boundary(
    pair: tuple[socket.socket, socket.socket], earlier: int
) -> None:
    """They came with the bytes in front, or within one write with them."""
    if earlier:
        pair[0].send(b"a" * earlier)
    descriptors.send(pair[0], b"b" * (6 - earlier), [0])
    descriptors.send(pair[0], b"PASS!", [0])
    assert not descriptors.begin_at(pair[1], 6)
    while receive(pair[1], 100)[0] != b"PASS!":
        pass


def test_a_peek_leaves_no_descriptor(pair: tuple[socket.socket, socket.socket]) -> None:
    """Neither installed nor dropped: the receiver of the bytes still gets them."""
    before = len(os.listdir("/proc/self/fd"))
    pair[0].send(b"a")
    descriptors.send(pair[0], b"b", [0, 1, 2])
    for _ in range(10):
        assert descriptors.begin_at(pair[1], 1)
        assert len(os.listdir("/proc/self/fd")) == before
    assert receive(pair[1], 1) == (b"a", 0)
    assert receive(pair[1], 1) == (b"b", 3)


def test_an_urgent_byte_stands_in_line(pair: tuple[socket.socket, socket.socket]) -> None:
    """Its descriptors would be invisible to a peek, and closed with the socket."""
    descriptors.keep_urgent_inline(pair[1])
    pair[0].send(b"a")
    try:
        pair[0].sendmsg([b"!"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, b"\0\0\0\0")], socket.MSG_OOB)
    except OSError:
        pytest.skip("this kernel has no urgent bytes on UNIX sockets")
    assert receive(pair[1], 1) == (b"a", 0)
    _, _, flags, _ = pair[1].recvmsg(10, 0, socket.MSG_PEEK)
    assert flags & socket.MSG_CTRUNC
    assert receive(pair[1], 10) == (b"!", 1)
