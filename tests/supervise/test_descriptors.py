"""Descriptors that a client passes go straight to its command, whatever they are, and hold up nothing else."""

from __future__ import annotations

import array
import asyncio
import contextlib
import itertools
import os
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from sidecall.errors import DescriptorsLost, ProtocolError, SidecallError
from sidecall.protocol.messages import Pass
from sidecall.supervise import process as process_module
from sidecall.supervise.control import FROM_CLIENT, SAME_AS_STDOUT, UNWANTED, Job
from sidecall.supervise.process import SupervisorDied
from supervise.conftest import shell, with_pool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from sidecall.supervise.process import Process, SupervisorPool

PASS_FRAME = struct.pack(">IB", 0, Pass.number)


def passed(descriptors: Iterable[int], frame: bytes = PASS_FRAME) -> socket.socket:
    """Return a server's end of a connection on which a client has sent descriptors, and which the client has left."""
    client, server = socket.socketpair()
    with client:
        rights = array.array("i", descriptors)
        client.sendmsg([frame], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else [])
    return server


def begin(pool: SupervisorPool, connection: socket.socket, script: str, sources: tuple[int, int, int]) -> Process:
    """Start a shell script on the streams that are on the way; this process closes the connection at once."""
    with connection:
        return pool.spawn(Job([b"sh", b"-c", script.encode()], dict(os.environb), None, 1, False), sources, connection)


@pytest.fixture
def null() -> Iterator[int]:
    """Return a descriptor of /dev/null."""
    fd = os.open(os.devnull, os.O_RDWR)
    yield fd
    os.close(fd)


def test_streams_come_from_where_the_job_names() -> None:
    """Each of given, passed, dropped and same as stdout, for each stream; and nothing else is open in the command."""
    kinds = ("given", "passed", "dropped")
    script = "cat; echo out; echo err >&2; ls /proc/self/fd >&2"

    async def run(pool: SupervisorPool, chosen: tuple[str, ...]) -> list[bytes]:
        pipes = [os.pipe() for _ in range(3)]
        theirs = [pipes[0][0], pipes[1][1], pipes[2][1]]
        os.write(pipes[0][1], b"in\n")
        os.close(pipes[0][1])
        fixed = {"passed": FROM_CLIENT, "dropped": UNWANTED, "same": SAME_AS_STDOUT}
        sources = [fixed.get(kind, theirs[stream]) for stream, kind in enumerate(chosen)]
        sent = [theirs[stream] for stream, kind in enumerate(chosen) if kind in {"passed", "dropped"}]
        connection = passed(sent)
        process = begin(pool, connection, script, (sources[0], sources[1], sources[2]))
        for fd in theirs:
            os.close(fd)
        ended = await process.ended()
        assert ended.status == 0
        found = []
        for fd in (pipes[1][0], pipes[2][0]):
            with open(fd, "rb") as stream:
                found.append(stream.read())
        return found

    async def main(pool: SupervisorPool) -> None:
        for chosen in itertools.product(kinds, kinds, (*kinds, "same")):
            out = b"" if chosen[0] == "dropped" else b"in\n"
            out, err = out + b"out\n", b"err\n0\n1\n2\n3\n"  # the last is the own one of `ls`
            if chosen[2] == "same":
                out, err = out + err, b""
            expected = [b"" if kind == "dropped" else text for kind, text in zip(chosen[1:], (out, err), strict=True)]
            assert await run(pool, chosen) == expected, chosen

    with_pool(main)


@pytest.mark.parametrize(
    ("count", "frame", "error"),
    [
        (0, PASS_FRAME, DescriptorsLost),
        (2, PASS_FRAME, DescriptorsLost),
        (4, PASS_FRAME, ProtocolError),
        (253, PASS_FRAME, ProtocolError),
        (3, b"\0\0\0\0\1", ProtocolError),
        (3, PASS_FRAME[:4], ProtocolError),
    ],
)
def test_what_is_not_three_descriptors_starts_nothing(null: int, count: int, frame: bytes, error: type) -> None:
    """All that arrived are closed, and the supervisor takes the next command."""
    readable, writable = os.pipe()

    async def main(pool: SupervisorPool) -> None:
        connection = passed([writable] * count, frame)
        os.close(writable)
        with pytest.raises(error):
            await begin(pool, connection, "echo started", (FROM_CLIENT,) * 3).ended()
        assert await asyncio.to_thread(os.read, readable, 1) == b""
        assert (await begin(pool, passed([null] * 3), "exit 3", (FROM_CLIENT,) * 3).ended()).status == 3 << 8

    with_pool(main)
    os.close(readable)


