"""The wheel of a machine: `sidecall` is the native client, and everything else is the Python command behind it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import sidecall
from conftest import children_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Server

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[1]
ELF = b"\x7fELF"


def run(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, check=False, capture_output=True, text=True, env={**os.environ, **variables})


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the commands that this machine's wheel placed in an environment of its own."""
    out = tmp_path_factory.mktemp("wheel")
    built = run(sys.executable, "-m", "build", "--wheel", "--outdir", out, ROOT, SIDECALL_NATIVE=platform.machine())
    assert built.returncode == 0, built.stderr
    (wheel,) = out.glob("*.whl")
    assert wheel.name.endswith(f"-manylinux2014_{platform.machine()}.musllinux_1_1_{platform.machine()}.whl")
    subprocess.run([sys.executable, "-m", "venv", out / "venv"], check=True)
    subprocess.run([out / "venv/bin/pip", "install", "--quiet", "--no-index", wheel], check=True)
    return out / "venv/bin"


@pytest.fixture(autouse=True)
def no_named_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave it to the native client to find the Python command."""
    monkeypatch.delenv("SIDECALL_PYTHON_COMMAND", raising=False)
    monkeypatch.delenv("SIDECALL_SUPERVISOR", raising=False)


def test_the_command_is_the_native_client(programs: Path, tool: Server) -> None:
    """It is small, needs no library, and makes calls without any Python."""
    placed = programs / "sidecall"
    assert placed.read_bytes().startswith(ELF)
    assert placed.stat().st_size < 100_000
    alone = tool.path.parent / "alone"
    alone.write_bytes(placed.read_bytes())
    alone.chmod(0o755)
    done = run(alone, "exec", "tool", "sh", "-c", "echo out; echo err >&2; exit 7", PATH="")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["exec", "--help"], ["describe", "tool"], ["serve"], []])
def test_the_rest_is_the_python_command(programs: Path, tool: Server, words: list[str]) -> None:
    ends = [run(programs / program, *words) for program in ("sidecall", "sidecall-python")]
    native, python = [(end.returncode, end.stdout, end.stderr) for end in ends]
    assert native == python
    assert any(native)


def test_a_link_to_the_command_finds_the_rest(programs: Path, tmp_path: Path) -> None:
    link = tmp_path / "linked"
    link.symlink_to(programs / "sidecall")
    assert run(link, "--version").stdout == f"sidecall {sidecall.__version__}\n"


def test_without_the_rest_it_says_so(programs: Path, tmp_path: Path) -> None:
    alone = tmp_path / "sidecall"
    alone.write_bytes((programs / "sidecall").read_bytes())
    alone.chmod(0o755)
    done = run(alone, "serve", "--allow-any", "tool", PATH="/nowhere")
    assert done.returncode == 64
    assert "there is no Python command" in done.stderr
    assert "hint: install sidecall for Python" in done.stderr


def test_it_serves_and_calls(programs: Path, serve: Callable[..., Server]) -> None:
    """The placed command is what a user starts as server, and what a user calls with."""
    server = serve("--allow-any", "mine", program=str(programs / "sidecall"))
    assert server.process.args == [str(programs / "sidecall"), "serve", "--allow-any", "mine"]
    done = run(programs / "sidecall", "exec", "mine", "cat", "/proc/self/comm")
    assert (done.returncode, done.stdout) == (0, "cat\n")
    (forkserver,) = children_of(server.process.pid)
    assert Path(f"/proc/{forkserver}/exe").resolve() == keeper_of(programs)


def test_a_keeper_is_no_command(programs: Path) -> None:
    """It is small, needs no library, and says what it is to who starts it by hand."""
    supervisor = keeper_of(programs)
    assert supervisor.read_bytes().startswith(ELF)
    assert supervisor.stat().st_size < 100_000
    done = run(supervisor)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr == (
        "sidecall-keeper: this is a part of `sidecall serve`, which starts it if it is of the same release\n"
    )


def keeper_of(programs: Path) -> Path:
    """Return the native supervisor that the wheel placed."""
    (supervisor,) = programs.parent.glob("lib/python3*/site-packages/sidecall/supervise/sidecall-keeper")
    return supervisor.resolve()


def test_removing_it_leaves_nothing(programs: Path) -> None:  # the last to use `programs`
    subprocess.run([programs / "pip", "uninstall", "--quiet", "--yes", "sidecall"], check=True)
    assert list(programs.glob("sidecall*")) == []


def test_the_native_client_has_the_version_of_the_package() -> None:
    source = (ROOT / "native/client/request.c").read_text()
    assert f'#define SOFTWARE "sidecall {sidecall.__version__} native"' in source
