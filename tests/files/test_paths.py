"""The files of a call: what was checked is what the command gets, and a file is whole or not there."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from sidecall.errors import CallDenied, ServiceBusy, SidecallError, UsageError
from sidecall.files.paths import Paths
from sidecall.files.scratch import Scratch
from sidecall.files.volumes import Volume, VolumeMap
from sidecall.policy.parameters import Parameter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

READ = Parameter("in", "path", help="what to read")
WRITE = Parameter("out", "path", access="write")
ATOMIC = Parameter("out", "path", access="write", atomic=True)


class Places:
    """A volume that is written, one that is only read, and a directory for links."""

    def __init__(self, base: Path) -> None:
        self.volume, self.fixed, self.private = base / "volume", base / "fixed", base / "private"
        for directory in (self.volume, self.fixed, self.private):
            directory.mkdir()
        volumes = (Volume("data", str(self.volume), writable=True), Volume("fixed", str(self.fixed)))
        self.volume_map = VolumeMap(volumes, [])
        self.scratch = Scratch()

    def paths(self, *, checks_only: bool = False) -> Paths:
        """Return the paths of one call."""
        if checks_only:
            return Paths(self.volume_map, None)
        return Paths(self.volume_map, str(self.private), self.scratch)

    def left(self) -> list[str]:
        """Return what is on the volume once the server has removed what is its own."""
        self.scratch.close()
        return sorted(os.listdir(self.volume))


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    """Return the directories; no descriptor is left open after the test."""
    before = len(os.listdir("/proc/self/fd"))
    places = Places(tmp_path)
    yield places
    places.scratch.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_that_is_swapped_after_the_check_is_still_the_one_that_was_checked(places: Places) -> None:
    """The command's name for it is a link to the server's descriptor, with the file's own name."""
    file = places.volume / "a.txt"
    file.write_text("checked")
    with places.paths() as paths:
        name = paths.use(READ, bytes(file))
        file.unlink()
        file.symlink_to("/etc/passwd")
        assert os.path.basename(name) == b"a.txt"
        with open(name) as opened:
            assert opened.read() == "checked"


def test_a_directory_that_is_swapped_after_the_check_does_not_redirect_what_is_written(places: Places) -> None:
    """A new file is made in the directory that was checked, wherever that is by now."""
    directory, elsewhere = places.volume / "results", places.fixed / "elsewhere"
    directory.mkdir()
    elsewhere.mkdir()
    with places.paths() as paths:
        name = paths.use(WRITE, bytes(directory / "new"))
        directory.rename(places.volume / "moved")
        directory.symlink_to(elsewhere)
        with open(name, "w") as file:
            file.write("made")
    assert (places.volume / "moved" / "new").read_text() == "made"
    assert list(elsewhere.iterdir()) == []


def test_a_replaced_file_appears_when_it_is_committed(places: Places) -> None:
    """Until then the old one is there; nothing hidden is left."""
    file = places.volume / "out"
    file.write_text("old")
    with places.paths() as paths:
        with open(paths.use(ATOMIC, bytes(file)), "w") as made:
            made.write("new")
        assert file.read_text() == "old"
        assert paths.commit() == ""
        assert file.read_text() == "new"
    assert places.left() == ["out"]


def test_a_replaced_file_that_is_not_committed_leaves_nothing(places: Places) -> None:
    """Whatever a failed command has written is removed."""
    with places.paths() as paths:
        name = paths.use(ATOMIC, bytes(places.volume / "out"))
        with open(name, "w") as made:
            made.write("half")
        with open(os.path.dirname(name) + b"/beside", "w") as made:
            made.write("more")
    assert places.left() == []


def test_a_file_that_was_never_written_cannot_be_committed(places: Places) -> None:
    """The reason names what the command wrote instead: many programs add a suffix."""
    with places.paths() as paths:
        name = paths.use(ATOMIC, bytes(places.volume / "out"))
        assert paths.commit() == "the command did not write 'out'"
        with open(name + b".tif", "w") as made:
            made.write("new")
        assert paths.commit() == "the command wrote 'out.tif', not 'out'"


def test_a_check_holds_and_makes_nothing(places: Places) -> None:
    """What can be refused is refused before the queue, with nothing to clear away."""
    (places.volume / "a").touch()
    with places.paths(checks_only=True) as paths:
        assert paths.use(READ, bytes(places.volume / "a")) == bytes(places.volume / "a")
        assert paths.use(ATOMIC, bytes(places.volume / "out")) == bytes(places.volume / "out")
        assert paths.directory(bytes(places.volume)) == bytes(places.volume) + b"/"
        assert paths.used == [("data", "a"), ("data", "out")]
    assert list(places.private.iterdir()) == []
    assert list(places.volume.iterdir()) == [places.volume / "a"]


