"""A command that is confined uses its own files and the listed ones, and nothing else, whatever links it finds."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import both_modes, needs_landlock

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Run, Server

pytestmark = needs_landlock

SYSTEM = [path for path in ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache") if Path(path).exists()]
CONFIG = """
[service]
name = "kit"
grace = 0.5

[volumes.data]
path = "data"
access = "write"

[volumes.fixed]
path = "fixed"

[commands.free]
argv = ["sh", "-c", "{{script}}", "-", "{{at}}"]
pass-cwd = true
parameters.script = {{}}
parameters.at = {{ type = "path", optional = true }}

[commands.shell]
argv = ["sh", "-c", "{{script}}", "-", "{{at}}", "{{out}}"]
landlock = {system}
pass-cwd = true
parameters.script = {{}}
parameters.at = {{ type = "path", optional = true }}
parameters.out = {{ type = "path", access = "write", optional = true, atomic = true }}

[commands.plain]
argv = ["sh", "-c", 'echo x > "$1"; echo y > "$1.more"; echo z > "$1/../../secret"', "-", "{{out}}"]
landlock = {system}
parameters.out = {{ type = "path", access = "write" }}

[commands.bare]
argv = ["cat"]
landlock = []

[commands.daemon]
argv = ["sh", "-c", 'id -u; cat "$1"; echo made > "$2"; echo x > "$TMPDIR/x" && cat "$3/secret"', "-",
        "{{at}}", "{{out}}", "{directory}"]
landlock = {system}
parameters.at = {{ type = "path" }}
parameters.out = {{ type = "path", access = "write", atomic = true }}
{user}
"""


@pytest.fixture
def data(directory: Path) -> Path:
    """Return a volume; a secret lies next to it, and a directory."""
    (directory / "data").mkdir()
    (directory / "fixed").mkdir()
    (directory / "outside").mkdir()
    (directory / "secret").write_text("SECRET")
    return directory / "data"


@pytest.fixture
def kit(serve: Callable[..., Server], directory: Path, data: Path) -> Server:
    """Return the service."""
    assert data.is_dir()
    user = 'user = "daemon"' if os.geteuid() == 0 else ""
    (directory / "kit.toml").write_text(CONFIG.format(system=SYSTEM, directory=directory, user=user))
    return serve("--config", str(directory / "kit.toml"))


def test_a_link_is_not_followed_out(kit: Server, sidecall: Run, data: Path) -> None:
    """One that somebody has planted in a directory parameter; without `landlock` a program follows it."""
    (data / "film").mkdir()
    (data / "film" / "frame").symlink_to("../../secret")
    words = ("--script", 'cat "$1/frame"', "--at", str(data / "film"))
    assert sidecall("exec", "kit", "free", *words).stdout == b"SECRET"
    done = sidecall("exec", "kit", "shell", *words)
    assert (done.stdout, done.returncode) == (b"", 1)
    assert b"Permission denied" in done.stderr
    (data / "film" / "frame").unlink()
    (data / "film" / "frame").write_text("frame")
    assert sidecall("exec", "kit", "shell", *words).stdout == b"frame"
    assert kit.process.poll() is None


CHANGES = {
    "write": 'echo x > "$F"',
    "append": 'echo x >> "$F"',
    "truncate": "truncate -s 0 $F",
    "remove": "rm -f $F",
    "rename": "mv $F here",
    "replace": "touch mine && mv mine $F",
    "link": "ln $F here && cat here",
    "make a file": "touch $D/new",
    "make a directory": "mkdir $D/new",
    "make a link": "ln -s x $D/new",
    "make a pipe": "mkfifo $D/new",
    "list": "ls $D",
    "read through /proc": "cat /proc/self/root$F",
}


@pytest.mark.usefixtures("kit")
@pytest.mark.parametrize("change", CHANGES)
def test_nothing_outside_is_changed(sidecall: Run, directory: Path, data: Path, change: str) -> None:
    """The command is in a directory that it may write to, and has the file's name. One without `landlock` succeeds."""
    script = f"F={directory}/secret; D={directory}/outside; touch own && {CHANGES[change]}"
    done = sidecall("exec", "--cwd", str(data), "kit", "shell", "--script", script)
    assert done.returncode != 0
    assert b"SECRET" not in done.stdout
    assert (data / "own").exists()
    assert (directory / "secret").read_text() == "SECRET"
    assert list((directory / "outside").iterdir()) == []
    assert sidecall("exec", "--cwd", str(data), "kit", "free", "--script", script).returncode == 0


