"""The table of a call's states, and what stops, ends and identifies a call, on real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import CLIENT, both_modes, end, first_line, start
from sidecall.calls import call as c
from sidecall.calls import events

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Run, Server

STATES = [c.RECEIVED, c.QUEUED, c.STARTING, c.RUNNING, c.STOPPING, c.DRAINING, c.COMMITTING, c.ENDED]


def rows() -> list[tuple[str, str, str, str, str]]:
    """Return the table: state, what happens, the next state, who causes it, the event that records it."""
    return [
        (state, what, move.to, move.by, move.records)
        for state, moves in c.TRANSITIONS.items()
        for what, move in moves.items()
    ]


def test_the_table_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Each row names two states, a cause and a known event or none."""
    recorded = {value for name, value in vars(events).items() if name.isupper() and isinstance(value, str)}
    for row in rows():
        print("{:<11} {:<8} {:<11} {:<40} {}".format(*row))
    printed = capsys.readouterr().out
    assert "running     stop     stopping    client, timeout, operator or shutdown    stopping" in printed
    for state, _, to, by, records in rows():
        assert {state, to} <= set(STATES)
        assert by
        assert records in recorded | {""}


def test_every_state_is_reached_and_left() -> None:
    """All but the last can be left and lost; all but the first are reached; nothing leaves the last."""
    assert list(c.TRANSITIONS) == STATES
    assert {to for _, _, to, _, _ in rows()} == set(STATES) - {c.RECEIVED}
    assert not c.TRANSITIONS[c.ENDED]
    assert all("lose" in c.TRANSITIONS[state] for state in STATES[:-1])


def test_a_move_to_the_end_records_one_final_event() -> None:
    """Whatever ends a call is recorded as refused, lost or ended, and nothing else is."""
    for _, _, to, _, records in rows():
        assert (to == c.ENDED) == (records in events.FINAL)


def test_what_has_started_is_not_refused() -> None:
    """From running on a call ends or is lost."""
    for state in (c.RUNNING, c.DRAINING, c.COMMITTING):
        assert "refuse" not in c.TRANSITIONS[state]


TRAP = "trap 'exit 255' TERM; echo $$; while :; do sleep 0.02; done"


def outcome(caller: subprocess.Popen[bytes], readable: int) -> dict[str, object]:
    """Wait for a client; return what it has written for `--outcome-fd`."""
    end(caller)
    with open(readable, "rb") as file:
        written: dict[str, object] = json.loads(file.read())
    return written


def audited(directory: Path) -> list[dict[str, object]]:
    """Return the lines of the audit log."""
    return [json.loads(line) for line in (directory / "audit").read_text().splitlines()]


@both_modes
@pytest.mark.parametrize("cause", ["client", "timeout", "operator", "shutdown"])
def test_a_stop_is_reported_with_its_cause(
    serve: Callable[..., Server], sidecall: Run, directory: Path, mode: tuple[str, ...], cause: str
) -> None:
    """A command that traps SIGTERM and exits with 255 does not look like a failure of its own."""
    config = f'[service]\nname = "x"\naudit = "{directory}/audit"\ndrain = 0.0\n'
    command = f'[commands.trap]\nargv = ["sh", "-c", "{TRAP}"]\ntimeout = {0.5 if cause == "timeout" else 60}\n'
    (directory / "x.toml").write_text(config + command)
    server = serve("-v", "--config", str(directory / "x.toml"))
    readable, writable = os.pipe()
    words = [CLIENT, "exec", "--outcome-fd", str(writable), *mode, "x", "trap"]
    caller = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[writable]
    )
    os.close(writable)
    pid = int(first_line(caller))
    if cause == "client":
        caller.kill()
    elif cause == "operator":
        (call,) = json.loads(sidecall("status", "--json", "x").stdout)
        assert sidecall("kill", "x", call["call"]).returncode == 0
    elif cause == "shutdown":
        server.process.terminate()
    if cause == "client":  # nothing is written by a client that was killed
        end(caller)
        os.close(readable)
    else:
        written = outcome(caller, readable)
        assert written["stopped"] == cause
        assert (caller.returncode, written.get("code")) == ((124, None) if cause == "timeout" else (255, 255))
    if cause == "shutdown":
        assert server.process.wait(20) == 0
    else:
        server.await_log(f"stopped={cause}")
    while not audited(directory):  # it is written after the log
        time.sleep(0.01)
    (line,) = audited(directory)
    assert (line["stopped"], line["value"]) == (cause, 255)
    assert not Path(f"/proc/{pid}").exists()


