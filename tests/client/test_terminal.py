"""The terminal of a client; `tests/cli/test_terminal.py` has what a user sees of it."""

from __future__ import annotations

import os
import pty
import termios
from typing import TYPE_CHECKING

import pytest

from conftest import ROOT
from sidecall.client.terminal import RESET, Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """Return both ends of a terminal."""
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def test_it_is_restored_as_it_was(ends: tuple[int, int]) -> None:
    """However often it is made raw, and restored."""
    before = termios.tcgetattr(ends[1])
    terminal = Terminal(ends[1])
    for _ in range(2):
        terminal.make_raw()
        terminal.make_raw()
        assert terminal.is_raw
        assert not termios.tcgetattr(ends[1])[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
        terminal.restore()
        terminal.restore()
        assert not terminal.is_raw
        assert termios.tcgetattr(ends[1]) == before
    os.close(terminal._fd)


def test_only_what_was_raw_is_reset(ends: tuple[int, int]) -> None:
    """A call that never started has set nothing."""
    terminal = Terminal(ends[1])
    terminal.reset()
    terminal.make_raw()
    terminal.restore()
    terminal.reset()
    os.write(ends[1], b"end")
    shown = b""
    while not shown.endswith(b"end"):
        shown += os.read(ends[0], 1000)
    assert shown == RESET + b"end"
    os.close(terminal._fd)


def test_a_terminal_without_a_type_is_not_reset(ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """It would show the sequences."""
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal(ends[1])
    terminal.make_raw()
    terminal.restore()
    terminal.reset()
    os.write(ends[1], b"end")
    assert os.read(ends[0], 1000) == b"end"
    os.close(terminal._fd)


def test_the_native_client_resets_the_same() -> None:
    """Byte by byte."""
    escaped = RESET.decode().replace("\x1b7", "\\0337").replace("\x1b", "\\033")
    assert f'RESET[] = "{escaped}";' in (ROOT / "native/client/terminal.c").read_text()
