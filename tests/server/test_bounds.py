"""What one user can use of a server, and what the operator can do in any case."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from conftest import SIDECALL
from sidecall.calls.log import MAX_REPEATED, RateLimit
from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Run, Server

HELLO = encode(m.Hello(m.VERSION, (), (), "test"))
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")

CONFIG = """
[service]
name = "{name}"
{more}
[commands.true]
argv = ["true"]
[commands.wait]
argv = ["sh", "-c", "echo started; read line"]
pass-env = ["A"]
"""


@pytest.fixture
def configured(serve: Callable[..., Server], directory: Path) -> Callable[..., Server]:
    """Return a function that starts a service with more lines in its [service] table."""

    def start(more: str, name: str = "x") -> Server:
        file = directory / f"{name}.toml"
        file.write_text(CONFIG.format(name=name, more=more))
        return serve("-v", "--config", str(file))

    return start


def memory(server: Server) -> int:
    """Return how much memory a server holds, in bytes."""
    with open(f"/proc/{server.process.pid}/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def connect(server: Server) -> socket.socket:
    """Return a connection."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(server.path))
    return sock


def test_unfinished_calls_hold_little(configured: Callable[..., Server], sidecall: Run) -> None:
    """Connections with all but one byte of the largest call: most are refused with 75; a call goes on."""
    server = configured("bytes-per-caller = 8_000_000")
    before = memory(server)
    call = encode(m.Call(b"true", (b"x" * (m.CALL_LIMIT - 100),), (), b"", b"", (), (), 0, 0, 0))
    socks = [connect(server) for _ in range(40)]
    refused = 0
    for sock in socks:
        sock.settimeout(20)
        try:
            sock.sendall(HELLO + call[:-1])
        except (BrokenPipeError, ConnectionResetError):
            refused += 1
    assert refused >= 30
    assert memory(server) - before < 40_000_000
    for sock in socks:
        sock.close()
    assert sidecall("exec", "x", "true").returncode == 0


def test_waiting_calls_are_bounded_too(configured: Callable[..., Server], sidecall: Run) -> None:
    """The budget is for what the server holds, whether the call waits or is still on its way; it is given back."""
    server = configured("bytes-per-caller = 8_000_000\nslots = 1")
    call = encode(m.Call(b"wait", (), (b"A=" + b"x" * 1_000_000,), b"", b"", (), (), 0, 0, 0))
    for _ in range(2):
        socks = [connect(server) for _ in range(12)]
        answers = []
        for sock in socks:
            sock.settimeout(20)
            try:
                sock.sendall(HELLO + call)
            except (BrokenPipeError, ConnectionResetError):
                pass
            answers.append(sock.recv(65536))
        assert sum(b"hold all the bytes that they can" in answer for answer in answers) == 5
        for sock in socks:
            sock.close()
        while json.loads(sidecall("status", "x", "--json").stdout):
            time.sleep(0.01)


def test_a_long_unknown_name_costs_nothing(configured: Callable[..., Server], sidecall: Run) -> None:
    """It is not compared with the declared ones."""
    configured("")
    done = sidecall("exec", "x", "true", "--" + "y" * 100_000)
    assert done.returncode == 64
    assert len(done.stderr) < 1000


def run_as(uid: int, *words: str, directory: Path) -> tuple[int, bytes]:
    """Run `sidecall` as another user; return its exit code and stderr."""
    environ = {**os.environ, "SIDECALL_DIR": str(directory)}
    setpriv = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    done = subprocess.run([*setpriv, SIDECALL, *words], capture_output=True, env=environ, check=False, timeout=60)
    return done.returncode, done.stderr


@as_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is missing")
def test_the_operator_is_never_locked_out(configured: Callable[..., Server], sidecall: Run, directory: Path) -> None:
    """Root and the server's own user can ask, list and cancel where only others can call, and not call."""
    directory.chmod(0o755)
    configured("callers = [3000]")
    for words in (("ping", "x"), ("status", "x"), ("doctor", "x")):
        assert sidecall(*words).returncode == 0, words
    assert sidecall("exec", "x", "true").returncode == 127
    assert b"not found" in sidecall("kill", "x", "nonesuch-1").stderr


@as_root
def test_who_is_not_let_in_is_refused_before_anything_is_read(
    configured: Callable[..., Server], directory: Path
) -> None:
    """The kernel reports who connects; a client that sends nothing holds nothing."""
    directory.chmod(0o755)
    server = configured('callers = [3000]\naudit = "audit"')
    ask = (
        "import os, socket, sys; os.setgid(4000); os.setuid(4000); sock = socket.socket(socket.AF_UNIX);"
        "sock.connect(sys.argv[1]); [sys.stdout.buffer.write(data) for data in iter(lambda: sock.recv(65536), b'')]"
    )
    done = subprocess.run([sys.executable, "-c", ask, server.path], capture_output=True, check=True, timeout=60)
    assert b"uid 4000" in done.stdout
    (line,) = map(json.loads, (directory / "audit").read_text().splitlines())
    assert (line["uid"], line["outcome"], line["code"]) == (4000, "refused", 77)


def test_lines_of_one_kind_are_bounded() -> None:
    """The first of the next second says how many were left out."""
    now = [0.0]
    rate = RateLimit(lambda: now[0])
    written = [rate.allows("a") for _ in range(MAX_REPEATED + 80)]
    assert written == [""] * MAX_REPEATED + [None] * 80
    assert rate.allows("b") == ""
    now[0] = 1.5
    assert rate.allows("a") == " omitted=80"
    assert rate.allows("a") == ""


def test_a_removed_socket_is_made_again(configured: Callable[..., Server], sidecall: Run) -> None:
    """The socket, its lock, or both."""
    server = configured("")
    for n, names in enumerate((["x.sock"], ["x.sock", "x.sock.lock"]), 1):
        for name in names:
            (server.path.parent / name).unlink()
        server.await_log("serving", n + 1)
        assert sidecall("exec", "x", "true").returncode == 0


def test_a_successor_keeps_its_socket_and_its_lock(configured: Callable[..., Server], sidecall: Run) -> None:
    """A server whose place another one has taken ends, and removes nothing of the other's."""
    first = configured("")
    for name in ("x.sock", "x.sock.lock"):
        (first.path.parent / name).unlink()
    first.process.send_signal(signal.SIGSTOP)  # or it can be quicker, and takes its place again
    second = configured("")
    first.process.send_signal(signal.SIGCONT)
    assert first.process.wait(30) == 75
    assert second.path.exists()
    assert second.path.with_name("x.sock.lock").exists()
    assert sidecall("exec", "x", "true").returncode == 0


def test_a_client_that_waits_long_is_told_what_holds_the_slots(configured: Callable[..., Server]) -> None:
    """Two calls joined by a pipe, with one slot, do not hold each other up in silence."""
    server = configured("slots = 1")
    call = encode(m.Call(b"wait", (), (), b"", b"", (), (), 2, 0, 0))
    with connect(server) as first, connect(server) as second:
        first.sendall(HELLO + call)
        server.await_log("started")
        second.settimeout(60)
        second.sendall(HELLO + call)
        answer = b""
        while b"still waiting: all 1 slots are in use by wait (" not in answer:
            piece = second.recv(65536)
            assert piece, answer
            answer += piece
