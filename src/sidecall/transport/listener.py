"""A listening socket, bound without a gap: a stale socket is replaced, a live one never."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from typing import TYPE_CHECKING

from sidecall.errors import ConfigError, ServiceBusy
from sidecall.transport.address import directory_denied, introduce, short_form, why_insecure

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from types import TracebackType
    from typing import Self

BACKLOG = 4096
"""Connections that can wait to be accepted; the kernel lowers it to net.core.somaxconn. Source: listen(2)."""


_FIRST_INHERITED = 3
"""The descriptor of the first socket that a service manager passes on. Source: sd_listen_fds(3)."""

_NO_SOCKETS_HERE = {errno.EOPNOTSUPP, errno.EPERM, errno.ENOSYS, errno.EINVAL}
"""What bind(2) fails with on file systems without special files, such as 9p, vboxsf and some of FUSE."""

_ONE_SOCKET = "use one `ListenStream=` in the socket unit"


class Listener:
    """A socket at `path`, owned for as long as a lock next to it is held.

    The socket is bound under another name with its final mode and renamed into place while it already listens, so a
    client finds either nothing, the old socket or a working one. A context manager: leaving it removes the socket,
    if it is still the one that was bound.

    Args:
        path: where the socket goes.
        mode: its permission bits.

    Raises:
        ServiceBusy: another server is already listening.
        ConfigError: the directory does not exist or cannot hold a socket.
    """

    def __init__(self, path: str, mode: int = 0o600) -> None:
        self.path = path
        self._mode = mode
        _make_directory(path)
        if reason := why_insecure(path):
            raise ConfigError(reason, f"`chmod o-w {os.path.dirname(path)}`, or set its sticky bit: `chmod +t`")
        self._lock = _take_lock(path)
        try:
            _ensure_not_listening(path)
            self.sock, self._inode = _bind(path, mode)
        except BaseException:
            os.close(self._lock)
            raise

    @classmethod
    def inherited(cls, environ: MutableMapping[str, str]) -> Self | None:
        """Return the listener that a service manager passed on, None if it passed none; it stays the manager's.

        Args:
            environ: where LISTEN_PID and LISTEN_FDS are looked up, and taken out. Source: sd_listen_fds(3).

        Raises:
            ConfigError: the inherited descriptor is not one.
        """
        given = {name: environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
        if given["LISTEN_PID"] != str(os.getpid()):
            return None
        if given["LISTEN_FDS"] != "1":
            raise ConfigError(f"one socket is needed, but LISTEN_FDS is {given['LISTEN_FDS']!r}", _ONE_SOCKET)
        self = cls.__new__(cls)
        try:
            self.sock = socket.socket(fileno=_FIRST_INHERITED)
            listens = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError:
            listens = 0
        if not listens or self.sock.family != socket.AF_UNIX or self.sock.type != socket.SOCK_STREAM:
            raise ConfigError("the inherited descriptor is not a listening UNIX stream socket", _ONE_SOCKET)
        self.sock.set_inheritable(False)
        self.path, self._inode, self._lock = self.sock.getsockname(), None, -1
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def restore(self) -> socket.socket | None:
        """Listen again if the socket, its lock or its directory has been removed.

        Returns:
            The old socket, if `sock` is a new one; `close` explains why this process should not close it.

        Raises:
            ServiceBusy: another server has taken the place.
            ConfigError: nothing can listen there now.
        """
        if self._inode is None or _inode(self.path) == self._inode:
            return None
        _make_directory(self.path)
        if not _is_locked_by(self.path, self._lock):
            lock = _take_lock(self.path)
            os.close(self._lock)
            self._lock = lock
        _ensure_not_listening(self.path)
        old = self.sock
        self.sock, self._inode = _bind(self.path, self._mode)
        return old

    def unlink(self) -> None:
        """Remove the socket, if it is still ours: pending connections stay, new ones fail."""
        if self._inode is not None and _inode(self.path) == self._inode:
            _unlink_if_there(self.path)
        self._inode = None

    def close(self, discard: Callable[[socket.socket], None] = socket.socket.close) -> None:
        """Stop listening, and remove the socket and its lock if they are still ours.

        Args:
            discard: disposes of the socket. To close it drops the connections that were not accepted, and with them
                descriptors that clients have sent, which can block: `transport.channel`.
        """
        if self.sock.fileno() < 0:
            return
        self.unlink()
        discard(self.sock)
        if self._lock >= 0:
            _release_lock(self.path, self._lock)


def _make_directory(path: str) -> None:
    """Make the socket's directory where only its last part is missing; a wrong mount point stays an error."""
    with contextlib.suppress(OSError):
        os.mkdir(os.path.dirname(path), 0o755)


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _take_lock(path: str) -> int:
    """Lock the file next to the socket; the lock ends with its holder, however that ends. Source: flock(2)."""
    name = path + ".lock"
    while True:
        try:
            lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _cannot_listen(path, error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise _already_served(path) from error
        held = os.fstat(lock)
        if _inode(name) == (held.st_dev, held.st_ino):
            return lock
        os.close(lock)  # its last holder removed it between our open and our lock


def _is_locked_by(path: str, lock: int) -> bool:
    held = os.fstat(lock)
    return _inode(path + ".lock") == (held.st_dev, held.st_ino)


def _release_lock(path: str, lock: int) -> None:
    if _is_locked_by(path, lock):  # else it is a successor's
        _unlink_if_there(path + ".lock")
    os.close(lock)


def _ensure_not_listening(path: str) -> None:
    """Raise if a process without our lock (socat, for one) listens at `path`, or if it is not a socket."""
    if not os.path.exists(path):
        return
    if not stat.S_ISSOCK(os.stat(path).st_mode):
        raise ConfigError(f"{path} exists and is not a socket", "remove it, or choose another name")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        introduce(probe)
        probe.setblocking(False)  # with a full backlog it is live, too: EAGAIN
        try:
            for address in short_form(path):
                probe.connect(address)
        except OSError as error:
            if error.errno in {errno.ECONNREFUSED, errno.ENOENT}:
                return
    raise _already_served(path)


def _bind(path: str, mode: int) -> tuple[socket.socket, tuple[int, int] | None]:
    temporary = path + ".new"  # one name is enough: we hold the lock
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _unlink_if_there(temporary)
        umask = os.umask(0o777 & ~mode)
        try:
            for address in short_form(temporary):
                sock.bind(address)
        finally:
            os.umask(umask)
        sock.listen(BACKLOG)
        inode = _inode(temporary)
        os.rename(temporary, path)
    except BaseException as error:
        sock.close()
        _unlink_if_there(temporary)
        if isinstance(error, OSError):
            raise _cannot_listen(path, error) from error
        raise
    return sock, inode


def _unlink_if_there(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _already_served(path: str) -> ServiceBusy:
    return ServiceBusy(
        f"another server is already listening on {path}", "stop that server first, or choose another name"
    )


def _cannot_listen(path: str, error: OSError) -> ConfigError:
    hint = "choose another directory with SIDECALL_DIR"
    directory = os.path.dirname(path)
    if error.errno == errno.EACCES:
        reason = directory_denied(directory, "write").reason
        return ConfigError(f"cannot listen on {path}: {reason}", f"run `chown {os.geteuid()} {directory}` as root")
    if error.errno in _NO_SOCKETS_HERE:
        hint = "this file system cannot hold sockets: mount a volume of the host's own file system, or a tmpfs"
    elif error.errno == errno.EROFS:
        hint = "mount the volume writable in the server's container; clients can mount it read-only"
    elif error.errno in {errno.ENOENT, errno.ENOTDIR}:
        hint = f"make the directory {directory}, mount the volume there, or set SIDECALL_DIR"
    return ConfigError(f"cannot listen on {path}: {error.strerror}", hint)
