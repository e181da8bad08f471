"""Detached calls by the library: made once, waited for, read and removed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

import sidecall
from sidecall.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Server


@pytest.fixture
def recording(serve: Callable[..., Server], tmp_path: Path) -> Server:
    """Return a service called `tool` that runs any command, and records calls."""
    return serve("--allow-any", "tool", "--records", str(tmp_path / "records"))


def test_a_call_from_its_start_to_its_removal(recording: Server) -> None:
    """Its id, its outcome with what it has written, its output alone; and then nothing."""
    assert recording.path.exists()
    script = ["sh", "-c", "echo out; echo err >&2; exit 3"]
    call_id = sidecall.detach("tool", script, id="job")
    assert (call_id, sidecall.detach("tool", script, id="job")) == ("job", "job")
    done = sidecall.wait("tool", "job", capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
    assert (done.outcome.kind, done.outcome.call_id) == ("exited", "job")
    assert sidecall.wait("tool", "job").stdout is None
    assert sidecall.logs("tool", "job") == (b"out\n", b"err\n")
    with pytest.raises(sidecall.CallFailed):
        sidecall.wait("tool", "job", check=True)
    with pytest.raises(UsageError, match="another request"):
        sidecall.detach("tool", ["true"], id="job")
    sidecall.remove("tool", "job")
    for ask in (sidecall.wait, sidecall.logs, sidecall.remove):
        with pytest.raises(UsageError, match="there is no record of a call 'job'"):
            ask("tool", "job")


def test_what_was_written_before_a_time_can_be_left_out(recording: Server) -> None:
    """What was there when the service looked before that time; a time in the past leaves out nothing."""
    assert recording.path.exists()
    call_id = sidecall.detach("tool", ["sh", "-c", "echo out; echo err >&2"])
    sidecall.wait("tool", call_id)
    assert sidecall.logs("tool", call_id, since=time.time() + 3600) == (b"", b"")
    assert sidecall.logs("tool", call_id, since=time.time() - 3600) == (b"out\n", b"err\n")
