"""Directories of the server's own: one for calls in the temporary directory, one for unfinished outputs on each volume.

Each is made when it is first needed, and held by a descriptor from then on, so that renaming or replacing it does not
lead elsewhere. It is locked (flock(2)) for as long as the server runs, and has the name that other servers look for
from the moment that it is locked: the next server clears what a killed one has left. The name has the running kernel's
id too, since the locks of another machine might not be visible here.

Other users can pass through such a directory, to what a call's command gets of it, but not list it; names in it are
random where somebody else could look for them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
from functools import cache

from sidecall.errors import ServiceUnavailable

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_FALLBACK = "/dev/shm"  # noqa: S108 checked and held like any other
"""Where a container with a read-only root and no /tmp can still write."""


class OwnDirectory:
    """A directory of the server's in another one; nothing is made before the first use.

    Args:
        parent: the other one's path.
    """

    def __init__(self, parent: str) -> None:
        self._parent = parent
        self._name = ""
        self._fd = -1

    @property
    def path(self) -> str:
        """Where it is, unless it has been moved."""
        return os.path.join(self._parent, self._name)

    def make(self, name: str) -> int:
        """Make a directory in it, closed to other users; return a descriptor of it.

        Raises:
            OSError: it cannot be made.
        """
        if self._fd < 0:
            self._begin()
        try:
            os.mkdir(name, 0o700, dir_fd=self._fd)
        except FileNotFoundError:  # it has been removed
            self.close()
            self._begin()
            os.mkdir(name, 0o700, dir_fd=self._fd)
        return os.open(name, _DIR, dir_fd=self._fd)

    def remove(self, name: str) -> None:
        """Remove a directory in it, with all that is in that."""
        if self._fd >= 0:
            remove(name, dir_fd=self._fd)

    def close(self) -> None:
        """Remove it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            with contextlib.suppress(OSError):
                parent = os.open(self._parent, _DIR & ~os.O_NOFOLLOW)
                try:
                    _clear(parent, self._name)
                finally:
                    os.close(parent)

    def _begin(self) -> None:
        parent = os.open(self._parent, _DIR & ~os.O_NOFOLLOW)
        try:
            self._fd, self._name = _make_locked(parent)
        finally:
            os.close(parent)


def _make_locked(parent: int) -> tuple[int, str]:
    """Make and lock a directory; return its descriptor and its name.

    Whoever may write to the parent can put another directory into its place before it is opened. One that is not this
    user's, or that others may write to, is refused; in one that is, no other user can do anything.
    """
    name = f".sidecall-new-{os.urandom(8).hex()}"
    os.mkdir(name, 0o700, dir_fd=parent)
    fd = os.open(name, _DIR, dir_fd=parent)
    try:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise OSError(errno.EPERM, "another user has replaced the directory that was made here")
        os.fchmod(fd, 0o711)
        with contextlib.suppress(OSError):  # where nothing can be locked it keeps a name that is not looked for
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = _prefix() + os.urandom(4).hex()
            os.rename(name, locked, src_dir_fd=parent, dst_dir_fd=parent)
            name = locked
    except BaseException:
        os.close(fd)
        raise
    return fd, name


class Scratch:
    """What a server has of such directories."""

    def __init__(self) -> None:
        self._calls: OwnDirectory | None = None
        self._staging: dict[str, OwnDirectory] = {}

    def directory(self, call_id: str) -> str:
        """Return a new directory for a call, in the temporary directory, closed to other users.

        Raises:
            ServiceUnavailable: there is no directory that can be written to.
            OSError: there is no room for it.
        """
        if self._calls is None:
            self._calls = OwnDirectory(writable_directory())
        os.close(self._calls.make(call_id))
        return os.path.join(self._calls.path, call_id)

    def staging(self, volume: str) -> OwnDirectory:
        """Return the server's directory on a volume.

        Args:
            volume: the volume's path.
        """
        return self._staging.setdefault(volume, OwnDirectory(volume))

    def close(self) -> None:
        """Remove all of them."""
        for own in (*self._staging.values(), *([self._calls] if self._calls else ())):
            own.close()
        self._staging.clear()
        self._calls = None


def writable_directory() -> str:
    """Return the directory for temporary files.

    Raises:
        ServiceUnavailable: there is none that this process can write to.
    """
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        if os.access(_FALLBACK, os.W_OK | os.X_OK):
            return _FALLBACK
        raise ServiceUnavailable(
            "there is no directory for temporary files that the server can write to",
            "mount a tmpfs at /tmp, or set TMPDIR in the server's environment",
        ) from None


def clear(parents: list[str]) -> None:
    """Remove the directories that servers of this user have left when they were killed, as far as that can be done.

    Args:
        parents: paths of the directories that they are in.
    """
    for path in parents:
        with contextlib.suppress(OSError):
            parent = os.open(path, _DIR & ~os.O_NOFOLLOW)
            try:
                for name in os.listdir(parent):
                    if name.startswith(_prefix()):
                        _clear(parent, name)
            finally:
                os.close(parent)


def _clear(parent: int, name: str) -> None:
    """Remove a server's directory, unless it is another user's or in use."""
    with contextlib.suppress(OSError):
        fd = os.open(name, _DIR, dir_fd=parent)
        try:
            if os.fstat(fd).st_uid == os.geteuid():
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _empty(fd)
                os.rmdir(name, dir_fd=parent)
        finally:
            os.close(fd)


@cache
def _prefix() -> str:
    """Return how the names begin. They are short: a command may make a socket in there, whose path has to be."""
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:
        return f".sidecall-{file.read(8).decode()}-"


def remove(path: str, dir_fd: int | None = None) -> None:
    """Remove a directory with all in it, however deep. A link is removed, not followed; what cannot be removed is left.

    Args:
        path: the directory's.
        dir_fd: where a relative path starts; None for the working directory.
    """
    with contextlib.suppress(OSError):
        top = os.open(path, _DIR, dir_fd=dir_fd)
        try:
            _empty(top)
        finally:
            os.close(top)
        os.rmdir(path, dir_fd=dir_fd)


def _empty(top: int) -> None:
    left: set[str] = set()
    while names := set(os.listdir(top)) - left:
        left |= {name for name in names if not _take_out(top, name)}


def _take_out(top: int, name: str) -> bool:
    """Remove an entry; directories in it become entries of `top`, to be removed later. Return whether it is removed."""
    try:
        if _is_unlinked(top, name):
            return True
        below = os.open(name, _DIR, dir_fd=top)
        try:
            for entry in os.listdir(below):
                if not _is_unlinked(below, entry):
                    os.rename(entry, os.urandom(16).hex(), src_dir_fd=below, dst_dir_fd=top)
        finally:
            os.close(below)
        os.rmdir(name, dir_fd=top)
    except OSError:
        return False
    return True


def _is_unlinked(directory: int, name: str) -> bool:
    """Remove what is no directory; open a directory to its owner, and return False."""
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        with contextlib.suppress(OSError):  # not its owner
            os.chmod(f"/proc/self/fd/{fd}", 0o700)
        os.close(fd)
        return False
    return True
