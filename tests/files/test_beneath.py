"""Nothing outside a directory can be opened through it, with openat2(2) and without."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from sidecall.files import beneath
from sidecall.files.beneath import open_beneath

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILTERED = OSError(errno.EPERM, "as where a container engine filters the system call")


@pytest.fixture(params=["openat2", "walk"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return how paths are resolved."""

    def filtered(_root: int, _path: bytes) -> int:
        raise FILTERED

    if request.param == "walk":
        monkeypatch.setattr(beneath, "_openat2", filtered)
    return str(request.param)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """Return a directory with good and bad links in it."""
    directory = tmp_path / "root"
    (directory / "sub").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (directory / "sub" / "file").write_text("file")
    (directory / "in").symlink_to("sub/file")
    (directory / "out").symlink_to("../secret")
    (directory / "absolute").symlink_to(tmp_path / "secret")
    (directory / "up").symlink_to("..")
    (directory / "magic").symlink_to("/proc/self/root")
    (directory / "loop").symlink_to("loop")
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def read(fd: int) -> bytes:
    """Return what the file behind an O_PATH descriptor says."""
    try:
        with open(f"/proc/self/fd/{fd}", "rb") as file:
            return file.read()
    finally:
        os.close(fd)


@pytest.mark.parametrize("path", [b"sub/file", b"sub//file", b"./sub/./file", b"sub/file/"[:-1]])
def test_what_is_beneath_opens(root: int, way: str, path: bytes) -> None:
    """A descriptor of the file, by any spelling."""
    assert read(open_beneath(root, path)) == b"file"


def test_the_directory_itself_opens(root: int, way: str) -> None:
    """An empty path is the root."""
    fd = open_beneath(root, b"")
    assert os.fstat(fd).st_ino == os.fstat(root).st_ino
    os.close(fd)


@pytest.mark.parametrize(
    "path", [b"..", b"../secret", b"sub/../../secret", b"out", b"absolute", b"up/secret", b"magic/etc/passwd"]
)
def test_what_leads_out_does_not(root: int, way: str, path: bytes) -> None:
    """Neither `..` nor a link gets out, and the error says that it is that."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match=os.strerror(errno.EXDEV)):
        open_beneath(root, path)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("path", "number"),
    [(b"gone", errno.ENOENT), (b"sub/file/x", errno.ENOTDIR), (b"x" * 300, errno.ENAMETOOLONG)],
)
def test_other_errors_are_what_they_are(root: int, way: str, path: bytes, number: int) -> None:
    """As open(2) has them."""
    with pytest.raises(OSError, match=os.strerror(number)):
        open_beneath(root, path)


def test_links_within_are_followed_where_the_kernel_can(root: int) -> None:
    """openat2 tells which links stay beneath; without it none is followed."""
    try:
        assert read(beneath._openat2(root, b"in")) == b"file"
    except OSError as error:
        assert error.errno in {errno.ENOSYS, errno.EPERM}  # noqa: PT017 an old kernel, or a filter
    with pytest.raises(OSError, match=os.strerror(errno.EXDEV)):
        beneath._walk(root, b"in")
