"""The results as a picture: four panels of dots on logarithmic scales, a row for each case."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from beside import latency, memory, streams
from beside.place import ACROSS, HOST
from beside.programs import FIRST
from beside.report import by_median, medians
from beside.targets import MB

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.axes import Axes

    from beside.results import Results

    Series = dict[str, dict[str, float]]

OURS, THEIRS, LOCAL = "#0072B2", "#D55E00", "#555555"
"""Blue, vermilion and grey, which everybody can tell apart. Source: Okabe and Ito, Color Universal Design."""
NOTHING_BETWEEN = (latency.LOCAL, latency.INTERPRETER, streams.PIPE)
MARKS = (("o", True), ("D", False), ("s", True))
"""The series of a panel: a mark, and whether it is filled."""


def draw(results: Results, path: Path) -> None:
    """Draw the chart into a file; its ending says in which format."""
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams |= {"svg.hashsalt": "sidecall", "axes.spines.right": False, "axes.spines.top": False}
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D

    figure, ((top_left, top_right), (left, right)) = plt.subplots(2, 2, figsize=(12, 9), layout="constrained")
    panel(
        top_left, "A call of true", "milliseconds, less is better", at_places(results, latency.latency_table, 1e-3), 1
    )
    panel(top_right, "Calls on one host", "calls a second, more is better", rates(results), -1)
    panel(left, "Through stdin and stdout", "MB/s, more is better", at_places(results, streams.streams_table, MB), -1)
    panel(right, "What the server holds", "MB, less is better", memories(results), 0)
    kinds = {"sidecall": OURS, "what people use today": THEIRS, "nothing between": LOCAL}
    patches = [Line2D([], [], marker="o", linestyle="", color=shade, label=kind) for kind, shade in kinds.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=100, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def at_places(results: Results, table: Callable[[str], str], unit: float) -> Series:
    """Return the medians of a table at each place, in a unit."""
    places = {place: by_median(results, table(place)) for place in (HOST, ACROSS)}
    return {place: {case: value / unit for case, value in rows} for place, rows in places.items()}


def rates(results: Results) -> Series:
    """Return the calls a second on one host, by the number of callers."""
    return {
        f"{callers} at once": dict(by_median(results, latency.rate_table(HOST, callers))) for callers in latency.CALLERS
    }


def memories(results: Results) -> Series:
    """Return what the first server holds in each state, in megabytes."""
    rows = medians(results, memory.memory_table(FIRST))
    return {
        whose: {case.removesuffix(f", {whose}"): size / MB for case, size in rows if case.endswith(f", {whose}")}
        for whose in (memory.SERVER, memory.FAMILY)
    }


def panel(axes: Axes, title: str, unit: str, series: Series, order: int) -> None:
    """Draw a row of dots for each case: the least on top, the most for an `order` of -1, as they come for 0."""
    cases = list(dict.fromkeys(case for values in series.values() for case in values))
    means = {case: statistics.geometric_mean([row[case] for row in series.values() if case in row]) for case in cases}
    cases.sort(key=lambda case: order * means[case])
    for (name, values), (mark, filled) in zip(series.items(), MARKS, strict=False):
        shown = [case for case in cases if case in values]
        colours = [colour(case) for case in shown]
        places = [cases.index(case) for case in shown]
        faces = colours if filled else ["white"] * len(colours)
        sizes = [values[case] for case in shown]
        axes.scatter(sizes, places, marker=mark, s=36, facecolors=faces, edgecolors=colours, zorder=3)
        axes.scatter([], [], marker=mark, facecolors="black" if filled else "white", edgecolors="black", label=name)
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set_xlabel(unit)
    axes.set_yticks(range(len(cases)), cases)
    axes.set_ylim(len(cases) - 0.5, -0.5)
    scale(axes)
    axes.legend(loc="best", frameon=True, fontsize=8)


def colour(case: str) -> str:
    """Return the colour of a case: ours, what people use today, or nothing between."""
    if case in NOTHING_BETWEEN:
        return LOCAL
    return THEIRS if case.startswith(("s6", "socat", "original", "ssh", latency.ENGINE_EXEC)) else OURS


def scale(axes: Axes) -> None:
    """Make the horizontal scale logarithmic, with plain numbers and quiet lines."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=20))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="both", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
