"""What a server and a supervisor say to each other, over a SOCK_SEQPACKET socket of one host, in the machine's byte order.

`native/supervisor/line.h` says the same in C: change both.
"""

from __future__ import annotations

import array
import os
import socket
from struct import Struct
from typing import NamedTuple

VERSION_OF_CONTROL = "1"
"""Which messages these are: a native supervisor of another release does not serve."""

RUN, SIGNAL, STOP = 1, 2, 3
"""What a server says: run a job (with descriptors: stdin, stdout, stderr); signal the group; stop all."""

STARTED, FAILED, CHDIR_FAILED, EXITED = 4, 5, 6, 7
"""What a supervisor says: the command runs; could not be executed; its working directory cannot be entered; has ended, and
nothing of it is left."""

LONGEST_MESSAGE = 32 * 1024
"""Bytes of a job; a socket takes several such at once: net.core.wmem_default is 208 KiB. Source: socket(7)."""

_RUN = Struct("=BBBBiqIIiIIII4x")
_LIMIT = Struct("=QQ")
_ORDER = Struct("=B7xq")
_REPLY = Struct("=BBBxiQQQ")
REPLY_SIZE = _REPLY.size
"""Bytes that a supervisor's messages have."""

_NOBODY = 0xFFFFFFFF
"""No uid and no gid: chown(2)."""


class Job(NamedTuple):
    """What to run.

    Attributes:
        argv: the command's words.
        environ: its whole environment.
        directory: its working directory, None for the supervisor's own.
        grace: seconds between TERM and KILL.
        leave: leave helpers running when the command has ended by itself.
        uid: the user to become, None for the supervisor's.
        gid: the group to become, None for the supervisor's.
        groups: the supplementary groups to have, None for the supervisor's.
        umask: its file mode creation mask; -1 for the supervisor's.
        nice: how much less of a processor it wants: nice(2).
        limits: pairs of a resource (RLIMIT_…) and its limit: setrlimit(2).
    """

    argv: list[bytes]
    environ: dict[bytes, bytes]
    directory: bytes | None
    grace: float
    leave: bool
    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None
    umask: int = -1
    nice: int = 0
    limits: tuple[tuple[int, int], ...] = ()


class ResourceUsage(NamedTuple):
    """What all reaped processes of a job used. Source: getrusage(2).

    Attributes:
        user_us: user time, in microseconds.
        system_us: system time, likewise.
        max_rss: the peak memory of the largest, in KiB.
    """

    user_us: int = 0
    system_us: int = 0
    max_rss: int = 0


class Event(NamedTuple):
    """What a supervisor says.

    Attributes:
        kind: STARTED, FAILED, CHDIR_FAILED or EXITED.
        number: an error's (errno(3)), or the command's wait status (wait(2)).
        used: what the command and all that descends from it used.
        stopped: whether the command was still running when it was first stopped.
        left: whether helpers were left running on purpose; the supervisor ends.
    """

    kind: int
    number: int = 0
    used: ResourceUsage = ResourceUsage()
    stopped: bool = False
    left: bool = False


def encode_job(job: Job) -> bytes:
    """Return the message that says RUN: fixed fields, limits, groups, then strings that end with a NUL each."""
    groups = job.groups or ()
    directory = () if job.directory is None else (job.directory,)
    head = _RUN.pack(
        RUN,
        job.leave,
        job.directory is not None,
        job.groups is not None,
        job.umask,
        round(job.grace * 1e9),
        _NOBODY if job.uid is None else job.uid,
        _NOBODY if job.gid is None else job.gid,
        job.nice,
        len(groups),
        len(job.limits),
        len(job.argv),
        len(job.environ),
    )
    numbers = b"".join(_LIMIT.pack(*limit) for limit in job.limits) + array.array("I", groups).tobytes()
    return head + numbers + b"\0".join((*directory, *job.argv, *map(b"=".join, job.environ.items()), b""))


