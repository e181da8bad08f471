"""A rule of a real Snakemake whose shell is killed: the tool in the other place goes with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Server

PATH = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"

SNAKEFILE = """
rule all:
    shell: '''
        echo before
        sidecall exec --die-with-parent tool sh -c 'echo $$ >DIR/tool; trap "" TERM; sleep 98765; :'
        echo after
    '''
"""


@pytest.mark.hugin
def test_a_killed_rule_takes_its_tool_along(tool: Server, tmp_path: Path) -> None:
    """A rule with several commands, its shell killed with KILL: what runs at the service is gone after the grace."""
    if shutil.which("snakemake", path=PATH) is None:
        pytest.skip("snakemake is not installed")
    (tmp_path / "Snakefile").write_text(SNAKEFILE.replace("DIR", str(tmp_path)))
    environ = {**os.environ, "PATH": PATH, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    words = ["snakemake", "--cores", "1", "--snakefile", "Snakefile", "--directory", str(tmp_path)]
    with (tmp_path / "log").open("wb") as log:
        snakemake = subprocess.Popen(words, cwd=tmp_path, env=environ, stdout=log, stderr=log)
    while not (tmp_path / "tool").exists() or not (tmp_path / "tool").read_text():
        assert snakemake.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.05)
    pid = int((tmp_path / "tool").read_text())
    os.kill(parent_of(caller_of(tmp_path)), signal.SIGKILL)
    tool.await_log("outcome=signaled value=9")
    assert not Path(f"/proc/{pid}").exists()
    assert snakemake.wait(60) != 0


def caller_of(directory: Path) -> int:
    """Return the pid of the one `sidecall exec` that has a directory among its words."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        words = path.read_bytes().split(b"\0") if path.exists() else []
        if b"--die-with-parent" in words and any(os.fsencode(directory) in word for word in words):
            return int(path.parent.name)
    raise AssertionError("there is no caller")


def parent_of(pid: int) -> int:
    """Return the parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
