"""`sidecall ping`: whether a service responds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecall.cli.ping import describe_load
from sidecall.client.status import PingReply
from sidecall.protocol.options import Details

if TYPE_CHECKING:
    from conftest import Run, Server


def test_presence_and_load(tool: Server, sidecall: Run) -> None:
    """0 and a line with the load; nothing with -q; 69 for a service that is not there."""
    done = sidecall("ping", "tool")
    assert (done.returncode, b"0 of 4 slots in use, 0 of 1000 waiting" in done.stdout) == (0, True)
    done = sidecall("ping", "-q", "tool")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert sidecall("ping", "nobody").returncode == 69


@pytest.mark.parametrize(
    "words", [(), ("a", "b"), ("--timeout", "0", "a"), ("--timeout", "x", "a"), ("--nothing", "a")]
)
def test_wrong_words(sidecall: Run, words: tuple[str, ...]) -> None:
    """Usage errors are 64, and say what is expected."""
    done = sidecall("ping", *words)
    assert done.returncode == 64
    assert done.stderr.startswith(b"sidecall: ")


def test_what_a_server_says_is_one_printable_line() -> None:
    """Unknown and missing numbers are 0; a name of several lines stays on one."""
    reply = PingReply(0.0015, "sidecall\n9", Details((b"slots=3", b"running=none", b"new=1")))
    line = describe_load("a\x1b", reply)
    assert line.isprintable()
    assert line.startswith(r"a\x1b: sidecall\n9, round trip 1.5 ms, 0 of 3 slots in use, 0 of 0 waiting")
