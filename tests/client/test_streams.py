"""How the streams of a call travel."""

from __future__ import annotations

import os
import pty
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from sidecall.client.streams import StreamPlan, are_one_file, is_unreadable, stream_mode, stream_plans
from sidecall.protocol.messages import NONE, PASSED, RELAYED, SAME_AS_STDOUT

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Return what closes descriptors after the test."""
    with ExitStack() as closing:
        yield closing


def opened(stack: ExitStack, path: str, flags: int) -> int:
    """Return a descriptor that is closed after the test."""
    fd = os.open(path, flags)
    stack.callback(os.close, fd)
    return fd


def test_a_stream_is_passed_unless_it_must_not_be(stack: ExitStack) -> None:
    """Terminals and directories are relayed, closed descriptors are none."""
    ours, theirs = pty.openpty()
    stack.callback(os.close, ours)
    stack.callback(os.close, theirs)
    null, root = opened(stack, os.devnull, os.O_RDWR), opened(stack, "/", os.O_RDONLY)
    given = (null, theirs, root, None, 9999)
    assert [stream_mode(fd, relay=False) for fd in given] == [PASSED, RELAYED, RELAYED, NONE, NONE]
    assert [stream_mode(fd, relay=True) for fd in given] == [RELAYED, RELAYED, RELAYED, NONE, NONE]


def test_what_cannot_be_read(stack: ExitStack) -> None:
    """Directories, descriptors for writing or for nothing, sockets that listen."""
    listener = stack.enter_context(socket.socket())
    listener.listen()
    one, other = (stack.enter_context(each) for each in socket.socketpair())
    other.send(b"x")
    unreadable = [
        opened(stack, "/", os.O_RDONLY),
        opened(stack, os.devnull, os.O_WRONLY),
        opened(stack, os.devnull, os.O_PATH),
        listener.fileno(),
    ]
    assert [is_unreadable(fd) for fd in unreadable] == [True] * 4
    readable = [opened(stack, os.devnull, os.O_RDONLY), one.fileno(), other.fileno()]
    assert [is_unreadable(fd) for fd in readable] == [False] * 3
    assert one.recv(10) == b"x"


def test_one_file_has_one_offset_and_one_mode(stack: ExitStack) -> None:
    """Descriptors of one file that are opened differently are two."""
    null = opened(stack, os.devnull, os.O_WRONLY)
    assert are_one_file(null, opened(stack, os.devnull, os.O_WRONLY))
    assert not are_one_file(null, opened(stack, os.devnull, os.O_WRONLY | os.O_APPEND))
    assert not are_one_file(null, opened(stack, "/dev/zero", os.O_WRONLY))
    assert not are_one_file(null, None)


def test_plans(stack: ExitStack) -> None:
    """The second plan relays all; a stdin that cannot be read is passed as such."""
    null, zero = opened(stack, os.devnull, os.O_RDWR), opened(stack, "/dev/zero", os.O_RDWR)
    all_relayed = StreamPlan((RELAYED, RELAYED, SAME_AS_STDOUT))
    passed = StreamPlan((PASSED, PASSED, PASSED))
    assert [*stream_plans((null, zero, zero), relay=False)] == [passed, all_relayed]
    assert [*stream_plans((null, zero, zero), relay=True)] == [all_relayed, all_relayed]
    root = opened(stack, "/", os.O_RDONLY)
    unreadable = StreamPlan((PASSED, RELAYED, RELAYED), is_stdin_unreadable=True)
    relayed = StreamPlan((RELAYED, RELAYED, RELAYED))
    assert [*stream_plans((root, null, zero), relay=True)] == [unreadable, relayed]
    assert (unreadable.passes, relayed.passes) == (True, False)
