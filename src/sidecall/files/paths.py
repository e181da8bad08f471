"""The files that a call names: found on their volumes, held, and given to the command under names of their own.

What was checked is what the command gets: each file, or the directory that a new file goes to, is held open by a
descriptor, and the command's name for it is a link, in a directory of the call's own, to /proc/PID/fd/N of this
process. Renaming or linking things on the volume afterwards changes nothing. Source: proc_pid_fd(5).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, Protocol

from sidecall.errors import CallDenied, ServiceBusy, SidecallError, UsageError
from sidecall.files.beneath import open_beneath
from sidecall.files.outputs import Output, OutputFailed

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from sidecall.files.scratch import Scratch
    from sidecall.files.volumes import Volume, VolumeMap, VolumePath

MASK = "***"
"""Shown in place of what is secret."""

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


class Paths:
    """The files of one call. A context manager: leaving it lets go of all of them.

    Args:
        volume_map: where things are.
        private: a directory of the call's own for the links; None to only check.
        scratch: has the server's directories on the volumes; None to only check.
        owner: the uid and gid that the command runs as, None for this process'. Another user may not use this process'
            descriptors: its files go by the volumes' own names, and are not held.
        is_confined: whether the command can use only what is `given`. Then links are not followed out of it, and the
            kernel does not let the command use this process' descriptors: its files go by the volumes' own names.

    Attributes:
        used: the volume and the path of each, as they can be shown.
        given: what is given to the command: see `supervise.control.Job.confined_to`.
    """

    def __init__(
        self,
        volume_map: VolumeMap,
        private: str | None,
        scratch: Scratch | None = None,
        owner: tuple[int, int] | None = None,
        *,
        is_confined: bool = False,
    ) -> None:
        self._volume_map = volume_map
        self._scratch = scratch
        self._private = private
        self._owner = owner
        self._is_confined = is_confined
        self._holds = private is not None and owner is None and not is_confined
        self._held = contextlib.ExitStack()
        self._outputs: list[Output] = []
        self._directories = 0
        self.used: list[tuple[str, str]] = []
        self.given: list[bytes] = []

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
        place = self._volume_map.resolve(path, shown)
        self._check_volume(parameter, place.volume)
        self.used.append(
            (place.volume.name, MASK if parameter.secret else place.relative.decode(errors="backslashreplace"))
        )
        try:
            self._check_same_directory(path, place, is_secret=parameter.secret)
            if parameter.access == "write":
                return self._to_write(parameter, place)
            return self._to_read(parameter, place)
        except OSError as error:
            raise _explain(error, parameter, shown, place.volume) from error

    def _check_same_directory(self, path: bytes, place: VolumePath, *, is_secret: bool = False) -> None:
        """Refuse a path that leads through a directory that only one side has mounted there.

        The client sends which directories its path leads through. The deepest of them has to be the one that is there
        on this side too; otherwise the same name is another file.

        Raises:
            CallDenied: it is not.
            OSError: it is not there.
        """
        deepest, expected = self._volume_map.deepest_directory(path)
        if expected is None:
            return
        root_length = len(path.rstrip(b"/")) - len(place.relative)
        relative = deepest[root_length:] if len(deepest) > root_length else b""
        status = os.fstat(self._open(type(place)(place.volume, relative)))
        if (status.st_dev, status.st_ino) != expected:
            shown = MASK if is_secret else repr(os.fsdecode(deepest))
            raise CallDenied(
                f"{shown} is a different directory for the server",
                "mount it in both containers, or in neither: something is mounted inside the volume on one side only",
                f"volumes.{place.volume.name}",
            )

    def _check_opened(self, parameter: PathRule, fd: int, place: VolumePath) -> None:
        """Check the volume that a path has led to, which can be nested in the one that it began on."""
        actual = self._volume_map.volume_of(fd)
        if actual is not None and actual != place.volume:
            self._check_volume(parameter, actual)

    def directory(self, path: bytes) -> bytes:
        """Return the working directory for the one that a caller named.

        Raises:
            CallDenied: it is on no volume, or leads out of it.
            UsageError: it is not there.
            ServiceBusy: there is no room for another descriptor.
        """
        shown = os.fsdecode(path)
        place = self._volume_map.resolve(path, shown)
        try:
            self._check_same_directory(path, place)
            fd = self._open(place)
        except OSError as error:
            raise _explain(error, None, shown, place.volume) from error
        self.given.append((b"w" if place.volume.writable else b"r") + self._name_of(fd))
        is_held = self._holds or (self._is_confined and self._private is not None)  # it is entered, then confined
        return self._name_of(fd) if is_held else _own_path(place)

    @property
    def has_outputs(self) -> bool:
        """Tell whether there is anything to commit."""
        return bool(self._outputs)

    def commit(self) -> str:
        """Put every atomic output into place; return what went wrong, or an empty string. It can take long."""
        for output in self._outputs:
            try:
                output.commit()
            except OutputFailed as error:
                return str(error)
            except OSError as error:
                return f"cannot create {output.shown}: {error.strerror}"
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
                'set `access = "write"` for the volume in the service configuration',
                rule=f"volumes.{volume.name}.access",
            )

    def _to_read(self, parameter: PathRule, place: VolumePath) -> bytes:
        fd = self._open(place)
        self._check_opened(parameter, fd, place)
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise UsageError(f"--{parameter.name} must be a file or a directory", parameter.help)
        self._check_permission(fd, os.R_OK)
        self.given.append(b"r" + self._name_of(fd))
        if not self._holds or not parameter.pin:
            return _own_path(place)
        return self._link(os.path.basename(place.relative) or b"volume", self._name_of(fd))

    def _to_write(self, parameter: PathRule, place: VolumePath) -> bytes:
        above, _, name = place.relative.rpartition(b"/")
        if name in {b"", b".", b".."}:
            raise UsageError(f"--{parameter.name} must name a file to write", parameter.help)
        parent = self._open(type(place)(place.volume, above))
        self._check_opened(parameter, parent, place)
        with contextlib.suppress(FileNotFoundError):
            mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
            if not stat.S_ISREG(mode):
                raise UsageError(f"--{parameter.name} names something that is no regular file", parameter.help)
        if parameter.atomic:  # else the command opens it, which a directory that takes no new file can allow
            self._check_permission(parent, os.W_OK | os.X_OK)
        directory, inside = _own_path(type(place)(place.volume, above)), parent
        if self._private is not None and self._scratch is not None and parameter.atomic:
            shown = MASK if parameter.secret else ""
            directory, inside = self._stage(place.volume, parent, name, shown)
        self.given.append(b"w" + self._name_of(inside))
        if self._holds and parameter.pin:
            directory = self._link(b"at", self._name_of(inside))
        return os.path.join(directory, name)

    def _check_permission(self, fd: int, mode: int) -> None:
        """Raise PermissionError now for what would fail later, unless another user than this process' will need it."""
        if self._owner is None and not os.access(f"/proc/self/fd/{fd}", mode, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def _stage(self, volume: Volume, parent: int, name: bytes, shown: str) -> tuple[bytes, int]:
        """Return the directory that an atomic output is made in: its path, and a descriptor."""
        assert self._private is not None and self._scratch is not None  # noqa: S101, PT018 as the caller knows
        staged = None if volume.copies else self._stage_on_volume(volume)
        if staged is None:
            path = self._make_directory()
            inside = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            self._held.callback(os.close, inside)
        else:
            path, inside = staged
        if self._owner is not None:
            os.chown(inside, *self._owner)
        uids = {os.geteuid(), os.geteuid() if self._owner is None else self._owner[0]}
        self._outputs.append(Output(parent, name, inside, uids, copies=staged is None, shown=shown))
        return path, inside

    def _stage_on_volume(self, volume: Volume) -> tuple[bytes, int] | None:
        """Return a directory in the server's on a volume; None if the server cannot make one there."""
        assert self._scratch is not None  # noqa: S101 as the caller knows
        own, made = self._scratch.staging(volume.path), os.urandom(8).hex()
        try:
            inside = own.make(made)
        except OSError as error:
            if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
                return None
            raise
        self._held.callback(own.remove, made)
        self._held.callback(os.close, inside)
        return os.fsencode(os.path.join(own.path, made)), inside

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
        path = os.path.join(self._make_directory(), name)
        os.symlink(target, path)
        return path

    def _make_directory(self) -> bytes:
        """Make a directory in the call's own."""
        assert self._private is not None  # noqa: S101 as its callers know
        self._directories += 1
        directory = os.path.join(os.fsencode(self._private), str(self._directories).encode())
        os.mkdir(directory, 0o700)
        return directory


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
    if error.errno == errno.EACCES:
        return _denied(what, shown, "write" if parameter and parameter.access == "write" else "read", volume)
    return UsageError(f"{what}: {shown!r}: {error.strerror}", parameter.help if parameter else "")


def _denied(what: str, shown: str, access: str, volume: Volume) -> CallDenied:
    user = f"uid {os.geteuid()}, gid {os.getegid()}"
    if access == "write":
        reason, hint = "cannot create files in its directory", "`chmod g+w` the directory as its owner"
    else:
        reason, hint = "cannot read it", "`chmod g+rX` it, and each directory on the way, as its owner"
    return CallDenied(
        f"{what}: {shown!r}: Permission denied: the server ({user}) {reason}",
        f"{hint}, and `chgrp` it to a group of the server",
        f"volumes.{volume.name}",
    )
