"""Which forkserver a server has: the native program, where there is one that can be executed; its own Python elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sidecall.supervise.control import EXITED, Job, decode_reply, receive, send_job
from sidecall.supervise.forkserver import ForkServer
from supervise.conftest import shell, with_keepers

if TYPE_CHECKING:
    from sidecall.supervise.process import SupervisorPool


def settled() -> ForkServer:
    """Return a forkserver that has seen a command out."""
    forkserver = ForkServer.start()
    with forkserver.supervisor() as line:
        send_job(line, Job([b"true"], {}, None, 1, leave=False), (0, 1, 2))
        while decode_reply(receive(line)[0]).kind != EXITED:
            pass
    return forkserver


def test_the_program_that_is_named_is_the_nursery() -> None:
    """`make native-test` names one, so it is tested what is meant to be."""
    named = os.environ.get("SIDECALL_SUPERVISOR", "")
    forkserver = settled()
    try:
        assert forkserver.is_native == bool(named)
        assert Path(f"/proc/{forkserver.pid}/exe").resolve() == Path(named or sys.executable).resolve()
        assert Path(f"/proc/{forkserver.pid}/comm").read_text() == "sidecall-nurse\n"
    finally:
        forkserver.close()


@pytest.mark.parametrize("named", ["", "missing", "directory", "plain", "binary", "empty"])
def test_without_a_program_that_can_be_executed_it_is_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """A pure wheel has none, and another machine's cannot be executed: commands are kept all the same."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "plain").write_text("x")
    for name, content in (("binary", b"\x7fELF of another machine"), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("SIDECALL_SUPERVISOR", str(tmp_path / named) if named else "")

    async def main(supervisors: SupervisorPool) -> int:
        assert not supervisors._nursery.is_native
        return (await (await shell(supervisors, "exit 3")).ended()).status

    assert with_keepers(main) == 3 << 8


def test_a_server_whose_nursery_ends_says_so(tmp_path: Path) -> None:
    """A program that is no supervisor, or one of another release, ends at once, and the server with it."""
    words = [sys.executable, "-m", "sidecall", "serve", "--allow-any", str(tmp_path / "tool.sock")]
    environ = {**os.environ, "SIDECALL_SUPERVISOR": "/bin/false"}
    done = subprocess.run(words, env=environ, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 70
    assert "the process that starts commands has ended; so does the service\n" in done.stderr


def test_a_nursery_has_nothing_else_open(tmp_path: Path) -> None:
    """What a server was started with, and what it had open by then, stays out of its supervisors and commands."""
    inherited = os.open(tmp_path / "inherited", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(inherited, True)
    forkserver = settled()
    try:
        held = {os.readlink(f"/proc/{forkserver.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{forkserver.pid}/fd")}
        assert str(tmp_path / "inherited") not in held
    finally:
        os.close(inherited)
        forkserver.close()