@pytest.mark.parametrize("stream", range(3))
def test_a_directory_is_not_passed_on(tmp_path: Path, null: int, stream: int) -> None:
    """A command could leave its own file system through it."""
    directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)

    async def main(pool: SupervisorPool) -> None:
        descriptors = [null] * 3
        descriptors[stream] = directory
        with pytest.raises(ProtocolError):
            await begin(pool, passed(descriptors), "exit 0", (FROM_CLIENT,) * 3).ended()

    with_pool(main)
    os.close(directory)


@pytest.mark.parametrize(
    ("sources", "script", "count"),
    [
        ((FROM_CLIENT,) * 3, "exit 3", 3),
        ((UNWANTED, FROM_CLIENT, FROM_CLIENT), "exit 3", 3),
        ((FROM_CLIENT,) * 3, "exec /nowhere", 3),
        ((FROM_CLIENT,) * 3, "exit 3", 4),
        ((FROM_CLIENT,) * 3, "exit 3", 200),
    ],
    ids=["stream", "dropped", "not executed", "one more", "many more"],
)
def test_a_socket_that_lingers_holds_up_no_other_command(
    monkeypatch: pytest.MonkeyPatch,
    null: int,
    lingering: int,
    sources: tuple[int, int, int],
    script: str,
    count: int,
) -> None:
    """Its last close(2) waits for ten minutes; others run, the command itself can be stopped, the server ends."""
    monkeypatch.setattr(process_module, "STOP_MARGIN", 0.1)

    async def main(pool: SupervisorPool) -> None:
        connection = passed([lingering, *[null] * (count - 1)])
        os.close(lingering)
        process = begin(pool, connection, script, sources)
        for _ in range(3):
            assert (await (await shell(pool, "exit 4")).ended()).status == 4 << 8
        process.stop(0)
        with contextlib.suppress(SidecallError, SupervisorDied):
            await process.ended()

    with_pool(main)


def test_a_connection_with_descriptors_is_discarded_without_waiting(null: int, lingering: int) -> None:
    """Another process closes what is queued in it."""

    async def main(pool: SupervisorPool) -> None:
        connection = passed([lingering, null])
        os.close(lingering)
        pool.discard(connection)
        for _ in range(3):
            assert (await (await shell(pool, "exit 4")).ended()).status == 4 << 8

    with_pool(main)


def test_many_connections_are_discarded() -> None:
    """Whatever is queued in them is closed, and this process has none of them open any more."""
    count = 300
    before = len(os.listdir("/proc/self/fd"))
    readable, writable = os.pipe()

    async def main(pool: SupervisorPool) -> None:
        await (await shell(pool, "exit 0")).ended()
        for _ in range(count):
            pool.discard(passed([writable] * 5))
        os.close(writable)
        assert await asyncio.to_thread(os.read, readable, 1) == b""
        assert (await (await shell(pool, "exit 4")).ended()).status == 4 << 8

    with_pool(main)
    os.close(readable)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_job_that_cannot_be_sent_fails_and_keeps_nothing(null: int) -> None:
    """As when the connection has been closed by the time its command is to start."""
    before = len(os.listdir("/proc/self/fd"))

    async def main(pool: SupervisorPool) -> None:
        connection = passed([])
        connection.shutdown(socket.SHUT_RDWR)
        with pytest.raises(SidecallError):
            await begin(pool, connection, "exit 0", (FROM_CLIENT, null, null)).ended()

    with_pool(main)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_client_that_has_gone_leaves_its_descriptors_to_its_command(null: int) -> None:
    """They are not duplicated anywhere else: the command has the only write end, and its exit is the end of file."""
    readable, writable = os.pipe()

    async def main(pool: SupervisorPool) -> None:
        process = begin(pool, passed([null, writable, null]), "echo out", (FROM_CLIENT,) * 3)
        os.close(writable)
        assert await asyncio.to_thread(os.read, readable, 10) == b"out\n"
        assert await asyncio.to_thread(os.read, readable, 10) == b""
        await process.ended()

    with_pool(main)
    os.close(readable)
