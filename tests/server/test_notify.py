"""Lines that are written at once or not at all."""

from __future__ import annotations

import os
import select

import pytest

from sidecall.server.notify import write_at_once


def test_a_long_line_goes_as_far_as_there_is_room() -> None:
    """A pipe that nobody reads takes what it has room for, and then there is an error instead of a wait."""
    unread, pipe = os.pipe()
    line = b"x" * (1 << 20)
    with pytest.raises(BlockingIOError, match="its reader does not read"):
        write_at_once(pipe, line)
    os.close(pipe)
    assert len(os.read(unread, len(line))) % select.PIPE_BUF == 0
    os.close(unread)
