"""A short version of the soak: adversarial commands, random kills, and nothing left or told wrongly."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak"


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_short_soak_finds_nothing() -> None:
    """Nothing survives, leaks or is told wrongly in 200 calls; `make soak` makes 10,000."""
    done = subprocess.run([sys.executable, SOAK, "200"], capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = dict(re.findall(r"^  (\S.*?) +(\d+)$", done.stdout, re.MULTILINE))
    zero = {"survivors", "descriptors leaked", "zombies", "commands left", "server's exit status", "sockets left"}
    assert {name: counts[name] for name in zero} == dict.fromkeys(zero, "0")
    assert int(counts["right"]) > 100
