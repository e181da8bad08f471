"""Atomic outputs: what is committed, and what somebody who can write to the volume can do about it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sidecall.errors import CallDenied
from sidecall.files.outputs import Output, OutputFailed
from sidecall.files.paths import Paths
from sidecall.files.scratch import Scratch
from sidecall.files.volumes import Volume, VolumeMap
from sidecall.policy.parameters import Parameter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Table

OUT = Parameter("out", "path", access="write", atomic=True)
IN = Parameter("in", "path")
both_ways = pytest.mark.parametrize("copies", [False, True], ids=["rename", "copy"])
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


class Place:
    """A volume, and a call's way of writing one output to it."""

    def __init__(self, tmp_path: Path, stack: ExitStack, *, copies: bool) -> None:
        self.data = tmp_path / "data"
        self.data.mkdir()
        private = tmp_path / "private"
        private.mkdir()
        scratch = Scratch()
        stack.callback(scratch.close)
        volume = Volume("data", str(self.data), writable=True, copies=copies)
        self.paths = stack.enter_context(Paths(VolumeMap([volume], ()), str(private), scratch))

    def use(self, name: str) -> Path:
        """Return the command's path for an output."""
        return Path(os.fsdecode(self.paths.use(OUT, os.fsencode(self.data / name))))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Callable[[bool], Place]]:
    """Return what makes a place; the volume is empty again in the end but for what was committed."""
    with ExitStack() as stack:
        yield lambda copies: Place(tmp_path, stack, copies=copies)
    assert not list((tmp_path / "data").glob(".sidecall-*"))


@both_ways
def test_an_output_appears_when_it_is_committed(place: Callable[[bool], Place], copies: bool) -> None:
    """Not before, and with its own mode where there was no file."""
    at = place(copies)
    path = at.use("e.tif")
    assert path.name == "e.tif"
    path.write_bytes(b"x" * 100_000)
    path.chmod(0o640)
    assert not (at.data / "e.tif").exists()
    assert (at.data in path.resolve().parents) != copies
    assert at.paths.commit() == ""
    assert (at.data / "e.tif").read_bytes() == b"x" * 100_000
    assert (at.data / "e.tif").stat().st_mode & 0o777 == 0o640


@both_ways
def test_a_replaced_file_keeps_mode_and_owner(place: Callable[[bool], Place], copies: bool) -> None:
    """As far as the server may set them; root may."""
    at = place(copies)
    old = at.data / "e.tif"
    old.write_bytes(b"old")
    old.chmod(0o604)
    if os.geteuid() == 0:
        os.chown(old, 1234, 2345)
    at.use("e.tif").write_bytes(b"new")
    assert at.paths.commit() == ""
    assert old.read_bytes() == b"new"
    assert old.stat().st_mode & 0o777 == 0o604
    if os.geteuid() == 0:
        assert (old.stat().st_uid, old.stat().st_gid) == (1234, 2345)


@both_ways
def test_the_names_that_were_written_are_reported(place: Callable[[bool], Place], copies: bool) -> None:
    """Programs that add a suffix exit with 0, and the expected file is not there."""
    at = place(copies)
    path = at.use("e.tif")
    assert at.paths.commit() == "the command did not write 'e.tif'"
    path.with_name("e0000.tif").touch()
    assert at.paths.commit() == "the command wrote 'e0000.tif', not 'e.tif'"


@both_ways
@pytest.mark.parametrize("kind", ["link", "dangling link", "fifo", "directory", "socket"])
def test_only_a_regular_file_is_committed(
    place: Callable[[bool], Place], copies: bool, kind: str, table: Table
) -> None:
    """Nothing is followed, and nothing waits for another end."""
    at = place(copies)
    path = at.use("e.tif")
    secret = at.data.parent / "secret"
    secret.write_bytes(b"secret")
    if kind == "link":
        path.symlink_to(secret)
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        here = os.getcwd()
        os.chdir(path.parent)
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(path.name)
        finally:
            os.chdir(here)
    refused = at.paths.commit()
    assert "is not a regular file" in refused
    assert not os.path.lexists(at.data / "e.tif")
    table(f"a {kind} in place of an output, at {'copy' if copies else 'rename'}", f"not committed: {refused}")


@as_root
@both_ways
def test_a_file_of_another_user_is_not_committed(place: Callable[[bool], Place], copies: bool, table: Table) -> None:
    """One that was moved in, say."""
    at = place(copies)
    path = at.use("e.tif")
    path.touch()
    os.chown(path, 1234, 1234)
    assert "is not a regular file of the command's user" in at.paths.commit()
    table(f"another user's file in place of an output, at {'copy' if copies else 'rename'}", "not committed")


