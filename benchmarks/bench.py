"""Measures sidecall beside what people use today, and writes the page and the chart; see docs/benchmarks.md.

usage: tools/bench.sh [ROUNDS]
  ROUNDS                  for a short try-out, kept out of docs/; without it, the full measurement
  SIDECALL_BENCH_SERVER   in the environment: another server program to be measured beside the Python one
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from beside import latency, memory, rules, streams
from beside.peers import start_peers
from beside.place import ACROSS, HOST, REPO, Place, Pod
from beside.programs import find_programs, machine, native_sizes
from beside.report import page
from beside.results import CaseFailed, Results, in_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from beside.programs import Programs
    from beside.results import Case

GIBIBYTE = 1 << 30


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Args:
        rounds: of latency.
        repeats: rounds of calls a second.
        spell: seconds that a measurement of calls a second takes, roughly.
        pieces: rounds of streams.
        size: bytes sent through each stream in a round.
        running: numbers of calls that run at once.
        waiting: callers that wait.
        calls: made of one server before it counts as aged.
    """

    rounds: int = 100
    repeats: int = 3
    spell: float = 0.7
    pieces: int = 4
    size: int = GIBIBYTE
    running: tuple[int, ...] = (1, 100, 1000)
    waiting: int = 10_000
    calls: int = 100_000

    def __str__(self) -> str:
        streams = f"{self.pieces} of streams ({self.size * self.pieces / GIBIBYTE:g} GiB in all through each)"
        return f"{self.rounds} rounds of latency, {self.repeats} of calls a second, {streams}"


def short(rounds: int) -> Scale:
    """Return the scale of a try-out."""
    return Scale(rounds, 1, 0.2, 1, GIBIBYTE // 4, (1, 50), 500, 3000)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Tell on stderr what is being done, and how long it took."""
    began = time.monotonic()
    print(f"{title} ...", file=sys.stderr)
    yield
    print(f"{title}: {time.monotonic() - began:.0f} s", file=sys.stderr)


def open_places(stack: ExitStack, results: Results, programs: Programs) -> tuple[list[Place], Pod | None]:
    """Return the host, and the two containers if there can be any."""
    directories = [Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sidecall-"))) for _ in range(2)]
    pod = None
    with step("starting containers"):
        try:
            pod = Pod(stack, directories[1], programs.python, programs.directories)
        except CaseFailed as failed:
            results.leave_out(ACROSS, str(failed))
    places = [Place(stack, HOST, directories[0], programs.python)]
    return [*places, pod.place] if pod else places, pod


def measure_calls(results: Results, places: list[Place], pod: Pod | None, programs: Programs, scale: Scale) -> None:
    """Measure latency and calls a second, at all places in turns."""
    cases: dict[Case, Callable[[], float]] = {}
    calls = {}
    for place in places:
        latency.start_ours(results, place, programs)
        calls[place.name] = latency.our_calls(programs) | start_peers(results, place, "true")
        cases |= latency.latency_cases(place, calls[place.name])
    if pod:
        words = [pod.engine, "exec", pod.server, "true"]
        cases[latency.latency_table(ACROSS), latency.ENGINE_EXEC] = partial(places[0].ask, "command", words)
    cases |= rules.rules_cases(places[0], programs)
    with step("latency"):
        latency.warm_up(cases)
        in_turns(results, cases, scale.rounds)
    with step("calls a second"):
        for place in places:
            latency.measure_rates(results, place, calls[place.name], scale.repeats, scale.spell)


def measure_streams(results: Results, places: list[Place], pod: Pod | None, programs: Programs, scale: Scale) -> None:
    """Measure the streams, at all places in turns."""
    cases: dict[Case, Callable[[], float]] = {}
    for place in places:
        calls = streams.our_streams(programs) | start_peers(results, place, "cat")
        cases |= streams.stream_cases(place, calls, scale.size)
    if pod:
        words = [pod.engine, "exec", "--interactive", pod.server, "cat"]
        table = streams.streams_table(ACROSS)
        cases[table, latency.ENGINE_EXEC] = partial(places[0].ask, "pipe", words, scale.size // 4)
    with step("streams"):
        in_turns(results, cases, scale.pieces)


def measure_memory(results: Results, host: Place, programs: Programs, scale: Scale) -> None:
    """Measure what each server holds; one that fails does not keep the others from being measured."""
    waiting = memory.limit_waiting(results, scale.waiting)
    for server in programs.servers:
        parts = {
            "running": partial(memory.measure_running, counts=list(scale.running)),
            "waiting": partial(memory.measure_waiting, count=waiting),
            "aged": partial(memory.measure_aged, calls=scale.calls, rounds=scale.rounds),
        }
        for name, measure in parts.items():
            with step(f"memory, {server}, {name}"):
                try:
                    measure(results, host, programs, server)
                except CaseFailed as failed:
                    results.fail(memory.memory_table(server), name, str(failed))


def measure(programs: Programs, scale: Scale) -> Results:
    """Measure everything."""
    results = Results({**machine(), "measured": str(scale)})
    with ExitStack() as stack:
        places, pod = open_places(stack, results, programs)
        measure_memory(results, places[0], programs, scale)
        measure_calls(results, places, pod, programs, scale)
        measure_streams(results, places, pod, programs, scale)
    for name, size in native_sizes().items():
        results.add("native programs", name, size)
    return results


def write(results: Results, servers: list[str], directory: Path) -> None:
    """Write the page and the chart, and print the page."""
    from beside.chart import draw

    text = page(results, servers)
    (directory / "benchmarks.md").write_text(text)
    draw(results, directory / "benchmarks.svg")
    print(text)


def main() -> int:
    """Measure and write; return 0 if nothing failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("venv", type=Path, help="an environment that has nothing but this machine's wheel")
    parser.add_argument("rounds", type=int, nargs="?", help="for a short try-out")
    parser.add_argument("--recorded", type=Path, help="only make the page of a record again, into its directory")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and leave nothing running
    programs = find_programs(given.venv, os.environ.get("SIDECALL_BENCH_SERVER", ""))
    if given.recorded:
        write(Results.read(given.recorded), list(programs.servers), given.recorded.parent)
        return 0
    results = measure(programs, short(given.rounds) if given.rounds else Scale())
    results.write(REPO / "build/bench/results.json")
    write(results, list(programs.servers), REPO / ("build/bench" if given.rounds else "docs"))
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
