"""The library on asyncio: what `api` does, as a coroutine. It needs no thread."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from sidecall.client.api import Streams, completed, request_for
from sidecall.client.attempt import Attempt, Reports
from sidecall.client.named import named_service
from sidecall.client.streams import stream_plans
from sidecall.errors import DescriptorsLost
from sidecall.transport.address import Patience, connect_once, pause_after

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from socket import socket

    from sidecall.client.api import CompletedCall, Stream, Text
    from sidecall.client.attempt import Request
    from sidecall.client.streams import StreamPlan
    from sidecall.outcome import Outcome
    from sidecall.transport.loop import Timer


async def run_async(
    service: str,
    command: Sequence[Text],
    *,
    input: bytes | None = None,  # noqa: A002 the name that subprocess.run has
    capture_output: bool = False,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    cwd: Text | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    connect_timeout: float = 0.0,
    queue: bool = True,
    relay: bool = False,
    check: bool = False,
) -> CompletedCall:
    """Run a command of a service, and wait for its end on the running event loop.

    Takes, returns and raises what `run` does. Cancelling the task, by `asyncio.timeout` for one, cancels the call: all
    its processes are terminated within the command's grace period, and the cancellation continues once none is left.
    Cancel again to return immediately; the server finishes the cleanup.
    """
    with named_service(service) as path, Streams() as streams:
        fds = streams.open(stdin, stdout, stderr, input, capture_output=capture_output)
        request = request_for(
            path,
            command,
            fds,
            cwd=cwd,
            env=env,
            timeout=timeout,
            connect_timeout=connect_timeout,
            queue=queue,
            relay=relay,
        )
        return completed(await _call(request), streams, check=check)


async def _call(request: Request) -> Outcome | bytes:
    for plan in stream_plans(request.streams, relay=request.relay):
        try:
            return await _attempt(request, plan)
        except DescriptorsLost:
            if not plan.passes:
                raise
    raise AssertionError("a call without passed descriptors cannot lose them")


async def _attempt(request: Request, plan: StreamPlan) -> Outcome | bytes:
    done = asyncio.Event()
    sock = await _connect(request.path, request.connect_timeout)
    attempt = Attempt(AnyFileLoop(asyncio.get_running_loop()), sock, request, plan, Reports(), on_done=done.set)
    try:
        attempt.start()
        await _wait(attempt, done)
    except OSError as error:
        raise attempt.resource_error(error) from error
    finally:
        attempt.close()
    return attempt.result()


async def _wait(attempt: Attempt, done: asyncio.Event) -> None:
    try:
        await done.wait()
    except asyncio.CancelledError:
        attempt.cancel()
        await done.wait()  # another cancellation ends that at once
        raise


async def _connect(path: str, connect_timeout: float) -> socket:
    """Do what `transport.address.connect` does."""
    patience = Patience(connect_timeout)
    while True:
        try:
            return connect_once(path, None)
        except OSError as error:
            pause = pause_after(error, path, patience)
        await asyncio.sleep(pause)


class AnyFileLoop:
    """An asyncio loop that takes any file, as poll(2) does.

    epoll(7) takes neither regular files nor directories nor /dev/null (EPERM), which are ready at any time. Here each
    is called back once in every iteration of the loop.

    Args:
        loop: the loop itself.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._readers: dict[int, asyncio.Handle] = {}
        self._writers: dict[int, asyncio.Handle] = {}

    def add_reader(self, fd: int, callback: Callable[[], None], /) -> None:
        """See `Loop.add_reader`."""
        try:
            self._loop.add_reader(fd, callback)
        except PermissionError:
            self._call(self._readers, fd, callback)

    def remove_reader(self, fd: int, /) -> None:
        """See `Loop.remove_reader`."""
        if (handle := self._readers.pop(fd, None)) is None:
            self._loop.remove_reader(fd)
        else:
            handle.cancel()

    def add_writer(self, fd: int, callback: Callable[[], None], /) -> None:
        """See `Loop.add_writer`."""
        try:
            self._loop.add_writer(fd, callback)
        except PermissionError:
            self._call(self._writers, fd, callback)

    def remove_writer(self, fd: int, /) -> None:
        """See `Loop.remove_writer`."""
        if (handle := self._writers.pop(fd, None)) is None:
            self._loop.remove_writer(fd)
        else:
            handle.cancel()

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Timer:
        """See `Loop.call_later`."""
        return self._loop.call_later(delay, callback)

    def _call(self, handles: dict[int, asyncio.Handle], fd: int, callback: Callable[[], None]) -> None:
        handles[fd] = self._loop.call_soon(partial(self._call_again, handles, fd, callback))

    def _call_again(self, handles: dict[int, asyncio.Handle], fd: int, callback: Callable[[], None]) -> None:
        self._call(handles, fd, callback)  # before the callback, which may remove it
        callback()
