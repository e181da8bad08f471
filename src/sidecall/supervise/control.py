"""The messages between a server and its fork server and supervisors.

They travel over SOCK_SEQPACKET sockets of one host, in the machine's byte order. `native/supervisor/control.h` is the
other end; a test compares the two.
"""

from __future__ import annotations

import array
import os
import socket
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = "4"
"""Of these messages: a fork server that has another one does not start."""

RUN, SIGNAL, STOP, DISCARD = 1, 2, 3, 4
"""Server to supervisor: run a job; signal the command's process group; stop everything; hold a socket until exit."""

STARTED, FAILED, EXITED = 5, 6, 7
"""Supervisor to server: the command was executed; it could not be; everything has exited, but for what was kept."""

NEW, KILL = 8, 9
"""Server to fork server: fork a supervisor for the control socket that is attached; kill one."""

FORKED, NOT_FORKED, KILLED = 10, 11, 12
"""Fork server to server, one for each NEW and KILL. A first FORKED with the serial number 0: it is ready."""

FROM_CLIENT, SAME_AS_STDOUT, UNWANTED = -1, -2, -3
"""Sources of a stream in place of a descriptor: the one that the client passes behind its CALL; stdout's; /dev/null,
while the one that the client passes is dropped."""

AT_FORK, AT_MISSING_DESCRIPTORS, AT_MALFORMED_DESCRIPTORS, AT_CHDIR = range(1, 5)
AT_IDENTITY, AT_EXEC, AT_INTERPRETER, AT_CONFINE = range(5, 9)
"""What failed when a command was to be started: making a process; receiving passed descriptors (fewer came; more, or
one of a directory); entering its directory; taking on its user, groups and limits; executing it, or its interpreter;
confining it."""

MAX_MESSAGE = 32 * 1024
"""Bytes of a job; a socket takes several such at once: net.core.wmem_default is 208 KiB. Source: socket(7)."""

_RUN = Struct("=BBBB3sBqiiiIIIIIIIII")
_LIMIT = Struct("=QQ")
_REQUEST = Struct("=B7xq")
_EVENT = Struct("=BBBBiIIIIQQQ")
EVENT_SIZE = _EVENT.size
"""Bytes of an event."""

_UNCHANGED = 0xFFFFFFFF
"""No uid and no gid: chown(2)."""


class RunAs(NamedTuple):
    """What a command runs as.

    Attributes:
        uid: the user to become, None for the server's.
        gid: the group to become, None for the server's.
        groups: the supplementary groups to have, None for the server's.
        umask: the file mode creation mask; -1 for the server's.
        nice: how much less of a processor it gets: nice(2).
        limits: pairs of a resource (RLIMIT_…) and its limit: setrlimit(2).
        oom_score_adj: how much likelier a victim of the OOM killer it is, up to 1000; 0 for as likely as the server:
            proc_pid_oom_score_adj(5).
    """

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None
    umask: int = -1
    nice: int = 0
    limits: tuple[tuple[int, int], ...] = ()
    oom_score_adj: int = 500


class Job(NamedTuple):
    """What to run.

    Attributes:
        argv: the command and its arguments.
        environ: its whole environment.
        directory: its working directory, None for the supervisor's own.
        grace: seconds between SIGTERM and SIGKILL.
        keep_background: do not terminate background processes when the command has exited by itself.
        run_as: user, groups, limits and the like.
        has_terminal: its stdin is a terminal, which becomes its controlling terminal.
        confined_to: the only files that it can use, with those beneath; a letter before each path: `x` to read and
            execute, `r` to read, `w` to read and write. If it is empty, any file. Source: landlock(7).
    """

    argv: Sequence[bytes]
    environ: dict[bytes, bytes]
    directory: bytes | None
    grace: float
    keep_background: bool
    run_as: RunAs = RunAs()
    has_terminal: bool = False
    confined_to: Sequence[bytes] = ()


