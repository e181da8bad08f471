"""The library on a real service."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import sidecall
from sidecall import DEVNULL, PIPE, STDOUT, CallFailed, NoSuchCommand, ServiceUnavailable
from sidecall.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from conftest import Server


@pytest.mark.parametrize("relay", [False, True])
def test_input_and_output(tool: Server, relay: bool) -> None:
    """What goes in comes out, and stderr stays apart."""
    data = os.urandom(3 << 20)
    done = sidecall.run(
        "tool", ["sh", "-c", "cat; echo apart >&2; exit 3"], input=data, capture_output=True, relay=relay
    )
    assert (done.stdout == data, done.stderr, done.returncode) == (True, b"apart\n", 3)
    assert done.outcome.kind == "exited"


def test_a_signal_is_negative_as_in_subprocess(tool: Server) -> None:
    """A killed command's returncode is minus the signal's number."""
    assert sidecall.run("tool", ["sh", "-c", "kill -9 $$"]).returncode == -9


def test_environment_directory_and_streams(tool: Server) -> None:
    """Variables, the working directory and a missing stdin are passed on."""
    done = sidecall.run(
        "tool", ["sh", "-c", "echo $A; pwd; cat"], env={"A": "1"}, cwd="/", stdin=DEVNULL, capture_output=True
    )
    assert done.stdout == b"1\n/\n"


def test_check_raises_and_keeps_the_result(tool: Server) -> None:
    """`check` turns a failure into an exception that has what was captured."""
    with pytest.raises(CallFailed) as error:
        sidecall.run("tool", ["sh", "-c", "echo out; exit 9"], capture_output=True, check=True)
    assert (error.value.completed.returncode, error.value.completed.stdout) == (9, b"out\n")


def test_errors_are_exceptions(tool: Server) -> None:
    """What is refused raises, with words for a person."""
    with pytest.raises(NoSuchCommand, match="no such command: 'nope'"):
        sidecall.run("tool", ["nope"])
    with pytest.raises(ServiceUnavailable, match="the socket is missing"):
        sidecall.run("nobody", ["true"])
    with pytest.raises(AttributeError):
        sidecall.nothing  # noqa: B018


INTERRUPTED = """
import os, sidecall
script = "trap 'echo stopped; exit' TERM; echo $$; while :; do sleep 0.05; done"
try:
    sidecall.run("tool", ["sh", "-c", script], relay={relay})
except KeyboardInterrupt:
    os.write(1, b"interrupted\\n")
"""


@pytest.mark.parametrize("relay", [False, True])
def test_an_interrupt_waits_until_nothing_is_left(tool: Server, relay: bool) -> None:
    """Ctrl-C in `run` raises KeyboardInterrupt once the command has ended."""
    caller = subprocess.Popen([sys.executable, "-c", INTERRUPTED.format(relay=relay)], stdout=subprocess.PIPE)
    assert caller.stdout is not None
    pid = int(caller.stdout.readline())
    caller.send_signal(signal.SIGINT)
    out, _ = caller.communicate(timeout=30)
    assert out == (b"interrupted\n" if relay else b"stopped\ninterrupted\n")
    assert not Path(f"/proc/{pid}").exists()


INTERRUPTED_EARLY = """
import os, pathlib, signal, sys, time, sidecall
from sidecall.client.attempt import Attempt

file = pathlib.Path(sys.argv[1])
script = "trap 'echo stopped > $0; exit' TERM; echo started > $0; while :; do sleep 0.05; done"
start = Attempt.start

def start_and_be_interrupted(attempt):
    start(attempt)
    while not file.exists() or not file.read_text():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)

Attempt.start = start_and_be_interrupted
try:
    sidecall.run("tool", ["sh", "-c", script, str(file)], relay={relay})
except KeyboardInterrupt:
    print(file.read_text(), end="")
"""


@pytest.mark.parametrize("relay", [False, True])
def test_an_interrupt_waits_also_before_the_call_is_known_to_be_sent(tool: Server, tmp_path: Path, relay: bool) -> None:
    """On a busy machine the command can run, and be interrupted, before the send that started it has returned."""
    code = INTERRUPTED_EARLY.format(relay=relay)
    words = [sys.executable, "-c", code, str(tmp_path / "file")]
    done = subprocess.run(words, stdout=subprocess.PIPE, timeout=30, check=False)
    assert done.stdout == b"stopped\n"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_exception_of_a_handler_is_raised_as_it_is(tool: Server) -> None:
    """What a signal's handler raises stops the call, and is not taken for a failure of the call's own.

    The command repeats the signal: Python drops, with a warning, what a handler raises while an object is finalized.
    """

    class TooLate(Exception):
        """A program's own deadline."""

    def too_late(number: int, _frame: object) -> None:
        raise TooLate(f"signal {number}")

    previous = signal.signal(signal.SIGUSR1, too_late)
    try:
        with pytest.raises(TooLate, match="signal 10"):
            sidecall.run("tool", ["sh", "-c", "while kill -USR1 $0; do sleep 1; done", str(os.getpid())])
    finally:
        signal.signal(signal.SIGUSR1, previous)


