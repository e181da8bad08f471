"""An output that is written atomically: made in a directory that the server holds, and renamed into place at the end.

The command writes into a directory of its own, closed to all other users. Which one depends on the volume:

- `rename`: a directory in the server's own on the volume. The file is renamed into place. Another *user* can
  neither plant a name that the command opens nor change what is committed. A process of the command's own user can: it
  may write to whatever that user may write to, and so open the directory by its name.
- `copy`: a directory outside the volume. The file is copied to the volume at the end, without a name until it is
  complete (O_TMPFILE, linkat(2), rename(2)). The command never opens a name on the volume, so a process of the same
  user in another container cannot plant one. It costs a copy.

Where the file cannot be renamed (another mount inside the volume, a volume whose root the server cannot write to), it
is copied too. What is committed is a regular file of the server's or the command's user, and nothing else. If it takes
the place of another file, that one's mode and, as far as the server may, its owner are kept.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_PERMISSIONS = 0o777
_MAX_SHOWN = 5


class OutputFailed(Exception):
    """An output cannot be committed; the text says why."""


class Output:
    """One file under way.

    Args:
        parent: a descriptor of the directory that it goes to; it stays the caller's.
        name: its name there.
        inside: a descriptor of the directory that the command writes to; likewise.
        uids: the users that it can belong to.
        copies: whether it is copied into place, not renamed.
        shown: what stands for the name in messages if it is secret; empty if it is not.
    """

    def __init__(
        self, parent: int, name: bytes, inside: int, uids: Iterable[int], *, copies: bool, shown: str = ""
    ) -> None:
        self.name = name
        self.shown = shown or repr(os.fsdecode(name))
        self._is_secret = bool(shown)
        self._parent = parent
        self._inside = inside
        self._uids = frozenset(uids)
        self._copies = copies

    def commit(self) -> None:
        """Put the file into place.

        It takes long where a large file was there: the kernel frees its blocks within rename(2).

        Raises:
            OutputFailed: there is no such file, or something else by its name.
            OSError: it cannot be renamed or written.
        """
        fd = self._open()
        try:
            if not self._copies:
                self._keep_attributes(fd)
                try:
                    os.rename(self.name, self.name, src_dir_fd=self._inside, dst_dir_fd=self._parent)
                except OSError as error:
                    if error.errno != errno.EXDEV:
                        raise
                else:
                    return
            self._copy(fd)
        finally:
            os.close(fd)

    def _open(self) -> int:
        """Open the file that the command has written, without following or waiting for whatever else is there."""
        try:
            fd = os.open(self.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._inside)
        except FileNotFoundError:
            raise OutputFailed(self._missing()) from None
        except PermissionError:  # a file that the command has made unreadable, which a rename need not read
            fd = os.open(self.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._inside)
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.ENXIO}:  # a link, a socket
                raise OutputFailed(f"{self.shown} is not a regular file") from None
            raise
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in self._uids:
            os.close(fd)
            raise OutputFailed(f"{self.shown} is not a regular file of the command's user")
        return fd

    def _missing(self) -> str:
        """Return which file is missing, and which exist: many programs add a suffix to the name that they are given."""
        found = sorted(os.listdir(self._inside))
        if not found or self._is_secret:
            return f"the command did not write {self.shown}"
        shown = ", ".join(map(repr, found[:_MAX_SHOWN])) + (", …" if len(found) > _MAX_SHOWN else "")
        return f"the command wrote {shown}, not {self.shown}"

    def _keep_attributes(self, fd: int) -> None:
        """Give the file the mode and the owner of the one that it takes the place of."""
        try:
            old = os.stat(self.name, dir_fd=self._parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISREG(old.st_mode):
            raise OutputFailed(f"{self.shown} has become something that is not a regular file")
        own = f"/proc/self/fd/{fd}"
        for uid, gid in ((old.st_uid, -1), (-1, old.st_gid)):
            with contextlib.suppress(PermissionError):
                os.chown(own, uid, gid)
        os.chmod(own, old.st_mode & _PERMISSIONS)

    def _copy(self, source: int) -> None:
        """Copy the file into the directory that it goes to, where it has no name until it is complete."""
        mode = os.fstat(source).st_mode & _PERMISSIONS
        place = f"/proc/self/fd/{self._parent}"
        hidden = f".sidecall-new-{os.urandom(8).hex()}"
        try:
            target, is_named = os.open(place, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600), False
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL}:
                raise
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            target, is_named = os.open(hidden, flags, 0o600, dir_fd=self._parent), True
        try:
            while os.sendfile(target, source, None, 1 << 30):
                pass
            os.fchmod(target, mode)
            self._keep_attributes(target)
            if not is_named:
                os.link(f"/proc/self/fd/{target}", hidden, dst_dir_fd=self._parent, follow_symlinks=True)
            try:
                os.rename(hidden, self.name, src_dir_fd=self._parent, dst_dir_fd=self._parent)
            except OSError:
                is_named = True
                raise
        except OSError:
            if is_named:
                with contextlib.suppress(OSError):
                    os.unlink(hidden, dir_fd=self._parent)
            raise
        finally:
            os.close(target)
