"""Images that nobody touched, with neither Python nor a C library: a volume brings them all that sidecall needs."""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

from containers.pod import Pod

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from containers.pod import Container, Engine

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

BUSYBOX = "docker.io/library/busybox:stable"
DEBIAN = "docker.io/library/debian:bookworm-slim"
SIDECALL = "/sidecall/bin/sidecall"

PASSWD = "root:x:0:0::/:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n"
GROUP = "root:x:0:\nann:x:1000:\nbob:x:1001:\nteam:x:2000:\nwheel:x:3000:ann\n"
CONFIG = """
[service]
name = "tool"
callers = ["root", "ann", "@team"]

[volumes.data]
path = "/data"
access = "write"

[commands.copy]
argv = ["cp", "{in}", "{out}"]
parameters.in = { type = "path" }
parameters.out = { type = "path", access = "write", atomic = true }

[commands.whoami]
argv = ["sh", "-c", "id -un; id -Gn; echo $HOME $USER"]
user = "ann"

[commands.scratch]
argv = ["sh", "-c", 'ls -d "$SIDECALL_SCRATCH"; touch "$SIDECALL_SCRATCH/a"']
scratch = true
"""


@pytest.fixture
def volume(standalone: Path, tmp_path: Path) -> Path:
    """Return a directory that `sidecall install` has filled."""
    subprocess.run([standalone, "install", tmp_path / "volume"], check=True)
    return tmp_path / "volume"


@pytest.fixture
def bare(engine: Engine, volume: Path, tmp_path: Path) -> Iterator[Pod]:
    """Give a test containers of an image that has nothing but busybox, which is static."""
    with Pod(engine, BUSYBOX, tmp_path) as pod:
        yield pod


def start(pod: Pod, *command: str, options: tuple[str, ...] = (), service: str = "") -> Container:
    """Start a container that has the volumes, and nothing that can be written to beside them."""
    mounts = (f"{pod.ipc}:/run/sidecall", f"{pod.ipc.parent}/volume:/sidecall:ro", f"{pod.shared}:/data")
    volumes = [word for mount in mounts for word in ("--volume", mount)]
    container = pod.start_with([*volumes, "--read-only", *options], *command)
    if service:
        ping = container.exec(SIDECALL, "ping", "--connect-timeout", "20", service)
        assert ping.returncode == 0, container.logs()
    return container


def test_there_is_no_python_and_no_library(bare: Pod) -> None:
    """Or the tests here would show nothing."""
    container = start(bare, "sleep", "infinity")
    found = container.exec("find", "/", "-xdev", "(", "-name", "*.so*", "-o", "-name", "python*", ")", "-print")
    assert found.stdout == ""
    assert container.exec("python3", "-V").returncode != 0


def test_two_untouched_images_serve_and_call(bare: Pod, engine: Engine, tmp_path: Path) -> None:
    """Streams, exit code and death by signal, from an image of another kind, both sides read-only."""
    service = start(bare, SIDECALL, "serve", "--allow-any", "tool", service="tool")
    (tmp_path / "other").mkdir()
    with Pod(engine, DEBIAN, tmp_path / "other") as other:
        mounts = ("--volume", f"{bare.ipc}:/run/sidecall", "--volume", f"{tmp_path}/volume:/sidecall:ro")
        caller = other.start_with([*mounts, "--read-only"], "sleep", "infinity")
        script = f"echo in | {SIDECALL} exec tool sh -c 'cat; echo err >&2; exit 7' 2>/tmp/err || echo $?"
        done = caller.exec("sh", "-c", script)
        assert done.stdout == "in\n7\n", done.stderr
        assert caller.exec("cat", "/tmp/err").stdout == "err\n"
        killed = caller.exec("sh", "-c", f"{SIDECALL} exec tool sh -c 'kill -TERM $$'; echo $?")
        assert killed.stdout == "143\n"
    assert service.exec("sh", "-c", "ls /tmp /var/tmp 2>/dev/null").stdout.split() in (
        [],
        ["/tmp:"],
        ["/tmp:", "/var/tmp:"],
    )


@pytest.fixture
def service(bare: Pod) -> Container:
    """Start a service that offers what CONFIG declares, in a container with users of its own."""
    for name, text in (("tool.toml", CONFIG), ("passwd", PASSWD), ("group", GROUP)):
        (bare.shared / name).write_text(text)
    bare.ipc.chmod(0o755)
    users = [word for name in ("passwd", "group") for word in ("--volume", f"{bare.shared}/{name}:/etc/{name}:ro")]
    words = (SIDECALL, "serve", "--config", "/data/tool.toml")
    return start(bare, *words, options=tuple(users), service="tool")


def test_every_subcommand_works(service: Container) -> None:
    """All of the command is there: what asks, what lists, what helps."""
    assert service.exec(SIDECALL, "--version").stdout.startswith("sidecall ")
    assert "copy" in service.exec(SIDECALL, "describe", "tool").stdout
    assert "usage: sidecall exec tool copy" in service.exec(SIDECALL, "exec", "tool", "copy", "--help").stdout
    assert json.loads(service.exec(SIDECALL, "status", "--json", "tool").stdout) == []
    examined = service.exec(SIDECALL, "doctor", "--json", "tool")
    assert (examined.returncode, "problem" in examined.stdout) == (0, False), examined.stdout


