"""The library on a real service."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

import sidecall
from sidecall.client.api import DEVNULL, CallFailed
from sidecall.errors import NoSuchCommand, ServiceUnavailable, UsageError

if TYPE_CHECKING:
    from pathlib import Path

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


def test_environment_folder_and_streams(tool: Server) -> None:
    """Variables, the working folder and a missing stdin are passed on."""
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


@pytest.mark.parametrize(
    "given",
    [
        {"stdout": subprocess.PIPE},
        {"stdin": 9999},
        {"stderr": -7},
        {"timeout": -1},
        {"timeout": float("inf")},
        {"wait": float("nan")},
    ],
)
def test_arguments_that_make_no_sense_are_mistakes(tool: Server, given: dict[str, float]) -> None:
    """What the library does not do is not silently something else; nothing is started."""
    with pytest.raises(UsageError):
        sidecall.run("tool", ["true"], **given)  # type: ignore[arg-type]
    assert " starts: " not in tool.log()


def test_stderr_can_go_where_stdout_goes(tool: Server, tmp_path: Path) -> None:
    """`subprocess.STDOUT` means what it means there."""
    with (tmp_path / "both").open("wb") as both:
        sidecall.run("tool", ["sh", "-c", "echo a; echo b >&2"], stdout=both.fileno(), stderr=subprocess.STDOUT)
    assert (tmp_path / "both").read_bytes() == b"a\nb\n"
