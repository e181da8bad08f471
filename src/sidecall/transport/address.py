"""Where a service's socket is, and how to connect to it."""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import suppress
from socket import AF_UNIX, SO_SNDTIMEO, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET, socket
from struct import pack
from typing import TYPE_CHECKING

from sidecall import texts
from sidecall.errors import CallDenied, ServiceUnavailable, SidecallError, UsageError
from sidecall.transport.credentials import UNMAPPED, uid_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEFAULT_DIRECTORY = "/run/sidecall"
MAX_PATH = 107
"""Bytes of a path that fit sockaddr_un with its final NUL. Source: unix(7)."""

ANSWER_TIMEOUT = 30.0
"""Seconds that a server has to accept a connection, and to answer it, unless there is a connect timeout."""

INTRODUCTION = b"\0sidecall-client-"
"""How the abstract address of a client begins; the rest makes it unique. Source: PROTOCOL.md, section 1."""

_LONGEST = 1e9
"""Seconds that a socket can be told to wait at most; more than ever needed."""

_RETRY_AFTER = 0.05
"""Seconds between two attempts while waiting for a service: a container takes about 0.3 s to start."""


def socket_path(name: str, environ: Mapping[str, str]) -> str:
    """Return the path of a service's socket.

    A name with a slash is a path already; any other is a file in `$SIDECALL_DIR`, with or without its `.sock`.

    Raises:
        UsageError: the name cannot be one.
    """
    if not name or "\0" in name or name in {".", ".."}:
        raise UsageError(*texts.NAME_INVALID(name=texts.quoted(name)))
    if "/" in name:
        return absolute(name)
    return os.path.join(environ.get("SIDECALL_DIR") or DEFAULT_DIRECTORY, name.removesuffix(".sock") + ".sock")


def absolute(path: str) -> str:
    """Return a path without `.`, `..` and double slashes, relative to the working directory.

    Raises:
        UsageError: it is relative, and the working directory has been removed.
    """
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        raise UsageError(*texts.PATH_NOT_ABSOLUTE(path=texts.quoted(path))) from None


class Patience:
    """Until when to wait for a server, on the monotonic clock.

    Args:
        connect_timeout: seconds to keep trying while no server is listening.
        answer_timeout: seconds to wait for a server that listens and does not accept, if `connect_timeout` is 0.

    Attributes:
        listens_by: when it has to listen.
        accepts_by: when it has to have room in its backlog: one that is stopped has none in the end.
    """

    def __init__(self, connect_timeout: float, answer_timeout: float = ANSWER_TIMEOUT) -> None:
        now = time.monotonic()
        self.listens_by = now + connect_timeout
        self.accepts_by = now + (connect_timeout or answer_timeout)


def connect(
    path: str, connect_timeout: float = 0.0, answer_timeout: float = ANSWER_TIMEOUT, *, to_bridge: bool = False
) -> socket:
    """Return a blocking stream socket connected to `path`.

    Args:
        path: the socket's path; it may be longer than the kernel's 107 bytes.
        connect_timeout: see `Patience`.
        answer_timeout: see `Patience`.
        to_bridge: whether a bridge runs its program on the connection; else it is told not to: see `introduce`.

    Raises:
        ServiceUnavailable: no server is listening; the reason is that the socket is missing, stale or not a socket.
            Or the server has not accepted for too long.
        CallDenied: the mode of the socket or of a directory denies this user access.
    """
    patience = Patience(connect_timeout, answer_timeout)
    while True:
        try:
            return connect_once(path, patience, to_bridge=to_bridge)
        except OSError as error:
            pause = pause_after(error, path, patience)
        time.sleep(pause)


def connect_once(path: str, patience: Patience | None, *, to_bridge: bool = False) -> socket:
    """Return a stream socket connected to `path`, as `connect` does, at the first attempt.

    Args:
        path: the socket's path.
        patience: how long a full backlog is waited for; None for not at all, and a non-blocking socket.
        to_bridge: see `connect`.

    Raises:
        OSError: it failed; `pause_after` explains it.
        CallDenied: the server can be another user's.
    """
    sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (SOCK_NONBLOCK if patience is None else 0))
    try:
        if not to_bridge:
            introduce(sock)
        if patience is not None:
            _limit_sends(sock, min(max(0.001, patience.accepts_by - time.monotonic()), _LONGEST))
        for address in short_form(path):
            sock.connect(address)
        if patience is not None:
            _limit_sends(sock, 0.0)
        _refuse_impostor(sock, path)
    except BaseException:
        sock.close()
        raise
    return sock


def introduce(sock: socket) -> None:
    """Name a socket, before it connects, as one on which PROTOCOL.md is spoken: a bridge starts no program for it."""
    with suppress(OSError):
        sock.bind(INTRODUCTION + os.urandom(8).hex().encode())


def is_introduced(sock: socket) -> bool:
    """Tell whether the client of an accepted connection has introduced itself."""
    name = sock.getpeername()
    return isinstance(name, bytes) and name.startswith(INTRODUCTION)


def _limit_sends(sock: socket, seconds: float) -> None:
    """Limit how long connect(2) and send(2) block; 0 for no limit. Source: socket(7), SO_SNDTIMEO."""
    sock.setsockopt(SOL_SOCKET, SO_SNDTIMEO, pack("ll", int(seconds), int(seconds % 1 * 1e6)))


