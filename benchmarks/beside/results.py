"""What was measured, case by case, and what could not be: the record between measuring and reporting."""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

Case = tuple[str, str]
"""A table's name and a row's name."""


class CaseFailed(Exception):
    """A case could not be measured; the message says why."""


@dataclass
class Results:
    """The record of one run.

    Args:
        about: what was measured on, and how often.
        samples: for each table, each case's values. Times are in seconds, sizes in bytes.
        failed: the reason, for each case that ended otherwise than it should have.
        left_out: what was not tried, each with its reason.
    """

    about: dict[str, str] = field(default_factory=dict)
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def add(self, table: str, case: str, value: float) -> None:
        """Record one value of a case."""
        self.samples.setdefault(table, {}).setdefault(case, []).append(value)

    def fail(self, table: str, case: str, reason: str) -> None:
        """Record that a case failed; the values it had so far are dropped, since it is not what it was meant to be."""
        self.failed[f"{table}: {case}"] = reason
        self.samples.get(table, {}).pop(case, None)
        print(f"failed: {table}: {case}: {reason}", file=sys.stderr)

    def leave_out(self, what: str, reason: str) -> None:
        """Record that something was not tried."""
        self.left_out.append(f"{what}: {reason}")
        print(f"left out: {what}: {reason}", file=sys.stderr)

    def median(self, table: str, case: str) -> float | None:
        """Return a case's median, None if it was not measured."""
        values = self.samples.get(table, {}).get(case)
        return statistics.median(values) if values else None

    def ninth_decile(self, table: str, case: str) -> float | None:
        """Return what nine of ten values of a case do not exceed, None if it was not measured."""
        values = sorted(self.samples.get(table, {}).get(case, []))
        return values[-1 - len(values) // 10] if values else None

    def write(self, path: Path) -> None:
        """Write the record as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> Results:
        """Return a record that was written."""
        return cls(**json.loads(path.read_text()))


def in_turns(results: Results, cases: Mapping[Case, Callable[[], float]], rounds: int) -> None:
    """Measure all cases in each round, so that a noisy moment hits every one; a case that fails is not tried again."""
    for _ in range(rounds):
        for (table, case), measure in cases.items():
            if f"{table}: {case}" not in results.failed:
                attempt(results, table, case, measure)


def attempt(results: Results, table: str, case: str, measure: Callable[[], float]) -> None:
    """Measure a case once, and record the value, or why there is none."""
    try:
        results.add(table, case, measure())
    except CaseFailed as failed:
        results.fail(table, case, str(failed))
