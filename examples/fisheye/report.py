"""Print a table of what the pipeline did: frame, stage, seconds, and where it ran.

Everything is read from the work directory: times/STAGE/NAME.tsv is Snakemake's own measurement, and
logs/STAGE/NAME.txt what the stage's program said about itself.
"""

from __future__ import annotations

import argparse
import csv
import glob
import os
import sys

from rich import box
from rich.console import Console
from rich.table import Table

STAGES = ("flatten", "perspective", "resize", "mirror")


def names(work: str) -> list[str]:
    """Return the frames that at least began."""
    found = glob.glob(os.path.join(work, "times", "*", "*.tsv"))
    return sorted({os.path.splitext(os.path.basename(path))[0] for path in found})


def seconds(work: str, stage: str, name: str) -> float | None:
    """Return how long a job took; None if it did not end well."""
    try:
        with open(os.path.join(work, "times", stage, f"{name}.tsv"), newline="", encoding="utf-8") as file:
            return float(next(csv.DictReader(file, delimiter="\t"))["s"])
    except FileNotFoundError:
        return None


def place(work: str, stage: str, name: str) -> str:
    """Return where a job says that it ran."""
    with open(os.path.join(work, "logs", stage, f"{name}.txt"), encoding="utf-8") as file:
        return file.read().strip()


def table(work: str) -> Table:
    """Return the table."""
    result = Table(box=box.SIMPLE_HEAD)
    for heading in ("frame", "stage"):
        result.add_column(heading)
    result.add_column("seconds", justify="right")
    result.add_column("where it ran")
    for name in names(work):
        for stage in STAGES:
            took = seconds(work, stage, name)
            row = ("-", "not done") if took is None else (f"{took:.2f}", place(work, stage, name))
            result.add_row(name if stage == STAGES[0] else "", stage, *row, end_section=stage == STAGES[-1])
    return result


def main() -> int:
    """Print the table of a work directory; return 1 if there is nothing to print."""
    parser = argparse.ArgumentParser(description="Show what the pipeline did.")
    parser.add_argument("work", help="Snakemake's directory")
    options = parser.parse_args()
    if not names(options.work):
        print(f"report: no job has ended in {options.work}", file=sys.stderr)
        return 1
    Console(soft_wrap=True).print(table(options.work))
    return 0


if __name__ == "__main__":
    sys.exit(main())
