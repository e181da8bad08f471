"""Directories of the calls' own, all in one directory of the server's, which the next server clears if this one is killed.

A server's directory is locked (flock(2)) for as long as the server lives, and has the name that others look for from the
moment that it is locked. The name has the running kernel's id too: another machine's locks may not be seen here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Scratch:
    """Makes directories in the temporary directory; nothing is made there before the first."""

    def __init__(self) -> None:
        self._path = ""
        self._lock = -1

    def directory(self, call_id: str) -> str:
        """Return a new directory for a call, closed to other users.

        Raises:
            OSError: there is no room for it.
        """
        if self._lock < 0:
            self._begin()
        try:
            os.mkdir(call_id, 0o700, dir_fd=self._lock)
        except FileNotFoundError:  # somebody has tidied up
            self.close()
            self._begin()
            os.mkdir(call_id, 0o700, dir_fd=self._lock)
        return os.path.join(self._path, call_id)

    def close(self) -> None:
        """Remove the server's directory."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
            _clear(self._path)

    def _begin(self) -> None:
        self._path = tempfile.mkdtemp(prefix=".sidecall-")
        os.chmod(self._path, 0o711)  # noqa: S103 a command's user passes through it, and cannot look into it
        self._lock = os.open(self._path, _DIR)
        with contextlib.suppress(OSError):  # where nothing can be locked it keeps a name that nobody looks for
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            named = os.path.join(tempfile.gettempdir(), _prefix() + os.urandom(4).hex())
            os.rename(self._path, named)
            self._path = named


def clear() -> None:
    """Remove the directories that servers of this user have left here when they were killed, as far as that can be done."""
    with contextlib.suppress(OSError):
        here, prefix = tempfile.gettempdir(), _prefix()
        for name in os.listdir(here):
            if name.startswith(prefix):
                _clear(os.path.join(here, name))


def _clear(path: str) -> None:
    """Remove a server's directory, unless it is another user's or in use."""
    with contextlib.suppress(OSError):
        fd = os.open(path, _DIR)
        try:
            if os.fstat(fd).st_uid == os.geteuid():
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(path)
        finally:
            os.close(fd)


def _prefix() -> str:
    """Return how the names here begin. They are short: a command may make a socket in there, whose path has to be."""
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:
        return f"sidecall-{file.read(8).decode()}-"


def remove(path: str, dir_fd: int | None = None) -> None:
    """Remove a directory with all in it, however deep. A link is removed, not followed; what cannot be removed is left.

    Args:
        path: the directory's.
        dir_fd: where a relative path starts; None for the working directory.
    """
    with contextlib.suppress(OSError):
        top = os.open(path, _DIR, dir_fd=dir_fd)
        try:
            left: set[str] = set()
            while names := set(os.listdir(top)) - left:
                left |= {name for name in names if not _take_out(top, name)}
        finally:
            os.close(top)
        os.rmdir(path, dir_fd=dir_fd)


def _take_out(top: int, name: str) -> bool:
    """Remove an entry; the directories in it become entries beside it, whose turn comes later. Tell whether it is gone."""
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
