"""The results as a page: what was promised and measured, then every table. Says what failed and what was left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beside import latency, memory, rules, streams
from beside.place import ACROSS, HOST
from beside.targets import MB, place_targets, server_targets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from beside.results import Results
    from beside.targets import Target

HEAD = """\
# Benchmarks

How sidecall does beside what people use today. `make bench` writes this page and its chart, on any Debian and within
about ten minutes. It installs s6, socat, OpenSSH and podman if it may; what it cannot have it leaves out, and says so.
`make bench ROUNDS=5` is a short try-out that leaves this page alone and writes to `build/bench/`.

All cases are measured in turns, round by round, so that a noisy moment hits every one. What is shown are medians. A
call that takes less than 50 ms is made once more just before, uncounted: it would pay for what was measured before it.
*One host*: both sides are processes beside each other. *Across containers*: two containers that share a directory, and
for ssh a loopback. The calls are made and timed by one long-lived process inside the caller's container, so podman is
in none of them, except in `podman exec`: that is called on the host, into the server's container.

![The chart of these figures](benchmarks.svg)
"""
TARGETS = """\
## Targets

Set before measuring; each is a ratio within this run, or a figure. What is not met is said. A server stays as it was
after many calls if it holds at most 1 MB more, and a call takes at most a tenth longer.

"""
EXPLAINED = {
    "latency": "A call of `true`, start to end. *Spawns*: how many local spawns it takes.",
    "rates": "Calls of `true` a second, by how many are made at once. The service has 64 slots.",
    "streams": "Zeros through `cat`, in by stdin and out by stdout, where they are counted. "
    f"A quarter as many through: {'; '.join(streams.SLOW)}.",
    "memory": "RSS of the server's process, and PSS of it with its fork server and supervisors, without the commands.",
    "beside": "A call of `true` by the native client while others run.",
    "rules": "Calls of the library on one host.",
    "sizes": "Static binaries; nothing else is needed beside them.",
}


def page(results: Results, server_names: Sequence[str]) -> str:
    """Return the whole page in Markdown."""
    parts = [HEAD, about(results)]
    parts.append(TARGETS + target_table(results, {place: place_targets(place) for place in (HOST, ACROSS)}))
    parts.append(target_table(results, {name: server_targets(name) for name in server_names}))
    for place in (HOST, ACROSS):
        parts += [latency_part(results, place), rates_part(results, place), streams_part(results, place)]
    parts += [memory_part(results, name) for name in server_names]
    parts += [rules_part(results), sizes_part(results), troubles(results)]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def grid(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns line up; all but the first are aligned to the right."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [heads, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])], *rows]
    return "\n".join(f"| {' | '.join(padded(line, widths))} |" for line in lines)


def padded(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Return the cells of a line in their widths."""
    first, *others = line
    return [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]


def about(results: Results) -> str:
    """Return what it was measured on."""
    return "\n".join(f"- {name}: {value}" for name, value in results.about.items())


def target_table(results: Results, columns: dict[str, list[Target]]) -> str:
    """Return what was promised, and what was measured of it in each column."""
    by_text = {name: {target.text: target for target in targets} for name, targets in columns.items()}
    texts = {target.text: target.wanted for targets in columns.values() for target in targets}
    rows = [
        [text, wanted, *(verdict(results, targets.get(text)) for targets in by_text.values())]
        for text, wanted in texts.items()
    ]
    return grid(["", "target", *columns], rows)


def verdict(results: Results, target: Target | None) -> str:
    """Say what was measured, and whether the target is met."""
    if target is None:
        return ""
    value = target.value(results)
    if value is None:
        return "not measured"
    return f"{value:.4g}{target.unit}, {'met' if target.met(value) else '**not met**'}"


def failures(results: Results, table: str) -> list[str]:
    """Return the names of a table's cases that failed."""
    return [name.removeprefix(f"{table}: ") for name in results.failed if name.startswith(f"{table}: ")]


def cell(value: float | None, shown: Callable[[float], str]) -> str:
    """Return a value as it is to be shown, or a dash."""
    return "-" if value is None else shown(value)


def latency_part(results: Results, place: str) -> str:
    """Return how long a call takes at a place, the fastest first."""
    table = latency.latency_table(place)
    spawn = results.median(table, latency.LOCAL)
    rows = []
    for case, taken in by_median(results, table):
        ninth = cell(results.ninth_decile(table, case), milliseconds)
        rows.append([case, milliseconds(taken), ninth, f"{taken / spawn:.1f}" if spawn else "-"])
    rows += [[case, "failed", "", ""] for case in failures(results, table)]
    return section(f"Latency, {place}", "latency", ["", "ms", "9 of 10 within", "spawns"], rows)