@as_root
def test_another_mount_inside_the_volume_is_no_obstacle(place: Callable[[bool], Place]) -> None:
    """A file that cannot be renamed across mounts is copied."""
    at = place(False)
    inner = at.data / "inner"
    inner.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", inner], check=False).returncode:
        pytest.skip("this machine mounts nothing")
    try:
        at.use("inner/e.tif").write_bytes(b"new")
        assert at.paths.commit() == ""
        assert (inner / "e.tif").read_bytes() == b"new"
        assert sorted(path.name for path in inner.iterdir()) == ["e.tif"]
        at.paths.__exit__(None, None, None)
    finally:
        subprocess.run(["umount", inner], check=True)


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """Here the name is taken by a directory; a full disk ends in the same branch."""
    data, inside = tmp_path / "data", tmp_path / "inside"
    for path in (data, inside, data / "e.tif"):
        path.mkdir()
    (inside / "e.tif").write_bytes(b"new")
    parent, own = (os.open(path, os.O_RDONLY) for path in (data, inside))
    try:
        with pytest.raises(OutputFailed):
            Output(parent, b"e.tif", own, {os.geteuid()}, copies=True).commit()
        assert [path.name for path in data.iterdir()] == ["e.tif"]
    finally:
        os.close(parent)
        os.close(own)


SWAP = """
import os, sys
os.setgid(4321); os.setuid(4321)
data, victim = sys.argv[1:]
os.chdir(data)
print(flush=True)
while True:
    for name in os.listdir("."):
        if name.startswith(".sidecall-"):
            try:
                os.rename(name, "moved-" + name)
                os.symlink(victim, name)
            except OSError:
                pass
"""


@as_root
def test_a_user_that_swaps_directories_gets_nothing_written_elsewhere(tmp_path: Path, table: Table) -> None:
    """Another user that may write to the volume's root renames whatever appears there, and plants links."""
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    data, victim, private = (tmp_path / name for name in ("data", "victim", "private"))
    for path in (data, victim, private):
        path.mkdir()
    data.chmod(0o777)
    swap = [sys.executable, "-c", SWAP, str(data), str(victim)]
    with ExitStack() as stack, subprocess.Popen(swap, stdout=subprocess.PIPE) as swapper:
        assert swapper.stdout is not None
        swapper.stdout.readline()
        try:
            committed = 0
            for i in range(300):
                scratch = stack.enter_context(closing(Scratch()))
                volume = Volume("data", str(data), writable=True)
                own = private / str(i)
                own.mkdir()
                with Paths(VolumeMap([volume], ()), str(own), scratch) as paths:
                    try:
                        given = paths.use(OUT, os.fsencode(data / f"out{i}"))
                    except Exception:
                        continue
                    Path(os.fsdecode(given)).write_bytes(b"mine")
                    assert paths.commit() == ""
                    assert (data / f"out{i}").read_bytes() == b"mine"
                    committed += 1
        finally:
            swapper.kill()
    assert committed
    assert not list(victim.iterdir())
    table(
        "another user swaps directories for links while outputs are written", f"{committed} of 300 whole, none outside"
    )


def ids(*paths: Path) -> list[bytes]:
    """Return directories as a client names them."""
    return [b"%d:%d:%s" % (path.stat().st_dev, path.stat().st_ino, os.fsencode(path)) for path in paths]


def test_a_volume_inside_another_keeps_its_own_rules(tmp_path: Path, table: Table) -> None:
    """A client that names only the outer one does not write to the inner, nor read what only the inner is for."""
    outer, inner = tmp_path / "outer", tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    (outer / "link").symlink_to("inner/file")
    volumes = [Volume("outer", str(outer), writable=True), Volume("inner", str(inner))]
    only_outer = Parameter("in", "path", volumes=("outer",))
    scratch = Scratch()
    with Paths(VolumeMap(volumes, ids(outer)), str(tmp_path), scratch) as paths:
        for path in (inner / "new", inner / "file"):
            with pytest.raises(CallDenied, match="only read here"):
                paths.use(OUT, os.fsencode(path))
        for path in (inner / "file", inner, outer / "link", outer / "inner" / ".." / "inner" / "file"):
            with pytest.raises(CallDenied, match="must be on the volume outer"):
                paths.use(only_outer, os.fsencode(path))
        paths.use(IN, os.fsencode(inner / "file"))
        paths.use(OUT, os.fsencode(outer / "new"))
    scratch.close()
    table("a read-only volume in a writable one, which the client does not name", "not written to; its own rules hold")


def test_a_directory_that_is_another_one_here_is_refused(tmp_path: Path, table: Table) -> None:
    """Something is mounted on one side only: the client's /app/node_modules is not the server's."""
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    for path in (data / "sub" / "deeper", elsewhere):
        path.mkdir(parents=True)
    (data / "sub" / "file").touch()
    status = elsewhere.stat()
    lie = b"%d:%d:%s" % (status.st_dev, status.st_ino, os.fsencode(data / "sub"))
    with Paths(VolumeMap([Volume("data", str(data), writable=True)], [*ids(data), lie]), None) as paths:
        for rule in (IN, OUT):
            with pytest.raises(CallDenied, match="is a different directory for the server"):
                paths.use(rule, os.fsencode(data / "sub" / "file"))
        with pytest.raises(CallDenied, match="is a different directory for the server"):
            paths.directory(os.fsencode(data / "sub"))
        paths.use(OUT, os.fsencode(data / "other"))
    table("a mount inside a volume that only one side has", "refused: it is a different directory for the server")
