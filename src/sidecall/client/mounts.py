"""Which mount a path lies on. Source: proc_pid_mountinfo(5). Pure, but for reading that file."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

_OWN = {"overlay", "aufs", "vfs", "rootfs"}
"""What a container's own file system is made of, as engines mount it."""

_PSEUDO = {*_OWN, "proc", "sysfs", "tmpfs", "devpts", "devtmpfs", "mqueue", "cgroup", "cgroup2", "securityfs"}
_ENGINES_OWN = (
    "/proc",
    "/sys",
    "/dev",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/run/.containerenv",
    "/run/secrets",
)
"""Where engines mount what no compose file has."""

_MARKS = ("/run/.containerenv", "/.dockerenv")
"""Files that podman and Docker put into each container."""


@dataclass(frozen=True)
class Mount:
    """One mount.

    Attributes:
        point: where it is.
        root: which directory of its file system is mounted there; for a volume, that is its path on the host's disk.
        kind: the file system's type.
        read_only: whether it is mounted read-only.
    """

    point: str
    root: str
    kind: str
    read_only: bool

    @property
    def source(self) -> str:
        """What a compose file has for it: the name of a volume, or a path on the host's disk."""
        named = re.search(r"/volumes/([^/]+)/_data$", self.root)
        return named[1] if named else self.root


def volumes(among: list[Mount]) -> list[Mount]:
    """Return the mounts of a container that a compose file has as `volumes`; none outside of a container."""
    if not any(map(is_containers_own, among)):
        return []
    return [
        mount
        for mount in among
        if mount.point != "/" and mount.kind not in _PSEUDO and not mount.point.startswith(_ENGINES_OWN)
    ]


def is_containers_own(mount: Mount) -> bool:
    """Tell whether this is the root file system of a container, which no other container sees."""
    return mount.point == "/" and (mount.kind in _OWN or any(map(os.path.exists, _MARKS)))


def mounts() -> list[Mount]:
    """Return the mounts that this process sees, in their order."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return parse(file.read())


def parse(text: str) -> list[Mount]:
    """Read the content of a mountinfo file."""
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        _id, _parent, _device, root, point, options = before.split(" ")[:6]
        read_only = "ro" in options.split(",")
        found.append(Mount(_unescaped(point), _unescaped(root), after.split(" ")[0], read_only))
    return found


def mount_of(path: str, among: list[Mount]) -> Mount:
    """Return the mount that a path lies on: the last one at the longest of the points above it."""
    real = os.path.realpath(path)
    above = [mount for mount in among if real == mount.point or real.startswith(mount.point.rstrip("/") + "/")]
    longest = max((len(mount.point) for mount in above), default=0)
    return [mount for mount in above if len(mount.point) == longest][-1]


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
