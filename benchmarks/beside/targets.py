"""What was set as a target, as data: a ratio or a figure, its bound, and whether a run met it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from beside import latency, memory, streams
from beside.place import ACROSS

if TYPE_CHECKING:
    from collections.abc import Callable

    from beside.results import Results

    Measured = Callable[[Results], float | None]

MB, KB = 1e6, 1e3


@dataclass(frozen=True)
class Target:
    """One promise.

    Args:
        text: what is compared.
        measured: looks the figure up; None if a part of it was not measured.
        bound: what it is held against, in its unit.
        at_most: whether it has to be at most the bound; at least, otherwise.
        unit: what it is in; nothing for a ratio.
        size: how much one of the unit is.
    """

    text: str
    measured: Measured
    bound: float
    at_most: bool
    unit: str = ""
    size: float = 1

    def value(self, results: Results) -> float | None:
        """Return what was measured, in the target's unit."""
        value = self.measured(results)
        return None if value is None else value / self.size

    def met(self, value: float) -> bool:
        """Tell whether a value keeps the promise."""
        return value <= self.bound if self.at_most else value >= self.bound

    @property
    def wanted(self) -> str:
        """The bound in words."""
        return f"at {'most' if self.at_most else 'least'} {self.bound:g}{self.unit}"


most = partial(Target, at_most=True)
least = partial(Target, at_most=False)


def ratio(table: str, over: str, under: str, times: float = 1) -> Measured:
    """Return what divides a case's median by another's, taken so many times."""

    def measured(results: Results) -> float | None:
        top, bottom = results.median(table, over), results.median(table, under)
        return top / (bottom * times) if top is not None and bottom else None

    return measured


def figure(table: str, case: str) -> Measured:
    """Return what looks a case's median up."""
    return lambda results: results.median(table, case)


def place_targets(place: str) -> list[Target]:
    """Return the promises about calls at one place."""
    times, native = latency.latency_table(place), latency.NATIVE
    rates, rate = streams.streams_table(place), latency.rate_table(place, 64)
    compared = [
        most("native `exec` / two local spawns", ratio(times, native, latency.LOCAL, 2), 1.15),
        least("s6-sudo / native `exec`", ratio(times, "s6-sudo", native), 1.8),
        least("socat / native `exec`", ratio(times, "socat", native), 1.8),
        most('library / `subprocess.run(["true"])`', ratio(times, latency.LIBRARY, latency.LOCAL), 1.2),
        most("Python command / `python3 -I -S -c pass`", ratio(times, latency.COMMAND, latency.INTERPRETER), 1.5),
        least("passed streams / a local pipe", ratio(rates, native, streams.PIPE), 0.95),
        least("relayed streams / socat", ratio(rates, latency.NATIVE_RELAYED, "socat"), 1),
        least("calls a second of 64 callers / s6-sudo's", ratio(rate, native, "s6-sudo"), 2),
    ]
    if place == ACROSS:
        compared.append(least("podman exec / native `exec`", ratio(times, latency.ENGINE_EXEC, native), 50))
    return compared


def server_targets(server: str) -> list[Target]:
    """Return the promises about what a server holds; flat is taken for less than 1 MB more, and a tenth slower."""
    table, aged, warm = memory.memory_table(server), memory.aged_table(server), memory.after(memory.WARM)
    return [
        most("idle", figure(table, f"idle, {memory.SERVER}"), 25, unit=" MB", size=MB),
        most("idle, with its fork server", figure(table, f"idle, {memory.FAMILY}"), 25, unit=" MB", size=MB),
        most(
            f"idle {warm}, with its fork server and supervisors",
            figure(table, f"{warm}, {memory.FAMILY}"),
            25,
            unit=" MB",
            size=MB,
        ),
        most("each waiting caller", figure(table, "each waiting caller"), 16, unit=" KB", size=KB),
        most("growth over the many calls", figure(table, "growth over them"), 1, unit=" MB", size=MB),
        most("latency after the many calls / of a new server", ratio(aged, "aged", "new"), 1.1),
    ]