@both_modes
@pytest.mark.usefixtures("kit")
def test_what_a_call_has_is_usable(sidecall: Run, data: Path, mode: tuple[str, ...]) -> None:
    """Its streams, its parameters, its directory, temporary files and the usual devices."""
    (data / "in").write_text("in ")
    script = """
        set -e
        printf here > "$TMPDIR/x"; cat "$SIDECALL_SCRATCH/x" > /dev/null
        cat "$1" - < /dev/null
        cat <<. > "$2.part"
        out
.
        mkdir "$TMPDIR/a" "$TMPDIR/b"; mv "$2.part" "$TMPDIR/a/c"; mv "$TMPDIR/a/c" "$TMPDIR/b"; cp "$TMPDIR/b/c" "$2"
        cat /dev/stdin
    """
    words = ("--script", script, "--at", str(data / "in"), "--out", str(data / "out"))
    done = sidecall("exec", *mode, "kit", "shell", *words, input=b"stdin")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"in stdin", b"")
    assert (data / "out").read_text().strip() == "out"


@pytest.mark.usefixtures("kit")
def test_a_working_directory_is_what_its_volume_is(sidecall: Run, directory: Path, data: Path) -> None:
    """One on a volume that is only read cannot be written to."""
    (directory / "fixed" / "file").write_text("fixed")
    for place, code in ((data, 0), (directory / "fixed", 2)):
        (place / "file").write_text("content")
        done = sidecall("exec", "--cwd", str(place), "kit", "shell", "--script", "cat file; echo x > new")
        assert (done.stdout, done.returncode) == (b"content", code), done
        assert (place / "new").exists() is (code == 0)


@pytest.mark.usefixtures("kit")
def test_an_output_that_is_not_atomic_has_its_directory(sidecall: Run, directory: Path, data: Path) -> None:
    """The command can make other files next to it, and none elsewhere."""
    (data / "sub").mkdir()
    done = sidecall("exec", "kit", "plain", "--out", str(data / "sub" / "new"))
    assert done.returncode != 0
    assert sorted(path.name for path in (data / "sub").iterdir()) == ["new", "new.more"]
    assert (directory / "secret").read_text() == "SECRET"


@pytest.mark.usefixtures("kit")
def test_only_listed_programs_are_executed(sidecall: Run, data: Path) -> None:
    """Not one that lies in a directory of the call."""
    tool = data / "tool"
    shutil.copy(shutil.which("true") or "", tool)
    tool.chmod(0o755)
    words = ("--script", '"$1/tool"', "--at", str(data))
    assert sidecall("exec", "kit", "free", *words).returncode == 0
    assert sidecall("exec", "kit", "shell", *words).returncode == 126
    assert sidecall("exec", "kit", "shell", "--script", "true").returncode == 0
    done = sidecall("exec", "kit", "bare")
    assert (done.returncode, done.stdout) == (126, b"")
    assert b"hint: `landlock` must include the program and its interpreter or loader" in done.stderr


@pytest.mark.usefixtures("kit")
def test_another_user_is_confined_too(sidecall: Run, directory: Path, data: Path) -> None:
    """The rules are made while the process is still the server's user."""
    for path in (directory, data):
        path.chmod(0o755)
    (directory / "secret").chmod(0o644)
    (data / "in").write_text("in\n")
    done = sidecall("exec", "kit", "daemon", "--at", str(data / "in"), "--out", str(data / "out"))
    uid = subprocess.check_output(["id", "-u", "daemon"]) if os.geteuid() == 0 else b"%d\n" % os.geteuid()
    assert done.stdout == uid + b"in\n"
    assert done.returncode == 1
    assert b"Permission denied" in done.stderr
    assert (data / "out").exists() is False
