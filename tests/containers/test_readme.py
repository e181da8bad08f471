"""README.md's first screen in real containers: the files that it shows, and the commands that it shows in `app`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from containers.pod import Compose

if TYPE_CHECKING:
    from containers.pod import Engine

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]  # the first test can have to build the executable

README = Path(__file__).parents[2] / "README.md"


def test_the_quick_start_does_what_it_shows(engine: Engine, standalone: Path, tmp_path: Path) -> None:
    """Each command prints what stands below it, and the archive is on the host."""
    page = README.read_text()
    for name, content in re.findall(r"^`(\S+)`:\n\n```\w+\n(.*?)```", page, re.DOTALL | re.MULTILINE):
        (tmp_path / name).write_text(content)
    assert {path.name for path in tmp_path.iterdir()} == {"compose.yaml", "tool.toml"}
    shutil.copy(standalone, tmp_path / "sidecall")
    (tmp_path / "data" / "photos").mkdir(parents=True)
    shown = re.findall(r"^app\$ (.*)\n((?:(?!app\$|```).*\n)*)", page, re.MULTILINE)
    assert len(shown) == 2
    with Compose(engine, tmp_path) as compose:
        compose.must("app", "sidecall", "ping", "--connect-timeout", "30", "tool")
        for command, printed in shown:
            assert compose.must("app", "sh", "-c", f"({command}) 2>&1") == printed
    assert (tmp_path / "data" / "photos.tar.gz").exists()
