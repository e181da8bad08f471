"""`sidecall install`: how a file is put in its place. The standalone executable itself: tests/test_standalone.py."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sidecall.cli.install import install, main
from sidecall.errors import CannotCreateOutput, UsageError


def test_all_users_can_run_it(tmp_path: Path) -> None:
    """Whatever the umask is, and without a trace of the one that was there."""
    (tmp_path / "program").write_bytes(b"new")
    previous = os.umask(0o077)
    try:
        for _ in range(2):
            placed = Path(install(str(tmp_path / "program"), str(tmp_path / "volume")))
    finally:
        assert os.umask(previous) == 0o077
    assert (placed, placed.read_bytes()) == (tmp_path / "volume" / "bin" / "sidecall", b"new")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (placed, placed.parent)] == [0o755, 0o755]
    assert list(placed.parent.iterdir()) == [placed]


def test_a_failure_leaves_the_old_one(tmp_path: Path) -> None:
    """A program that cannot be read, and a directory that cannot be made."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sidecall").write_bytes(b"old")
    with pytest.raises(CannotCreateOutput, match="cannot create .*/bin/sidecall: No such file or directory") as error:
        install(str(tmp_path / "missing"), str(tmp_path))
    assert "volume that is writable" in error.value.hint
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "bin").iterdir()] == [("sidecall", b"old")]
    with pytest.raises(CannotCreateOutput, match="Not a directory"):
        install(str(tmp_path / "bin" / "sidecall"), str(tmp_path / "bin" / "sidecall" / "x"))


def test_one_that_needs_python_is_not_installed(tmp_path: Path) -> None:
    """It would not run elsewhere."""
    with pytest.raises(UsageError, match="cannot install this sidecall: it needs Python"):
        main([str(tmp_path)])
    with pytest.raises(UsageError, match="missing directory"):
        main([])
    with pytest.raises(UsageError, match="unexpected argument 'b'"):
        main(["a", "b"])
    assert not list(tmp_path.iterdir())
