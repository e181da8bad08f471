"""A socket's place on the file system: modes, links, foreign sockets, failures that leave nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from sidecall.errors import CallDenied, ConfigError, ServiceBusy, ServiceUnavailable
from sidecall.transport.address import connect
from sidecall.transport.listener import Listener

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o777])
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_mode_is_the_one_asked_for(tmp_path: Path, mode: int, umask: int) -> None:
    """The umask neither adds to nor takes from the mode, and is as before afterwards."""
    before = os.umask(umask)
    try:
        with Listener(str(tmp_path / "x.sock"), mode):
            assert stat.S_IMODE((tmp_path / "x.sock").stat().st_mode) == mode
            assert os.umask(umask) == umask
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    ("kind", "listens"), [(socket.SOCK_STREAM, True), (socket.SOCK_SEQPACKET, True), (socket.SOCK_DGRAM, False)]
)
def test_no_kind_of_live_socket_is_displaced(tmp_path: Path, kind: socket.SocketKind, listens: bool) -> None:
    """A socket of another kind, such as a system log's, is just as live as one of ours."""
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX, kind) as foreign:
        foreign.bind(str(path))
        if listens:
            foreign.listen()
        inode = path.stat().st_ino
        try:
            with pytest.raises((ServiceBusy, ConfigError)):
                Listener(str(path)).close()
        finally:
            assert path.exists()
            assert path.stat().st_ino == inode


def test_who_serves_already_is_said(tmp_path: Path) -> None:
    """The second server is told which socket is taken (75), and its attempt leaves nothing."""
    path = str(tmp_path / "x.sock")
    with Listener(path):
        with pytest.raises(ServiceBusy) as error:
            Listener(path)
        assert error.value.reason == f"another server is already listening on {path}"
        assert sorted(os.listdir(tmp_path)) == ["x.sock", "x.sock.lock"]
        connect(path).close()


def test_a_failed_attempt_leaves_nothing(tmp_path: Path) -> None:
    """A name that is too long is a mistake of the configuration; no half-made socket stays."""
    with pytest.raises(ConfigError) as error:
        Listener(f"{tmp_path}/{'x' * 120}")
    assert error.value.reason == f"cannot listen on {tmp_path}/{'x' * 120}: File name too long"
    assert [name for name in os.listdir(tmp_path) if not name.endswith(".lock")] == []


def test_a_refused_attempt_keeps_what_is_there(tmp_path: Path) -> None:
    """A file in the socket's place is neither changed nor taken for a service."""
    path = tmp_path / "x.sock"
    path.write_text("data")
    with pytest.raises(ConfigError) as error:
        Listener(str(path))
    assert error.value.reason == f"{path} exists and is not a socket"
    assert path.read_text() == "data"


def test_only_the_last_directory_is_made(tmp_path: Path) -> None:
    """A volume that is not mounted is not replaced by a directory nobody else sees."""
    with pytest.raises(ConfigError) as error:
        Listener(f"{tmp_path}/a/b/x.sock")
    assert error.value.reason == f"cannot listen on {tmp_path}/a/b/x.sock: No such file or directory"
    assert error.value.hint == f"make the directory {tmp_path}/a/b, mount the volume there, or set SIDECALL_DIR"
    assert os.listdir(tmp_path) == []


def test_a_lock_is_never_followed(tmp_path: Path) -> None:
    """A link in the lock's place, in a directory that others may write, leads nowhere."""
    (tmp_path / "x.sock.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(ConfigError):
        Listener(str(tmp_path / "x.sock"))
    assert not (tmp_path / "victim").exists()


def test_closing_twice_removes_once(tmp_path: Path) -> None:
    """A second close does not remove the socket of whoever came after."""
    path = str(tmp_path / "x.sock")
    first = Listener(path)
    first.close()
    with Listener(path):
        first.close()
        connect(path).close()


def test_long_and_odd_paths_leave_nothing_either(tmp_path: Path) -> None:
    """Over 107 bytes, the temporary name included, the socket comes and goes as any other."""
    directory = tmp_path / ("d" * (107 - len(str(tmp_path)) - len("//x.sock")))
    path = str(directory / "x.sock")
    assert len(path) == 107
    with Listener(path):
        connect(path).close()
    assert os.listdir(directory) == []


@pytest.mark.parametrize(("mode", "accepted"), [(0o755, True), (0o770, True), (0o1777, True), (0o777, False)])
def test_a_directory_open_to_all_is_no_place_for_a_socket(tmp_path: Path, mode: int, accepted: bool) -> None:
    """Where any user can replace a socket neither side trusts it: 78 for the server, 77 for the client."""
    directory = tmp_path / "ipc"
    directory.mkdir()
    with Listener(str(directory / "x.sock")):
        directory.chmod(mode)
        if accepted:
            connect(str(directory / "x.sock")).close()
            Listener(str(directory / "y.sock")).close()
            return
        with pytest.raises(CallDenied) as denied:
            connect(str(directory / "x.sock"))
        assert denied.value.reason == f"any user can replace the sockets in {directory}"
        with pytest.raises(ConfigError) as error:
            Listener(str(directory / "y.sock"))
        assert error.value.reason == f"any user can replace the sockets in {directory}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize(("owner", "accepted"), [(0, False), (4321, True)])
def test_the_server_of_another_user_is_not_trusted(tmp_path: Path, owner: int, accepted: bool) -> None:
    """Any user can make a socket in a sticky directory: one of another user is trusted if the directory is its own."""
    directory = tmp_path / "ipc"
    directory.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / "x.sock"))
        os.chown(directory, owner, owner)
        os.seteuid(4321)  # listen(2) takes the credentials that a caller sees: unix(7)
        try:
            listening.listen()
        finally:
            os.seteuid(0)
        if accepted:
            connect(str(directory / "x.sock")).close()
            return
        with pytest.raises(CallDenied) as error:
            connect(str(directory / "x.sock"))
        assert error.value.reason.startswith(f"uid 4321 serves {directory}/x.sock, and is neither root")