def by_median(results: Results, table: str) -> list[tuple[str, float]]:
    """Return the cases of a table with their medians, the least first."""
    return sorted(medians(results, table), key=lambda row: row[1])


def medians(results: Results, table: str) -> list[tuple[str, float]]:
    """Return the cases of a table with their medians, in the order in which they were measured."""
    found = [(case, results.median(table, case)) for case in results.samples.get(table, {})]
    return [(case, taken) for case, taken in found if taken is not None]


def milliseconds(seconds: float) -> str:
    """Return a time in milliseconds, as figures of a table."""
    return f"{seconds * 1000:.2f}"


def section(title: str, explained: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a heading, what the table is, and the table; nothing if it has no rows."""
    return f"## {title}\n\n{EXPLAINED[explained]}\n\n{grid(heads, rows)}" if rows else ""


def rates_part(results: Results, place: str) -> str:
    """Return how many calls a second come through at a place, by the number of callers."""
    tables = [latency.rate_table(place, callers) for callers in latency.CALLERS]
    cases = dict.fromkeys(
        case for table in tables for case in [*results.samples.get(table, {}), *failures(results, table)]
    )
    rows = []
    for case in cases:
        values = [results.median(table, case) for table in tables]
        failed = [case in failures(results, table) for table in tables]
        cells = ["failed" if bad else cell(value, "{:.0f}".format) for value, bad in zip(values, failed, strict=True)]
        rows.append([case, *cells])
    heads = ["", *(f"{callers} at once" for callers in latency.CALLERS)]
    return section(f"Calls a second, {place}", "rates", heads, rows)


def streams_part(results: Results, place: str) -> str:
    """Return how fast streams are at a place, the fastest first."""
    table = streams.streams_table(place)
    rows = []
    for case, speed in reversed(by_median(results, table)):
        over = ratio_text(speed, results.median(table, streams.PIPE))
        rows.append([case, f"{speed / MB:.0f}", over])
    rows += [[case, "failed", ""] for case in failures(results, table)]
    return section(f"Streams, {place}", "streams", ["", "MB/s", "of a local pipe"], rows)


def ratio_text(value: float, base: float | None) -> str:
    """Return a value as a part of another."""
    return f"{value / base:.2f}" if base else "-"


def memory_part(results: Results, server: str) -> str:
    """Return what a server holds in each state, and how long calls take beside others and after many."""
    table = memory.memory_table(server)
    cases = results.samples.get(table, {})
    states = dict.fromkeys(case.rpartition(", ")[0] for case in cases if ", " in case)
    rows = [
        [
            state,
            *(cell(results.median(table, f"{state}, {whose}"), megabytes) for whose in (memory.SERVER, memory.FAMILY)),
        ]
        for state in states
    ]
    rows += [[case, "failed", ""] for case in failures(results, table)]
    text = section(f"Memory, {server}", "memory", ["", "server, MB", "with all its own, MB"], rows)
    times = [
        [f"{case} server" if table == memory.aged_table(server) else case, milliseconds(taken)]
        for table in (memory.beside_table(server), memory.aged_table(server))
        for case, taken in medians(results, table)
    ]
    return f"{text}\n\n{EXPLAINED['beside']}\n\n{grid(['', 'ms'], times)}" if times else text


def megabytes(size: float) -> str:
    """Return a size in megabytes, as figures of a table."""
    return f"{size / MB:.1f}"


def rules_part(results: Results) -> str:
    """Return what declared commands cost beside any command."""
    base = results.median(rules.TABLE, rules.ANY)
    rows = [[case, milliseconds(taken), ratio_text(taken, base)] for case, taken in medians(results, rules.TABLE)]
    rows += [[case, "failed", ""] for case in failures(results, rules.TABLE)]
    return section("What the rules cost", "rules", ["", "ms", "of any command"], rows)


def sizes_part(results: Results) -> str:
    """Return how large the native programs are."""
    sizes = results.samples.get("native programs", {})
    rows = [[name, f"{values[0] / 1000:.1f}"] for name, values in sizes.items()]
    return section("The native programs", "sizes", ["", "KB"], rows)


def troubles(results: Results) -> str:
    """Return what failed and what was left out, each with its reason."""
    parts = []
    if results.failed:
        parts.append("## Failed\n\n" + "\n".join(f"- {case}: {reason}" for case, reason in results.failed.items()))
    if results.left_out:
        parts.append("## Left out\n\n" + "\n".join(f"- {reason}" for reason in results.left_out))
    return "\n\n".join(parts)