@pytest.mark.parametrize("relay", [False, True])
def test_streams_are_named_as_in_subprocess(tool: Server, tmp_path: Path, relay: bool) -> None:
    """PIPE captures one stream, STDOUT joins the two, and an open file is a stream."""
    assert (PIPE, STDOUT, DEVNULL) == (subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL)
    script = ["sh", "-c", "echo out; echo err >&2"]
    done = sidecall.run("tool", script, stdout=PIPE, stderr=STDOUT, relay=relay)
    assert (done.stdout, done.stderr) == (b"out\nerr\n", None)
    with (tmp_path / "file").open("w+b") as file:
        done = sidecall.run("tool", script, stdout=file, stderr=PIPE, relay=relay)
        assert (done.stdout, done.stderr, file.read()) == (None, b"err\n", b"")
        file.seek(0)
        assert file.read() == b"out\n"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"input": b"", "stdin": DEVNULL}, "there cannot be another"),
        ({"capture_output": True, "stderr": STDOUT}, "they cannot go elsewhere"),
        ({"stdin": PIPE}, "-1 is no open descriptor"),
        ({"stdout": STDOUT}, "-2 is no open descriptor"),
    ],
)
def test_streams_that_contradict_each_other(options: dict[str, Any], reason: str) -> None:
    """What could only be guessed is refused before anybody is called."""
    with pytest.raises(UsageError, match=reason):
        sidecall.run("tool", ["true"], **options)


def test_a_text_is_no_command() -> None:
    """One text is not split."""
    commands: list[Any] = ["ls -l", b"ls", []]
    for command in commands:
        with pytest.raises(UsageError, match="a call needs a command and its arguments as a list"):
            sidecall.run("tool", command)


def test_a_relative_directory_is_the_callers(tool: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`cwd` means what it means for `sidecall exec --cwd`."""
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path)
    done = sidecall.run("tool", ["pwd"], cwd="below", stdout=PIPE)
    assert done.stdout == os.fsencode(tmp_path / "below") + b"\n"


def test_a_declared_command(serve: Callable[..., Server], tmp_path: Path) -> None:
    """One that takes no descriptors is called with relayed streams, and `--help` does not look like a success."""
    config = tmp_path / "tool.toml"
    config.write_text('[service]\nname = "tool"\n[commands.cat]\nargv = ["cat"]\npass-descriptors = false\n')
    serve("--config", str(config))
    assert sidecall.run("tool", ["cat"], input=b"in", capture_output=True).stdout == b"in"
    done = asyncio.run(sidecall.run_async("tool", ["cat"], input=b"in", capture_output=True))
    assert (done.stdout, done.stderr) == (b"in", b"")
    with pytest.raises(NoSuchCommand, match="describes a command instead of running it"):
        sidecall.run("tool", ["cat", "--help"])


@pytest.mark.parametrize(
    "given",
    [
        {"stdin": 9999},
        {"stderr": -7},
        {"stdout": 1 << 40},
        {"timeout": -1},
        {"timeout": float("inf")},
        {"connect_timeout": float("nan")},
    ],
)
def test_arguments_that_make_no_sense_are_mistakes(tool: Server, given: dict[str, float]) -> None:
    """What the library does not do is not silently something else; nothing is started."""
    with pytest.raises(UsageError):
        sidecall.run("tool", ["true"], **given)  # type: ignore[arg-type]
    assert " started" not in tool.log()


def test_a_shortage_is_said_as_one(tool: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has no descriptor left for a stream calls nobody, on either loop."""

    def none_left(_fd: int, _flags: int) -> tuple[int, bool]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("sidecall.client.attempt.own_description", none_left)
    with pytest.raises(ServiceUnavailable, match="Too many open files; nothing was started"):
        sidecall.run("tool", ["true"], relay=True)
    with pytest.raises(ServiceUnavailable, match="Too many open files; nothing was started"):
        asyncio.run(sidecall.run_async("tool", ["true"], relay=True))
    assert " started" not in tool.log()