class Event(NamedTuple):
    """What a supervisor or the fork server reports.

    Attributes:
        kind: STARTED, FAILED or EXITED; FORKED, NOT_FORKED or KILLED.
        stage: of FAILED: AT_….
        was_running: of EXITED: whether the command was still running when it was first stopped.
        kept: likewise: whether background processes were kept on purpose.
        number: an error's (errno(3)), or the command's wait status (wait(2)), -1 if it did not exit.
        serial: which supervisor it is about, in events of the fork server.
        terminated: background processes that were terminated after the command had exited by itself.
        remaining: processes that could not be killed.
        is_last: whether the supervisor exits after this.
        user_us: user time of all processes that have exited, in microseconds: getrusage(2).
        system_us: their system time, likewise.
        max_rss: the peak memory of the largest, in KiB.
    """

    kind: int
    stage: int = 0
    was_running: int = 0
    kept: int = 0
    number: int = 0
    serial: int = 0
    terminated: int = 0
    remaining: int = 0
    is_last: int = 0
    user_us: int = 0
    system_us: int = 0
    max_rss: int = 0


def encode_job(job: Job, sources: Sequence[int], *, is_long: bool = False) -> bytes:
    """Return the message RUN: fixed fields, limits, groups, then strings that end with a NUL each."""
    run_as = job.run_as
    groups = run_as.groups or ()
    directory = () if job.directory is None else (job.directory,)
    head = _RUN.pack(
        RUN,
        job.keep_background,
        job.directory is not None,
        run_as.groups is not None,
        bytes([max(0, -source) for source in sources]),
        is_long,
        round(job.grace * 1e9),
        run_as.umask,
        run_as.nice,
        run_as.oom_score_adj,
        _UNCHANGED if run_as.uid is None else run_as.uid,
        _UNCHANGED if run_as.gid is None else run_as.gid,
        len(groups),
        len(run_as.limits),
        len(job.argv),
        len(job.environ),
        job.has_terminal,
        len(job.confined_to),
        0,
    )
    numbers = b"".join([_LIMIT.pack(*limit) for limit in run_as.limits]) + array.array("I", groups).tobytes()
    variables = map(b"=".join, job.environ.items())
    return head + numbers + b"\0".join((*directory, *job.argv, *variables, *job.confined_to, b""))


def send_job(control: socket.socket, job: Job, sources: Sequence[int], connection: int | None) -> None:
    """Send RUN. A job that is too long for a message travels as a file in memory.

    Args:
        control: the supervisor's control socket.
        job: what to run.
        sources: for stdin, stdout and stderr a descriptor, FROM_CLIENT, SAME_AS_STDOUT or UNWANTED.
        connection: the client's connection, if a stream is FROM_CLIENT or UNWANTED.

    Raises:
        OSError: no room for another descriptor, or the peer is gone.
    """
    message = encode_job(job, sources)
    descriptors = [source for source in sources if source >= 0]
    if connection is not None:
        descriptors.append(connection)
    if len(message) <= MAX_MESSAGE:
        socket.send_fds(control, [message], descriptors)
        return
    file = os.memfd_create("job")
    try:
        with open(file, "wb", closefd=False) as stream:
            stream.write(message)
        socket.send_fds(control, [encode_job(job, sources, is_long=True)[: _RUN.size]], [*descriptors, file])
    finally:
        os.close(file)


def send_request(control: socket.socket, kind: int, value: int, descriptors: Sequence[int] = ()) -> None:
    """Send a request other than RUN.

    Args:
        control: the control socket.
        kind: SIGNAL, STOP, DISCARD, NEW or KILL.
        value: a signal's number, the grace period in nanoseconds, or a supervisor's serial number.
        descriptors: what goes with DISCARD and NEW.

    Raises:
        OSError: the socket is full, or the peer is gone.
    """
    socket.send_fds(control, [_REQUEST.pack(kind, value)], descriptors)


def decode_event(message: bytes) -> Event:
    """Return the event of a message."""
    return Event._make(_EVENT.unpack(message))


def receive_event(control: socket.socket) -> Event | None:
    """Return the next event, None once the peer is gone.

    A peer that closed its end with unread messages is reported as ECONNRESET. Source: unix(7).

    Raises:
        BlockingIOError: there is none yet.
    """
    try:
        message = control.recv(EVENT_SIZE)
    except ConnectionError:
        return None
    return decode_event(message) if message else None
