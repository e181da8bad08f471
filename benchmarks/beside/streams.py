"""How many bytes a second go through stdin and stdout of a command."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from beside.latency import COMMAND, ENGINE_EXEC, NATIVE, NATIVE_RELAYED

if TYPE_CHECKING:
    from collections.abc import Callable

    from beside.place import Place
    from beside.programs import Programs
    from beside.results import Case

PIPE = "local pipe"
COMMAND_RELAYED = f"{COMMAND}, --relay"
SLOW = ("ssh", "ssh, shared connection", ENGINE_EXEC, COMMAND_RELAYED)
"""Those that are slow get a quarter of the bytes: it is a rate that is measured."""


def streams_table(place: str) -> str:
    """Return the name of the table of bytes a second at a place."""
    return f"bytes a second, {place}"


def our_streams(programs: Programs) -> dict[str, list[str]]:
    """Return the words that run `cat` here and by ours, by the case's name."""
    return {
        PIPE: ["cat"],
        NATIVE: [programs.native, "exec", "-q", "bench", "cat"],
        NATIVE_RELAYED: [programs.native, "exec", "-q", "--relay", "bench", "cat"],
        COMMAND_RELAYED: [programs.command, "exec", "-q", "--relay", "bench", "cat"],
    }


def stream_cases(place: Place, calls: dict[str, list[str]], size: int) -> dict[Case, Callable[[], float]]:
    """Return what sends so many bytes through each."""
    table = streams_table(place.name)
    sizes = {name: size // 4 if name in SLOW else size for name in calls}
    return {(table, name): partial(place.ask, "pipe", words, sizes[name]) for name, words in calls.items()}
