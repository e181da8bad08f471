"""`sidecall kill`: cancelling calls by their ids."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from conftest import end, first_line, start

if TYPE_CHECKING:
    from conftest import Run, Server


def test_what_does_not_exist_cannot_be_killed(tool: Server, sidecall: Run) -> None:
    """A wrong id is 64, and no call is hit."""
    caller = start("tool", "sh", "-c", "echo ready; read line; exit 6")
    assert first_line(caller) == "ready"
    done = sidecall("kill", "tool", "999")
    assert (done.returncode, done.stderr.splitlines()[0]) == (64, b"sidecall: call '999' not found")
    assert sidecall("kill", "tool").returncode == 64
    assert sidecall("status").returncode == 64
    caller.communicate(b"\n")
    assert caller.returncode == 6


def test_several_are_cancelled_up_to_the_first_that_is_not_there(tool: Server, sidecall: Run) -> None:
    """In the order given; what follows a wrong id goes on."""
    callers = [start("tool", "sh", "-c", "echo ready; exec cat") for _ in range(3)]
    assert [first_line(caller) for caller in callers] == ["ready"] * 3
    calls = [call["call"] for call in json.loads(sidecall("status", "--json", "tool").stdout)]
    assert sidecall("kill", "tool", *calls[:2], "999", calls[2]).returncode == 64
    left = json.loads(sidecall("status", "--json", "tool").stdout)
    assert calls[2] in [call["call"] for call in left]
    assert sidecall("kill", "tool", calls[2]).returncode == 0
    assert [end(caller)[0] for caller in callers] == [-15] * 3
