"""The library on asyncio, on a real service."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import sidecall
from sidecall.client.aio import AnyFileLoop
from sidecall.errors import NoSuchCommand, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Server

both_ways = pytest.mark.parametrize("relay", [False, True], ids=["passed", "relayed"])

TRAPS_TERM = "trap 'echo stopped >> \"$0\"; exit' TERM; echo $$; while :; do sleep 0.05; done"
IGNORES_TERM = "trap '' TERM; echo $$; while :; do sleep 0.05; done"


async def readable(file: int | socket.socket) -> None:
    """Wait until there is something to read, or to accept."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(file, ready.set)
    await ready.wait()
    loop.remove_reader(file)


class Started:
    """A call in a task of its own whose command has printed its process id."""

    def __init__(self, script: str, *words: str, relay: bool = False) -> None:
        self._readable, writable = os.pipe()
        call = sidecall.run_async("tool", ["sh", "-c", script, *words], stdout=writable, relay=relay)
        self.task = asyncio.ensure_future(call)
        self.task.add_done_callback(lambda _: os.close(writable))
        self.pid = 0

    async def wait(self) -> None:
        """Wait until the command runs."""
        await readable(self._readable)
        self.pid = int(os.read(self._readable, 100))
        os.close(self._readable)

    @property
    def runs(self) -> bool:
        """Tell whether the command is there."""
        return Path(f"/proc/{self.pid}").exists()


async def started(script: str, *words: str, relay: bool = False) -> Started:
    """Start a call and wait until its command runs."""
    call = Started(script, *words, relay=relay)
    await call.wait()
    return call


@both_ways
def test_input_and_output(tool: Server, relay: bool) -> None:
    """What goes in comes out, and stderr stays apart."""
    data = os.urandom(3 << 20)
    done = asyncio.run(
        sidecall.run_async(
            "tool", ["sh", "-c", "cat; echo apart >&2; exit 3"], input=data, capture_output=True, relay=relay
        )
    )
    assert (done.stdout == data, done.stderr, done.returncode) == (True, b"apart\n", 3)


@both_ways
def test_many_calls_at_once(serve: Callable[..., Server], relay: bool) -> None:
    """A hundred calls share four slots, each gets its own answer, and none needs a thread."""
    serve("--allow-any", "tool", "--slots", "4", "--queue", "100")

    async def main() -> list[bytes | None]:
        calls = [
            sidecall.run_async("tool", ["echo", str(number)], stdout=sidecall.PIPE, relay=relay)
            for number in range(100)
        ]
        done = await asyncio.gather(*calls)
        assert threading.enumerate() == [threading.main_thread()]
        return [one.stdout for one in done]

    assert asyncio.run(main()) == [b"%d\n" % number for number in range(100)]


@both_ways
def test_cancelling_waits_until_nothing_is_left(tool: Server, tmp_path: Path, relay: bool) -> None:
    """A cancelled task ends once its command has: what that did on TERM has been done."""
    trace = tmp_path / "trace"

    async def main() -> bool:
        call = await started(TRAPS_TERM, str(trace), relay=relay)
        call.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call.task
        return call.runs

    assert asyncio.run(main()) is False
    assert trace.read_text() == "stopped\n"


@both_ways
def test_cancelling_at_any_moment_of_the_start(tool: Server, relay: bool) -> None:
    """A call that is cancelled before it is known to have started is stopped all the same, and nothing fails inside."""
    failures = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        for turns in range(40):
            call = asyncio.ensure_future(sidecall.run_async("tool", ["sleep", "60"], relay=relay))
            for _ in range(turns // 4):
                await asyncio.sleep(turns % 4 / 10_000)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    asyncio.run(main())
    assert failures == []


def test_cancelling_again_does_not_wait(serve: Callable[..., Server]) -> None:
    """The second cancellation leaves a command that takes its time; the service has it in hand."""
    serve("--allow-any", "tool", "--grace", "60")

    async def main() -> bool:
        call = await started(IGNORES_TERM)
        call.task.cancel()
        await asyncio.sleep(0)
        call.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call.task
        runs = call.runs
        os.kill(call.pid, signal.SIGKILL)
        return runs

    assert asyncio.run(main()) is True


def test_a_deadline_of_asyncio_cancels(tool: Server) -> None:
    """`asyncio.timeout` is a caller's deadline, the queue included."""

    async def main() -> None:
        async with asyncio.timeout(0.05):
            await sidecall.run_async("tool", ["sleep", "60"])

    with pytest.raises(TimeoutError):
        asyncio.run(main())


def test_cancelling_a_call_that_waits(serve: Callable[..., Server]) -> None:
    """A call that is cancelled in the queue is never started, and the one before it goes on."""
    server = serve("-v", "--allow-any", "tool", "--slots", "1")

    async def main() -> int:
        first = await started("trap 'exit 5' USR1; echo $$; while :; do sleep 0.05; done")
        second = asyncio.ensure_future(sidecall.run_async("tool", ["true"]))
        while " queued ahead=0" not in server.log():
            await asyncio.sleep(0.01)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        os.kill(first.pid, signal.SIGUSR1)
        return (await first.task).returncode

    assert asyncio.run(main()) == 5
    assert server.log().count(" started\n") == 1


@both_ways
def test_any_file_can_be_a_stream(tool: Server, tmp_path: Path, relay: bool) -> None:
    """Regular files and /dev/null, which epoll does not take, are streams as pipes are."""
    data = os.urandom(1 << 20)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)

    async def main() -> bytes | None:
        with source.open("rb") as file, target.open("wb") as out, open(os.devnull, "rb") as null:
            await sidecall.run_async("tool", ["cat"], stdin=file, stdout=out, relay=relay, check=True)
            done = await sidecall.run_async("tool", ["cat"], stdin=null, stdout=sidecall.PIPE, relay=relay)
        return done.stdout

    assert asyncio.run(main()) == b""
    assert target.read_bytes() == data


