"""The machinery of `make bench`: nothing that fails is dropped silently, and a record becomes the page."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from beside import latency, memory, streams
from beside.peers import start_peers
from beside.place import ACROSS, HOST, Place, wait_until
from beside.programs import FIRST
from beside.report import page
from beside.results import CaseFailed, Results, in_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


BENCH = Path(__file__).parents[2] / "benchmarks" / "bench.py"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Give a test a caller's side and a server's side on this host."""
    with ExitStack() as stack:
        yield Place(stack, HOST, tmp_path, sys.executable)


def recorded() -> Results:
    """Return what a run could have measured."""
    results = Results({"processors": "2"})
    for case, times in {latency.LOCAL: [0.001, 0.004, 0.001], latency.NATIVE: [0.003], "s6-sudo": [0.006]}.items():
        for time in times:
            results.add(latency.latency_table(HOST), case, time)
    for case, speed in {streams.PIPE: 2e9, latency.NATIVE: 1.8e9}.items():
        results.add(streams.streams_table(HOST), case, speed)
    results.add(latency.rate_table(HOST, 16), latency.NATIVE, 812.4)
    results.add(memory.memory_table(FIRST), f"idle, {memory.SERVER}", 24_400_000)
    results.add(memory.memory_table(FIRST), "each waiting caller", 16_100)
    return results


def test_cases_take_turns() -> None:
    """Each round measures every case once, in the same order."""
    order: list[str] = []

    def measuring(name: str) -> Callable[[], float]:
        def measure() -> float:
            order.append(name)
            return 1.0

        return measure

    results = Results()
    in_turns(results, {("table", name): measuring(name) for name in ("a", "b")}, 3)
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert results.samples == {"table": {"a": [1.0, 1.0, 1.0], "b": [1.0, 1.0, 1.0]}}


def test_a_case_that_fails_is_told_and_not_tried_again() -> None:
    """It has no figure, not even from the rounds before, and the page has its reason; the others are measured."""
    tries: list[int] = []

    def fails_at_second() -> float:
        tries.append(1)
        if len(tries) == 2:
            raise CaseFailed("exit status 3")
        return 1.0

    results, table = Results(), latency.latency_table(HOST)
    in_turns(results, {(table, "bad"): fails_at_second, (table, "good"): lambda: 0.5}, 4)
    assert len(tries) == 2
    assert results.samples == {table: {"good": [0.5, 0.5, 0.5, 0.5]}}
    assert results.failed == {"latency, one host: bad": "exit status 3"}
    lines = page(results, [FIRST]).splitlines()
    assert "- latency, one host: bad: exit status 3" in lines
    assert [line.split() for line in lines if line.startswith("| bad ")] == [["|", "bad", "|", "failed", "|", "|", "|"]]


def test_a_failure_in_one_table_shows_in_its_column() -> None:
    """A case that came through with few callers and failed with many is shown as just that."""
    results = Results()
    results.add(latency.rate_table(HOST, 1), "socat", 200.0)
    results.fail(latency.rate_table(HOST, 64), "socat", "refused")
    (line,) = [line for line in page(results, [FIRST]).splitlines() if line.endswith("failed |")]
    assert [cell.strip() for cell in line.strip("|").split("|")] == ["socat", "200", "-", "failed"]


def test_the_page_is_made_of_a_record(tmp_path: Path) -> None:
    """Medians, ratios and verdicts come out of what was written, and what is missing is said to be."""
    recorded().write(tmp_path / "results.json")
    text = page(Results.read(tmp_path / "results.json"), [FIRST])
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    for row in (
        ["native `exec` / two local spawns", "at most 1.15", "1.5, **not met**", "not measured"],
        ["s6-sudo / native `exec`", "at least 1.8", "2, met", "not measured"],
        ["passed streams / a local pipe", "at least 0.95", "0.9, **not met**", "not measured"],
        ["podman exec / native `exec`", "at least 50", "", "not measured"],
        ["idle", "at most 25 MB", "24.4 MB, met"],
        ["each waiting caller", "at most 16 KB", "16.1 KB, **not met**"],
        ["local spawn", "1.00", "4.00", "1.0"],
        ["sidecall, native", "3.00", "3.00", "3.0"],
        ["sidecall, native", "-", "812", "-"],
        ["sidecall, native", "1800", "0.90"],
    ):
        assert row in rows
    assert "- processors: 2" in text
    assert ACROSS not in text.partition("## Latency")[2]


