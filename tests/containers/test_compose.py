"""examples/compose as it stands, in real containers: two users, neither of them root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from containers.pod import Compose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from containers.pod import Engine

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]  # the first test can have to build the executable

EXAMPLE = Path(__file__).parents[2] / "examples" / "compose"
TOOL, APP, GROUP = 10001, 1000, 1000


class Project(Compose):
    """The example's two containers."""

    @property
    def files(self) -> Path:
        """The directory that they share, on the host."""
        return self.directory / "files"

    def unfinished(self) -> list[str]:
        """Return what the server has in its hidden directory in the shared one."""
        return [name for hidden in self.files.glob(".sidecall-*") for name in os.listdir(hidden)]


@pytest.fixture(scope="module")
def project(engine: Engine, standalone: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Start the example as its README tells."""
    directory = tmp_path_factory.mktemp("compose") / "try"
    shutil.copytree(EXAMPLE, directory)
    shutil.copy(standalone, directory / "sidecall")
    (directory / "files").mkdir()
    if os.geteuid() == 0:
        os.chown(directory / "files", APP, GROUP)
    (directory / "files").chmod(0o2775)
    with Project(engine, directory) as project:
        project.must("app", "sidecall", "ping", "--connect-timeout", "30", "tool")
        yield project


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)  # an engine does not announce what its containers do


def test_neither_is_root_and_neither_can_write_to_its_own_files(project: Project) -> None:
    """What the file promises holds in the containers."""
    for service, uid in (("tool", TOOL), ("app", APP)):
        assert project.must(service, "id", "-u").strip() == str(uid)
        for place in ("/", "/tmp"):
            assert "Read-only file system" in project.exec(service, "touch", f"{place}/new").stderr
    assert "Read-only file system" in project.exec("app", "touch", "/run/sidecall/new").stderr


def test_both_are_healthy(project: Project) -> None:
    """By the health check that the file has; podman runs one only when it is told to, where it has no timer."""
    for service in ("tool", "app"):
        if project.engine.name == "podman":
            project.engine.must("healthcheck", "run", project.id(service))
        state = "{{.State.Health.Status}}"
        until(lambda: project.engine.must("inspect", "--format", state, project.id(service)).strip() == "healthy")  # noqa: B023


def test_a_call_with_files_that_each_side_has_elsewhere(project: Project) -> None:
    """/work/photos of the one is /files/photos of the other, whose user may write next to it."""
    project.must("app", "sh", "-c", "mkdir photos && seq 3 >photos/a")
    project.must("app", "sidecall", "exec", "tool", "pack", "--dir", "photos", "--archive", "/work/photos.tar.gz")
    archive = project.files / "photos.tar.gz"
    assert (archive.stat().st_uid, archive.stat().st_gid) == (TOOL, GROUP)
    with tarfile.open(archive) as packed:
        assert "./a" in packed.getnames()
    assert "./a" in project.must("app", "tar", "-tzf", "photos.tar.gz")


def test_a_directory_that_the_tool_cannot_write_to_is_refused_with_what_to_do(project: Project) -> None:
    """Before the command runs; once the group may write, the same call succeeds."""
    project.must("app", "sh", "-c", "mkdir own && seq 3 -1 1 >own/in")
    call = ("sidecall", "exec", "tool", "sort", "--input", "own/in", "--output", "own/out")
    done = project.exec("app", *call)
    assert done.returncode == 77
    assert "--output: '/work/own/out': Permission denied: the server (uid 10001, gid 1000) cannot create" in done.stderr
    assert "`chmod g+w` the directory as its owner" in done.stderr
    project.must("app", "chmod", "g+w", "own")
    project.must("app", *call)
    assert project.must("app", "cat", "own/out") == "1\n2\n3\n"


def test_a_killed_app_leaves_nothing(project: Project) -> None:
    """Killed in the middle of a call: the command is terminated, and no part of its output is left."""
    until(lambda: not project.unfinished())  # of the call before
    words = ["exec", "--interactive", project.id("app"), "sidecall", "exec", "tool", "record", "--output", "log"]
    with subprocess.Popen(
        [project.engine.name, *words],
        env=project.engine.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as call:
        assert call.stdin is not None
        assert call.stdout is not None
        call.stdin.write("half\n")
        call.stdin.flush()
        assert call.stdout.readline() == "half\n"
        assert project.unfinished()
        project.engine.must("kill", "--signal", "KILL", project.id("app"))
    project.engine.must("wait", project.id("app"))  # what is started before it has ended is not started
    until(lambda: "record" not in project.must("tool", "sidecall", "status", "tool"))
    until(lambda: project.exec("tool", "pidof", "tee").returncode == 1)
    until(lambda: not project.unfinished())
    assert not (project.files / "log").exists()
    project.engine.must("start", project.id("app"))
    project.must("app", "sidecall", "ping", "--connect-timeout", "60", "tool")


def test_a_restarted_tool_takes_the_next_call(project: Project) -> None:
    """The server ends, the engine starts it again, and the app, which has been up all the time, reaches it."""

    def process() -> str:
        return project.engine.must("inspect", "--format", "{{.State.Pid}}", project.id("tool")).strip()

    before = process()
    project.exec("tool", "kill", "-TERM", "1")  # which can be killed with its container before it returns
    until(lambda: process() not in {before, "0"})
    project.must("app", "sh", "-c", "seq 3 -1 1 >in")
    words = ("exec", "--connect-timeout", "60", "tool", "sort", "--input", "in", "--output", "out")
    project.must("app", "sidecall", *words)
    assert project.must("app", "cat", "out") == "1\n2\n3\n"


def test_a_volume_of_root_is_refused_with_what_to_do(engine: Engine, standalone: Path, tmp_path: Path) -> None:
    """The first thing that goes wrong with a server of another user: what to run is printed."""
    mounts = (f"--volume={standalone}:/sidecall:ro", f"--volume={tmp_path}:/run/sidecall")
    user = ("--user=10001", "--read-only", "--network=none")
    done = engine(
        "run", "--rm", *user, *mounts, "docker.io/library/busybox:stable", "/sidecall", "serve", "--allow-any", "x"
    )
    assert done.returncode == 78
    assert "cannot listen on /run/sidecall/x.sock: uid 10001" in done.stderr
    assert "run `chown 10001 /run/sidecall` as root" in done.stderr
