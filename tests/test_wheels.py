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
from sidecall import texts

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Server

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[1]
ELF = b"\x7fELF"


def run(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, check=False, capture_output=True, text=True, env={**os.environ, **variables})


def build_and_install(out: Path, **variables: str) -> tuple[str, Path]:
    """Build a wheel and install it into an environment of its own; return its name and the commands' directory."""
    built = run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", out, ROOT, **variables)
    assert built.returncode == 0, built.stderr
    (wheel,) = out.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", out / "venv"], check=True)
    python = out / "venv/bin/python"
    installed = run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", wheel)
    assert installed.returncode == 0, installed.stderr
    return wheel.name, out / "venv/bin"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the commands that `pip install .` installs on this machine."""
    name, commands = build_and_install(tmp_path_factory.mktemp("wheel"))
    assert name.endswith(f"-manylinux_2_17_{platform.machine()}.musllinux_1_1_{platform.machine()}.whl")
    return commands


@pytest.fixture(autouse=True)
def no_named_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave it to the native client to find the Python command."""
    monkeypatch.delenv("SIDECALL_PYTHON_COMMAND", raising=False)
    monkeypatch.delenv("SIDECALL_SUPERVISOR", raising=False)


def test_the_command_is_the_native_client(programs: Path, tool: Server) -> None:
    """It is small, needs no library, and makes calls without any Python."""
    placed = programs / "sidecall"
    assert (programs.parent / "share/man/man1/sidecall.1").is_file()
    assert placed.read_bytes().startswith(ELF)
    assert placed.stat().st_size < 100_000
    alone = tool.path.parent / "alone"
    alone.write_bytes(placed.read_bytes())
    alone.chmod(0o755)
    done = run(alone, "exec", "tool", "sh", "-c", "echo out; echo err >&2; exit 7", PATH="")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["exec", "--help"], ["ping", "gone"], ["describe", "tool"], ["serve"], []]
)
def test_both_commands_print_the_same(programs: Path, tool: Server, arguments: list[str]) -> None:
    """Whether the native client answers itself or becomes the Python command."""
    ends = [run(programs / program, *arguments) for program in ("sidecall", "sidecall-python")]
    native, python = [(end.returncode, end.stdout, end.stderr) for end in ends]
    assert native == python
    assert any(native)


def test_a_link_to_the_command_finds_the_rest(programs: Path, tmp_path: Path) -> None:
    link = tmp_path / "linked"
    link.symlink_to(programs / "sidecall")
    assert run(link, "--version").stdout == f"sidecall {sidecall.__version__}\n"


def test_without_the_python_command_it_prints_what_to_install(programs: Path, tmp_path: Path) -> None:
    alone = tmp_path / "sidecall"
    alone.write_bytes((programs / "sidecall").read_bytes())
    alone.chmod(0o755)
    done = run(alone, "serve", "--allow-any", "tool", PATH="/nowhere")
    assert done.returncode == 64
    reason, hint = texts.NO_PYTHON_COMMAND(name="'serve'")
    assert done.stderr.splitlines() == [f"sidecall: {reason}", f"hint: {hint}"]


def test_it_serves_and_calls(programs: Path, serve: Callable[..., Server]) -> None:
    """The placed command is what a user starts as server, and what a user calls with."""
    server = serve("--allow-any", "mine", program=str(programs / "sidecall"))
    assert server.process.args == [str(programs / "sidecall"), "serve", "--allow-any", "mine"]
    done = run(programs / "sidecall", "exec", "mine", "cat", "/proc/self/comm")
    assert (done.returncode, done.stdout) == (0, "cat\n")
    (forkserver,) = children_of(server.process.pid)
    assert Path(f"/proc/{forkserver}/exe").resolve() == supervisor_of(programs)


def test_the_supervisor_is_not_a_command(programs: Path) -> None:
    """It is small, needs no library, and prints what starts it."""
    supervisor = supervisor_of(programs)
    assert supervisor.read_bytes().startswith(ELF)
    assert supervisor.stat().st_size < 100_000
    done = run(supervisor)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr == "sidecall-supervisor: `sidecall serve` of the same release starts this program\n"


def supervisor_of(programs: Path) -> Path:
    """Return the native supervisor that the wheel installed."""
    (supervisor,) = programs.parent.glob("lib/python3*/site-packages/sidecall/supervise/sidecall-supervisor")
    return supervisor.resolve()


def test_a_pure_wheel_makes_calls_and_prints_what_serving_needs(
    tmp_path: Path, tool: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, commands = build_and_install(tmp_path, SIDECALL_NATIVE="none")
    assert name.endswith("-py3-none-any.whl")
    assert not (commands / "sidecall").read_bytes().startswith(ELF)
    assert run(commands / "sidecall", "exec", "tool", "echo", "out").stdout == "out\n"
    monkeypatch.setenv("SIDECALL_DIR", str(tmp_path))
    done = run(commands / "sidecall", "serve", "--allow-any", "mine")
    first, hint = done.stderr.splitlines()[-2:]
    assert done.returncode == 78
    assert first.startswith("sidecall: serving needs the native supervisor: cannot execute ")
    assert hint == "hint: install the wheel for this machine, or build it with `pip install .`"


@pytest.mark.parametrize("machine", ["aarch64", "armv7l", "i686", "ppc64le", "riscv64", "s390x", "x86_64"])
def test_the_native_programs_compile_for_each_machine(machine: str) -> None:
    """Statically: the build fails otherwise."""
    built = run(ROOT / "native/build.sh", machine)
    assert built.returncode == 0, built.stderr
    assert [line.split()[0] for line in built.stdout.splitlines()] == [
        f"build/native/sidecall-{program}-{machine}" for program in ("client", "supervisor")
    ]
