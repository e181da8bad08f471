"""The hostile client in containers: of the service's user, of another one, and of one that is not allowed."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Table
    from containers.pod import Container, Pod

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

CONFIG = """
[service]
name = "tool"
slots = 30
grace = 0.2
callers = [0, 1000]

[volumes.data]
path = "/images"
access = "write"
commit = "copy"

[commands.true]
argv = ["true"]

[commands.cat]
argv = ["cat"]

[commands.write]
argv = ["sh", "-c", 'sleep 0.02; echo mine >"$1"', "-", "{out}"]
parameters.out = { type = "path", access = "write", atomic = true }
"""

PLANT = """
import os, sys
os.chdir("/images")
print("ready", flush=True)
while True:
    for name in os.listdir("."):
        if name.startswith(".sidecall-"):
            for inner, _, files in os.walk(name):
                try:
                    for file in files:
                        os.unlink(f"{inner}/{file}")
                    os.symlink("/shared/secret", f"{inner}/out")
                except OSError:
                    pass
"""


@pytest.fixture
def service(pod: Pod) -> Container:
    """Start the service, which its own user and uid 1000 can call."""
    (pod.shared / "tool.toml").write_text(CONFIG)
    (pod.shared / "data").mkdir()
    pod.ipc.chmod(0o755)
    service = pod.start_with(options(pod), "sidecall", "serve", "--config", "/shared/tool.toml")
    ping = service.exec("sidecall", "ping", "--connect-timeout", "20", "tool")
    assert ping.returncode == 0, service.logs()
    return service


def options(pod: Pod, *more: str) -> list[str]:
    """Return the mounts that all containers have."""
    mounts = {pod.ipc: "/run/sidecall", pod.shared: "/shared", pod.shared / "data": "/images"}
    return [word for host, inside in mounts.items() for word in ("--volume", f"{host}:{inside}")] + list(more)


def hostile(pod: Pod, user: str, *words: str) -> subprocess.Popen[str]:
    """Start the hostile client in a container of its own."""
    mounts = pod.programs_mount()
    container = pod.start_with(options(pod, *mounts, "--user", user), "sleep", "infinity")
    program = ("python3", "/programs/hostile.py", "/run/sidecall/tool.sock", "-", *words)
    return subprocess.Popen(
        [pod.engine.name, "exec", "--interactive", container.name, *program],
        env=pod.engine.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("user", ["0", "1000", "1001"])
def test_a_hostile_container_holds_up_no_other(pod: Pod, service: Container, user: str, table: Table) -> None:
    """It passes descriptors that block when they are closed wherever it can; another container is served."""
    other = pod.start_with(options(pod), "sleep", "infinity")
    places = 0
    with hostile(pod, user, "descriptors", "lingering") as attacker:
        assert attacker.stdin is not None
        assert attacker.stdout is not None
        while (place := attacker.stdout.readline().strip()) != "done":
            assert place, service.logs()
            done = other.exec("sidecall", "exec", "tool", "true")
            assert done.returncode == 0, (place, done.stderr)
            attacker.stdin.write("\n")
            attacker.stdin.flush()
            places += 1
        service.engine.must("stop", "--time", "30", service.name)
        attacker.stdin.close()
    state = service.engine.must("inspect", "--format", "{{.State.ExitCode}}", service.name)
    assert state.strip() == "0"
    table(f"a lingering socket in {places} places, from a container of uid {user}", "another container is served")


def test_a_container_of_the_same_user_plants_nothing(pod: Pod, service: Container, table: Table) -> None:
    """With `commit = "copy"`: it replaces by links whatever it finds in the server's directories on the volume."""
    (pod.shared / "secret").write_text("secret")
    planter = pod.start_with(options(pod), "python3", "-c", PLANT)
    while "ready" not in planter.logs():
        pass
    other = pod.start_with(options(pod), "sleep", "infinity")
    calls = "for i in 1 2 3 4 5 6 7 8 9 10; do sidecall exec tool write --out /images/out$i || exit 1; done"
    done = other.exec("sh", "-c", calls)
    assert done.returncode == 0, done.stderr
    assert [(pod.shared / "data" / f"out{i}").read_text() for i in range(1, 11)] == ["mine\n"] * 10
    assert (pod.shared / "secret").read_text() == "secret"
    table("links planted by a container of the same uid, at `copy`", "10 outputs are whole, nothing is written outside")
