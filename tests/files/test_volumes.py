"""Where a caller's path lies, whatever each side calls the directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecall.client.directory_ids import directory_ids
from sidecall.errors import CallDenied, ProtocolError
from sidecall.files.volumes import Volume, VolumeMap, VolumePath

if TYPE_CHECKING:
    from pathlib import Path


def told(path: Path, name: bytes) -> bytes:
    """Return what a caller tells of a directory that it has under another name."""
    status = path.stat()
    return b"%d:%d:%s" % (status.st_dev, status.st_ino, name)


@pytest.fixture
def volumes(tmp_path: Path) -> tuple[Volume, Volume]:
    """Return two volumes, one inside the other."""
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    return Volume("outer", f"{tmp_path}/outer"), Volume("inner", f"{tmp_path}/outer/inner", writable=True)


def test_a_path_is_translated_by_device_and_inode(volumes: tuple[Volume, Volume], tmp_path: Path) -> None:
    """What the caller mounts at /data is found, whatever it is called here."""
    volume_map = VolumeMap(volumes, [told(tmp_path, b"/"), told(tmp_path / "outer", b"/data")])
    assert volume_map.resolve(b"/data") == VolumePath(volumes[0], b"")
    assert volume_map.resolve(b"/data/a/b") == VolumePath(volumes[0], b"a/b")
    assert volume_map.resolve(b"/data/inner/x") == VolumePath(volumes[0], b"inner/x")


def test_the_deepest_volume_counts(volumes: tuple[Volume, Volume], tmp_path: Path) -> None:
    """A volume inside another is its own, with its own access."""
    volume_map = VolumeMap(volumes, [told(tmp_path / "outer", b"/d"), told(tmp_path / "outer" / "inner", b"/d/inner")])
    assert volume_map.resolve(b"/d/inner/x") == VolumePath(volumes[1], b"x")
    assert volume_map.resolve(b"/d/innerx") == VolumePath(volumes[0], b"innerx")


def test_a_caller_that_tells_nothing_has_them_where_they_are_here(volumes: tuple[Volume, Volume]) -> None:
    """Any program that speaks the protocol may leave the directories out."""
    volume_map = VolumeMap((*volumes, Volume("all", "/")), [])
    assert volume_map.resolve(volumes[0].path.encode() + b"/a") == VolumePath(volumes[0], b"a")
    assert volume_map.resolve(b"/etc/x").volume.name == "all"


@pytest.mark.parametrize("path", [b"/elsewhere", b"/database", b"/", b"relative", b""])
def test_what_is_on_no_volume_is_told_what_is(volumes: tuple[Volume, Volume], tmp_path: Path, path: bytes) -> None:
    """The sentence names the volumes, and where they are."""
    volume_map = VolumeMap(volumes, [told(tmp_path / "outer", b"/data")])
    with pytest.raises(CallDenied) as error:
        volume_map.resolve(path)
    assert error.value.reason.endswith("is on no volume that the service shares")
    assert f"outer (read, {tmp_path}/outer at the service); inner (read and write, " in error.value.hint


@pytest.mark.parametrize(
    "entry", [b"", b"1:2", b"1:2:", b"1:2:rel", b"x:2:/a", b"-1:2:/a", b"1::/a", b"9" * 80 + b":1:/a"]
)
def test_nonsense_is_refused(entry: bytes) -> None:
    """An entry is DEVICE:INODE:PATH or a broken protocol."""
    with pytest.raises(ProtocolError):
        VolumeMap((), [entry])


def test_a_caller_tells_of_every_directory_on_the_way(tmp_path: Path) -> None:
    """The directories above each argument and the working directory, once each; files are left out."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    base = bytes(tmp_path / "here")
    words = (b"--a", b"../there/file", b"--b=" + bytes(tmp_path / "gone" / "x"), b"a\0b", b"-v")
    paths = [entry.split(b":", 2)[2] for entry in directory_ids(base, words)]
    assert {base, bytes(tmp_path), b"/", base + b"/../there"} <= set(paths)
    assert len(paths) == len(set(paths))
    assert not any(path.endswith((b"file", b"gone", b"x")) for path in paths)
    assert directory_ids(base, ())[0] == told(tmp_path / "here", base)


def test_a_thousand_words_do_not_make_a_thousand_directories(tmp_path: Path) -> None:
    """What is told is bounded, whatever the call."""
    assert len(directory_ids(bytes(tmp_path), tuple(b"%d/x" % number for number in range(5000)))) <= 128