@pytest.mark.long
def test_of_two_that_start_at_once_one_listens(tmp_path: Path) -> None:
    """400 times two processes want one name: exactly one gets it, whatever stale socket its last holder left."""
    path = str(tmp_path / "x.sock")
    for _ in range(400):
        verdict, go = os.pipe(), os.pipe()
        pids = [_contender(path, go[0], verdict[1]) for _ in range(2)]
        os.write(go[1], b"..")
        verdicts = {os.read(verdict[0], 1), os.read(verdict[0], 1)}
        connect(path).close()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for fd in (*verdict, *go):
            os.close(fd)
        assert verdicts == {b"L", b"B"}


def _contender(path: str, go: int, verdict: int) -> int:
    """Fork a process that tries to listen when told, says L or B for listening or busy, and waits to be killed."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.read(go, 1)
        try:
            listener = Listener(path)
        except ServiceBusy:
            os.write(verdict, b"B")
        else:
            os.write(verdict, b"L")
            signal.pause()
            listener.close()
        signal.pause()
    finally:
        os._exit(0)


def test_a_listener_is_there_with_its_mode_and_then_gone(tmp_path: Path) -> None:
    """The socket has its mode from the start, and nothing is left in the end."""
    path = tmp_path / "new" / "x.sock"
    with Listener(str(path), 0o600):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        connect(str(path)).close()
    assert list(path.parent.iterdir()) == []


def test_a_stale_socket_is_replaced_and_a_live_one_never(tmp_path: Path) -> None:
    """Neither ours nor another process' live socket is displaced; a stale one is, and so is what its server left."""
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(str(path))
        foreign.listen()
        with pytest.raises(ServiceBusy):
            Listener(str(path))
    (tmp_path / "x.sock.new").touch()
    with Listener(str(path)):
        inode = path.stat().st_ino
        with pytest.raises(ServiceBusy):
            Listener(str(path))
        assert path.stat().st_ino == inode


def test_a_listener_removes_only_its_own_socket(tmp_path: Path) -> None:
    """A file that replaced it stays."""
    path = tmp_path / "x.sock"
    with Listener(str(path)):
        path.unlink()
        path.write_text("mine")
    assert path.read_text() == "mine"


def test_what_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    """A file in the socket's place is data."""
    (tmp_path / "x.sock").write_text("data")
    with pytest.raises(ConfigError):
        Listener(str(tmp_path / "x.sock"))
    with pytest.raises(ConfigError):
        Listener("/no/such/directory/x.sock")


def test_long_paths_work(tmp_path: Path) -> None:
    """A path over the kernel's 107 bytes can be listened on and connected to."""
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    with Listener(str(directory / "x.sock")):
        connect(str(directory / "x.sock")).close()
    with pytest.raises(ServiceUnavailable):
        connect(str(directory / "x.sock"))


def contend(path: str, gate: tuple[int, int], verdict: int) -> None:
    """Try to listen as soon as the gate's writing end is closed, report how it went, and stay until killed."""
    os.close(gate[1])
    os.read(gate[0], 1)
    try:
        listener = Listener(path)
        os.write(verdict, b"listens ")
    except ServiceBusy:
        os.write(verdict, b"refused ")
    signal.pause()
    listener.close()


def test_of_several_servers_at_once_exactly_one_listens(tmp_path: Path) -> None:
    """However closely servers start, one listens and the others are refused; then the next, over a stale socket."""
    for _ in range(50):
        gate, (readable, writable) = os.pipe(), os.pipe()
        contenders = []
        for _contender in range(4):
            pid = os.fork()
            if not pid:
                contend(str(tmp_path / "x.sock"), gate, writable)
            contenders.append(pid)
        os.close(gate[1])
        reported = b"".join(os.read(readable, 8) for _ in contenders)
        for pid in contenders:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for fd in (gate[0], readable, writable):
            os.close(fd)
        assert sorted(reported.split()) == [b"listens", b"refused", b"refused", b"refused"]
