"""Commands that try to outlive their call, or to hold it up, on a real server."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import SIDECALL, first_line, start
from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Run, Server, Table

pytestmark = pytest.mark.long

HELLO = encode(m.Hello(m.VERSION, (), (), "hostile"))
CHAIN = """
import os, time
print("ready", flush=True)
if os.fork():
    time.sleep(600)
while True:
    if os.fork():
        os._exit(0)
    os.setsid()
"""
BOMB = """
import os
print("ready", flush=True)
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
MOST_PROCESSES = 100


def marked(mark: str) -> list[str]:
    """Return the processes that have a mark in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (process / "environ").read_bytes():
                found.append(process.name)
    return found


def wait_until_gone(mark: str) -> None:
    """Wait until nothing has the mark; the test's own timeout bounds it."""
    while marked(mark):
        time.sleep(0.02)


@pytest.fixture
def confined(tmp_path: Path) -> Iterator[str]:
    """Return a program like `sidecall` that can have few processes: itself and all that it starts."""
    for root in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")):
        group = root / f"sidecall-test-{os.getpid()}"
        with contextlib.suppress(OSError):
            group.mkdir()
            (group / "pids.max").write_text(str(MOST_PROCESSES))
            break
    else:
        pytest.skip("this machine makes no control group with pids.max")
    program = tmp_path / "confined"
    program.write_text(f'#!/bin/sh\necho $$ >{group}/cgroup.procs && exec {SIDECALL} "$@"\n')
    program.chmod(0o755)
    yield str(program)
    while (group / "cgroup.procs").read_text():
        time.sleep(0.02)
    group.rmdir()


@pytest.mark.parametrize("end", ["its timeout", "`sidecall kill`", "the client's death", "the server's end"])
def test_a_chain_of_forks_ends_with_its_call(
    serve: Callable[..., Server], sidecall: Run, table: Table, end: str
) -> None:
    """Each link is a session of its own and lives for a moment: no list of processes is ever complete."""
    server, mark = serve("--allow-any", "x", "--grace", "0.2", "--drain", "0.2"), uuid.uuid4().hex
    limit = ("--timeout", "0.5") if end == "its timeout" else ()
    caller = start(*limit, "--env", f"MARK={mark}", "x", sys.executable, "-I", "-S", "-c", CHAIN)
    assert first_line(caller) == "ready"
    if end == "`sidecall kill`":
        (call,) = json.loads(sidecall("status", "--json", "x").stdout)
        assert sidecall("kill", "x", call["call"]).returncode == 0
    elif end == "the client's death":
        caller.kill()
    elif end == "the server's end":
        server.process.terminate()
    began = time.monotonic()
    caller.communicate()
    wait_until_gone(mark)
    if end == "the server's end":
        assert server.process.wait(20) == 0  # before the end of the test terminates it again
    code = {"its timeout": 124, "the client's death": -signal.SIGKILL}.get(end, -signal.SIGTERM)
    assert caller.returncode == code
    table(f"a chain of fork and setsid, stopped by {end}", f"nothing is left after {time.monotonic() - began:.1f} s")


def test_a_fork_bomb_ends_with_its_call(
    confined: str, serve: Callable[..., Server], sidecall: Run, table: Table
) -> None:
    """It uses up all processes that the server can have; others are served again after it."""
    serve("--allow-any", "x", "--grace", "0.2", program=confined)
    mark = uuid.uuid4().hex
    caller = start("--timeout", "0.5", "--env", f"MARK={mark}", "x", sys.executable, "-I", "-S", "-c", BOMB)
    assert first_line(caller) == "ready"
    meanwhile = sidecall("exec", "x", "true").returncode
    assert meanwhile in {0, 75}
    began = time.monotonic()
    caller.communicate()
    wait_until_gone(mark)
    assert caller.returncode == 124
    assert sidecall("exec", "x", "true").returncode == 0
    others = "served" if meanwhile == 0 else "refused with 75"
    table(
        f"a fork bomb, {MOST_PROCESSES} processes at most",
        f"nothing is left after {time.monotonic() - began:.1f} s; meanwhile others are {others}",
    )


def test_a_stopped_server_holds_no_client(serve: Callable[..., Server], sidecall: Run, table: Table) -> None:
    """Neither one that connects nor one that is served and insists on ending; once continued, it serves."""
    server = serve("--allow-any", "x")
    caller = start("x", "sh", "-c", "echo ready; exec sleep 600")
    assert first_line(caller) == "ready"
    os.kill(server.process.pid, signal.SIGSTOP)
    refused = sidecall("exec", "--relay", "--connect-timeout", "0.5", "x", "true")  # no pipe of ours stays with it
    assert (refused.returncode, refused.stderr.splitlines()[0]) == (69, b"sidecall: the server does not answer")
    while caller.poll() is None:
        caller.send_signal(signal.SIGINT)
        time.sleep(0.05)  # signals at once would be one; how many it takes is tested elsewhere
    assert caller.returncode == 125
    os.kill(server.process.pid, signal.SIGCONT)
    caller.communicate()
    assert sidecall("exec", "x", "true").returncode == 0
    table("SIGSTOP of the server", "a new client exits with 69, one that is interrupted with 125")


@pytest.mark.parametrize("passes", [True, False], ids=["passed", "relayed"])
def test_a_client_that_is_gone_starts_nothing(
    serve: Callable[..., Server], sidecall: Run, tmp_path: Path, table: Table, passes: bool
) -> None:
    """It has sent its whole call, and has left before the server has accepted the connection."""
    server = serve("-v", "--allow-any", "x")
    mode = m.PASSED if passes else m.RELAYED
    os.kill(server.process.pid, signal.SIGSTOP)
    for i in range(20):
        call = m.Call(b"touch", (os.fsencode(tmp_path / str(i)),), (), b"", b"/", (), (), mode, mode, mode)
        with socket.socket(socket.AF_UNIX) as sock, open(os.devnull, "r+b") as null:
            sock.connect(str(server.path))
            sock.sendall(HELLO + encode(call))
            if passes:
                socket.send_fds(sock, [encode(m.Pass())], [null.fileno()] * 3)
    os.kill(server.process.pid, signal.SIGCONT)
    assert sidecall("exec", "x", "true").returncode == 0
    while len(re.findall(" (?:ended|refused|lost) ", server.log())) < 21:
        time.sleep(0.02)
    assert not list(tmp_path.iterdir())
    table(f"20 calls of clients that are gone, streams {'passed' if passes else 'relayed'}", "nothing is started")
