"""`sidecall doctor`: each mistake is found, explained and given its fix; nothing is changed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from sidecall.client import doctor
from sidecall.client.mounts import Mount

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Run, Server


def problems(sidecall: Run, name: str) -> list[tuple[str, str, int]]:
    """Return the problems that are found: text, fix and code; the exit code is the first one's."""
    done = sidecall("doctor", "--json", name)
    (found,) = json.loads(done.stdout).values()
    bad = [(each["text"], each["fix"], each["code"]) for each in found if each["severity"] == "problem"]
    assert done.returncode == (bad[0][2] if bad else 0)
    return bad


def test_a_healthy_service_has_no_problem(tool: Server, sidecall: Run, directory: Path) -> None:
    """What works is said to work, with 0, and nothing is left in the directory."""
    before = sorted(os.listdir(directory))
    done = sidecall("doctor")
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    assert lines[0] == "tool:"
    assert lines[-1].startswith("  ok       sidecall ")
    assert sorted(os.listdir(directory)) == before


def test_a_missing_directory(sidecall: Run, directory: Path) -> None:
    """A volume that is not mounted."""
    path = f"{directory}/no/x.sock"
    [(text, fix, code)] = problems(sidecall, path)
    assert text == f"the directory {directory}/no does not exist in this container"
    assert fix.startswith(f'volumes: ["ipc:{directory}/no"')  # and, on a machine that runs containers, more
    assert code == 69


def test_a_missing_socket(tool: Server, sidecall: Run, directory: Path) -> None:
    """A service that does not run, beside one that does."""
    [(text, fix, code)] = problems(sidecall, "tol")
    assert text == f"socket tol.sock not found in {directory}; found tool"
    assert fix.startswith("sidecall serve ...")
    assert code == 69


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_no_socket(sidecall: Run, directory: Path, kind: str) -> None:
    """Something else in the socket's place: an engine makes a directory of a file mount that is not there."""
    path = directory / "x.sock"
    path.mkdir() if kind == "directory" else path.touch()
    [(text, fix, code)] = problems(sidecall, "x")
    assert text.startswith(f"{path} is a {kind}, not a socket")
    assert fix.startswith(f'volumes: ["ipc:{directory}"')
    assert code == 69


def test_a_stale_socket(sidecall: Run, directory: Path) -> None:
    """A socket whose server is gone."""
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(directory / "x.sock"))
    [(text, fix, code)] = problems(sidecall, "x")
    assert text == f"no server is listening on {directory}/x.sock (stale socket)"
    assert fix.startswith("docker compose up -d SERVICE")
    assert code == 69


def test_a_directory_open_to_all(sidecall: Run, directory: Path, tool: Server) -> None:
    """Where anyone may replace a socket no call is made."""
    directory.chmod(0o777)
    found = problems(sidecall, "tool")
    assert found[0] == (f"any user can replace the sockets in {directory}", f"chmod o-w {directory}", 77)
    directory.chmod(0o700)


def test_a_bridge(serve: Callable[..., Server], sidecall: Run) -> None:
    """It answers, and takes no calls."""
    serve("x", "cat")
    [(text, fix, code)] = problems(sidecall, "x")
    assert (text, code) == ("the server is a bridge, which takes no calls", 69)
    assert "`sidecall connect NAME PROGRAM`" in fix


def test_what_speaks_another_protocol(sidecall: Run, directory: Path) -> None:
    """Such as socat in place of a bridge."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / "x.sock"))
        listening.listen()

        def serve() -> None:
            for _ in range(2):  # `doctor` connects, then asks
                peer, _ = listening.accept()
                with peer:
                    if peer.recv(1000):
                        peer.sendall(b"HTTP/1.1 200 OK")

        thread = threading.Thread(target=serve)
        thread.start()
        [(text, fix, code)] = problems(sidecall, "x")
        thread.join()
    assert "does not speak the protocol" in text
    assert code == 76
    assert "socat" in fix


def test_a_stopped_service(tool: Server, sidecall: Run) -> None:
    """What listens does not answer; the question does not hang."""
    tool.process.send_signal(signal.SIGSTOP)
    [(text, fix, code)] = problems(sidecall, "tool")
    tool.process.send_signal(signal.SIGCONT)
    assert (text, code) == ("the server does not answer", 69)
    assert fix


def test_a_full_backlog(sidecall: Run, directory: Path) -> None:
    """A service that accepts nobody: a plain connect would wait for ever."""
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as first:
        listening.bind(str(directory / "x.sock"))
        listening.listen(0)
        first.connect(str(directory / "x.sock"))
        [(text, _, code)] = problems(sidecall, "x")
    assert (text, code) == ("the server does not accept connections: its backlog is full", 69)


def test_a_service_that_does_not_know_the_caller(serve: Callable[..., Server], directory: Path, sidecall: Run) -> None:
    """The line to add to the configuration is given."""
    (directory / "x.toml").write_text('[service]\nname = "x"\ncallers = [4321]\n[commands.c]\nargv = ["true"]\n')
    serve("--config", str(directory / "x.toml"))
    assert problems(sidecall, "x") == []  # the server's own user can ask
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    directory.chmod(0o755)
    script = "import os, sys, sidecall.cli.doctor; from sidecall.cli import main; os.setgroups([]); os.setgid(4322); "
    script += "os.setuid(4322); sys.exit(main(['doctor', '--json', 'x']))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, timeout=60)
    (found,) = json.loads(done.stdout).values()
    assert (found[-1]["text"], done.returncode) == ("uid 4322 is not allowed to call this service", 77)
    assert found[-1]["fix"].startswith("callers = [0, 4322]")


def test_words_that_are_too_many_are_refused(sidecall: Run) -> None:
    """One service at a time."""
    assert sidecall("doctor", "a", "b").returncode == 64


def test_people_see_the_fix_under_the_problem(sidecall: Run, directory: Path) -> None:
    """Readable without colour: a line for what was found, and one for what to change."""
    lines = sidecall("doctor", "x").stdout.decode().splitlines()
    assert lines[0] == "x:"
    assert lines[-2] == f"  problem  socket x.sock not found in {directory}"
    assert lines[-1].startswith("  fix:     sidecall serve ...")


def test_a_line_for_a_compose_file_keeps_what_is_mounted(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """So it can be pasted over the old one."""
    found = [Mount("/", "/", "overlay", read_only=False), Mount("/work", "/home/me/work", "ext4", read_only=True)]
    monkeypatch.setattr(doctor, "mounts", lambda: found)
    (finding,) = doctor.examine(f"{directory}/no/x.sock")
    assert finding.fix.startswith(f'volumes: ["ipc:{directory}/no", "/home/me/work:/work:ro"]      # in both services')
