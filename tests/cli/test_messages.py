"""Errors that name what was meant, who lacks what, and what to run next."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from conftest import CLIENT, SIDECALL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Run, Server

CLIENTS = sorted({CLIENT, SIDECALL})
BRIDGE = "sidecall serve [--max-children N] NAME PROGRAM [ARG...]"


def error_of(done: subprocess.CompletedProcess[bytes]) -> tuple[int, str, str]:
    """Return the exit code, the reason and the hint."""
    lines = done.stderr.decode().splitlines()
    hints = [line.removeprefix("hint: ") for line in lines if line.startswith("hint: ")]
    return done.returncode, lines[0].removeprefix("sidecall: "), "".join(hints)


@pytest.mark.parametrize(
    ("words", "reason", "hint"),
    [
        (
            "--allow-any --slots 4",
            "--allow-any needs a value: NAME, and the option --slots follows",
            "if that is the value, use `--allow-any=--slots`",
        ),
        (
            "--config --check",
            "--config needs a value: FILE, and the option --check follows",
            "if that is the value, use `--config=--check`",
        ),
        (
            "--allow-any tool 4",
            "unexpected argument '4' after --allow-any tool",
            "leave it out; for a bridge, use `sidecall serve NAME PROGRAM`",
        ),
        (
            "--allow-any tool --max-children 4",
            "--max-children does not go with --allow-any",
            "set the number of `slots`",
        ),
        ("tool --allow-any", "the option --allow-any follows the service", f"put options before NAME: {BRIDGE}"),
        ("tool --slots=4", "the option --slots=4 follows the service", f"put options before NAME: {BRIDGE}"),
        ("tool.toml", "missing --config", "use `sidecall serve --config tool.toml`"),
        ("--check tool.toml", "--check goes with --config", "use `sidecall serve --config FILE --check`"),
        ("--slots 4 tool", "--slots goes with --allow-any", "use `sidecall serve --allow-any NAME --slots`"),
        ("--config t.toml --slots 4", "--slots goes with --allow-any", "set `slots` in the configuration file"),
        (
            "tool",
            "missing program",
            "use `sidecall serve --config FILE`, `sidecall serve --allow-any NAME` or `sidecall serve NAME PROGRAM`",
        ),
        (
            "",
            "missing service",
            "use `sidecall serve --config FILE`, `sidecall serve --allow-any NAME` or `sidecall serve NAME PROGRAM`",
        ),
    ],
)
def test_serve_reports_what_was_meant(sidecall: Run, words: str, reason: str, hint: str) -> None:
    """An option without its value does not take the next option for it; a misplaced argument is named."""
    assert error_of(sidecall("serve", *words.split())) == (64, reason, hint)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("option", "value", "following"),
    [
        ("--timeout", "SECONDS", "--no-queue"),
        ("--cwd", "DIR", "--timeout=5"),
        ("--env", "NAME[=VALUE]", "-q"),
        ("-w", "DIR", "--help"),
        ("--outcome-fd", "N", "--user"),
    ],
)
def test_an_option_is_no_value(client: str, option: str, value: str, following: str) -> None:
    """In both clients; behind `=` it is one."""
    done = subprocess.run([client, "exec", option, following, "x", "true"], capture_output=True, check=False)
    name = following.partition("=")[0]
    assert error_of(done) == (
        64,
        f"{option} needs a value: {value}, and the option {name} follows",
        f"if that is the value, use `{option}={name}`",
    )
    done = subprocess.run([client, "exec", "--timeout=-q", "x", "true"], capture_output=True, check=False)
    assert error_of(done)[1] == "invalid --timeout '-q': expected a positive number of seconds"


@pytest.mark.parametrize("program", CLIENTS)
@pytest.mark.parametrize("command", ["exec", "ping", "connect", "status", "describe", "kill"])
def test_a_failure_to_reach_a_service_ends_with_doctor(directory: Path, program: str, command: str) -> None:
    """Whatever the subcommand, and by the name that was given."""
    for name in ("gone", f"{directory}/gone.sock"):
        arguments = [name, "true"] if command in {"exec", "connect", "kill"} else [name]
        done = subprocess.run([program, command, *arguments], capture_output=True, check=False)
        code, reason, hint = error_of(done)
        assert (code, reason) == (69, f"the socket is missing: {directory}/gone.sock")
        assert hint.endswith(f"; for more, run `sidecall doctor {name}`")


@pytest.mark.parametrize("client", CLIENTS)
def test_a_refusal_ends_with_doctor_where_that_helps(
    serve: Callable[..., Server], directory: Path, client: str
) -> None:
    """For 69 and 77, once, also in the outcome; a busy service or a wrong parameter has its own hint."""
    (directory / "x.toml").write_text(
        '[service]\nname = "x"\n[commands.c]\nargv = ["true"]\n[commands.d]\nargv = ["true"]\ncallers = [4321]\n'
    )
    serve("--config", str(directory / "x.toml"))
    with (directory / "outcome").open("wb") as outcome:
        done = subprocess.run(
            [client, "exec", "--outcome-fd", str(outcome.fileno()), "--env", "A=1", "x", "c"],
            capture_output=True, check=False, pass_fds=[outcome.fileno()],
        )  # fmt: skip
    assert error_of(done)[0] == 77
    assert error_of(done)[2].count("run `sidecall doctor x`") == 1
    assert "run `sidecall doctor x`" in (directory / "outcome").read_text()
    for words, code in ((("--no", "1"), 64), (("--help-me",), 64)):
        done = subprocess.run([client, "exec", "x", "c", *words], capture_output=True, check=False)
        assert error_of(done)[0] == code
        assert "doctor" not in error_of(done)[2]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_permission_error_names_who_lacks_what_where(serve: Callable[..., Server], tmp_path: Path) -> None:
    """The socket's mode, a closed directory, and one on the way to it; with what to run. By both clients."""
    server = serve("--allow-any", "x")
    parent = server.path.parent
    client = tmp_path / "client"  # root's own directories are closed to others
    shutil.copy(CLIENT, client)
    for above in (tmp_path, *tmp_path.parents):
        above.chmod(above.stat().st_mode | 0o005)

    def fail() -> set[tuple[int, str, str]]:
        """Return the one way in which all clients fail."""
        ends = set()
        for words in (["exec", "x", "true"], ["ping", "x"]):
            command = ["setpriv", "--reuid=1", "--clear-groups", str(client), *words]
            ends.add(error_of(subprocess.run(command, capture_output=True, check=False, cwd="/")))
        return ends

    runs = ["setpriv", "--reuid=1", "--clear-groups", str(client), "--version"]
    if subprocess.run(runs, capture_output=True, check=False, cwd="/").returncode != 0:
        pytest.skip("this machine has a Python that only root can start")
    parent.chmod(0o755)
    assert fail() == {
        (
            77,
            f"uid 1 lacks write permission on the socket {server.path} of uid 0, mode 0600",
            "add 1 to `callers` in the service configuration, or run the client as uid 0; "
            "for more, run `sidecall doctor x`",
        )
    }
    parent.chmod(0o700)
    assert fail() == {
        (
            77,
            f"uid 1 lacks search permission on the directory {parent} of uid 0, mode 0700",
            f"run `chmod a+rx {parent}` as uid 0; for more, run `sidecall doctor x`",
        )
    }
