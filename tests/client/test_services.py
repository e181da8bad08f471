"""The services of a directory, each with its state."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from sidecall.client.services import NOT_ANSWERING, SERVING, STALE, services
from sidecall.errors import ServiceUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Server


def test_each_socket_has_a_state(tool: Server, directory: Path) -> None:
    """A service, a socket that nobody listens on, one that does not answer, a file; what is no .sock is none."""
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(directory / "stale.sock"))
    (directory / "file.sock").write_text("")
    (directory / "other").write_text("")
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(directory / "mute.sock"))
        mute.listen()
        found = {each.name: each for each in services(str(directory), timeout=1.0)}
    assert {name: each.state for name, each in found.items()} == {
        "file": NOT_ANSWERING, "mute": NOT_ANSWERING, "stale": STALE, "tool": SERVING,
    }  # fmt: skip
    reply = found["tool"].reply
    assert reply is not None
    assert (reply.load.number(b"slots"), found["tool"].reason) == (4, "")
    assert all(each.reason for name, each in found.items() if name != "tool")


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """It is an error, and an empty one is no service."""
    assert services(str(tmp_path)) == []
    for path in (tmp_path / "gone", tmp_path / "file"):
        (tmp_path / "file").write_text("")
        with pytest.raises(ServiceUnavailable, match=f"the directory {path} of the sockets is missing"):
            services(str(path))
