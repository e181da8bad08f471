"""Opening what is beneath a directory, and nothing else, whatever links and `..` are on the way. Source: openat2(2)."""

from __future__ import annotations

import errno
import os
import stat

from sidecall._kernel import openat2

_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_BENEATH = 0x08

_ATTEMPTS = 16
"""openat2 gives up with EAGAIN when something is renamed on the way; it may be tried again."""

_CANNOT = {errno.ENOSYS, errno.EPERM}
"""An old kernel, or a container engine that filters system calls that it does not know."""


def open_beneath(root: int, relative: bytes) -> int:
    """Return an O_PATH descriptor for a path that is resolved without leaving a directory.

    Args:
        root: a descriptor of the directory.
        relative: the path, relative to it; empty for the directory itself.

    Raises:
        OSError: EXDEV if it leads out of the directory, ELOOP if it goes through a link that leads out of the file
            system's tree; otherwise as open(2).
    """
    path = relative.strip(b"/") or b"."
    for _ in range(_ATTEMPTS):
        try:
            return _openat2(root, path)
        except OSError as error:
            if error.errno in _CANNOT:
                return _walk(root, path)
            if error.errno != errno.EAGAIN:
                raise
    raise OSError(errno.EAGAIN, "it is being renamed again and again", path)


def _openat2(root: int, path: bytes) -> int:
    return openat2(root, path, os.O_PATH | os.O_CLOEXEC, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)


def _walk(root: int, path: bytes) -> int:
    """Resolve a path one step at a time, where openat2 cannot be used: no link and no `..` is followed at all."""
    fd = os.open(b".", os.O_PATH | os.O_CLOEXEC, dir_fd=root)
    try:
        for step in path.split(b"/"):
            if step == b"..":
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
            deeper = os.open(step or b".", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            os.close(fd)
            fd = deeper
            if stat.S_ISLNK(os.fstat(fd).st_mode):
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    except BaseException:
        os.close(fd)
        raise
    return fd
