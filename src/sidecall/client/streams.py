"""How the streams of a call travel: passed as descriptors, or relayed in frames."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecall.protocol.messages import IN_TERMINAL, NONE, PASSED, RELAYED, SAME_AS_STDOUT, STDERR, STDIN, STDOUT
from sidecall.transport.streams import is_open_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    Fds = tuple[int | None, int | None, int | None]


@dataclass(frozen=True)
class StreamPlan:
    """How the streams of one attempt travel.

    Attributes:
        modes: the mode of each stream, as in CALL.
        is_stdin_unreadable: whether, in place of stdin, a descriptor is passed that cannot be read.
    """

    modes: tuple[int, int, int]
    is_stdin_unreadable: bool = False

    @property
    def passes(self) -> bool:
        """Tell whether descriptors are passed."""
        return PASSED in self.modes


TERMINAL_PLAN = StreamPlan(IN_TERMINAL)
"""How the streams of a call in a terminal travel."""


def stream_plans(streams: Fds, *, relay: bool) -> Iterator[StreamPlan]:
    """Yield how streams can travel: as they should, then, where descriptors do not get through, all relayed.

    A stdin that cannot be read has to be one for the command too, or the command would take the error for the end of
    its input. No frame carries that. In its place goes a descriptor of /dev/null that is not open for reading.
    """
    modes = _modes(streams, relay=relay)
    stdin = streams[STDIN]
    if stdin is not None and modes[STDIN] == RELAYED and is_unreadable(stdin):
        yield StreamPlan((PASSED, *modes[1:]), is_stdin_unreadable=True)
    else:
        yield StreamPlan(modes)
    yield StreamPlan(_modes(streams, relay=True))


def _modes(streams: Fds, *, relay: bool) -> tuple[int, int, int]:
    stdin, stdout, stderr = (stream_mode(fd, relay=relay) for fd in streams)
    if stdout == stderr == RELAYED and are_one_file(streams[STDOUT], streams[STDERR]):
        stderr = SAME_AS_STDOUT
    return stdin, stdout, stderr


def pipe_ids(streams: Fds, modes: tuple[int, int, int]) -> Iterator[bytes]:
    """Yield for each stream of a call DEVICE:INODE if it is a pipe or a FIFO, which both ends of it share; else b""."""
    for fd, mode in zip(streams, modes, strict=True):
        status = os.fstat(fd) if fd is not None and mode != NONE else None
        is_pipe = status is not None and stat.S_ISFIFO(status.st_mode)
        yield b"%d:%d" % (status.st_dev, status.st_ino) if status is not None and is_pipe else b""


def stream_mode(fd: int | None, *, relay: bool) -> int:
    """Return how a stream travels: passed unless it must not be.

    A terminal is relayed: O_NONBLOCK set on it by one side would affect the other. A directory is relayed: passed, it
    would lead out of a mount namespace. A closed descriptor is no stream.
    """
    if fd is None:
        return NONE
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return NONE
    is_terminal = stat.S_ISCHR(mode) and os.isatty(fd)
    return RELAYED if relay or is_terminal or stat.S_ISDIR(mode) else PASSED


def is_unreadable(fd: int) -> bool:
    """Tell whether reading fails at once: a directory, a descriptor that is not for reading, a socket that listens."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISDIR(mode) or not is_open_for(fd, os.O_RDONLY):
        return True
    if not stat.S_ISSOCK(mode):
        return False
    with socket.socket(fileno=os.dup(fd)) as sock:
        try:
            sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
    return False


def are_one_file(first: int | None, second: int | None) -> bool:
    """Tell whether two descriptors are one file, opened alike: output to both has to keep its order."""
    if first is None or second is None:
        return False
    one, other = os.fstat(first), os.fstat(second)
    if (one.st_dev, one.st_ino) != (other.st_dev, other.st_ino):
        return False
    return fcntl.fcntl(first, fcntl.F_GETFL) == fcntl.fcntl(second, fcntl.F_GETFL)
