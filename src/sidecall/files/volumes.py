"""Declared volumes, and where a caller's path lies on them, though the two sides mount them at different places.

A directory has the same device and inode number in every container that sees it. The caller tells those of the
directories that its paths lead through; one that is a volume's root shows where the caller has that volume. It is only
a hint: a caller that lies names other files of the same volumes, which it could have named anyway.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from sidecall.errors import CallDenied, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Identity = tuple[int, int]


@dataclass(frozen=True)
class Volume:
    """A directory whose files commands may be given.

    Attributes:
        name: what people call it.
        path: where this side has it.
        writable: whether commands may be given files to write.
        copies: whether atomic outputs are copied to it, not renamed: see `outputs`.
    """

    name: str
    path: str
    writable: bool = False
    copies: bool = False

    def words(self) -> str:
        """Return name, access and place, for people."""
        return f"{self.name} ({'read and write' if self.writable else 'read'}, {self.path} at the service)"


@dataclass(frozen=True)
class VolumePath:
    """A path on a volume; `relative` is empty for its root."""

    volume: Volume
    relative: bytes


class VolumeMap:
    """What is known of the places of one call.

    Args:
        volumes: the declared ones.
        directories: what the caller tells: `DEVICE:INODE:PATH` for each directory; if nothing, it has the volumes where
            this side has them.

    Raises:
        ProtocolError: an entry is none.
    """

    def __init__(self, volumes: Sequence[Volume], directories: Sequence[bytes]) -> None:
        self._volumes = volumes
        self._directories = {path: identity for identity, path in map(_read, directories)}
        if not directories:
            self._roots = {os.fsencode(volume.path): volume for volume in volumes}
            return
        known = self._known
        self._roots = {path: known[identity] for path, identity in self._directories.items() if identity in known}

    @cached_property
    def _known(self) -> Mapping[Identity, Volume]:
        return _identities(self._volumes)

    def resolve(self, path: bytes, shown: str = "") -> VolumePath:
        """Return where a caller's absolute path lies.

        Args:
            path: the path.
            shown: what a message calls it; empty for the path itself.

        Raises:
            CallDenied: on no volume.
        """
        for root in sorted(self._roots, key=len, reverse=True):
            if path == root or path.startswith(root.rstrip(b"/") + b"/"):
                return VolumePath(self._roots[root], path[len(root) :].strip(b"/"))
        shared = "; ".join(volume.words() for volume in self._volumes) or "none"
        what = shown or os.fsdecode(path)
        raise CallDenied(f"{what!r} is on no volume that the service shares", f"shared are: {shared}", "volumes")

    def deepest_directory(self, path: bytes) -> tuple[bytes, Identity | None]:
        """Return the deepest directory of a path that the client named, and its ids; None if it named none."""
        while (identity := self._directories.get(path)) is None and len(path) > 1:
            path = os.path.dirname(path.rstrip(b"/")) or b"/"
        return path, identity

    def volume_of(self, fd: int) -> Volume | None:
        """Return the volume that something opened is on, by the kernel's word: the innermost if volumes are nested.

        Raises:
            OSError: ESTALE if it is being moved.
        """
        if len(self._volumes) == 1:
            return self._volumes[0]
        known = self._known
        path = os.readlink(f"/proc/self/fd/{fd}")
        opened, named = os.fstat(fd), os.stat(path)
        if (opened.st_dev, opened.st_ino) != (named.st_dev, named.st_ino):
            raise OSError(errno.ESTALE, "it is being moved")
        while True:
            found = known.get((named.st_dev, named.st_ino))
            if found is not None or path == "/":
                return found
            path = os.path.dirname(path)
            named = os.stat(path)


def _identities(volumes: Sequence[Volume]) -> Mapping[Identity, Volume]:
    found = {}
    for volume in volumes:
        with contextlib.suppress(OSError):
            root = os.stat(volume.path)
            found[root.st_dev, root.st_ino] = volume
    return found


def _read(entry: bytes) -> tuple[Identity, bytes]:
    device, _, rest = entry.partition(b":")
    inode, _, path = rest.partition(b":")
    if not (device.isdigit() and inode.isdigit() and path.startswith(b"/") and len(device) + len(inode) < 64):
        raise ProtocolError("a directory of Call is not DEVICE:INODE:PATH")
    return (int(device), int(inode)), path