def decode_job(message: bytes) -> Job:
    """Return the job that a message of `encode_job` is about."""
    _, leave, has_directory, has_groups, umask, grace, uid, gid, nice, *counts = _RUN.unpack_from(message)
    group_count, limit_count, argc, _ = counts
    groups_at = _RUN.size + _LIMIT.size * limit_count
    strings_at = groups_at + 4 * group_count
    groups = array.array("I", message[groups_at:strings_at])
    strings = message[strings_at:].split(b"\0")[:-1]
    words, variables = strings[has_directory : has_directory + argc], strings[has_directory + argc :]
    return Job(
        argv=words,
        environ={name: value for name, _, value in (entry.partition(b"=") for entry in variables)},
        directory=strings[0] if has_directory else None,
        grace=grace / 1e9,
        leave=bool(leave),
        uid=None if uid == _NOBODY else uid,
        gid=None if gid == _NOBODY else gid,
        groups=tuple(groups) if has_groups else None,
        umask=umask,
        nice=nice,
        limits=tuple(_LIMIT.iter_unpack(message[_RUN.size : groups_at])),
    )


def send_job(line: socket.socket, job: Job, streams: tuple[int, int, int]) -> None:
    """Say RUN, with a job. One that is too long for a message travels as a file in memory.

    Raises:
        OSError: there is no room for another descriptor, or the peer is gone.
    """
    message = encode_job(job)
    if len(message) <= LONGEST_MESSAGE:
        socket.send_fds(line, [message], streams)
        return
    file = os.memfd_create("job")
    try:
        with open(file, "wb", closefd=False) as stream:
            stream.write(message)
        socket.send_fds(line, [message[:1]], [*streams, file])
    finally:
        os.close(file)


def read_job(message: bytes, descriptors: list[int]) -> Job:
    """Return what `send_job` sent; the descriptors left are stdin, stdout and stderr."""
    if len(descriptors) > 3:
        with open(descriptors.pop(), "rb") as file:
            file.seek(0)
            message = file.read()
    return decode_job(message)


def send_order(line: socket.socket, kind: int, value: int) -> None:
    """Say SIGNAL with a signal's number, or STOP with the nanoseconds that all has to end by itself.

    Raises:
        BlockingIOError: the line is full.
    """
    _send(line, _ORDER.pack(kind, value))


def decode_order(message: bytes) -> tuple[int, int]:
    """Return the kind and the value that `send_order` sent."""
    kind, value = _ORDER.unpack(message)
    return kind, value


def send_reply(line: socket.socket, reply: Event) -> None:
    """Say how it goes."""
    _send(line, _REPLY.pack(reply.kind, reply.stopped, reply.left, reply.number, *reply.used))


def decode_reply(message: bytes) -> Event:
    """Return what a supervisor said."""
    kind, stopped, left, number, *used = _REPLY.unpack(message)
    return Event(kind, number, ResourceUsage(*used), bool(stopped), bool(left))


def _send(line: socket.socket, message: bytes) -> None:
    """Say something; a peer that is gone is found out when reading."""
    try:
        line.send(message)
    except ConnectionError:  # a reset, if it had something left to read: see `receive`
        pass


def receive(line: socket.socket, descriptors: int = 0) -> tuple[bytes, list[int]]:
    """Return the next message and the descriptors with it, not inheritable; nothing once the peer is gone.

    A peer that had something left to read when it went is told by ECONNRESET. Source: unix(7), connect(2).
    `socket.recv_fds` would do, if it did not drop its flags (Python 3.11 to 3.13).
    """
    received = array.array("i")
    try:
        room = socket.CMSG_LEN(descriptors * received.itemsize)
        data, controls, _, _ = line.recvmsg(LONGEST_MESSAGE, room, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return b"", []
    for _, _, packed in controls:
        received.frombytes(packed[: len(packed) // received.itemsize * received.itemsize])
    return data, received.tolist()
