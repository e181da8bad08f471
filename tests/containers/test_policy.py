"""Two containers that mount one volume at different places, and callers that the kernel knows by other numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Table
    from containers.pod import Container, Pod

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

CONFIG = """
[service]
name = "tool"
callers = [0, 1000, "@2000", 65533]

[volumes.data]
path = "/images"
access = "write"

[commands.copy]
argv = ["sh", "-c", 'pwd -P; readlink -f "$1"; cat "$1" > "$2"', "-", "{in}", "{out}"]
pass-cwd = true
parameters.in = { type = "path" }
parameters.out = { type = "path", access = "write", atomic = true }

[commands.hello]
argv = ["echo", "hello"]

[commands.mine]
argv = ["echo", "mine"]
callers = [0]
"""


@pytest.fixture
def service(pod: Pod) -> Container:
    """Start the service; it has the volume at /images."""
    (pod.shared / "tool.toml").write_text(CONFIG)
    (pod.shared / "data").mkdir()
    pod.ipc.chmod(0o755)
    mounts = ("--volume", f"{pod.ipc}:/run/sidecall", "--volume", f"{pod.shared}/data:/images")
    config = ("--volume", f"{pod.shared}/tool.toml:/etc/tool.toml:ro")
    service = pod.start_with([*mounts, *config], "sidecall", "serve", "-v", "--config", "/etc/tool.toml")
    ping = service.exec("sidecall", "ping", "--connect-timeout", "20", "tool")
    assert ping.returncode == 0, service.logs()
    return service


def caller(pod: Pod, *options: str) -> Container:
    """Start a container beside the service; it has the volume at /work/data."""
    mounts = ["--volume", f"{pod.ipc}:/run/sidecall", "--volume", f"{pod.shared}/data:/work/data"]
    return pod.start_with([*mounts, *options], "sleep", "infinity")


def test_paths_and_the_working_directory_are_translated(pod: Pod, service: Container) -> None:
    """The caller's /work/data is the service's /images: absolute and relative paths, links, working directories."""
    data = pod.shared / "data"
    (data / "sub").mkdir()
    (data / "sub" / "a").write_text("content")
    (data / "link").symlink_to("sub/a")
    builder = caller(pod, "--workdir", "/work/data/sub")
    for given in ("a", "/work/data/sub/a", "../link", "../../data/sub/a"):
        done = builder.exec(
            "sidecall", "exec", "--cwd", "/work/data/sub", "tool", "copy", "--in", given, "--out", "../b"
        )
        assert (done.returncode, done.stdout) == (0, "/images/sub\n/images/sub/a\n"), done.stderr
        assert (data / "b").read_text() == "content"
        (data / "b").unlink()


def test_a_path_on_no_volume_is_told_which_there_are(pod: Pod, service: Container, table: Table) -> None:
    """The service's own files are not the caller's, though both are called the same."""
    builder = caller(pod)
    for path in ("/etc/passwd", "/etc/tool.toml", "/images/a", "/work", "/proc/self/root/etc/passwd"):
        done = builder.exec("sidecall", "exec", "tool", "copy", "--in", path, "--out", "/work/data/out")
        assert done.returncode == 77, path
        assert done.stderr.splitlines() == [
            f"sidecall: '{path}' is on no volume that the service shares",
            "hint: shared are: data (read and write, /images at the service); for more, run `sidecall doctor tool`",
        ]
    table("a path of the service's own, from another container", "refused: on no volume that the service shares")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--user", "1000"), 0, "hello"),
        (("--user", "1001:2000"), 0, "hello"),
        (("--user", "1001", "--group-add", "2000"), 0, "hello"),
        (("--user", "1001"), 77, "sidecall: uid 1001 is not allowed to call this service"),
    ],
)
def test_a_caller_is_who_the_kernel_says(
    pod: Pod, service: Container, options: tuple[str, ...], code: int, said: str, table: Table
) -> None:
    """By its uid, its gid or a supplementary group; variables and names say nothing."""
    other = caller(pod, *options, "--env", "USER=root", "--env", "LOGNAME=root")
    done = other.exec("sidecall", "exec", "tool", "hello")
    assert (done.returncode, (done.stdout + done.stderr).splitlines()[0]) == (code, said)
    assert other.exec("sidecall", "exec", "tool", "mine").returncode == (127 if code == 0 else 77)
    table(f"a container with {' '.join(options)}", "served, as the rules say" if code == 0 else f"refused: {said[10:]}")


def test_root_of_another_user_namespace_is_not_root(pod: Pod, service: Container, table: Table) -> None:
    """It is who it is outside; one without a number here is 65534, whom no rule lets in."""
    inside = caller(pod, "--user", "1001", "--privileged")
    done = inside.exec("unshare", "--user", "--map-root-user", "sh", "-c", "id -u; sidecall exec tool mine")
    assert (done.returncode, done.stdout) == (77, "0\n"), done.stderr
    table("root of a user namespace of its own", "refused: " + done.stderr.splitlines()[0][10:])


def test_an_unmapped_uid_is_nobody(pod: Pod, table: Table) -> None:
    """A service in a user namespace knows most callers as 65534 only, and lets none of them in."""
    (pod.shared / "tool.toml").write_text(CONFIG.replace("[0, 1000", "[0, 999"))
    (pod.shared / "data").mkdir()
    pod.ipc.chmod(0o755)
    mounts = ["--volume", f"{pod.ipc}:/run/sidecall", "--volume", f"{pod.shared}/tool.toml:/etc/tool.toml:ro"]
    serve = ("unshare", "--user", "--map-root-user", "sidecall", "serve", "--config", "/etc/tool.toml")
    service = pod.start_with([*mounts, "--privileged"], *serve)
    ping = service.exec("sidecall", "ping", "--connect-timeout", "20", "tool")
    assert ping.returncode == 0, service.logs()
    for user in ("1000", "65534"):
        done = caller(pod, "--user", user).exec("sidecall", "exec", "tool", "hello")
        assert (done.returncode, done.stderr.splitlines()[0]) == (
            77,
            "sidecall: uid 65534 is not allowed to call this service",
        )
    table("an unmapped uid", "refused: uid 65534 is not allowed to call this service")
