"""The library's types, which `make check` has mypy read. Nothing here runs a call."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import assert_type

import sidecall


async def right() -> None:
    done = sidecall.run("tool", ["ls", b"-l", Path("directory")], stdin=sys.stdin, stdout=3, stderr=sidecall.STDOUT)
    assert_type(done, sidecall.CompletedCall)
    assert_type(done.returncode, int)
    assert_type(done.stdout, bytes | None)
    assert_type(done.outcome, sidecall.Outcome)
    assert_type(await sidecall.run_async("tool", ("ls",), timeout=None, cwd=Path("directory")), sidecall.CompletedCall)


async def wrong() -> None:
    sidecall.run("tool", "ls -l", capture_output="no")  # type: ignore[arg-type]
    sidecall.run("tool", [1])  # type: ignore[list-item]
    sidecall.run("tool", ["ls"], input="text")  # type: ignore[arg-type]
    sidecall.run("tool", ["ls"], stdout="file")  # type: ignore[arg-type]
    sidecall.run("tool", ["ls"]).stdout.decode()  # type: ignore[union-attr]
    sidecall.run_async("tool", ["ls"]).returncode  # type: ignore[attr-defined]  # noqa: B018


def test_both_ways_to_call_take_the_same() -> None:
    """`run` and `run_async` have the same parameters, with the same defaults."""
    import inspect

    assert inspect.signature(sidecall.run) == inspect.signature(sidecall.run_async)
