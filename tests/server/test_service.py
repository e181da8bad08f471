"""What a service does with connections: refused ones, unique call ids, and memory that is returned."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from server.in_process import HELLO, LISTENERS, RawClient, with_service
from sidecall.policy.config import Service
from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Server
    from sidecall.server.service import CallService

SERVICE = Service("x", None, slots=1, listeners=LISTENERS)
BIG = tuple([b"x" * 100_000] * 18)
"""Arguments as large as execve(2) takes them, and nearly as large as a CALL can be."""


def call(command: bytes, *arguments: bytes, options: tuple[bytes, ...] = ()) -> m.Call:
    """Return a CALL without streams."""
    return m.Call(command, arguments, (), b"", b"/", (), options, m.NONE, m.NONE, m.NONE)


@pytest.mark.parametrize(
    ("per_caller", "is_ending", "reason"),
    [
        (0, False, f"uid {os.geteuid()} has 0 connections to the socket x already"),
        (1, True, "the service is shutting down"),
        (0, True, "the service is shutting down"),
    ],
)
def test_a_refused_connection_has_one_reason(
    per_caller: int, is_ending: bool, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The client and the log get the same: it is one too many, or one too late."""

    async def main(service: CallService) -> None:
        if is_ending:
            service.reject_queued()
        client = RawClient(service)
        refused = await client.receive(m.Refused)
        assert isinstance(refused, m.Refused)
        assert (refused.code, refused.reason) == (75, reason)
        client.close()

    with_service(Service("x", None, per_caller=per_caller, listeners=LISTENERS), main, is_verbose=True)
    logged = capfd.readouterr().err
    assert f'connection refused uid={os.geteuid()} listener=x code=75 reason="{reason}"' in logged


async def _ended(service: CallService, client: RawClient) -> None:
    await client.send(HELLO, call(b"true", *BIG))
    await client.receive(m.Exit)


async def _refused(service: CallService, client: RawClient) -> None:
    await client.send(HELLO, call(b"true", *BIG, b"\0"))
    await client.receive(m.Refused)


async def _malformed(service: CallService, client: RawClient) -> None:
    await client.send(HELLO, call(b"true", *BIG, options=(b"unknown=1",)))
    await client.receive(m.Refused)


async def _left_while_waiting(service: CallService, client: RawClient) -> None:
    first = RawClient(service)
    await first.send(HELLO, call(b"sleep", b"60"))
    await first.receive(m.Started)
    await client.send(HELLO, call(b"true", *BIG))
    await client.receive(m.Queued)
    client.close()
    while len(service._sessions) > 1:
        await asyncio.sleep(0.001)
    first.close()


async def _left_while_running(service: CallService, client: RawClient) -> None:
    await client.send(HELLO, call(b"sleep", b"60", *BIG))
    await client.receive(m.Started)


async def _interrupted_while_waiting(service: CallService, client: RawClient) -> None:
    first = RawClient(service)
    await first.send(HELLO, call(b"sleep", b"60"))
    await first.receive(m.Started)
    await client.send(HELLO, call(b"true", *BIG), m.Signal(2))
    await client.receive(m.Exit)
    first.close()


@pytest.mark.parametrize(
    "way",
    [_ended, _refused, _malformed, _left_while_waiting, _left_while_running, _interrupted_while_waiting],
)
def test_an_ended_call_is_no_garbage_for_the_collector(way: Callable[..., asyncio.Future[None]]) -> None:
    """However a call ends, reference counts free it and its session: the collector finds no circle."""

    async def main(service: CallService) -> list[object]:
        found: list[object] = []
        for _ in range(2):  # the first fills the caches
            gc.collect()
            gc.disable()
            client = RawClient(service)
            await way(service, client)
            client.close()
            del client
            await service.idle()
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            gc.set_debug(0)
            found = [thing for thing in gc.garbage if type(thing).__module__.startswith("sidecall")]
            found += [thing for thing in gc.garbage if isinstance(thing, bytes) and len(thing) > 1000]
            gc.garbage.clear()
            gc.enable()
        return found

    try:
        assert with_service(SERVICE, main) == []
    finally:
        gc.set_debug(0)
        gc.enable()


def resident(pid: int) -> int:
    """Return the bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def connect(server: Server, *messages: m.Message) -> socket.socket:
    """Connect and send messages."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(60)
    sock.connect(str(server.path))
    sock.sendall(b"".join(map(encode, (HELLO, *messages))))
    return sock


def read_until(sock: socket.socket, message_type: type[m.Message]) -> None:
    """Read until the header of a message without payload variety has come: its type follows the length."""
    data = b""
    while bytes([message_type.number]) not in _types(data):
        received = sock.recv(1 << 16)
        assert received, data
        data += received


def _types(data: bytes) -> bytes:
    types = bytearray()
    while len(data) >= 5:
        types.append(data[4])
        data = data[5 + int.from_bytes(data[:4], "big") :]
    return bytes(types)


def test_memory_of_large_calls_is_returned(serve: Callable[..., Server]) -> None:
    """200 calls of 2 MiB that wait and whose clients leave, that are refused, and that end: within 5 MB of before."""
    server = serve("--allow-any", "x", "--slots", "1")
    with connect(server, call(b"true", *BIG)) as sock:
        read_until(sock, m.Exit)
    before = resident(server.process.pid)
    idle = len(os.listdir(f"/proc/{server.process.pid}/fd")) + 4  # and what a supervisor more has
    with contextlib.ExitStack() as open_sockets:
        first = open_sockets.enter_context(connect(server, call(b"sleep", b"60")))
        read_until(first, m.Started)
        for number in range(200):
            sock = open_sockets.enter_context(connect(server))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sock.sendall(encode(call(b"true", *BIG)))
            if number < 30:  # of the others some are refused: one user can have the server hold 64 MiB
                read_until(sock, m.Queued)
        assert resident(server.process.pid) > before + 30 * sum(map(len, BIG))
    while len(os.listdir(f"/proc/{server.process.pid}/fd")) > idle:  # until the server has let go of all of them
        time.sleep(0.01)
    for arguments, answer in (((*BIG, b"\0"), m.Refused), (BIG, m.Exit)):
        for _ in range(200):
            with connect(server, call(b"true", *arguments)) as sock:
                read_until(sock, answer)
    while resident(server.process.pid) > before + 5_000_000:
        with connect(server, m.Ping()) as sock:
            read_until(sock, m.Pong)

    assert server.process.poll() is None