def test_a_command_that_ends_by_itself_was_not_stopped(tool: Server, sidecall: Run) -> None:
    """No cause is reported, in the outcome or in the log."""
    assert sidecall("exec", "tool", "sh", "-c", "exit 255").returncode == 255
    assert "stopped" not in tool.await_log("ended outcome=exited value=255")


@both_modes
def test_terminated_background_processes_are_reported(
    serve: Callable[..., Server], directory: Path, mode: tuple[str, ...]
) -> None:
    """The outcome, the audit log and a line on stderr name how many; `--quiet` leaves the line out."""
    config = f'[service]\nname = "x"\naudit = "{directory}/audit"\n'
    command = '[commands.c]\nargv = ["sh", "-c", "(sleep 60; echo late) & echo early"]\n'
    (directory / "x.toml").write_text(config + command)
    serve("--config", str(directory / "x.toml"))
    for quiet in ((), ("--quiet",)):
        readable, writable = os.pipe()
        words = [CLIENT, "exec", "--outcome-fd", str(writable), *quiet, *mode, "x", "c"]
        done = subprocess.run(words, capture_output=True, pass_fds=[writable], check=False, timeout=60)
        os.close(writable)
        with open(readable, "rb") as file:
            written = json.loads(file.read())
        assert (done.returncode, done.stdout) == (0, b"early\n")
        assert written["terminated"] == audited(directory)[-1]["terminated"]
        assert written["terminated"] >= 1
        assert (b"terminated" in done.stderr) == (not quiet)


@both_modes
def test_output_on_its_way_within_the_grace_arrives(tool: Server, sidecall: Run, mode: tuple[str, ...]) -> None:
    """What a background process writes until it is terminated is part of the output."""
    script = "(for i in 1 2 3 4; do echo late; sleep 0.05; done) & echo early"
    done = sidecall("exec", *mode, "tool", "sh", "-c", script)
    assert done.returncode == 0
    assert sorted(done.stdout.split()) == [b"early", *[b"late"] * 4]


def test_ids_are_unique_across_server_runs(serve: Callable[..., Server], sidecall: Run, directory: Path) -> None:
    """Two runs write one audit log, and an id of the first run hits no call of the second."""
    config = f'[service]\nname = "x"\naudit = "{directory}/audit"\n'
    (directory / "x.toml").write_text(config + '[commands.c]\nargv = ["sh", "-c", "echo ready; read line"]\n')
    for _ in range(2):
        server = serve("--config", str(directory / "x.toml"))
        caller = start("x", "c")
        assert first_line(caller) == "ready"
        for line in audited(directory):
            assert sidecall("kill", "x", str(line["call"])).returncode == 64
        caller.communicate(b"\n", timeout=30)
        assert caller.returncode == 0
        server.stop()
    ids = [line["call"] for line in audited(directory)]
    assert len(set(ids)) == len(ids) == 2


@both_modes
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_client_that_leaves_the_queue_starts_nothing(
    serve: Callable[..., Server], sidecall: Run, directory: Path, mode: tuple[str, ...], number: int
) -> None:
    """Killed or interrupted while it waits, with passed descriptors or without, its command never runs."""
    server = serve("-v", "--allow-any", "x", "--slots", "1")
    running = start("x", "sh", "-c", "echo ready; read line")
    assert first_line(running) == "ready"
    waiting = start(*mode, "x", "touch", str(directory / "ran"))
    server.await_log("queued")
    waiting.send_signal(number)
    assert end(waiting)[0] == -number
    while len(json.loads(sidecall("status", "--json", "x").stdout)) > 1:
        assert server.process.poll() is None
    running.communicate(b"\n", timeout=30)
    assert running.returncode == 0
    assert sidecall("exec", "x", "true").returncode == 0
    assert not (directory / "ran").exists()
