"""Reading mountinfo: which mount a path is on."""

from __future__ import annotations

import pytest

from sidecall.client.mounts import Mount, is_containers_own, mount_of, mounts, parse, volumes

TEXT = r"""
612 560 0:55 / / rw,relatime master:200 - overlay overlay rw,lowerdir=/a,upperdir=/b
613 612 254:0 /volumes/ipc/_data /run/sidecall rw,nosuid shared:1 - ext4 /dev/vda rw
614 612 254:0 /my\040files /my\040data ro,relatime - ext4 /dev/vda rw
615 613 0:60 / /run/sidecall rw - tmpfs tmpfs rw
""".strip()


def test_a_file_is_read_line_by_line() -> None:
    """Optional fields are skipped, escapes undone, and the mount's own `ro` counts."""
    assert parse(TEXT)[:3] == [
        Mount("/", "/", "overlay", False),
        Mount("/run/sidecall", "/volumes/ipc/_data", "ext4", False),
        Mount("/my data", "/my files", "ext4", True),
    ]


@pytest.mark.parametrize(
    ("path", "kind", "point"),
    [("/etc", "overlay", "/"), ("/run/sidecall", "tmpfs", "/run/sidecall"), ("/run/sidecall2", "overlay", "/")],
)
def test_the_nearest_and_latest_mount_counts(path: str, kind: str, point: str) -> None:
    """A mount over another one hides it, and a name that only begins alike is another directory."""
    found = mount_of(path, parse(TEXT))
    assert (found.kind, found.point) == (kind, point)


def test_only_the_root_is_a_containers_own() -> None:
    """A volume is shared, whatever it is made of."""
    assert [is_containers_own(mount) for mount in parse(TEXT)] == [True, False, False, False]


def test_this_machine_can_be_read() -> None:
    """The real file has a root."""
    assert mount_of("/", mounts()).point == "/"


def test_volumes_are_what_a_compose_file_mounts() -> None:
    """By the name of a volume, or the path on the host; not what the engine mounts in each container."""
    text = (
        TEXT.rsplit("\n", 1)[0]
        + r"""
616 612 0:61 / /proc rw - proc proc rw
617 612 254:0 /containers/1/hosts /etc/hosts rw - ext4 /dev/vda rw
618 612 0:62 / /dev/shm rw - ext4 shm rw"""
    )
    assert [(mount.source, mount.point) for mount in volumes(parse(text))] == [
        ("ipc", "/run/sidecall"),
        ("/my files", "/my data"),
    ]
    assert volumes(parse(text.split("\n", 1)[1])) == []
