"""The server's end of a terminal."""

from __future__ import annotations

import errno
import os

import pytest

from sidecall.errors import ServiceUnavailable
from sidecall.transport.terminal import get_size, open_terminal, set_size


def test_a_terminal_has_the_size_that_was_asked_for() -> None:
    """From the start, and after a change; the server's end does not block, the command's does."""
    ours, theirs = open_terminal(24, 65535, None)
    try:
        assert os.isatty(theirs)
        assert get_size(theirs) == (24, 65535)
        set_size(ours, 0, 80)
        assert get_size(theirs) == (0, 80)
        assert not os.get_blocking(ours)
        assert os.get_blocking(theirs)
        assert not os.get_inheritable(ours)
        assert not os.get_inheritable(theirs)
    finally:
        os.close(ours)
        os.close(theirs)


def test_what_is_no_terminal_has_no_size() -> None:
    """Nor can it get one; neither is an error."""
    with open(os.devnull) as null:
        set_size(null.fileno(), 1, 2)
        assert get_size(null.fileno()) == (0, 0)


def test_a_system_without_terminals_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence has the reason and what to check."""

    def refuse() -> tuple[int, int]:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(os, "openpty", refuse)
    with pytest.raises(ServiceUnavailable, match="cannot open a terminal: No such file or directory"):
        open_terminal(24, 80, None)
