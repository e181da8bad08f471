"""Links that are planted in a directory, or swapped for one, while a confined command works in it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import sidecall as client
from conftest import needs_landlock
from sidecall import errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Run, Server, Table

pytestmark = [pytest.mark.long, needs_landlock]

CONFIG = """
[service]
name = "kit"

[volumes.data]
path = "data"
access = "write"

[commands.read]
argv = ["cat", "{directory}/frame"]
landlock = ["/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache"]
parameters.directory = { type = "path" }

[commands.write]
argv = ["sh", "-c", 'echo overwritten > "$1/frame"', "-", "."]
landlock = ["/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache"]
pass-cwd = true
"""
LINKS = {
    "relative": "../../secret",
    "absolute": "{outside}/secret",
    "through a directory": "up/secret",
    "to `/proc/self/root`": "/proc/self/root/{outside}/secret",
    "to the server's `/proc/PID/root`": "/proc/{server}/root/{outside}/secret",
    "to the server's `/proc/PID/cwd`": "/proc/{server}/cwd/secret",
}
SWAP = """
import os, random, time
while True:
    os.rename("film", "away")
    os.symlink("../outside", "film")
    time.sleep(random.uniform(0, 0.002))
    os.unlink("film")
    os.rename("away", "film")
    time.sleep(random.uniform(0, 0.002))
"""


@pytest.fixture
def film(directory: Path) -> Path:
    """Return a directory on the volume; a secret lies outside."""
    film = directory / "data" / "film"
    film.mkdir(parents=True)
    (film / "up").symlink_to("../..")
    (directory / "secret").write_text("SECRET")
    return film


@pytest.fixture
def kit(serve: Callable[..., Server], directory: Path, film: Path) -> Server:
    """Return the service under attack, which is in the directory with the secret."""
    assert film.is_dir()
    (directory / "kit.toml").write_text(CONFIG)
    with contextlib.chdir(directory):
        return serve("--config", str(directory / "kit.toml"))


@pytest.mark.parametrize("link", LINKS)
def test_a_planted_link_leads_nowhere(kit: Server, sidecall: Run, film: Path, link: str, table: Table) -> None:
    """Neither to read nor to write, with the streams of both modes."""
    secret = film.parents[1] / "secret"
    (film / "frame").symlink_to(LINKS[link].format(outside=secret.parent, server=kit.process.pid))
    assert (film / "frame").read_text() == "SECRET"
    for mode in ((), ("--relay",)):
        done = sidecall("exec", *mode, "kit", "read", "--directory", str(film))
        assert (done.returncode, done.stdout) == (1, b""), done
        assert b"Permission denied" in done.stderr
        done = sidecall("exec", *mode, "--cwd", str(film), "kit", "write")
        assert done.returncode != 0
    assert secret.read_text() == "SECRET"
    table(f"a link {link} in a directory of a command with `landlock`", "Permission denied, read and write")


def test_a_swap_between_check_and_use_wins_nothing(kit: Server, film: Path, table: Table) -> None:
    """The rules are those of the directory that was checked, whatever has its name when the command opens it."""
    outside, ends = film.parents[1] / "outside", {"own": 0, "refused": 0}
    outside.mkdir()
    (outside / "frame").write_text("SECRET")
    (film / "frame").write_text("own")
    with subprocess.Popen([sys.executable, "-I", "-c", SWAP], cwd=film.parent) as attacker:
        try:
            for _ in range(3000):
                try:
                    done = client.run("kit", ["read", "--directory", str(film)], capture_output=True, check=True)
                except (errors.SidecallError, client.CallFailed):
                    ends["refused"] += 1
                else:
                    assert b"SECRET" not in (done.stdout or b"")
                    ends["own"] += 1
                with contextlib.suppress(errors.SidecallError):
                    client.run("kit", ["write"], cwd=str(film), capture_output=True)
                assert (outside / "frame").read_text() == "SECRET"
                if min(ends.values()) >= 50:
                    break
            assert attacker.poll() is None, "the attacker gave up"
        finally:
            attacker.kill()
    assert min(ends.values()) >= 50, f"the race was never a race: {ends}"
    assert os.listdir(outside) == ["frame"]
    assert kit.process.poll() is None
    table("a directory swapped for a link under a command with `landlock`, until it was met 50 times", f"{ends}")
