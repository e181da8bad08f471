"""The files that a call names: found on their volumes, held, and given to the command under names of their own.

What was checked is what the command gets: each file, or the directory that a new file goes to, is held open by a
descriptor, and the command's name for it is a link, in a directory of the call's own, to /proc/PID/fd/N of this process.
Renaming or linking things on the volume afterwards changes nothing. Source: proc_pid_fd(5).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sidecall.errors import CallDenied, ServiceBusy, SidecallError, UsageError
from sidecall.files.beneath import open_beneath
from sidecall.files.scratch import remove

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from sidecall.files.volumes import VolumeMap, VolumePath, Volume

MASK = "***"
"""Shown in place of what is secret."""

_PREFIX = ".sidecall-"
_SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT}


class PathRule(Protocol):
    """What was declared of a parameter that is a path; see `policy.parameters.Parameter`."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def help(self) -> str: ...  # noqa: D102
    @property
    def secret(self) -> bool: ...  # noqa: D102
    @property
    def access(self) -> str: ...  # noqa: D102
    @property
    def volumes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def pin(self) -> bool: ...  # noqa: D102
    @property
    def atomic(self) -> bool: ...  # noqa: D102


@dataclass(frozen=True)
class _Replacement:
    """A file under way: made in a hidden directory beside its place, renamed into it when it is whole."""

    parent: int
    name: bytes
    hidden: str
    inside: int

    def commit(self) -> None:
        os.rename(self.name, self.name, src_dir_fd=self.inside, dst_dir_fd=self.parent)

    def clear(self) -> None:
        remove(self.hidden, dir_fd=self.parent)


