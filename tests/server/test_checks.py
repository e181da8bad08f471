"""What a server finds at its start: what every call needs, and what single commands need."""

from __future__ import annotations

import os
import resource
import shutil
from typing import TYPE_CHECKING

import pytest

from sidecall._kernel import landlock_version
from sidecall.errors import ConfigError
from sidecall.policy.loading import loads
from sidecall.server.checks import check_machine, problems

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Run, Server

CONFIG = """
[service]
name = "x"
[volumes.gone]
path = "/nonexistent-volume"
[commands.here]
argv = ["true"]
[commands.missing]
argv = ["no-such-program-here"]
[commands.file]
argv = ["cat", "{file}"]
parameters.file = { type = "path" }
"""


def test_what_is_missing_is_named() -> None:
    """The volume and the program that are not there, and nothing else."""
    found = list(problems(loads(CONFIG, "x.toml")))
    assert found == [
        "volumes.gone: /nonexistent-volume is not a directory here",
        "commands.missing: no such command: 'no-such-program-here'",
    ]


def test_a_limit_of_open_files_that_is_too_low_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a server could never take a call."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (32, 32))
    with pytest.raises(ConfigError, match="the limit of open files is 32"):
        check_machine(loads(CONFIG, "x.toml"))


def test_a_machine_without_a_writable_directory_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command with a path needs one; a container with a read-only root and no /tmp still has /dev/shm."""

    def fail() -> str:
        raise FileNotFoundError

    monkeypatch.setattr("tempfile.gettempdir", fail)
    check_machine(loads(CONFIG, "x.toml"))
    monkeypatch.setattr("sidecall.files.scratch._FALLBACK", "/nonexistent")
    with pytest.raises(ConfigError, match="no directory for temporary files"):
        check_machine(loads(CONFIG, "x.toml"))
    check_machine(loads('[service]\nname = "x"\n[commands.here]\nargv = ["true"]', "x.toml"))


CONFINED = """
[service]
name = "x"
[commands.here]
argv = ["true"]
landlock = {landlock}
"""


def test_a_kernel_that_cannot_confine_is_reported(
    sidecall: Run, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a server does not start: no command is ever run without what confines it."""
    service = loads(CONFINED.format(landlock=["/"]), "x.toml")
    for version in (-1, 2):
        monkeypatch.setattr("sidecall.server.checks.landlock_version", lambda version=version: version)
        with pytest.raises(ConfigError, match="^commands.here.landlock: the kernel cannot confine commands"):
            check_machine(service)
        check_machine(loads(CONFIG, "x.toml"))
    monkeypatch.setattr("sidecall.server.checks.landlock_version", lambda: 3)
    check_machine(service)
    (directory / "x.toml").write_text(CONFINED.format(landlock=["/"]))
    done = sidecall("serve", "--config", str(directory / "x.toml"), "--check")
    assert (done.returncode == 78) is (landlock_version() < 3)


def test_what_a_confined_command_lacks_is_named(directory: Path) -> None:
    """Paths that are not there, and the program itself, by whatever link it is found."""
    true = os.path.realpath(shutil.which("true") or "")
    (directory / "bin").symlink_to(os.path.dirname(true))
    for landlock, reasons in (
        (["/nonexistent", true], ["/nonexistent does not exist here"]),
        ([str(directory / "bin")], []),
        (["/"], []),
        ([str(directory)], [f"expected to include the program, {true}"]),
        ([true[:-1]], [f"{true[:-1]} does not exist here", f"expected to include the program, {true}"]),
    ):
        found = list(problems(loads(CONFINED.format(landlock=landlock), "x.toml")))
        assert found == [f"commands.here.landlock: {reason}" for reason in reasons]


def test_check_fails_where_the_server_only_warns(serve: Callable[..., Server], sidecall: Run, directory: Path) -> None:
    """The other commands can be called meanwhile."""
    file = directory / "x.toml"
    file.write_text(CONFIG)
    done = sidecall("serve", "--config", str(file), "--check")
    assert done.returncode == 78
    assert b"no-such-program-here" in done.stderr
    server = serve("--config", str(file))
    assert "commands.missing: no such command" in server.log()
    assert sidecall("exec", "x", "here").returncode == 0