def test_output_that_cannot_be_written_is_no_success(tool: Server) -> None:
    """A full disk under a relayed stdout makes the outcome lost, whatever the command returned."""

    async def main() -> sidecall.CompletedCall:
        with open("/dev/full", "wb") as full:
            return await sidecall.run_async("tool", ["echo", "out"], stdout=full, relay=True)

    done = asyncio.run(main())
    assert (done.outcome.kind, done.returncode) == ("lost", 125)
    assert done.outcome.reason == "cannot write stdout: No space left on device"


def test_errors_are_those_of_run(tool: Server) -> None:
    """What is refused raises, with words for a person; `check` raises for the rest."""
    with pytest.raises(NoSuchCommand, match="no such command: 'nope'"):
        asyncio.run(sidecall.run_async("tool", ["nope"]))
    with pytest.raises(ServiceUnavailable, match="the socket is missing"):
        asyncio.run(sidecall.run_async("nobody", ["true"]))
    with pytest.raises(sidecall.CallFailed) as error:
        asyncio.run(sidecall.run_async("tool", ["sh", "-c", "echo out; exit 9"], capture_output=True, check=True))
    assert (error.value.completed.returncode, error.value.completed.stdout) == (9, b"out\n")


def test_a_lost_connection_is_told(directory: Path) -> None:
    """A service that goes without a word leaves the outcome unknown."""

    async def go_away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async def main() -> None:
        async with await asyncio.start_unix_server(go_away, directory / "tool.sock"):
            await sidecall.run_async("tool", ["true"])

    with pytest.raises(sidecall.ConnectionLost, match="the exit status of the command is unknown"):
        asyncio.run(main())


def test_waiting_for_a_service(serve: Callable[..., Server]) -> None:
    """`connect_timeout` gives a service time to start, while the loop continues."""

    async def main() -> int:
        call = asyncio.ensure_future(sidecall.run_async("tool", ["true"], connect_timeout=30))
        await asyncio.sleep(0)  # it finds no socket
        serve("--allow-any", "tool")
        return (await call).returncode

    assert asyncio.run(main()) == 0


def test_a_crowd_at_the_door_is_waited_for(directory: Path) -> None:
    """While too many others wait to be accepted, a call tries again, whatever its `connect_timeout`."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as other:
        listener.bind(str(directory / "tool.sock"))
        listener.listen(0)
        other.connect(str(directory / "tool.sock"))

        async def main() -> None:
            call = asyncio.ensure_future(sidecall.run_async("tool", ["true"]))
            await asyncio.sleep(0)  # it finds the acceptor full
            listener.accept()[0].close()
            await readable(listener)
            listener.accept()[0].close()
            with pytest.raises(sidecall.ConnectionLost):
                await call

        asyncio.run(main())


def test_the_loop_takes_files_beside_pipes() -> None:
    """A file that epoll refuses is called back for until it is removed, by itself or by another."""

    async def main() -> list[str]:
        loop = AnyFileLoop(asyncio.get_running_loop())
        seen: list[str] = []

        def once(fd: int, word: str) -> None:
            seen.append(word)
            loop.remove_reader(fd)

        null = os.open(os.devnull, os.O_RDWR)
        readable, writable = os.pipe()
        loop.add_reader(null, partial(once, null, "read"))
        loop.add_writer(null, partial(seen.append, "write"))
        loop.add_reader(readable, partial(once, readable, "pipe"))
        while seen.count("write") < 3:
            await asyncio.sleep(0)
        loop.remove_writer(null)
        loop.remove_writer(null)
        os.write(writable, b"x")
        while "pipe" not in seen:
            await asyncio.sleep(0)
        for fd in (null, readable, writable):
            os.close(fd)
        return seen

    assert asyncio.run(main()) == ["read", "write", "write", "write", "pipe"]
