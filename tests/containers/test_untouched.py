"""The example with two stock images, run as a user would run it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from containers.pod import Engine

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "untouched"
CHECKSUM = "67d4ff71d43921d5739f387da09746f405e425b07d727e4c69d029461d1f051f"  # seq 1000 | sha256sum


def test_a_stock_image_serves_another(engine: Engine, standalone: Path) -> None:
    """A directory is packed into an archive that the caller can read, stdin is piped, an error is reported as one."""
    done = subprocess.run([EXAMPLE / "demo.sh"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert {"./a", "./b", f"{CHECKSUM}  -", "exit code 64"} <= set(lines)
    assert "sidecall: --directory: '/work/gone': No such file or directory" in done.stderr


def test_no_image_is_built() -> None:
    """What is promised: stock images, and no network."""
    text = (EXAMPLE / "compose.yaml").read_text()
    assert "build:" not in text
    assert text.count("network_mode: none") == text.count("image: docker.io/library/") == 2
    assert list(EXAMPLE.glob("*ockerfile*")) == []
