"""The calls' directories: what is removed, what is cleared after a server was killed, and what is left alone."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import end, first_line, start
from sidecall.files import scratch
from sidecall.files.scratch import Scratch, clear, remove

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Run, Server

CONFIG = """
[service]
name = "{name}"
[commands.where]
argv = ["sh", "-c", "echo $SIDECALL_SCRATCH; read line"]
scratch = true
[commands.deep]
argv = ["python3", "-c", "import os; [(os.mkdir('d'), os.chdir('d')) for _ in range(3000)]"]
cwd = "{{scratch}}"
"""


@pytest.fixture
def temporary(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the temporary directory of the test and its servers."""
    (directory / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(directory / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", str(directory / "tmp"))
    return directory / "tmp"


def test_all_is_removed_and_no_link_followed(tmp_path: Path) -> None:
    """A tree that is deep, that its owner may not look into, and that leads elsewhere by links."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    at = top = tmp_path / "top"
    for name in ("shut", "a", "b"):
        at.mkdir()
        (at / "file").touch()
        (at / "link").symlink_to(tmp_path / "kept")
        at = at / name
    for directory in (top / "shut" / "a", top / "shut"):
        directory.chmod(0)
    remove(str(top))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "kept"]


def test_a_scratch_directory_of_any_depth_is_removed(
    serve: Callable[..., Server], sidecall: Run, directory: Path, temporary: Path
) -> None:
    """A command that makes directories in directories leaves none of them; nor does the server."""
    (directory / "x.toml").write_text(CONFIG.format(name="x"))
    server = serve("-v", "--config", str(directory / "x.toml"))
    assert sidecall("exec", "x", "deep").returncode == 0
    (own,) = temporary.iterdir()
    assert list(own.iterdir()) == []
    server.stop()
    assert list(temporary.iterdir()) == []


def test_the_next_server_clears_what_a_killed_one_left(
    serve: Callable[..., Server], directory: Path, temporary: Path
) -> None:
    """And nothing else: not what a living server uses, nor what only has such a name, or leads elsewhere."""
    for name in ("killed", "alive"):
        (directory / f"{name}.toml").write_text(CONFIG.format(name=name))
    killed, alive = (serve("--config", str(directory / f"{name}.toml")) for name in ("killed", "alive"))
    callers = [start(name, "where") for name in ("killed", "alive")]
    left, used = (Path(first_line(caller)) for caller in callers)
    killed.process.send_signal(signal.SIGKILL)
    killed.process.wait()
    assert end(callers[0])[0] == 125
    assert left.is_dir()
    (directory / "elsewhere").mkdir()
    odd = [temporary / "sidecall-mine", temporary / f"{scratch._prefix()}link"]
    odd[0].mkdir()
    odd[1].symlink_to(directory / "elsewhere")
    serve("--config", str(directory / "killed.toml"))
    while left.parents[1].exists():
        time.sleep(0.01)
    assert used.is_dir()
    assert (directory / "elsewhere").is_dir()
    assert all(path.is_dir() for path in odd)
    callers[1].communicate(b"\n", timeout=20)
    assert callers[1].returncode == 0
    alive.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what is somebody else's")
def test_what_is_somebody_elses_is_left(temporary: Path) -> None:
    """Nobody else can have this server remove a directory, whatever its name."""
    theirs = temporary / f"{scratch._prefix()}theirs"
    theirs.mkdir()
    os.chown(theirs, 1, 1)
    clear([str(temporary)])
    assert theirs.is_dir()


def test_a_tidied_temporary_directory_is_no_obstacle(temporary: Path) -> None:
    """What removes old files there takes the server's directory with it: there is a new one."""
    directories = Scratch()
    first = Path(directories.directory("1"))
    remove(str(first.parent))
    second = Path(directories.directory("2"))
    assert second.is_dir()
    directories.close()
    assert list(temporary.iterdir()) == []
