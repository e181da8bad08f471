"""`sidecall completion`: what can come next on a command line, and the scripts in real shells."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from conftest import SIDECALL
from sidecall.cli import COMMANDS
from sidecall.cli.completion import SCRIPTS, candidates

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Run, Server

CONFIG = """
[service]
name = "kit"

[volumes.all]
path = "/"

[commands.stitch]
summary = "Stitch pictures"
argv = ["echo", "{in}", "{mode}", "{count}", "{loud}"]

[commands.stitch.parameters]
in = { type = "path", pin = false, help = "what to read" }
mode = { type = "choice", choices = ["fast", "fine"], default = "fast" }
count = { type = "int", optional = true }
loud = { type = "flag", value = "--loud" }

[commands.stop]
argv = ["true"]
"""


NEXT = {
    "": [*COMMANDS, "help"],
    "e": ["exec"],
    "help comp": ["completion"],
    "completion ": ["bash", "zsh", "fish"],
    "exec --env-": ["--env-file"],
    "exec --env-file ": [":files"],
    "exec --env-file=": [":files"],
    "exec -qw ": [":directories"],
    "exec -q --cwd=/": [":directories"],
    "exec -e COMPLETION_": ["COMPLETION_TEST"],
    "exec --env=COMPLETION_": ["--env=COMPLETION_TEST"],
    "exec --timeout ": [],
    "serve --conf": ["--config"],
    "serve --volume ": [],
    "exec ": ["kin", "kit"],
    "exec -q -e A kit": ["kit"],
    "ping kit ": [],
    "exec kit ": ["stitch", "stop"],
    "exec kit sti": ["stitch"],
    "describe kit sto": ["stop"],
    "exec kit stitch ": ["--in", "--mode", "--count", "--loud"],
    "exec kit -- stitch --lo": ["--loud"],
    "exec kit stitch --mode ": ["fast", "fine"],
    "exec kit stitch --mode=fi": ["--mode=fine"],
    "exec kit stitch --in ": [":files"],
    "exec kit stitch --in=/e": [":files"],
    "exec kit stitch --loud --c": ["--count"],
    "exec kit stitch --count ": [],
    "exec kit nope ": [],
    "exec kin ": [],
    "exec missing stitch --": [],
    "nope ": [],
    "nope --": [],
    "exec --nope=": [],
}
"""Command lines, and what can stand in place of their last word."""


@pytest.fixture
def kit(serve: Callable[..., Server], directory: Path) -> Server:
    """Return a service with two commands, next to a stale socket."""
    (directory / "kit.toml").write_text(CONFIG)
    (directory / "kin.sock").touch()
    return serve("--config", str(directory / "kit.toml"))


def names(line: str) -> list[str]:
    """Return the candidates for the last word of a command line."""
    return [name for name, _ in candidates(line.split(" "))]


def test_what_can_come_next(kit: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Subcommands, options, services, and the commands and parameters of a service; nothing if it does not answer."""
    monkeypatch.setenv("COMPLETION_TEST", "1")
    assert {line: names(line) for line in NEXT} == NEXT


def test_a_candidate_has_a_summary(kit: Server) -> None:
    """It is the help of an option, or what the service declares."""
    assert ("stitch", "Stitch pictures") in candidates(["exec", "kit", ""])
    assert ("--in", "what to read") in candidates(["exec", "kit", "stitch", ""])
    assert ("--no-queue", "exit with 75 instead of waiting for a slot") in candidates(["exec", "--no"])


def test_calls_can_be_named(tool: Server, sidecall: Run) -> None:
    """`sidecall kill` completes the calls of a service."""
    from conftest import end, first_line, start

    caller = start("tool", "sh", "-c", "echo ready; read line")
    first_line(caller)
    ((call, summary),) = candidates(["kill", "tool", ""])
    assert summary == "sh, running"
    assert sidecall("kill", "tool", call).returncode == 0
    end(caller)


def test_a_wrong_shell_is_refused(sidecall: Run) -> None:
    """With those there are."""
    done = sidecall("completion", "tcsh")
    assert (done.returncode, done.stdout) == (64, b"")
    assert done.stderr.startswith(b"sidecall: expected the name of a shell: bash, zsh or fish\n")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the tests wait for a service on a loaded machine."""
    monkeypatch.setattr("sidecall.cli.completion._WAIT", 60.0)


@pytest.fixture
def path(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `sidecall` on PATH, and a home without a shell's files."""
    (directory / "bin").mkdir()
    program = directory / "bin" / "sidecall"
    program.write_text(f'#!/bin/sh\nexec {SIDECALL} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(directory))
    monkeypatch.setenv("TERM", "dumb")


def shell(name: str) -> str:
    """Return a shell; skip the test if it is not here, or fail where all is required."""
    found = shutil.which(name)
    if found is None and "all" not in os.environ.get("SIDECALL_TEST_REQUIRE", ""):
        pytest.skip(f"{name} is not installed")
    assert found is not None, f"{name} is not installed"
    return found


class Terminal:
    """A shell on a terminal of its own."""

    def __init__(self, *argv: str) -> None:
        self.text = b""
        self._fd, theirs = pty.openpty()
        self._process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        os.close(theirs)

    def type(self, text: str, until: str) -> None:
        """Type a text, and wait until something else is printed after it."""
        self.text = b""
        os.write(self._fd, text.encode())
        deadline = time.monotonic() + 60
        while until.encode() not in self.text:
            assert select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))[0], self.text
            self.text += os.read(self._fd, 65536)

    def close(self) -> None:
        """End the shell."""
        self._process.kill()
        self._process.wait()
        os.close(self._fd)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "options", "before"),
    [("bash", ("--norc", "--noprofile", "-i"), ""), ("zsh", ("-f", "-i"), "autoload -Uz compinit; compinit -u -D; ")],
)
@pytest.mark.usefixtures("path", "kit")
def test_a_key_completes_in_a_terminal(directory: Path, name: str, options: tuple[str, ...], before: str) -> None:
    """A service, a command, a parameter, its value, also behind `=`, and a file, by the Tab key alone."""
    picture = directory / "picture"
    picture.touch()
    terminal = Terminal(shell(name), *options)
    try:
        terminal.type(f"{before}source <(sidecall completion {name}); echo re''ady\n", until="ready")
        terminal.type("sidecall pi\tkit\t\n", until="kit: sidecall ")
        terminal.type(f"sidecall exec -q kit sti\t--in {directory}/pict\t--mode=fi\t\n", until=f"{picture} fine")
    finally:
        terminal.close()


@pytest.mark.usefixtures("path", "kit")
def test_fish_completes() -> None:
    """With summaries."""
    script = (
        "sidecall completion fish | source; complete -C 'sidecall exec kit st'; complete -C 'sidecall exec --cwd /us'"
    )
    done = subprocess.run([shell("fish"), "--no-config", "-c", script], capture_output=True, check=False)
    assert done.stdout.decode().splitlines()[:2] == ["stitch\tStitch pictures", "stop"]
    assert "/usr/" in done.stdout.decode()


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_is_valid(name: str, sidecall: Run) -> None:
    """By the shell's own parser."""
    script = sidecall("completion", name).stdout
    done = subprocess.run([shell(name), "-n"], input=script, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
