"""Where a service's socket is, and how to connect to it. The words of the errors are for the person who called."""

from __future__ import annotations

from typing import TYPE_CHECKING
import errno
import os
import stat
import time
from socket import AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, socket

from sidecall.errors import CallDenied, ServiceUnavailable, SidecallError, UsageError
from sidecall.transport.credentials import uid_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEFAULT_DIRECTORY = "/run/sidecall"
MAX_PATH = 107
"""Bytes of a path that fit sockaddr_un with its final NUL. Source: unix(7)."""

_RETRY_AFTER = 0.05
"""Seconds between two attempts while waiting for a service: a container takes about 0.3 s to start."""


def socket_path(name: str, environ: Mapping[str, str]) -> str:
    """Return the path of a service's socket.

    A name with a slash or ending in `.sock` is a path already; any other is a file in `$SIDECALL_DIR`.

    Raises:
        UsageError: the name cannot be one.
    """
    if not name or "\0" in name or name in {".", ".."}:
        raise UsageError(f"{name!r} is no service name", "use a word such as `hugin`, or a path")
    if "/" in name or name.endswith(".sock"):
        return absolute(name)
    return os.path.join(environ.get("SIDECALL_DIR") or DEFAULT_DIRECTORY, name + ".sock")


def absolute(path: str) -> str:
    """Return a path without `.`, `..` and double slashes, relative to the working directory.

    Raises:
        UsageError: it is relative, and the working directory has been removed.
    """
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        raise UsageError(f"{path!r} starts at a working directory that has been removed", "say it from `/` on") from None


def connect(path: str, connect_timeout: float = 0.0) -> socket:
    """Return a blocking stream socket connected to `path`.

    Args:
        path: the socket's path; it may be longer than the kernel's 107 bytes.
        connect_timeout: seconds to keep trying while nobody listens.

    Raises:
        ServiceUnavailable: nobody listens; the reason says whether the socket is missing, stale or no socket.
        CallDenied: the socket's or a directory's mode does not let this user in.
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
        OSError: it failed; `pause_after` knows what that means.
        CallDenied: somebody else may have put the service into its place.
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

    A socket that does not block is told EAGAIN while too many others wait to be accepted: a blocking one would simply
    wait for its turn. Source: connect(2).

    Raises:
        SidecallError: there is no use in trying again, or no time left.
    """
    if isinstance(error, BlockingIOError):
        return _RETRY_AFTER
    failure = explain(error, path)
    remaining = deadline - time.monotonic()
    if remaining <= 0 or not isinstance(failure, ServiceUnavailable):
        raise failure from error
    return min(_RETRY_AFTER, remaining)


def _refuse_impostor(sock: socket, path: str) -> None:
    """Refuse a service that somebody else may have put into the place of the one that is meant.

    Whoever owns the directory, and root, decides what is in it; so does this user.

    Raises:
        CallDenied: anyone may put a socket there, or somebody else has.
    """
    directory = os.path.dirname(path)
    status = os.stat(directory)
    if reason := _open_to_all(directory, status.st_mode):
        raise CallDenied(reason, f"have its owner say `chmod o-w {directory}`")
    server = uid_of(sock)
    if server not in {0, os.geteuid(), status.st_uid}:
        raise CallDenied(
            f"uid {server} serves {path}, and neither owns its directory nor is root or you",
            f"if it is the one that is meant, give it the directory: `chown {server} {directory}`",
        )


def why_insecure(path: str) -> str:
    """Return why a socket at `path` could be anybody's, or an empty string: its directory is open to all, not sticky."""
    directory = os.path.dirname(path)
    try:
        mode = os.stat(directory).st_mode
    except OSError:
        return ""
    return _open_to_all(directory, mode)


def _open_to_all(directory: str, mode: int) -> str:
    is_open = mode & stat.S_IWOTH and not mode & stat.S_ISVTX
    return f"anyone may replace the sockets in {directory}" if is_open else ""


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
    """Return what a failed connect means to the person who called."""
    if error.errno == errno.ENOENT:
        return _missing(path)
    if error.errno in {errno.ECONNREFUSED, errno.ENOTSOCK, errno.ENOTDIR}:
        return _nobody_listens(path)
    if error.errno in {errno.EACCES, errno.EPERM}:
        return CallDenied(
            f"permission denied on the socket {path}", "ask for write permission on it, or call as its owner"
        )
    return ServiceUnavailable(f"cannot connect to {path}: {error.strerror}")


def _missing(path: str) -> ServiceUnavailable:
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        return ServiceUnavailable(
            f"the socket is missing, and so is its directory {directory}",
            "mount the shared volume there, or set SIDECALL_DIR",
        )
    return ServiceUnavailable(
        f"the socket is missing: {path}",
        "start the service with `sidecall serve`, or wait for it with `--connect-timeout SECONDS`",
    )


def _nobody_listens(path: str) -> ServiceUnavailable:
    try:
        is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        is_socket = False
    if not is_socket:
        return ServiceUnavailable(f"{path} is not a socket", "name a service, or the path of its socket")
    return ServiceUnavailable(
        f"the socket is stale, nobody listens on it: {path}",
        "start the service again with `sidecall serve`; it replaces a stale socket",
    )
