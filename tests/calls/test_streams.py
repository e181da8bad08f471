"""Where a command gets its streams from, for each way in which a stream can travel."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from sidecall.calls.streams import ClientStreams
from sidecall.protocol import messages as m
from sidecall.supervise.control import FROM_CLIENT, SAME_AS_STDOUT, UNWANTED
from sidecall.transport.terminal import get_size

if TYPE_CHECKING:
    from sidecall.transport.channel import ServerChannel

CHANNEL = cast("ServerChannel", SimpleNamespace(broken=False))
"""Nothing is sent before the streams start."""


def kinds(modes: tuple[int, int, int], *, wants_stdin: bool) -> list[object]:
    """Return what each stream is: a number of the control protocol, or the file that its descriptor names."""

    async def main() -> list[object]:
        streams = ClientStreams(asyncio.get_running_loop(), CHANNEL, modes, lambda: None)
        sources = streams.open(wants_stdin=wants_stdin)
        found: list[object] = [
            source if source < 0 else os.readlink(f"/proc/self/fd/{source}").partition(":")[0] for source in sources
        ]
        streams.close()
        return found

    before = len(os.listdir("/proc/self/fd"))
    found = asyncio.run(main())
    assert len(os.listdir("/proc/self/fd")) == before
    return found


def test_a_terminal_is_all_three_streams() -> None:
    """It has its size before the command is started; whatever ends it leaves no descriptor."""

    async def main() -> None:
        streams = ClientStreams(asyncio.get_running_loop(), CHANNEL, m.IN_TERMINAL, lambda: None)
        streams.open_terminal(24, 80, None)
        stdin, stdout, stderr = streams.open(wants_stdin=True)
        assert (stdin, stderr) == (stdout, SAME_AS_STDOUT)
        assert get_size(stdin) == (24, 80)
        streams.resize(40, 120)
        assert get_size(stdin) == (40, 120)
        streams.close_ends()
        assert streams.has_terminal
        streams.receive(m.Eof(m.STDIN))
        assert not streams.has_terminal
        assert streams.are_drained
        streams.resize(1, 1)
        streams.receive(m.Stop(m.STDOUT))
        streams.close()

    before = len(os.listdir("/proc/self/fd"))
    asyncio.run(main())
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("modes", "wants_stdin", "expected"),
    [
        ((m.NONE, m.NONE, m.NONE), True, ["/dev/null"] * 3),
        ((m.PASSED, m.PASSED, m.PASSED), True, [FROM_CLIENT] * 3),
        ((m.PASSED, m.PASSED, m.NONE), False, [UNWANTED, FROM_CLIENT, "/dev/null"]),
        ((m.RELAYED, m.RELAYED, m.RELAYED), True, ["pipe"] * 3),
        ((m.RELAYED, m.RELAYED, m.SAME_AS_STDOUT), True, ["pipe", "pipe", SAME_AS_STDOUT]),
        ((m.RELAYED, m.NONE, m.NONE), False, ["/dev/null"] * 3),
    ],
)
def test_sources(modes: tuple[int, int, int], wants_stdin: bool, expected: list[object]) -> None:
    """Passed ones come from the client, relayed ones through pipes; a command without stdin reads an empty one."""
    assert kinds(modes, wants_stdin=wants_stdin) == expected
