"""Sockets, descriptors and streams, on real ones."""

from __future__ import annotations

import array
import os
import signal
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from sidecall.errors import ConfigError, ProtocolError, ServiceBusy, ServiceUnavailable, UsageError
from sidecall.transport import descriptors
from sidecall.transport.address import connect, socket_path
from sidecall.transport.credentials import Peer, peer_of
from sidecall.transport.descriptors import Descriptors
from sidecall.transport.listener import Listener
from sidecall.transport.loop import Poller
from sidecall.transport.streams import Sink, Source, own_description

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return two connected sockets."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        yield ours, theirs


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
    """A name that cannot be a file is refused."""
    with pytest.raises(UsageError):
        socket_path(name, {})


def test_descriptors_are_handed_over_once(pair: tuple[socket.socket, socket.socket]) -> None:
    """A received descriptor is taken once; what is left is closed with the bag."""
    before = len(os.listdir("/proc/self/fd"))
    bag = Descriptors()
    descriptors.send(pair[0], b"x", [0, 1, 2])
    assert descriptors.receive(pair[1], 10, bag) == b"x"
    taken = bag.take()
    assert os.fstat(taken).st_ino == os.fstat(0).st_ino
    assert not os.get_inheritable(taken)
    os.close(taken)
    assert len(bag) == 2
    bag.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("count", [4, 5, 253])
def test_more_than_three_descriptors_break_the_protocol(pair: tuple[socket.socket, socket.socket], count: int) -> None:
    """However many are passed, nothing leaks and the peer is at fault."""
    bag = Descriptors()
    pair[0].sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * count))])
    with pytest.raises(ProtocolError):
        descriptors.receive(pair[1], 10, bag)
    bag.close()


def test_a_directory_breaks_the_protocol(pair: tuple[socket.socket, socket.socket], tmp_path: Path) -> None:
    """A directory would lead out of a mount namespace: it is never accepted."""
    bag = Descriptors()
    directory = os.open(tmp_path, os.O_RDONLY)
    descriptors.send(pair[0], b"x", [directory])
    os.close(directory)
    with pytest.raises(ProtocolError):
        descriptors.receive(pair[1], 10, bag)
    bag.close()


def test_the_kernel_says_who_calls(pair: tuple[socket.socket, socket.socket]) -> None:
    """A peer is a uid and a gid; no pid is kept."""
    assert peer_of(pair[0]) == Peer(os.getuid(), os.getgid())


def test_a_listener_is_there_with_its_mode_and_then_gone(tmp_path: Path) -> None:
    """The socket has its mode from the start, and nothing is left in the end."""
    path = tmp_path / "new" / "x.sock"
    with Listener(str(path), 0o600):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        connect(str(path)).close()
    assert list(path.parent.iterdir()) == []


def test_a_stale_socket_is_replaced_and_a_live_one_never(tmp_path: Path) -> None:
    """Neither ours nor somebody else's live socket is displaced; a stale one is, and so are its leavings."""
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
    """A socket that somebody put in its place stays."""
    path = tmp_path / "x.sock"
    with Listener(str(path)):
        path.unlink()
        path.write_text("mine")
    assert path.read_text() == "mine"


def test_what_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    """A file in the socket's place is somebody's data."""
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
    """Try to listen as soon as the gate's writing end is closed, say how it went, and stay until killed."""
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
    """However closely servers start, one listens and the others are told; then the next, over a stale socket."""
    for _ in range(50):
        gate, (readable, writable) = os.pipe(), os.pipe()
        contenders = []
        for _contender in range(4):
            pid = os.fork()
            if not pid:
                contend(str(tmp_path / "x.sock"), gate, writable)
            contenders.append(pid)
        os.close(gate[1])
        said = b"".join(os.read(readable, 8) for _ in contenders)
        for pid in contenders:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for fd in (gate[0], readable, writable):
            os.close(fd)
        assert sorted(said.split()) == [b"listens", b"refused", b"refused", b"refused"]


def test_a_source_reads_only_what_it_may() -> None:
    """A source stops at its allowance and goes on when it gets more, to the end."""
    loop, got = Poller(), bytearray()
    ended: list[OSError | None] = []
    readable, writable = os.pipe()
    os.write(writable, b"x" * 100)
    os.close(writable)
    source = Source(loop, readable, got.extend, ended.append, 30)
    source.allow(50)
    loop.run_once()
    loop.run_once()
    assert len(got) == 50
    source.allow(1000)
    while not ended:
        loop.run_once()
    assert (len(got), source.closed, ended) == (100, True, [None])


@pytest.mark.parametrize("nonblocking", [True, False])
def test_a_sink_writes_everything_in_order(nonblocking: bool) -> None:
    """A sink whose pipe is full goes on as it empties, and closes at the end."""
    loop = Poller()
    readable, writable = os.pipe()
    os.set_blocking(writable, not nonblocking)
    written: list[int] = []
    closed: list[OSError | None] = []
    sink = Sink(loop, writable, written.append, closed.append, nonblocking=nonblocking)
    data = os.urandom(200_000)
    sink.write(data)
    sink.end()
    with ThreadPoolExecutor(1) as pool, open(readable, "rb") as reader:
        got = pool.submit(reader.read)
        while not sink.closed:
            loop.run_once()
        assert (got.result(), sum(written), closed) == (data, len(data), [None])


def test_a_sink_reports_a_reader_that_is_gone() -> None:
    """EPIPE is reported once, and what follows is dropped."""
    readable, writable = os.pipe()
    os.close(readable)
    errors: list[OSError | None] = []
    sink = Sink(Poller(), writable, lambda _: None, errors.append, nonblocking=True)
    sink.write(b"x")
    sink.write(b"y")
    assert [type(error) for error in errors] == [BrokenPipeError]
    assert sink.closed


def test_a_shared_description_keeps_its_flags() -> None:
    """Reading an inherited pipe without blocking does not make it non-blocking for others."""
    readable, writable = os.pipe()
    own, never_blocks = own_description(readable, os.O_RDONLY)
    assert never_blocks
    assert os.get_blocking(readable)
    assert not os.get_blocking(own)
    for fd in (readable, writable, own):
        os.close(fd)
