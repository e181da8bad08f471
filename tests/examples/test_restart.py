"""A real Snakemake whose whole process group is killed, and that starts again: each job runs once."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import CLIENT, PYTHON_COMMAND

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Server

PAGE = Path(__file__).parents[2] / "docs" / "detached.md"
FRAMES = ("a", "b", "c")
ALL = f"rule all:\n    input: {[f'{frame}.tif' for frame in FRAMES]}\n"
COMMAND = "echo {frame} >>DIR/ran; read go <DIR/go-{frame}; echo {frame} >>DIR/ended"


@pytest.mark.hugin
def test_a_pipeline_that_is_killed_picks_its_jobs_up(serve: Callable[..., Server], tmp_path: Path) -> None:
    """By the rule that docs/detached.md shows: one job ends between the two runs, another one in the second."""
    if shutil.which("snakemake", path=os.path.dirname(sys.executable)) is None:
        pytest.skip("snakemake is not installed")
    (rules,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "Snakefile").write_text(f"{ALL}\n{rules}")
    script = COMMAND.replace("DIR", str(tmp_path))
    (tmp_path / "hugin.toml").write_text(
        f'[service]\nname = "hugin"\n[records]\ndirectory = "{tmp_path}/records"\n'
        f"[commands.stitch]\nargv = ['sh', '-c', '{script.replace('{frame}', '$0')}', '{{frame}}']\n"
        "[commands.stitch.parameters]\nframe = {}\n"
    )
    for frame in FRAMES:
        os.mkfifo(tmp_path / f"go-{frame}")
    serve("--config", str(tmp_path / "hugin.toml"))
    bin_directory = tmp_path / "bin"
    bin_directory.mkdir()
    (bin_directory / "sidecall").write_text(
        f'#!/bin/sh\n[ "$1" = exec ] && exec {CLIENT} "$@"\nexec {PYTHON_COMMAND} "$@"\n'
    )
    (bin_directory / "sidecall").chmod(0o755)
    path = os.pathsep.join([str(bin_directory), os.path.dirname(sys.executable), os.environ["PATH"]])
    environ = {**os.environ, "PATH": path, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    words = ["snakemake", "--directory", str(tmp_path), "--snakefile", str(tmp_path / "Snakefile"), "--cores", "3"]

    with (tmp_path / "log").open("wb") as log:
        first = subprocess.Popen(words, env=environ, stdout=log, stderr=log, start_new_session=True)
        while lines(tmp_path / "ran") != sorted(FRAMES):
            assert first.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.02)
        for pid in session_of(first.pid):
            os.kill(pid, signal.SIGKILL)
        first.wait()
        (tmp_path / "go-a").write_text("\n")
        subprocess.run([*words, "--unlock"], env=environ, stdout=log, stderr=log, check=True)
        second = subprocess.Popen([*words, "--rerun-incomplete"], env=environ, stdout=log, stderr=log)
        for frame in FRAMES[1:]:
            (tmp_path / f"go-{frame}").write_text("\n")
        assert second.wait(90) == 0, (tmp_path / "log").read_text()
    assert lines(tmp_path / "ran") == lines(tmp_path / "ended") == sorted(FRAMES)
    assert all((tmp_path / f"{frame}.tif").exists() for frame in FRAMES)
    assert not list((tmp_path / "records" / "hugin").glob("*/*"))


def lines(path: Path) -> list[str]:
    """Return the lines of a file, in order; none if it is not there."""
    return sorted(path.read_text().split()) if path.exists() else []


def session_of(leader: int) -> list[int]:
    """Return the pids of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(path.name)) == leader:
                found.append(int(path.name))
        except ProcessLookupError:
            continue
    return found
