"""`sidecall doctor` against each mistake, made for real in containers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from containers.pod import Container, Pod

pytestmark = [pytest.mark.containers, pytest.mark.timeout(300)]


def problems(container: Container, name: str = "tool") -> tuple[int, list[tuple[str, str]], list[str]]:
    """Return doctor's exit code, the problems with their fixes, and its other findings."""
    done = container.exec("sh", "-c", f"sidecall doctor --json {name}; echo $?")
    answer, code = done.stdout.splitlines()
    (found,) = json.loads(answer).values()
    bad = [(each["text"], each["fix"].split("   ")[0]) for each in found if each["severity"] == "problem"]
    return int(code), bad, [each["text"] for each in found if each["severity"] != "problem"]


def test_all_is_well(pod: Pod) -> None:
    """The volume is recognised on both sides, by the same name, and the service answers."""
    service = pod.service("tool")
    (code, bad, good), (_, _, there) = problems(pod.caller()), problems(service)
    assert (code, bad) == (0, [])
    assert good[0].startswith("the working directory / is in this container's own file system")
    assert good[1].startswith("/run/sidecall is the volume ")
    assert good[1] == there[1]
    assert good[2].startswith("sidecall ")


def test_the_volume_was_forgotten(pod: Pod) -> None:
    """No directory at all, or one that only this container sees."""
    pod.service("tool")
    caller = pod.start_with([], "sleep", "infinity")
    code, [(text, fix)], _ = problems(caller)
    assert (code, text) == (69, "the directory /run/sidecall does not exist in this container")
    assert fix.startswith('volumes: ["ipc:/run/sidecall"')
    caller.exec("mkdir", "/run/sidecall")
    code, bad, other = problems(caller)
    assert (code, bad[0][0]) == (69, "socket tool.sock not found in /run/sidecall")
    assert "/run/sidecall is in this container's own file system, which no other container has" in other


def test_another_volume_was_mounted(pod: Pod, tmp_path: Path) -> None:
    """Two volumes under one name look alike but for where they come from."""
    service = pod.service("tool")
    other = tmp_path / "other"
    other.mkdir()
    caller = pod.start_with(["--volume", f"{other}:/run/sidecall"], "sleep", "infinity")
    (code, bad, here), (_, _, there) = problems(caller), problems(service)
    assert (code, bad[0][0]) == (69, "socket tool.sock not found in /run/sidecall")
    assert "run `doctor` there too" in caller.exec("sidecall", "doctor", "tool").stdout
    assert here[1].startswith("/run/sidecall is the volume ")
    assert here[1] != there[1]


def test_the_socket_was_mounted_as_a_file(pod: Pod) -> None:
    """It works until the service starts again; both is said."""
    service = pod.service("tool")
    mount = f"{pod.ipc}/tool.sock:/run/sidecall/tool.sock"
    caller = pod.start_with(["--volume", mount], "sleep", "infinity")
    code, bad, other = problems(caller)
    assert (code, bad) == (0, [])
    warning = "tool.sock is mounted as a file: it stops working when the server restarts"
    assert warning in other
    pod.engine.must("restart", "--time", "10", service.name)
    assert service.exec("sidecall", "ping", "--connect-timeout", "20", "tool").returncode == 0
    code, bad, other = problems(caller)
    assert code == 69
    assert bad[0][0] == "no server is listening on /run/sidecall/tool.sock (stale socket)"
    assert warning in other


def test_the_service_was_killed(pod: Pod) -> None:
    """A stale socket on the volume."""
    pod.service("tool").kill()
    assert problems(pod.caller())[:2] == (
        69,
        [("no server is listening on /run/sidecall/tool.sock (stale socket)", "docker compose up -d SERVICE")],
    )


def test_the_caller_is_another_user(pod: Pod) -> None:
    """The socket's mode keeps it out, and the line that lets it in is shown."""
    pod.service("tool")
    caller = pod.start_with(["--volume", f"{pod.ipc}:/run/sidecall", "--user", "1000"], "sleep", "infinity")
    pod.ipc.chmod(0o755)
    assert problems(caller)[:2] == (
        77,
        [
            (
                "uid 1000 lacks write permission on the socket /run/sidecall/tool.sock of uid 0, mode 0600",
                "callers = [0, 1000]",
            )
        ],
    )
    pod.ipc.chmod(0o700)
    assert problems(caller)[:2] == (
        77,
        [
            (
                "uid 1000 lacks read permission on the directory /run/sidecall of uid 0, mode 0700",
                "run `chmod a+rx /run/sidecall` as uid 0",
            )
        ],
    )


def test_the_uid_is_not_mapped(pod: Pod) -> None:
    """In a user namespace of its own the caller's view of the owner has no number."""
    pod.service("tool")
    (pod.ipc / "tool.sock").chmod(0o666)
    pod.ipc.chmod(0o755)
    words = "unshare --user --map-root-user true"
    caller = pod.start_with(["--volume", f"{pod.ipc}:/run/sidecall", "--user", "1000", "--privileged"], "sleep", "100")
    assert caller.exec("sh", "-c", words).returncode == 0
    done = caller.exec("unshare", "--user", "--map-root-user", "sidecall", "doctor", "tool")
    assert (
        "the owner of the socket is not mapped in this container (uid 65534): the user namespaces differ" in done.stdout
    )
    assert "userns_mode: host" in done.stdout


def test_the_volume_is_read_only(pod: Pod) -> None:
    """Callers can do with that; a service cannot, and says so at its start."""
    pod.service("tool")
    caller = pod.start_with(["--volume", f"{pod.ipc}:/run/sidecall:ro"], "sleep", "infinity")
    code, bad, other = problems(caller)
    assert (code, bad) == (0, [])
    assert "clients can use a read-only volume; a server needs it writable" in other
    started = caller.exec("sh", "-c", "sidecall serve --allow-any other; echo $?")
    assert started.stdout.strip() == "78"
    assert "mount the volume writable in the server's container" in started.stderr


def test_everybody_may_write_to_the_volume(pod: Pod) -> None:
    """A directory in which anyone can replace a socket is not trusted."""
    pod.service("tool")
    pod.ipc.chmod(0o777)
    assert problems(pod.caller())[:2] == (
        77,
        [("any user can replace the sockets in /run/sidecall", "chmod o-w /run/sidecall")],
    )
    pod.ipc.chmod(0o755)


def test_the_file_system_cannot_carry_sockets(pod: Pod) -> None:
    """A file system without special files, made for real, is named with what it says."""
    caller = pod.start_with(["--volume", "/sys:/run/sidecall"], "sleep", "infinity")
    code, bad, _ = problems(caller)
    assert code == 78
    assert bad[0][0].startswith("/run/sidecall cannot hold sockets: ")