@pytest.mark.parametrize(
    ("parameter", "path", "error", "reason"),
    [
        (READ, "volume/gone", UsageError, "--in: '{0}/volume/gone': No such file or directory"),
        (READ, "volume/../secret", CallDenied, "--in: '{0}/volume/../secret' leads out of the volume data"),
        (READ, "volume/out", CallDenied, "--in: '{0}/volume/out' leads out of the volume data"),
        (READ, "volume/pipe", UsageError, "--in must be a file or a directory"),
        (WRITE, "volume/pipe", UsageError, "--out names something that is no regular file"),
        (WRITE, "volume/out", UsageError, "--out names something that is no regular file"),
        (WRITE, "volume/", UsageError, "--out must name a file to write"),
        (WRITE, "volume/..", UsageError, "--out must name a file to write"),
        (WRITE, "volume/gone/new", UsageError, "--out: '{0}/volume/gone/new': No such file or directory"),
        (WRITE, "fixed/new", CallDenied, "--out is written, and the volume fixed is only read here"),
        (
            Parameter("in", "path", volumes=("fixed",)),
            "volume/x",
            CallDenied,
            "--in must be on the volume fixed, not data",
        ),
        (READ, "secret", CallDenied, "'{0}/secret' is on no volume that the service shares"),
    ],
)
def test_what_is_refused_says_why(
    places: Places, tmp_path: Path, parameter: Parameter, path: str, error: type[SidecallError], reason: str
) -> None:
    """One sentence for each way in which a path does not fit, checked before the queue and again after it."""
    (tmp_path / "secret").write_text("secret")
    (places.volume / "out").symlink_to("../secret")
    os.mkfifo(places.volume / "pipe")
    for checks_only in (True, False):
        with places.paths(checks_only=checks_only) as paths, pytest.raises(error) as refusal:
            paths.use(parameter, os.fsencode(f"{tmp_path}/{path}"))
        assert refusal.value.reason == reason.format(tmp_path)


@pytest.mark.parametrize("resource_error", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_volume_is_no_mistake_of_the_caller(
    places: Places, monkeypatch: pytest.MonkeyPatch, resource_error: int
) -> None:
    """Where there is no room for the directory in which a file is made the caller may come again: 75."""

    def mkdir(*_arguments: object, **_options: object) -> None:
        raise OSError(resource_error, os.strerror(resource_error))

    with places.paths() as paths:
        monkeypatch.setattr(os, "mkdir", mkdir)
        with pytest.raises(ServiceBusy, match="cannot hold another file"):
            paths.use(ATOMIC, bytes(places.volume / "out"))


AS_ANOTHER_USER = """
import ctypes, os, sys
from sidecall.errors import CallDenied
from sidecall.files.paths import Paths
from sidecall.files.volumes import Volume, VolumeMap
from sidecall.policy.parameters import Parameter

directory = sys.argv[1]
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(5432)
    os.setuid(4321)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: /proc/self is this user's again, as after execve(2)
parameters = [
    Parameter("in", "path"),
    Parameter("out", "path", access="write", atomic=True),
    Parameter("out", "path", access="write"),
]
with Paths(VolumeMap((Volume("data", directory, writable=True),), []), None) as paths:
    for parameter, path in zip(parameters, ("shut/file", "closed/new", "closed/new")):
        try:
            paths.use(parameter, os.fsencode(os.path.join(directory, path)))
            print("taken")
        except CallDenied as error:
            user = f"uid {os.geteuid()}, gid {os.getegid()}"
            print(error.reason.replace(directory, "").replace(user, "USER"))
"""


def test_files_that_the_server_cannot_use_are_refused_before_the_command_runs(directory: Path) -> None:
    """The reason names the server's user; an output that the command itself opens is left to the command."""
    directory.chmod(0o755)
    (directory / "shut").mkdir()
    (directory / "shut" / "file").touch(0o000)
    (directory / "closed").mkdir(0o555)
    words = [sys.executable, "-c", AS_ANOTHER_USER, str(directory)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    user = "Permission denied: the server (USER)"
    assert done.stdout.splitlines() == [
        f"--in: '/shut/file': {user} cannot read it",
        f"--out: '/closed/new': {user} cannot create files in its directory",
        "taken",
    ], done.stderr
