"""How long a call of `true` takes, and how many a second come through."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from beside.results import CaseFailed, in_turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from beside.place import Place
    from beside.programs import Programs
    from beside.results import Case, Results

LOCAL = "local spawn"
INTERPRETER = "python3 -I -S -c pass"
NATIVE = "sidecall, native"
NATIVE_RELAYED = "sidecall, native, --relay"
COMMAND = "sidecall, Python command"
LIBRARY = "sidecall, library"
ENGINE_EXEC = "podman exec"
CALLERS = (1, 16, 64)


def latency_table(place: str) -> str:
    """Return the name of the table of times at a place."""
    return f"latency, {place}"


def rate_table(place: str, callers: int) -> str:
    """Return the name of the table of calls a second at a place."""
    return f"calls a second, {callers} at once, {place}"


def start_ours(results: Results, place: Place, programs: Programs) -> None:
    """Start our servers: `bench`, then `bench-2` if there is another."""
    for number, words in enumerate(programs.servers.values(), 1):
        name = service_name(number)
        place.serve(*words, "serve", "--allow-any", name, "--slots", "64")
        try:
            place.ask("command", [programs.command, "ping", "--quiet", "--connect-timeout", "20", name])
        except CaseFailed as failed:
            results.fail(f"start, {place.name}", name, str(failed))


def service_name(number: int) -> str:
    """Return the name of our first, second … service."""
    return "bench" if number == 1 else f"bench-{number}"


def our_calls(programs: Programs) -> dict[str, list[str]]:
    """Return what is measured besides the peers: the words that run `true`, by the case's name."""
    calls = {
        LOCAL: ["true"],
        INTERPRETER: [programs.python, "-I", "-S", "-c", "pass"],
        NATIVE: [programs.native, "exec", "-q", "bench", "true"],
        NATIVE_RELAYED: [programs.native, "exec", "-q", "--relay", "bench", "true"],
        COMMAND: [programs.command, "exec", "-q", "bench", "true"],
    }
    for number, server in list(enumerate(programs.servers, 1))[1:]:
        calls[f"{NATIVE}, {server}"] = [programs.native, "exec", "-q", service_name(number), "true"]
    return calls


def latency_cases(place: Place, calls: dict[str, list[str]]) -> dict[Case, Callable[[], float]]:
    """Return what times one call of each, of the library too."""
    table = latency_table(place.name)
    cases: dict[Case, Callable[[], float]] = {
        (table, name): partial(place.ask, "command", words) for name, words in calls.items()
    }
    cases[table, LIBRARY] = partial(place.ask, "library", "bench", ["true"])
    return cases


def measure_rates(results: Results, place: Place, calls: dict[str, list[str]], rounds: int, spell: float) -> None:
    """Measure how many calls a second come through, by the number of callers, all cases in turns.

    A case makes as many calls as its latency lets expect in a spell (seconds), and at least one for each caller.
    """
    cases: dict[Case, Callable[[], float]] = {}
    for callers in CALLERS:
        for name in [name for name in [*calls, LIBRARY] if name != INTERPRETER]:
            if (took := results.median(latency_table(place.name), name)) is not None:
                count = max(callers, min(1000, round(spell / took)))
                action = ("library_rate", "bench", ["true"]) if name == LIBRARY else ("rate", calls[name])
                cases[rate_table(place.name, callers), name] = partial(place.ask, *action, callers, count)
    in_turns(results, cases, rounds)


def warm_up(cases: dict[Case, Callable[[], float]]) -> None:
    """Do everything once without counting it: files come into memory, servers have their first call."""
    for measure in cases.values():
        try:
            measure()
        except CaseFailed:
            continue  # it will fail again, and be told
