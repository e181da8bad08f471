"""Bridge mode: what an app is told of its peer, and how many run."""

from __future__ import annotations

import array
import contextlib
import os
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from conftest import CLIENT, SIDECALL
from sidecall.server.bridge import ucspi_environment
from sidecall.transport.address import introduce

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Server


def test_an_app_is_told_of_its_peer(tmp_path: Path) -> None:
    """By UCSPI's variables: the service's path, the client's if it has one, and its uid and gid."""
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
        listening.bind(str(tmp_path / "x"))
        listening.listen()
        client.bind(str(tmp_path / "client"))
        client.connect(str(tmp_path / "x"))
        accepted, _ = listening.accept()
        with accepted:
            assert ucspi_environment(accepted, "/path") == {
                b"PROTO": b"IPC",
                b"IPCLOCALPATH": b"/path",
                b"IPCREMOTEPATH": os.fsencode(tmp_path / "client"),
                b"IPCREMOTEEUID": str(os.geteuid()).encode(),
                b"IPCREMOTEEGID": str(os.getegid()).encode(),
            }


def test_one_connection_too_many_waits(serve: Callable[..., Server]) -> None:
    """It is served when another one has ended."""
    server = serve("--max-children", "1", "echo", "cat")
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        for sock in (first, second):
            sock.settimeout(20)
            sock.connect(str(server.path))
            sock.sendall(b"hello")
        assert first.recv(10) == b"hello"
        second.setblocking(False)
        try:
            early = second.recv(10)
        except BlockingIOError:
            early = b""
        assert early == b""
        second.settimeout(20)
        first.shutdown(socket.SHUT_WR)
        assert first.recv(10) == b""
        assert second.recv(10) == b"hello"


def test_a_connection_that_was_not_accepted_does_not_hold_up_the_end(
    serve: Callable[..., Server], lingering: int
) -> None:
    """Closing the listener drops it, and with it a descriptor that its client has sent: here one that lingers."""
    server = serve("--max-children", "1", "echo", "cat")
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        first.settimeout(20)
        first.connect(str(server.path))
        first.sendall(b"hello")
        assert first.recv(10) == b"hello"
        second.connect(str(server.path))
        second.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [lingering]))])
        os.close(lingering)
        server.process.terminate()
        while server.path.exists():
            time.sleep(0.01)
    assert server.process.wait(60) == 0


@pytest.mark.parametrize("program", sorted({SIDECALL, CLIENT}))
def test_who_asks_starts_no_program(serve: Callable[..., Server], tmp_path: Path, program: str) -> None:
    """A health check, `doctor`, `status`, `describe` and a call by mistake; a busy bridge answers too."""
    started = tmp_path / "started"
    server = serve("--max-children", "1", "x", "sh", "-c", f"echo >> {started}; cat")
    environ = {**os.environ, "SIDECALL_DIR": str(server.path.parent)}

    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, env=environ, check=False, timeout=60
        )
        return done.returncode, done.stdout + done.stderr

    def ask() -> None:
        code, text = run("ping", "x")
        assert code == 0
        assert " bridge, round trip " in text
        code, text = run("doctor", "x")
        assert code == 69
        assert "problem  the server is a bridge, which takes no calls" in text
        for arguments in (("status", "x"), ("describe", "x"), ("kill", "x", "1"), ("exec", "x", "true"),
                          ("exec", "--relay", "x", "true"), ("exec", "x", "true", "x" * 100_000)):  # fmt: skip
            code, text = run(*arguments)
            assert (code, text.splitlines()[0]) == (69, "sidecall: the server is a bridge, which takes no calls")
            assert "`sidecall connect NAME PROGRAM`" in text

    ask()
    assert not started.exists()
    with socket.socket(socket.AF_UNIX) as running, socket.socket(socket.AF_UNIX) as waiting:
        for sock in (running, waiting):
            sock.settimeout(20)
            sock.connect(str(server.path))
            sock.sendall(b"hello")
        assert running.recv(10) == b"hello"
        assert "1 of 1 slots in use, 1 of 1000 waiting" in run("ping", "x")[1]
        ask()
        assert started.read_text() == "\n"


def test_inquiries_are_bounded_in_time_and_number(serve: Callable[..., Server]) -> None:
    """A client that introduces itself and asks nothing keeps nobody from connecting, nor the bridge from ending."""
    server = serve("x", "cat")
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(100)]
        for sock in idle:
            introduce(sock)
            sock.settimeout(20)
            sock.connect(str(server.path))
        assert idle[-1].recv(1) == b""
        program = stack.enter_context(socket.socket(socket.AF_UNIX))
        program.settimeout(20)
        program.connect(str(server.path))
        program.sendall(b"hello")
        assert program.recv(10) == b"hello"
        program.close()
        server.stop()
