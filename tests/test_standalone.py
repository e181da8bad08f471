"""The standalone executable: one static file that is the whole command, and the process itself.

That it does what the Python command does is tested by the end-to-end tests, run on it: `make standalone-test`. That it
does so without Python or a C library beside it: tests/containers/test_standalone.py.
"""

from __future__ import annotations

import os
import select
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import sidecall
from conftest import children_of, end, first_line, start

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Server

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

PYTHON_COMMAND = Path(sys.executable).parent / "sidecall-python"
LOST = "sidecall: the connection to the server was lost: the exit status of the command is unknown"


def run(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, check=False, capture_output=True, text=True, env={**os.environ, **variables})


def test_it_is_static(standalone: Path) -> None:
    """No loader and no library, and not more than a volume should have to carry."""
    headers = run("readelf", "--wide", "--program-headers", "--dynamic", standalone).stdout
    assert "INTERP" not in headers
    assert "NEEDED" not in headers
    assert standalone.stat().st_size < 10_000_000


def test_it_is_of_this_version(standalone: Path) -> None:
    assert run(standalone, "--version").stdout == f"sidecall {sidecall.__version__}\n"


@pytest.mark.parametrize(
    "words",
    [[], ["--help"], ["nonsense"], ["exec"], ["exec", "--help"], ["exec", "-x"], ["exec", "gone", "true"], ["serve"]]
    + [[name, "--help"] for name in ("describe", "doctor", "install", "kill", "ping", "serve", "status")],
    ids=" ".join,
)
def test_it_says_what_the_python_command_says(standalone: Path, directory: Path, words: list[str]) -> None:
    ends = [run(program, *words) for program in (standalone, PYTHON_COMMAND)]
    ours, python = [(end.returncode, end.stdout, end.stderr) for end in ends]
    assert ours == python


def test_no_python_around_it_takes_part(standalone: Path, tmp_path: Path) -> None:
    """Variables, a module in the working directory, and the files that name a Python's library: all ignored."""
    alone = tmp_path / "sidecall"
    alone.write_bytes(standalone.read_bytes())
    alone.chmod(0o755)
    for name in ("os.py", "sidecall.py", "sitecustomize.py", "__main__.py"):
        (tmp_path / name).write_text("raise SystemExit(99)")
    (tmp_path / "sidecall._pth").write_text(f"{tmp_path}\nimport site\n")
    (tmp_path / "pyvenv.cfg").write_text(f"home = {tmp_path}\n")
    variables = {"PYTHONPATH": str(tmp_path), "PYTHONHOME": str(tmp_path), "PYTHONINSPECT": "1", "PYTHONVERBOSE": "1"}
    done = subprocess.run(
        ["./sidecall", "serve", "--check"], cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        64,
        run(standalone, "serve", "--check").stderr.splitlines()[0],
    )


def test_what_a_command_sees_is_the_servers_environment(standalone: Path, serve: Callable[..., Server]) -> None:
    """And the call's own variable; nothing of the executable's."""
    server = serve("--allow-any", "tool", program=str(standalone))
    environ = Path(f"/proc/{server.process.pid}/environ").read_bytes()
    seen = run(standalone, "exec", "tool", "cat", "/proc/self/environ").stdout.encode()
    added = set(seen.split(b"\0")) - set(environ.split(b"\0"))
    assert set(environ.split(b"\0")) <= set(seen.split(b"\0"))
    assert [variable.split(b"=")[0] for variable in added] == [b"SIDECALL_CALL"]


def test_the_process_is_the_server(standalone: Path, serve: Callable[..., Server]) -> None:
    """It was not started by another of its own; its only child is the forkserver: itself, but no Python."""
    server = serve("--allow-any", "tool", program=str(standalone))
    assert run(standalone, "exec", "tool", "true").returncode == 0
    assert os.readlink(f"/proc/{server.process.pid}/exe") == str(standalone)
    (forkserver,) = children_of(server.process.pid)
    assert Path(f"/proc/{forkserver}/comm").read_text() == "sidecall-fork\n"
    assert Path(f"/proc/{forkserver}/exe").resolve() == standalone
    resident_pages = int(Path(f"/proc/{forkserver}/statm").read_text().split()[1])
    assert resident_pages * os.sysconf("SC_PAGE_SIZE") < 2_000_000


def test_killed_it_leaves_nothing_running(standalone: Path, serve: Callable[..., Server]) -> None:
    """Its caller learns that the result is unknown; a command in its own session, deaf to TERM, is gone with it."""
    server = serve("--allow-any", "tool", "--grace", "0.2", program=str(standalone))
    (forkserver,) = children_of(server.process.pid)
    caller = start("tool", "setsid", "sh", "-c", "trap '' TERM; echo $$; sleep 600")
    watched = [os.pidfd_open(int(first_line(caller))), os.pidfd_open(forkserver)]
    server.process.kill()
    assert server.process.wait() == -signal.SIGKILL
    code, _, err = end(caller)
    assert (code, err.decode().splitlines()[0]) == (125, LOST)
    for pidfd in watched:
        assert select.select([pidfd], [], [], 20)[0]
        os.close(pidfd)


def test_install_places_the_executable(standalone: Path, tmp_path: Path) -> None:
    """In a directory that is not there yet, for everybody to read, whatever the umask; it says where."""
    script = f"umask 077; exec {standalone} install {tmp_path}/some/volume"
    done = run("sh", "-c", script)
    placed = tmp_path / "some/volume/bin/sidecall"
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{placed}\n", "")
    assert placed.read_bytes() == standalone.read_bytes()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (placed, placed.parent)] == [0o755, 0o755]
    assert [path.name for path in placed.parent.iterdir()] == ["sidecall"]


def test_install_does_not_disturb_what_runs(standalone: Path, serve: Callable[..., Server], tmp_path: Path) -> None:
    """A server that was started from the volume goes on; the next one is the new executable. Even from itself."""
    placed = tmp_path / "volume/bin/sidecall"
    assert run(standalone, "install", tmp_path / "volume").returncode == 0
    serve("--allow-any", "tool", program=str(placed))
    before = placed.stat().st_ino
    assert run(placed, "install", tmp_path / "volume").returncode == 0
    assert placed.stat().st_ino != before
    assert run(placed, "exec", "tool", "echo", "alive").stdout == "alive\n"


def test_install_says_why_it_cannot(standalone: Path, tmp_path: Path) -> None:
    """With the code of an output that is not in its place; nothing half-made stays."""
    (tmp_path / "file").touch()
    (tmp_path / "taken/bin/sidecall").mkdir(parents=True)
    for directory, why in (("file", "Not a directory"), ("taken", "Is a directory")):
        done = run(standalone, "install", tmp_path / directory)
        assert done.returncode == 73
        assert done.stderr.splitlines() == [
            f"sidecall: cannot create {tmp_path}/{directory}/bin/sidecall: {why}",
            "hint: give a directory on a volume that is writable here, with 10 MB free",
        ]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["file"]


def test_install_is_not_for_the_python_command(tmp_path: Path) -> None:
    done = run(PYTHON_COMMAND, "install", tmp_path)
    assert done.returncode == 64
    assert done.stderr.splitlines() == [
        "sidecall: cannot install this sidecall: it needs Python",
        "hint: build the standalone executable with `make standalone`, and run its `install`",
    ]
    assert list(tmp_path.iterdir()) == []
