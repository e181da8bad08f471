"""A service in the test's own process, so that a test can look into it, and raw clients of it."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, TypeVar

from sidecall.policy.callers import Callers
from sidecall.policy.config import Listen, Service
from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode
from sidecall.protocol.connection import Connection
from sidecall.protocol.states import CLIENT
from sidecall.server.service import CallService
from sidecall.supervise.forkserver import ForkServer
from sidecall.supervise.process import SupervisorPool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Result = TypeVar("Result")

LISTENERS = (Listen("x", Callers(frozenset({os.geteuid()}))),)
HELLO = m.Hello(m.VERSION, (), (), "test")


def with_service(
    config: Service, main: Callable[[CallService], Awaitable[Result]], *, is_verbose: bool = False
) -> Result:
    """Run a coroutine next to a service; nothing of the service is left afterwards."""
    fork_server = ForkServer.start()

    async def body() -> Result:
        pool = SupervisorPool(fork_server)
        service = CallService(config, is_verbose=is_verbose)
        service.open([], pool)
        try:
            return await main(service)
        finally:
            service.reject_queued()
            service.cancel(0.0)
            await service.idle()
            service.close()
            pool.close()

    try:
        return asyncio.run(body())
    finally:
        fork_server.close()


class RawClient:
    """A connection to a service in this process, message by message."""

    def __init__(self, service: CallService) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.sock = ours
        self._connection = Connection(CLIENT)
        self._received: list[m.Message] = []
        service.receive("x", theirs)

    async def send(self, *messages: m.Message) -> None:
        """Send messages, whether or not the protocol allows them."""
        for message in messages:
            self._connection._conversation.move(CLIENT, type(message))
        await asyncio.get_running_loop().sock_sendall(self.sock, b"".join(map(encode, messages)))

    async def receive(self, kind: type[m.Message]) -> m.Message:
        """Return the next message of a kind; skip others."""
        while True:
            while self._received:
                message = self._received.pop(0)
                if isinstance(message, kind):
                    return message
            data = await asyncio.get_running_loop().sock_recv(self.sock, 1 << 16)
            assert data, f"the connection ended without a {kind.__name__}"
            self._connection.receive_data(data)
            self._received += self._connection.events()

    def close(self) -> None:
        """Close the connection."""
        self.sock.close()
