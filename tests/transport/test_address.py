"""Addresses of sockets, and what is reported if no server can be reached."""

from __future__ import annotations

import errno
import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from sidecall.errors import CallDenied, ServiceUnavailable, SidecallError, UsageError
from sidecall.transport.address import connect, explain, short_form, socket_path

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("make", "reason", "hint"),
    [
        (
            "nothing",
            "the socket is missing: {}",
            "start the service with `sidecall serve`, or wait for it with `--connect-timeout SECONDS`",
        ),
        ("stale", "no server is listening on {} (stale socket)", "start the service again with `sidecall serve`"),
        ("file", "{} is not a socket", "give the name of a service, or the path of its socket"),
        ("directory", "{} is not a socket", "give the name of a service, or the path of its socket"),
        (
            "dangling",
            "the socket is missing: {}",
            "start the service with `sidecall serve`, or wait for it with `--connect-timeout SECONDS`",
        ),
    ],
)
def test_why_no_server_answers(tmp_path: Path, make: str, reason: str, hint: str) -> None:
    """Missing, stale and no socket at all are told apart, each with its hint; all are 69."""
    path = tmp_path / "x.sock"
    if make == "stale":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
    elif make == "file":
        path.touch()
    elif make == "directory":
        path.mkdir()
    elif make == "dangling":
        path.symlink_to("nowhere")
    with pytest.raises(ServiceUnavailable) as error:
        connect(str(path))
    assert (error.value.reason, error.value.code) == (reason.format(path), 69)
    assert error.value.hint.startswith(hint)


def test_a_missing_directory_is_reported(tmp_path: Path) -> None:
    """A volume that is not mounted is reported differently from a service that does not run."""
    with pytest.raises(ServiceUnavailable) as error:
        connect(f"{tmp_path}/no/x.sock")
    assert error.value.reason == f"the socket is missing, and so is its directory {tmp_path}/no"
    assert error.value.hint == "mount the shared volume there, or set SIDECALL_DIR"


def test_a_name_behind_a_file_is_no_socket(tmp_path: Path) -> None:
    """ENOTDIR: the directory of the path is a file."""
    (tmp_path / "file").touch()
    with pytest.raises(ServiceUnavailable) as error:
        connect(f"{tmp_path}/file/x.sock")
    assert error.value.reason == f"{tmp_path}/file/x.sock is not a socket"


@pytest.mark.parametrize(
    ("number", "kind", "reason"),
    [
        (errno.ELOOP, ServiceUnavailable, "cannot connect to /x: Too many levels of symbolic links"),
        (errno.EMFILE, ServiceUnavailable, "cannot connect to /x: Too many open files"),
    ],
)
def test_what_an_errno_means(number: int, kind: type[SidecallError], reason: str) -> None:
    """Permission is a denial (77), any other error is reported with the system's text (69)."""
    error = explain(OSError(number, os.strerror(number)), "/x")
    assert (type(error), error.reason) == (kind, reason)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_denial_without_a_missing_permission_is_the_systems(tmp_path: Path, number: int) -> None:
    """The socket's mode is not the reason then: a security module is."""
    path = tmp_path / "x.sock"
    path.touch()
    error = explain(OSError(number, os.strerror(number)), str(path))
    uid = os.geteuid()
    assert isinstance(error, CallDenied)
    assert error.reason == f"uid {uid} has write permission on the socket {path}, but the system denies the connection"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_the_sockets_mode_keeps_others_out(tmp_path: Path) -> None:
    """A user without write permission on the socket is denied (77), whatever `connect_timeout` says."""
    path = tmp_path / "x.sock"
    for directory in (tmp_path, *tmp_path.parents):
        if str(directory).startswith("/tmp/"):
            directory.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        path.chmod(0o600)
        listening.listen()
        child = os.fork()
        if not child:
            os.setuid(12345)
            try:
                connect(str(path), connect_timeout=30)
            except SidecallError as error:
                os._exit(error.code)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 77


@pytest.mark.parametrize("length", [106, 107, 108, 200])
def test_paths_around_the_kernels_limit(tmp_path: Path, length: int) -> None:
    """A path of any length is connected to; over 107 bytes it goes through a descriptor of its directory."""
    directory = tmp_path / "é"
    missing = length - len(os.fsencode(directory)) - len("/x.sock") - 1
    directory = directory / ("d" * missing) if missing > 0 else directory
    directory.mkdir(parents=True)
    path = f"{directory}/x.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        for address in short_form(path):
            assert address == path or address.startswith("/proc/self/fd/")
            assert (address == path) == (len(os.fsencode(path)) <= 107)
            listening.bind(address)
        listening.listen()
        sock = connect(path)
        assert not os.get_inheritable(sock.fileno())
        sock.close()


def test_a_name_that_is_too_long_itself(tmp_path: Path) -> None:
    """A file name over the limit has no short form; it is an error, not a cut name."""
    with pytest.raises(ServiceUnavailable) as error:
        connect(f"{tmp_path}/{'x' * 120}.sock")
    assert error.value.reason == f"cannot connect to {tmp_path}/{'x' * 120}.sock: File name too long"


def test_waiting_ends_when_the_service_starts(tmp_path: Path) -> None:
    """`connect_timeout` connects as soon as a server is listening."""
    path = str(tmp_path / "x.sock")
    with socket.socket(socket.AF_UNIX) as listening:

        def start() -> None:
            listening.bind(path)
            listening.listen()

        timer = threading.Timer(0.2, start)
        timer.start()
        connect(path, connect_timeout=20).close()
        timer.join()


def test_waiting_ends(tmp_path: Path) -> None:
    """`connect_timeout` gives up when its seconds are over, with the reason of the last attempt."""
    with pytest.raises(ServiceUnavailable, match="is missing"):
        connect(str(tmp_path / "x.sock"), connect_timeout=0.12)


def test_relative_paths_and_sock_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slash makes a path of it, relative to the working directory; a name may end in `.sock`."""
    monkeypatch.chdir(tmp_path)
    environ = {"SIDECALL_DIR": "/ipc"}
    assert socket_path("x.sock", environ) == "/ipc/x.sock"
    assert socket_path("./x.sock", environ) == f"{tmp_path}/x.sock"
    assert socket_path("./x", environ) == f"{tmp_path}/x"
    assert socket_path("sock", environ) == "/ipc/sock.sock"


@pytest.mark.parametrize(
    ("name", "environ", "path"),
    [
        ("hugin", {}, "/run/sidecall/hugin.sock"),
        ("hugin", {"SIDECALL_DIR": "/ipc"}, "/ipc/hugin.sock"),
        ("hugin", {"SIDECALL_DIR": ""}, "/run/sidecall/hugin.sock"),
        ("/a/b", {"SIDECALL_DIR": "/ipc"}, "/a/b"),
    ],
)
def test_where_a_socket_is(name: str, environ: dict[str, str], path: str) -> None:
    """A name is a file in SIDECALL_DIR; with a slash it is a path."""
    assert socket_path(name, environ) == path


@pytest.mark.parametrize("name", ["", ".", "..", "a\0b"])
def test_what_is_no_name(name: str) -> None:
    """A name that cannot be a file name is refused."""
    with pytest.raises(UsageError):
        socket_path(name, {})
