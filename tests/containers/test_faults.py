"""Random kills and adversarial commands across containers, and the service as pid 1 of one."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from containers.pod import Container, Pod

pytestmark = [pytest.mark.containers, pytest.mark.timeout(3600)]

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak"
CALLS = int(os.environ.get("SIDECALL_SOAK_CALLS", "200"))


@pytest.mark.parametrize("weather", ["calm", "disturbed"])
def test_nothing_survives_and_nothing_is_told_wrongly(pod: Pod, weather: str) -> None:
    """Callers, their parents, commands and servers are killed at random: every end is true and nothing is left."""
    shutil.copytree(SOAK, pod.shared / "soak")
    pod.start("python3", "/shared/soak/service.py", "soak", "/shared")
    caller = pod.caller()
    await_file(pod.shared / "ready", 30)
    if weather == "disturbed":
        (pod.shared / "disturb").touch()
    words = ("python3", "/shared/soak/callers.py", "soak", str(CALLS // 2), "1", weather)
    done = caller.exec(*words, seconds=3000)
    assert done.returncode == 0, done.stderr
    (pod.shared / "disturb").unlink(missing_ok=True)
    (pod.shared / "finish").touch()
    await_file(pod.shared / "report", 90)
    found, left = json.loads(done.stdout), json.loads((pod.shared / "report").read_text())
    print(found, left)
    assert [name for name in found if name.startswith(("wrong", "hung", "bytes lost"))] == []
    assert found["right"] > CALLS // 5
    assert set(left.values()) == {0}, left


def await_file(path: Path, seconds: float) -> None:
    """Wait until a file exists."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path.name} after {seconds} s"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("echo ready; sleep 2; exit 7", 7),
        ("echo ready; exec sleep 60", 143),
        ("trap '' TERM; echo ready; sleep 60", 137),
    ],
    ids=["ends within the drain time", "ends on TERM", "ignores TERM"],
)
def test_a_stopped_container_tells_the_truth(pod: Pod, script: str, status: int) -> None:
    """As pid 1 the service drains on the engine's stop: its caller gets a true outcome, and the stop needs no KILL."""
    service = pod.service("tool", "--drain", "4", "--grace", "1")
    caller = pod.caller()
    calling = caller.popen("sh", "-c", f"sidecall exec tool sh -c {shlex.quote(script)}; echo $?")
    assert calling.stdout is not None
    assert calling.stdout.readline() == "ready\n"
    pod.engine.must("stop", "--time", "50", service.name)  # then it would be killed, and exit with 137
    assert calling.stdout.read().split()[-1] == str(status)
    calling.communicate()
    assert pod.engine.must("inspect", "--format", "{{.State.ExitCode}}", service.name).strip() == "0"


def test_as_pid_1_every_orphan_is_reaped(pod: Pod) -> None:
    """What ends in the container without a parent, be it started by somebody else, does not stay as a zombie."""
    service = pod.service("tool")
    assert service.exec("sh", "-c", "(sleep 0.2 &) ; (sleep 0.3 &) ; exit 0").returncode == 0
    await_none(service, "Z")


def await_none(container: Container, state: str) -> None:
    """Wait until no process of a container is in a state."""
    script = f"for f in /proc/[0-9]*/stat; do sed 's/.*) //' $f | grep -q '^{state}' && exit 1; done; exit 0"
    deadline = time.monotonic() + 60
    time.sleep(0.5)
    while container.exec("sh", "-c", script).returncode != 0:
        assert time.monotonic() < deadline, container.exec("sh", "-c", "cat /proc/[0-9]*/stat").stdout


def test_a_killed_shell_around_a_caller_takes_the_command_along(pod: Pod) -> None:
    """A rule's shell killed by KILL: with `--die-with-parent` the command in the other container is gone."""
    service = pod.service("tool", "--grace", "1")
    caller = pod.caller()
    script = "echo $$; true; sidecall exec --die-with-parent tool sleep 98765; true"
    rule = caller.popen("sh", "-c", script)
    assert rule.stdout is not None
    pid = rule.stdout.readline().strip()
    looking = "for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$f | grep -q '^sleep 98765' && exit 0; done; exit 1"
    while service.exec("sh", "-c", looking).returncode != 0:
        pass
    assert caller.exec("sh", "-c", f"kill -KILL {pid}").returncode == 0
    deadline = time.monotonic() + 60
    while service.exec("sh", "-c", looking).returncode == 0:
        assert time.monotonic() < deadline
    rule.communicate()
