"""Bridge mode: what an app is told of its peer, and how many run."""

from __future__ import annotations

import array
import os
import socket
import time
from typing import TYPE_CHECKING

from sidecall.server.bridge import ucspi_environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Server


def test_an_app_is_told_of_its_peer(tmp_path: Path) -> None:
    """By UCSPI's variables: the service's path, the client's if it has one, and its uid and gid."""
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
        listening.bind(str(tmp_path / "x"))
        listening.listen()
        client.bind(str(tmp_path / "client"))
        client.connect(str(tmp_path / "x"))
        accepted, _ = listening.accept()
        with accepted:
            assert ucspi_environment(accepted, "/path") == {
                b"PROTO": b"IPC",
                b"IPCLOCALPATH": b"/path",
                b"IPCREMOTEPATH": os.fsencode(tmp_path / "client"),
                b"IPCREMOTEEUID": str(os.geteuid()).encode(),
                b"IPCREMOTEEGID": str(os.getegid()).encode(),
            }


def test_one_connection_too_many_waits(serve: Callable[..., Server]) -> None:
    """It is served when another one has ended."""
    server = serve("--max-children", "1", "echo", "cat")
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        for sock in (first, second):
            sock.settimeout(20)
            sock.connect(str(server.path))
            sock.sendall(b"hello")
        assert first.recv(10) == b"hello"
        second.setblocking(False)
        try:
            early = second.recv(10)
        except BlockingIOError:
            early = b""
        assert early == b""
        second.settimeout(20)
        first.shutdown(socket.SHUT_WR)
        assert first.recv(10) == b""
        assert second.recv(10) == b"hello"


def test_a_connection_that_was_not_accepted_does_not_hold_up_the_end(
    serve: Callable[..., Server], lingering: int
) -> None:
    """Closing the listener drops it, and with it a descriptor that its client has sent: here one that lingers."""
    server = serve("--max-children", "1", "echo", "cat")
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        first.settimeout(20)
        first.connect(str(server.path))
        first.sendall(b"hello")
        assert first.recv(10) == b"hello"
        second.connect(str(server.path))
        second.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [lingering]))])
        os.close(lingering)
        server.process.terminate()
        while server.path.exists():
            time.sleep(0.01)
    assert server.process.wait(60) == 0