def test_users_paths_and_scratch_directories(bare: Pod, service: Container) -> None:
    """Names are looked up in the image's own files, paths are held on volumes, scratch goes with its call."""
    (bare.shared / "a").write_text("content")
    assert service.exec(SIDECALL, "exec", "tool", "whoami").stdout == "ann\nann wheel\n/home/ann ann\n"
    assert service.exec(SIDECALL, "exec", "tool", "copy", "--in", "/data/a", "--out", "/data/b").returncode == 0
    assert (bare.shared / "b").read_text() == "content"
    (bare.shared / "link").symlink_to("/etc/passwd")
    refused = service.exec(SIDECALL, "exec", "tool", "copy", "--in", "/data/link", "--out", "/data/b")
    assert refused.returncode == 77, refused.stderr
    scratch = service.exec(SIDECALL, "exec", "tool", "scratch")
    assert (scratch.returncode, scratch.stdout.startswith("/tmp/.sidecall-")) == (0, True), scratch.stderr
    assert service.exec("ls", "-d", scratch.stdout.strip()).returncode == 1
    ours = service.exec("ls", "-A", "/tmp").stdout.split()
    assert [service.exec("ls", "-A", f"/tmp/{directory}").stdout for directory in ours] == [
        ""
    ]  # the server's, for the next


@pytest.mark.parametrize(("user", "code"), [("0", 0), ("1000:1000", 0), ("1001:1001", 77), ("1001:2000", 0)])
def test_callers_are_known_by_name(bare: Pod, service: Container, user: str, code: int) -> None:
    """By a user's and a group's, as the service's image has them."""
    caller = start(bare, "sleep", "infinity", options=("--user", user))
    assert caller.exec(SIDECALL, "exec", "tool", "whoami").returncode == code


def test_a_bridge(bare: Pod) -> None:
    start(bare, SIDECALL, "serve", "echo", "cat")
    caller = start(bare, "sleep", "infinity")
    script = "echo hello; read line; echo got $line >&2"
    done = caller.exec(SIDECALL, "connect", "--connect-timeout", "20", "echo", "sh", "-c", script)
    assert (done.returncode, done.stderr) == (0, "got hello\n")


def test_a_command_sees_the_containers_environment(bare: Pod) -> None:
    """And its call's variable: no traces of how the server was started."""
    service = start(bare, SIDECALL, "serve", "--allow-any", "tool", options=("--env", "COLOUR=red"), service="tool")
    of_the_container = set(service.exec("sh", "-c", "tr '\\0' '\\n' </proc/1/environ").stdout.split("\n"))
    seen = set(service.exec(SIDECALL, "exec", "tool", "env").stdout.split("\n"))
    assert "COLOUR=red" in seen
    assert of_the_container <= seen
    assert [variable.partition("=")[0] for variable in seen - of_the_container] == ["SIDECALL_CALL"]


def test_as_pid_1_it_reaps_and_drains(bare: Pod, engine: Engine) -> None:
    """It is the container's first process itself: orphans are reaped, a stop is told as it was, and ends with 0."""
    service = start(bare, SIDECALL, "serve", "--allow-any", "tool", "--drain", "10", service="tool")
    assert service.exec("readlink", "/proc/1/exe").stdout == f"{SIDECALL}\n"
    assert service.exec("sh", "-c", "(sleep 0.1 &); (sleep 0.2 &); exit 0").returncode == 0
    reaped = "while grep -q '^State:.Z' /proc/[0-9]*/status 2>/dev/null || pidof sleep >/dev/null; do sleep 0.05; done"
    assert service.exec("sh", "-c", reaped).returncode == 0
    caller = start(bare, "sleep", "infinity")
    calling = caller.popen("sh", "-c", f"{SIDECALL} exec tool sh -c 'echo ready; sleep 2; exit 7'; echo $?")
    assert calling.stdout is not None
    assert calling.stdout.readline() == "ready\n"
    engine.must("stop", "--time", "30", service.name)
    assert calling.stdout.read() == "7\n"
    calling.communicate()
    assert engine.must("inspect", "--format", "{{.State.ExitCode}}", service.name) == "0\n"


def test_killed_it_leaves_nothing_running(bare: Pod) -> None:
    """KILL for the server alone: its caller gets 125, and a command deaf to TERM, in its own session, is gone."""
    script = f"{SIDECALL} serve --allow-any tool --grace 0.2 & echo $! >/data/server; wait; sleep infinity"
    service = start(bare, "sh", "-c", script, service="tool")
    caller = start(bare, "sleep", "infinity")
    command = "trap '' TERM; echo ready; sleep 54321"
    calling = caller.popen("sh", "-c", f"{SIDECALL} exec -q tool setsid sh -c {shlex.quote(command)}; echo $?")
    assert calling.stdout is not None
    assert calling.stdout.readline() == "ready\n"
    assert service.exec("sh", "-c", "kill -KILL $(cat /data/server)").returncode == 0
    assert calling.stdout.read() == "125\n"
    calling.communicate()
    ours = "ls -l /proc/[0-9]*/exe 2>/dev/null | grep -q /sidecall/bin"
    gone = f"while {ours} || grep -q 5432[1] /proc/[0-9]*/cmdline 2>/dev/null; do sleep 0.05; done"
    assert service.exec("timeout", "20", "sh", "-c", gone).returncode == 0


def test_the_volume_is_filled_from_a_container(bare: Pod) -> None:
    """And where it may only be read that is said."""
    container = start(bare, "sleep", "infinity")
    done = container.exec(SIDECALL, "install", "/data/volume")
    assert (done.returncode, done.stdout) == (0, "/data/volume/bin/sidecall\n")
    assert (bare.shared / "volume/bin/sidecall").stat().st_mode & 0o777 == 0o755
    refused = container.exec("sh", "-c", f"{SIDECALL} install /sidecall; echo $?")
    assert refused.stdout == "73\n"
    assert refused.stderr.splitlines()[0] == "sidecall: cannot create /sidecall/bin/sidecall: Read-only file system"
