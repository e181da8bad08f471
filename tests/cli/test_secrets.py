"""The value of a secret parameter is in no message, log, status, audit record or description, however a call ends."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from conftest import CLIENT, SIDECALL, both_modes, end, first_line, start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Run, Server

SECRET = "hunter2"
CONFIG = """
[service]
name = "safe"
slots = 1
grace = 0.5
audit = "audit"

[volumes.data]
path = "data"
access = "write"

[commands.run]
argv = ["sh", "-c", 'echo ready >&2; eval "$0"', "{script}", "{out}", "{token}", "{in}", "{kind}", "{number}"]
timeout = 20
pass-env = ["TOKEN"]

[commands.run.parameters]
script = { default = "true" }
number = { type = "int", optional = true }
token = { secret = true, optional = true, pattern = "[a-z0-9]+" }
kind = { type = "choice", choices = ["a"], secret = true, optional = true }
in = { type = "path", secret = true, optional = true }
out = { type = "path", access = "write", atomic = true, secret = true, optional = true }

[commands.missing]
argv = ["/no/such/program", "{token}"]
parameters.token = { secret = true }
"""


@pytest.fixture
def safe(serve: Callable[..., Server], directory: Path) -> Server:
    """Return a service whose commands have secrets."""
    (directory / "data").mkdir()
    (directory / "safe.toml").write_text(CONFIG)
    return serve("-v", "--config", str(directory / "safe.toml"))


@both_modes
@pytest.mark.parametrize("client", sorted({CLIENT, SIDECALL}))
def test_no_end_of_a_call_shows_a_secret(safe: Server, directory: Path, client: str, mode: tuple[str, ...]) -> None:
    """Refused for each reason, failed, killed, timed out: it is in no output of the client, no log and no outcome."""
    data, said, codes = directory / "data", [], []
    (data / f"{SECRET}.in").touch()
    (data / f"{SECRET}.link").symlink_to("/etc/passwd")
    environ = {**os.environ, "TOKEN": SECRET}
    with (directory / "outcome").open("wb") as outcome:
        for arguments in (
            ("safe", "run", "--token", SECRET),
            ("safe", "run", "--token", SECRET.upper()),
            ("safe", "run", f"--token=-{SECRET}"),
            ("safe", "run", "--token", "my", SECRET),
            ("safe", "run", "--token", SECRET, "--token", SECRET),
            ("safe", "run", f"--tokne={SECRET}"),
            ("safe", "run", "--tokne", SECRET),
            ("safe", "run", "--kind", SECRET),
            ("safe", "run", "--token", SECRET, "--number", "x"),
            ("safe", "run", "--in", f"{data}/{SECRET}.in"),
            ("safe", "run", "--in", f"{data}/{SECRET}.gone"),
            ("safe", "run", "--in", f"{data}/{SECRET}.link"),
            ("safe", "run", "--in", f"{data}/{SECRET}/x"),
            ("safe", "run", "--in", f"/{SECRET}"),
            ("safe", "run", "--out", f"{data}/{SECRET}.out"),
            ("safe", "run", "--out", f"{data}/{SECRET}.out", "--script", 'touch "$1.tif"'),
            ("safe", "run", "--out", f"{data}/{SECRET}.out", "--script", 'mkdir "$1"'),
            ("safe", "run", "--out", f"{data}/no/{SECRET}.out"),
            ("safe", "run", "--out", f"{data}/{SECRET}.link"),
            ("safe", "run", "--token", SECRET, "--script", "kill -9 $$"),
            ("--timeout", "0.01", "safe", "run", "--token", SECRET, "--script", "sleep 60"),
            ("--env", "TOKEN", "safe", "run", "--script", "exit 3"),
            ("safe", "missing", "--token", SECRET),
        ):
            done = subprocess.run(
                [client, "exec", *mode, "--outcome-fd", str(outcome.fileno()), *arguments],
                capture_output=True, check=False, env=environ, pass_fds=[outcome.fileno()], timeout=60,
            )  # fmt: skip
            codes.append(done.returncode)
            said.append(done.stdout + done.stderr)
    assert codes == [0, *[64] * 8, 0, 64, 77, 64, 77, 73, 73, 73, 64, 64, -9, 124, 3, 127]
    files = [(directory / "outcome").read_bytes(), (directory / "audit").read_bytes(), safe.log().encode()]
    assert files[1].count(b"***") > 10
    for text in (*said, *files):
        assert SECRET.encode() not in text.lower()


def test_status_and_descriptions_show_no_secret(safe: Server, sidecall: Run) -> None:
    """While calls run and wait, and for those that ask what holds the slots."""
    running = start("safe", "run", "--script", "echo begun; read line", "--token", SECRET)
    assert first_line(running) == "begun"
    waiting = start("safe", "run", "--token", SECRET)
    assert waiting.stderr is not None
    told = waiting.stderr.readline()
    for words in (("status", "safe"), ("status", "--json", "safe"), ("ping", "safe"), ("describe", "--json", "safe"),
                  ("doctor", "safe"), ("list",), ("exec", "safe", "run", "--help")):  # fmt: skip
        done = sidecall(*words)
        assert done.returncode == 0
        told += done.stdout + done.stderr
    while b"still waiting" not in told:
        line = waiting.stderr.readline()
        assert line, "the client has ended"
        told += line
    running.communicate(b"\n")
    assert end(waiting)[0] == 0
    assert SECRET.encode() not in told
    assert SECRET not in safe.log()


@pytest.mark.parametrize(
    "lines",
    [
        f'argv = ["true"]\nparameters.token = {{ secret = true, type = "int", default = "{SECRET}" }}',
        f'argv = ["true"]\nparameters.token = {{ secret = true, pattern = "x", default = "{SECRET}" }}',
        'argv = ["true"]\ncwd = "/{token}"\nparameters.token = { secret = true }',
    ],
)
def test_a_configuration_error_shows_no_secret(sidecall: Run, directory: Path, lines: str) -> None:
    """A default that does not fit, and a working directory, which errors would name."""
    (directory / "x.toml").write_text(f'[service]\nname = "x"\n[commands.c]\n{lines}\n')
    done = sidecall("serve", "--check", "--config", str(directory / "x.toml"))
    assert done.returncode == 78
    assert SECRET.encode() not in done.stdout + done.stderr
