"""`sidecall status`: listing calls, and what `kill` makes of them."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import termios
from pathlib import Path
from typing import TYPE_CHECKING

from conftest import SIDECALL, end, first_line, start

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from conftest import Run, Server, Table


def test_calls_are_listed_and_can_be_killed(serve: Callable[..., Server], sidecall: Run) -> None:
    """Running and waiting calls are seen; killed, the one ends by TERM with all it started, the other never starts."""
    serve("--allow-any", "x", "--slots", "1", "--grace", "0.3")
    running = start("x", "sh", "-c", "setsid sh -c 'trap \"\" TERM; echo $$; exec sleep 60'")
    pid = int(first_line(running))
    waiting = start("x", "true")
    assert waiting.stderr is not None
    waiting.stderr.readline()
    calls = json.loads(sidecall("status", "--json", "x").stdout)
    assert [(call["state"], call["command"]) for call in calls] == [("running", "sh"), ("waiting", "true")]
    table = sidecall("status", "x").stdout.decode().splitlines()
    assert table[0].split() == ["call", "state", "uid", "seconds", "command"]
    assert [line.split()[0] for line in table[1:]] == [call["call"] for call in calls]
    assert sidecall("kill", "x", calls[1]["call"]).returncode == 0
    assert end(waiting)[::2] == (75, b"sidecall: the call was cancelled before it started\n")
    assert sidecall("kill", "x", calls[0]["call"]).returncode == 0
    assert end(running)[0] == -15
    assert not Path(f"/proc/{pid}").exists()
    assert json.loads(sidecall("status", "--json", "x").stdout) == []


SECRET = """
[service]
name = "x"
slots = 1
[commands.keep]
argv = ["sh", "-c", "echo ready; read line", "{key}", "{for}"]
[commands.keep.parameters.key]
secret = true
[commands.keep.parameters.for]
"""


def test_arguments_and_the_directory_are_listed(
    serve: Callable[..., Server], sidecall: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a running and of a waiting call, with secrets masked; in the text as a shell would have them."""
    (tmp_path / "x.toml").write_text(SECRET)
    serve("--config", str(tmp_path / "x.toml"))
    monkeypatch.chdir(tmp_path)
    running = start("x", "keep", "--key", "hidden", "--for=a b")
    assert first_line(running) == "ready"
    waiting = start("x", "keep", "--key=hidden", "--for=c")
    assert waiting.stderr is not None
    waiting.stderr.readline()
    first, second = json.loads(sidecall("status", "--json", "x").stdout)
    assert (first["parameters"], first["directory"]) == ({"key": ["***"], "for": ["a b"]}, str(tmp_path))
    assert (second["parameters"], second["directory"]) == ({"key": ["***"], "for": ["c"]}, str(tmp_path))
    text = sidecall("status", "x").stdout.decode()
    assert f"  keep '--key=***' '--for=a b'  ({tmp_path})\n" in text
    assert f"  keep '--key=***' --for=c  ({tmp_path})\n" in text
    assert "hidden" not in text
    for caller in (running, waiting):
        caller.communicate(b"\n")


def test_a_chosen_directory_and_long_arguments(tool: Server, sidecall: Run) -> None:
    """The list has the directory of --cwd, and the first 200 characters of arguments; a terminal cuts at its width."""
    caller = start("--cwd", "/", "tool", "sh", "-c", "echo ready; read line; exit 6", "x" * 1000)
    assert first_line(caller) == "ready"
    (call,) = json.loads(sidecall("status", "--json", "tool").stdout)
    script = "echo ready; read line; exit 6"
    assert call["parameters"] == {"arguments": ["-c", script, "x" * (200 - len(script) - 2) + "…"]}
    assert call["directory"] == "/"
    width = 100
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, width))
    environ = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    subprocess.run([SIDECALL, "status", "tool"], stdout=theirs, env=environ, check=True)
    os.close(theirs)
    lines = os.read(ours, 4096).decode().splitlines()
    os.close(ours)
    assert len(lines) == 2
    assert len(lines[1]) == width
    assert "…" in lines[1]
    assert lines[1].endswith("(/)")
    caller.communicate(b"\n")
    assert caller.returncode == 6


def test_what_one_socket_has_another_neither_shows_nor_stops_nor_counts(
    serve: Callable[..., Server], sidecall: Run, tmp_path: Path, table: Table
) -> None:
    """One uid at two sockets, as root of two containers: calls are listed, killed and counted at their own alone."""
    config = tmp_path / "two.toml"
    config.write_text(
        '[service]\nname = "a"\nslots = 8\nper-caller = 2\n[[listen]]\nname = "a"\n[[listen]]\nname = "b"\n'
        '[commands.wait]\nargv = ["sh", "-c", "echo ready; read line; exit 6"]\n[commands.true]\nargv = ["true"]\n'
    )
    server = serve("--config", str(config))
    server.await_log("serving ", 2)
    first = start("a", "wait")
    assert first_line(first) == "ready"
    (call,) = json.loads(sidecall("status", "--json", "a").stdout)
    assert json.loads(sidecall("status", "--json", "b").stdout) == []
    assert sidecall("kill", "b", call["call"]).returncode == 64
    second = start("a", "wait")
    assert first_line(second) == "ready"
    assert sidecall("exec", "a", "true").returncode == 75
    assert sidecall("exec", "b", "true").returncode == 0
    for caller in (first, second):
        caller.communicate(b"\n")
        assert caller.returncode == 6
    table("one uid at two listeners", "its calls at one are neither listed, killed nor counted at the other")
