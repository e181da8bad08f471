"""Where a service's socket is, and how to connect to it."""

from __future__ import annotations

import errno
import os
import stat
import time
from socket import AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, socket
from typing import TYPE_CHECKING

from sidecall import texts
from sidecall.errors import CallDenied, ServiceUnavailable, SidecallError, UsageError
from sidecall.transport.credentials import UNMAPPED, uid_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEFAULT_DIRECTORY = "/run/sidecall"
MAX_PATH = 107
"""Bytes of a path that fit sockaddr_un with its final NUL. Source: unix(7)."""

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


def connect(path: str, connect_timeout: float = 0.0) -> socket:
    """Return a blocking stream socket connected to `path`.

    Args:
        path: the socket's path; it may be longer than the kernel's 107 bytes.
        connect_timeout: seconds to keep trying while no server is listening.

    Raises:
        ServiceUnavailable: no server is listening; the reason is that the socket is missing, stale or not a socket.
        CallDenied: the mode of the socket or of a directory denies this user access.
    """
    deadline = time.monotonic() + connect_timeout
    while True:
        try:
            return connect_once(path)
        except OSError as error:
            pause = pause_after(error, path, deadline)
        time.sleep(pause)


def connect_once(path: str, *, blocking: bool = True) -> socket:
    """Return a stream socket connected to `path`, as `connect` does, at the first attempt.

    Raises:
        OSError: it failed; `pause_after` explains it.
        CallDenied: the server can be another user's.
    """
    sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (0 if blocking else SOCK_NONBLOCK))
    try:
        for address in short_form(path):
            sock.connect(address)
        _refuse_impostor(sock, path)
    except BaseException:
        sock.close()
        raise
    return sock


def pause_after(error: OSError, path: str, deadline: float) -> float:
    """Return how many seconds to wait before the next attempt, up to `deadline` on the monotonic clock.

    A non-blocking socket gets EAGAIN while too many others wait to be accepted; a blocking one waits: connect(2).

    Raises:
        SidecallError: another attempt cannot help, or no time is left.
    """
    if isinstance(error, BlockingIOError):
        return _RETRY_AFTER
    failure = explain(error, path)
    remaining = deadline - time.monotonic()
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
        return CallDenied(*texts.SOCKET_DENIED(path=path))
    return ServiceUnavailable(*texts.CANNOT_CONNECT(path=path, error=error.strerror))


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
