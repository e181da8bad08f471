"""The library's types, which `make check` has mypy read. Nothing here runs a call."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, assert_type

import sidecall


async def right() -> None:
    done = sidecall.run("tool", ["ls", b"-l", Path("directory")], stdin=sys.stdin, stdout=3, stderr=sidecall.STDOUT)
    assert_type(done, sidecall.CompletedCall)
    assert_type(done.returncode, int)
    assert_type(done.stdout, bytes | None)
    assert_type(done.outcome, sidecall.Outcome)
    assert_type(await sidecall.run_async("tool", ("ls",), timeout=None, cwd=Path("directory")), sidecall.CompletedCall)


def right_while_it_runs() -> None:
    assert_type(sidecall.Popen("tool", ["ls", Path("x")], stdout=sidecall.PIPE), sidecall.Popen[bytes])
    assert_type(sidecall.Popen("tool", ["ls"], encoding="utf-8"), sidecall.Popen[str])
    with sidecall.Popen("tool", ["ls"], text=True, stdin=sys.stdin) as call:
        assert_type(call, sidecall.Popen[str])
        assert_type(call.stdout, IO[str] | None)
        assert_type(call.communicate("x", timeout=1.5), tuple[str | None, str | None])
        assert_type(call.poll(), int | None)
        assert_type(call.wait(), int)
        assert_type(call.outcome, sidecall.Outcome | None)


async def wrong() -> None:
    sidecall.Popen("tool", ["ls"], text=True).communicate(b"x")  # type: ignore[arg-type]
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
