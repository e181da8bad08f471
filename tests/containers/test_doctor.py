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
    assert good[0].startswith("the working directory / lies in this container's own file system")
    assert good[1].startswith("/run/sidecall is the volume ")
    assert good[1] == there[1]
    assert good[2].startswith("sidecall ")


def test_the_volume_was_forgotten(pod: Pod) -> None:
    """No directory at all, or one that only this container sees."""
    pod.service("tool")
    caller = pod.start_with([], "sleep", "infinity")
    assert problems(caller)[:2] == (
        69,
        [("the directory /run/sidecall does not exist in this container", 'volumes: ["ipc:/run/sidecall"]')],
    )
    caller.exec("mkdir", "/run/sidecall")
    code, bad, other = problems(caller)
    assert (code, bad[0][0]) == (69, "there is no socket tool.sock in /run/sidecall")
    assert "/run/sidecall lies in this container's own file system: no other container sees it" in other


def test_another_volume_was_mounted(pod: Pod, tmp_path: Path) -> None:
    """Two volumes under one name look alike but for where they come from."""
    service = pod.service("tool")
    other = tmp_path / "other"
    other.mkdir()
    caller = pod.start_with(["--volume", f"{other}:/run/sidecall"], "sleep", "infinity")
    (code, bad, here), (_, _, there) = problems(caller), problems(service)
    assert (code, bad[0][0]) == (69, "there is no socket tool.sock in /run/sidecall")
    assert "compare `doctor` there" in caller.exec("sidecall", "doctor", "tool").stdout
    assert here[1].startswith("/run/sidecall is the volume ")
    assert here[1] != there[1]


def test_the_socket_was_mounted_as_a_file(pod: Pod) -> None:
    """It works until the service starts again; both is said."""
    service = pod.service("tool")
    mount = f"{pod.ipc}/tool.sock:/run/sidecall/tool.sock"
    caller = pod.start_with(["--volume", mount], "sleep", "infinity")
    code, bad, other = problems(caller)
    assert (code, bad) == (0, [])
    warning = "tool.sock is mounted as a file: it is dead as soon as its service starts again"
    assert warning in other
    pod.engine.must("restart", "--time", "10", service.name)
    assert service.exec("sidecall", "ping", "--connect-timeout", "20", "tool").returncode == 0
    code, bad, other = problems(caller)
    assert code == 69
    assert bad[0][0] == "the socket is stale: nobody listens on /run/sidecall/tool.sock"
    assert warning in other


def test_the_service_was_killed(pod: Pod) -> None:
    """A stale socket on the volume."""
    pod.service("tool").kill()
    assert problems(pod.caller())[:2] == (
        69,
        [("the socket is stale: nobody listens on /run/sidecall/tool.sock", "docker compose up -d SERVICE")],
    )


def test_the_caller_is_another_user(pod: Pod) -> None:
    """The socket's mode keeps it out, and the line that lets it in is shown."""
    pod.service("tool")
    caller = pod.start_with(["--volume", f"{pod.ipc}:/run/sidecall", "--user", "1000"], "sleep", "infinity")
    pod.ipc.chmod(0o755)
    assert problems(caller)[:2] == (
        77,
        [("uid 1000 may not connect: the socket belongs to uid 0, mode 0600", 'user: "0"')],
    )
    pod.ipc.chmod(0o700)
    assert problems(caller)[:2] == (
        77,
        [("uid 1000 may not look into /run/sidecall", "chmod a+rx /run/sidecall")],
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
    assert "the socket's owner has no number in this container (uid 65534): the user namespaces differ" in done.stdout
    assert "userns_mode: host" in done.stdout


def test_the_volume_is_read_only(pod: Pod) -> None:
    """Callers can do with that; a service cannot, and says so at its start."""
    pod.service("tool")
    caller = pod.start_with(["--volume", f"{pod.ipc}:/run/sidecall:ro"], "sleep", "infinity")
    code, bad, other = problems(caller)
    assert (code, bad) == (0, [])
    assert "callers can do with a read-only volume; a service needs it writable" in other
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
    assert bad[0][0].startswith("/run/sidecall cannot carry sockets: its file system (sysfs) says ")