def pause_after(error: OSError, path: str, patience: Patience) -> float:
    """Return how many seconds to wait before the next attempt.

    While too many others wait to be accepted, a non-blocking socket gets EAGAIN, and a blocking one waits: connect(2).

    Raises:
        SidecallError: another attempt cannot help, or no time is left.
    """
    now = time.monotonic()
    if isinstance(error, BlockingIOError):
        if now >= patience.accepts_by:
            raise ServiceUnavailable(*texts.NO_ANSWER()) from error
        return _RETRY_AFTER
    failure = explain(error, path)
    remaining = patience.listens_by - now
    if remaining <= 0 or not isinstance(failure, ServiceUnavailable):
        raise failure from error
    return min(_RETRY_AFTER, remaining)


def _refuse_impostor(sock: socket, path: str) -> None:
    """Refuse a server that can be another user's in place of the one that is meant.

    The owner of the directory, and root, decide what is in it; so does this user.

    Raises:
        CallDenied: every user can put a socket there, or another user has.
    """
    directory = os.path.dirname(path)
    status = os.stat(directory)
    if (replaceable := _replaceable_directory(path)) is not None:
        raise CallDenied(*texts.DIRECTORY_OPEN_TO_ALL(directory=replaceable))
    server = uid_of(sock)
    if server == UNMAPPED:
        raise CallDenied(*texts.SERVER_UNIDENTIFIED(uid=server, path=path))
    if server not in {0, os.geteuid(), status.st_uid}:
        raise CallDenied(*texts.SERVED_BY_ANOTHER(uid=server, path=path, directory=directory))


def why_insecure(path: str) -> str:
    """Return why a socket at `path` could be another user's, or an empty string."""
    try:
        directory = _replaceable_directory(path)
    except OSError:
        return ""
    return "" if directory is None else texts.DIRECTORY_OPEN_TO_ALL(directory=directory)[0]


def _replaceable_directory(path: str) -> str | None:
    """Return a directory on the way to `path` in which every user can replace what is on that way, or None."""
    directory = os.path.dirname(path)
    while not _is_open_to_all(os.stat(directory).st_mode):
        if directory == "/":
            return None
        directory = os.path.dirname(directory)
    return directory


def _is_open_to_all(mode: int) -> bool:
    return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX


def short_form(path: str) -> Iterator[str]:
    """Yield, once, an address for `path` that fits sockaddr_un, valid until the generator goes on.

    A path that is too long is named through a descriptor of its directory: /proc/self/fd/N/name. Source: proc(5).

    Raises:
        OSError: the directory cannot be opened; ENAMETOOLONG if the file's own name is too long.
    """
    if len(os.fsencode(path)) <= MAX_PATH:
        yield path
        return
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        address = f"/proc/self/fd/{directory}/{os.path.basename(path)}"
        if len(os.fsencode(address)) > MAX_PATH:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
        yield address
    finally:
        os.close(directory)


def explain(error: OSError, path: str) -> SidecallError:
    """Return what a failed connect means."""
    if error.errno == errno.ENOENT:
        return _missing(path)
    if error.errno in {errno.ECONNREFUSED, errno.ENOTSOCK, errno.ENOTDIR}:
        return _not_listening(path)
    if error.errno in {errno.EACCES, errno.EPERM}:
        return _denied(path)
    return ServiceUnavailable(*texts.CANNOT_CONNECT(path=path, error=error.strerror))


def _denied(path: str) -> CallDenied:
    """Return which permission is missing where: on the socket, or on a directory on the way to it."""
    try:
        found = owner_and_mode(path)
    except OSError:
        return directory_denied(os.path.dirname(path), "search")
    if os.access(path, os.W_OK, effective_ids=True):
        return CallDenied(*texts.SOCKET_DENIED_BY_POLICY(uid=os.geteuid(), path=path))
    return CallDenied(*texts.SOCKET_DENIED(uid=os.geteuid(), path=path, **found))


def directory_denied(directory: str, permission: str) -> CallDenied:
    """Return that this user lacks a permission on a directory, or else to search one on the way to it."""
    try:
        found = owner_and_mode(directory)
    except OSError:
        return directory_denied(os.path.dirname(directory), "search")
    return CallDenied(*texts.DIRECTORY_DENIED(uid=os.geteuid(), permission=permission, directory=directory, **found))


def owner_and_mode(path: str) -> dict[str, int | str]:
    """Return the owner of a file, and its permission bits in octal, for a text.

    Raises:
        OSError: it cannot be examined.
    """
    status = os.stat(path)
    return {"owner": status.st_uid, "mode": f"{stat.S_IMODE(status.st_mode):04o}"}


def _missing(path: str) -> ServiceUnavailable:
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        return ServiceUnavailable(*texts.DIRECTORY_MISSING(directory=directory))
    return ServiceUnavailable(*texts.SOCKET_MISSING(path=path))


def _not_listening(path: str) -> ServiceUnavailable:
    try:
        is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        is_socket = False
    if not is_socket:
        return ServiceUnavailable(*texts.NOT_A_SOCKET(path=path))
    return ServiceUnavailable(*texts.SOCKET_STALE(path=path))