class Paths:
    """The files of one call. A context manager: leaving it lets go of all of them.

    Args:
        volume_map: where things are.
        private: a directory of the call's own for the links; None to only check.
        owner: the uid and gid that the command runs as, None for this process'. Another user may not use this process'
            descriptors: its files go by the volumes' own names, and are not held.
    """

    def __init__(self, volume_map: VolumeMap, private: str | None, owner: tuple[int, int] | None = None) -> None:
        self._atlas = volume_map
        self._private = private
        self._owner = owner
        self._holds = private is not None and owner is None
        self._held = contextlib.ExitStack()
        self._replacements: list[_Replacement] = []
        self._links = 0
        self.used: list[tuple[str, str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._held.close()

    def use(self, parameter: PathRule, path: bytes) -> bytes:
        """Return the name under which the command gets the file that a caller named.

        Raises:
            CallDenied: it is on no volume, on one that the parameter does not take, or leads out of it.
            UsageError: it is not there.
            ServiceBusy: there is no room for another descriptor.
        """
        shown = MASK if parameter.secret else os.fsdecode(path)
        place = self._atlas.resolve(path, shown)
        self._check_volume(parameter, place.volume)
        self.used.append((place.volume.name, MASK if parameter.secret else os.fsdecode(place.relative)))
        try:
            if parameter.access == "write":
                return self._to_write(parameter, place)
            return self._to_read(parameter, place)
        except OSError as error:
            raise _explain(error, parameter, shown, place.volume) from error

    def directory(self, path: bytes) -> bytes:
        """Return the working directory for the one that a caller named.

        Raises:
            CallDenied: it is on no volume, or leads out of it.
            UsageError: it is not there.
            ServiceBusy: there is no room for another descriptor.
        """
        shown = os.fsdecode(path)
        place = self._atlas.resolve(path, shown)
        try:
            fd = self._open(place)
        except OSError as error:
            raise _explain(error, None, shown, place.volume) from error
        return self._name_of(fd) if self._holds else _own_path(place)

    @property
    def replaces(self) -> bool:
        """Tell whether there is anything to commit."""
        return bool(self._replacements)

    def commit(self) -> str:
        """Put every replaced file into its place; return what went wrong, or an empty string.

        It takes long where a large file was there: the kernel gives its blocks back within rename(2).
        """
        for replacement in self._replacements:
            try:
                replacement.commit()
            except OSError as error:
                return f"{os.fsdecode(replacement.name)!r} could not be put into its place: {error.strerror}"
        return ""

    def _check_volume(self, parameter: PathRule, volume: Volume) -> None:
        if parameter.volumes and volume.name not in parameter.volumes:
            wanted = " or ".join(parameter.volumes)
            raise CallDenied(
                f"--{parameter.name} must be on the volume {wanted}, not {volume.name}",
                parameter.help,
                f"parameters.{parameter.name}.volumes",
            )
        if parameter.access == "write" and not volume.writable:
            raise CallDenied(
                f"--{parameter.name} is written, and the volume {volume.name} is only read here",
                'the service\'s configuration would have to say `access = "write"` for the volume',
                rule=f"volumes.{volume.name}.access",
            )

    def _to_read(self, parameter: PathRule, place: VolumePath) -> bytes:
        fd = self._open(place)
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise UsageError(f"--{parameter.name} must be a file or a directory", parameter.help)
        if not self._holds or not parameter.pin:
            return _own_path(place)
        return self._link(os.path.basename(place.relative) or b"volume", self._name_of(fd))

    def _to_write(self, parameter: PathRule, place: VolumePath) -> bytes:
        above, _, name = place.relative.rpartition(b"/")
        if name in {b"", b".", b".."}:
            raise UsageError(f"--{parameter.name} must name a file to write", parameter.help)
        parent = self._open(type(place)(place.volume, above))
        with contextlib.suppress(FileNotFoundError):
            mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
            if not stat.S_ISREG(mode):
                raise UsageError(f"--{parameter.name} names something that is no regular file", parameter.help)
        directory, inside = _own_path(type(place)(place.volume, above)), parent
        if self._private is not None and parameter.atomic:
            hidden = self._hide(parent, name)
            directory, inside = os.path.join(directory, os.fsencode(hidden.hidden)), hidden.inside
        if self._holds and parameter.pin:
            directory = self._link(b"at", self._name_of(inside))
        return os.path.join(directory, name)

    def _hide(self, parent: int, name: bytes) -> _Replacement:
        """Make a hidden directory in which the file is made until it is whole."""
        hidden = _PREFIX + os.urandom(8).hex()
        os.mkdir(hidden, 0o700, dir_fd=parent)
        inside = os.open(hidden, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        self._held.callback(os.close, inside)
        if self._owner is not None:
            os.chown(inside, *self._owner)
        replacement = _Replacement(parent, name, hidden, inside)
        self._replacements.append(replacement)
        self._held.callback(replacement.clear)
        return replacement

    def _open(self, place: VolumePath) -> int:
        root = os.open(place.volume.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = open_beneath(root, place.relative)
        finally:
            os.close(root)
        self._held.callback(os.close, fd)
        return fd

    def _name_of(self, fd: int) -> bytes:
        return f"/proc/{os.getpid()}/fd/{fd}".encode()

    def _link(self, name: bytes, target: bytes) -> bytes:
        """Make a link in a directory of its own, so that it can have the name that the file has."""
        assert self._private is not None  # noqa: S101 asked for by the callers of this method
        self._links += 1
        directory = os.path.join(os.fsencode(self._private), str(self._links).encode())
        os.mkdir(directory)
        os.symlink(target, os.path.join(directory, name))
        return os.path.join(directory, name)


def _own_path(place: VolumePath) -> bytes:
    return os.path.join(os.fsencode(place.volume.path), place.relative)


def _explain(error: OSError, parameter: PathRule | None, shown: str, volume: Volume) -> SidecallError:
    what = f"--{parameter.name}" if parameter else "--cwd"
    if error.errno in _SHORTAGES:
        return ServiceBusy(f"the service cannot hold another file: {error.strerror}", "try again later")
    if error.errno in {errno.EXDEV, errno.ELOOP}:
        return CallDenied(
            f"{what}: {shown!r} leads out of the volume {volume.name}",
            "links may only lead within it",
            f"volumes.{volume.name}",
        )
    return UsageError(f"{what}: {shown!r}: {error.strerror}", parameter.help if parameter else "")
