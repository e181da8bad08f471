"""Log lines are written immediately or not at all, and each is one printable line."""

from __future__ import annotations

import os
import select

import pytest

from sidecall.calls.log import log, log_bug, write_now


def test_a_long_line_goes_as_far_as_there_is_room() -> None:
    """A pipe without a reader takes what it has room for; then there is an error instead of a wait."""
    unread, pipe = os.pipe()
    line = b"x" * (1 << 20)
    with pytest.raises(BlockingIOError, match="its reader does not read"):
        write_now(pipe, line)
    os.close(pipe)
    assert len(os.read(unread, len(line))) % select.PIPE_BUF == 0
    os.close(unread)


def test_a_line_is_printable_and_bounded(capfd: pytest.CaptureFixture[str]) -> None:
    """A newline in a text forges no line, and a long text stays within what a pipe takes at once."""
    log("a\nsidecall: b\x1b" + "x" * 10_000)
    logged = capfd.readouterr().err
    assert logged.startswith("sidecall: a\\nsidecall: b\\x1bxxx")
    assert logged.count("\n") == 1
    assert len(logged) <= select.PIPE_BUF


def test_a_bug_is_logged_with_its_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    """Each line of it is a line of the log."""
    try:
        raise RuntimeError("why")
    except RuntimeError as error:
        log_bug(error)
    logged = capfd.readouterr().err.splitlines()
    assert logged[0] == "sidecall: Traceback (most recent call last):"
    assert logged[-1] == "sidecall: RuntimeError: why"