@pytest.mark.long
def test_the_chart_is_made_of_a_record(tmp_path: Path) -> None:
    """What was measured has its row in the picture; what was not leaves it whole."""
    recorded().write(tmp_path / "results.json")
    words: list[str | Path] = [sys.executable, BENCH, tmp_path, "--recorded", tmp_path / "results.json"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)  # by itself: a chart leaves fonts open
    assert (tmp_path / "benchmarks.md").read_text() == page(recorded(), [FIRST])
    text = (tmp_path / "benchmarks.svg").read_text()
    assert all(f"<!-- {case} -->" in text for case in (latency.LOCAL, "s6-sudo", streams.PIPE, "idle"))


def test_a_program_that_succeeds_has_a_figure(place: Place) -> None:
    """Programs, crowds of them, and streams that arrive whole are measured."""
    assert isinstance(place.ask("command", ["true"]), float)
    assert isinstance(place.ask("rate", ["true"], 2, 4), float)
    assert isinstance(place.ask("pipe", ["cat"], 1 << 20), float)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (("command", ["sh", "-c", "echo first >&2; echo because >&2; exit 3"]), r"exit status 3\.: because$"),
        (("command", ["/nowhere/at-all"]), "No such file or directory: '/nowhere/at-all'$"),
        (("rate", ["false"], 2, 4), "exit status 123"),
        (("pipe", ["head", "-c", "10"], 1 << 20), "^Unequal: 10 of 1048576 bytes came out, exit status 0"),
        (("pipe", ["sh", "-c", "cat; exit 4"], 1 << 20), "^Unequal: 1048576 of 1048576 bytes came out, exit status 4"),
        (("library", "nobody-here", ["true"]), "^ServiceUnavailable: the socket is missing: .*/nobody-here.sock"),
    ],
)
def test_what_fails_raises_with_its_reason(place: Place, request_: tuple[object, ...], reason: str) -> None:
    """A program that fails, or bytes that are lost, are no figure; the next measurement goes on."""
    with pytest.raises(CaseFailed, match=reason):
        place.ask(*request_)  # type: ignore[arg-type]  # a request is its function's name, then its arguments
    assert isinstance(place.ask("command", ["true"]), float)


def test_an_agent_that_dies_fails_its_case_alone(place: Place) -> None:
    """What kills the process that measures is told, and the next measurement has a new one."""
    with pytest.raises(CaseFailed, match="the agent that measures has ended"):
        place.ask("command", ["sh", "-c", "kill -KILL $PPID"])
    assert isinstance(place.ask("command", ["true"]), float)


def test_what_is_not_installed_is_said(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way that cannot be measured here is named with what it lacks."""
    monkeypatch.setenv("PATH", "/nowhere")
    results = Results()
    assert start_peers(results, place, "true") == {}
    assert "socat, one host: socat not installed" in results.left_out
    assert len(results.left_out) == 5


def test_the_commands_that_run_are_not_the_servers_memory() -> None:
    """A server's own processes are it and its descendants, but not the `sleep` that a call runs."""
    with subprocess.Popen(["sh", "-c", "sleep 60 & tail -f /dev/null & wait"]) as server:
        try:
            wait_until(lambda: names(memory.family(server.pid)) == ["sh", "sleep", "tail"], "the family")
            own = names(memory.own(server.pid))
            alone, together = memory.held(server.pid)
        finally:
            for process in memory.family(server.pid)[::-1]:
                os.kill(process.pid, signal.SIGTERM)
    assert own == ["sh", "tail"]
    assert alone > 0
    assert together > 0


def names(processes: list[memory.Process]) -> list[str]:
    """Return the names of processes, sorted."""
    return sorted(process.name for process in processes)
