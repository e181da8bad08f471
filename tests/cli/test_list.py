"""`sidecall list`: each service of the directory with its state."""

from __future__ import annotations

import json
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from sidecall.client.services import services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Run, Server


@contextmanager
def listening(path: Path, *, uid: int = 0) -> Iterator[socket.socket]:
    """Listen on a socket, as another user if `uid` is one."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        if uid:
            os.seteuid(uid)
        try:
            listener.listen()
        finally:
            if uid:
                os.seteuid(0)
        yield listener


def test_every_service_is_listed_with_its_state(serve: Callable[..., Server], sidecall: Run, directory: Path) -> None:
    """One that serves, one that has ended, a socket that is closed without an answer; other files are left out."""
    serve("--allow-any", "tool", "--slots", "3")
    (directory / "file").touch()
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(directory / "old.sock"))
    with listening(directory / "deaf.sock"):
        found = services(str(directory), timeout=0.1)
        assert [(each.name, each.state) for each in found if each.name != "tool"] == [
            ("deaf", "not answering"),
            ("old", "stale socket"),
        ]
    done = sidecall("list")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert [line[:23].split("  ")[0] for line in lines] == ["service", "deaf", "old", "tool"]
    assert lines[3].split("  ", 1)[1].split() == ["serving", "0", "of", "3", "slots", "in", "use,", "0", "waiting"]
    assert [each["state"] for each in json.loads(sidecall("list", "--json").stdout)] == ["stale socket"] * 2 + [
        "serving"
    ]
    assert sidecall("list", "-q").stdout == b"tool\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_service_that_is_not_trusted_is_refused(directory: Path) -> None:
    """It is another user's."""
    with listening(directory / "other.sock", uid=1):
        (found,) = services(str(directory))
    assert (found.state, found.reason[:13]) == ("refused", "uid 1 serves ")


@pytest.mark.parametrize("bare", [True, False])
def test_a_directory_without_services(sidecall: Run, directory: Path, bare: bool) -> None:
    """An empty one is an empty list; a missing one is an error with a hint."""
    done = sidecall("list", env={} if bare else {"SIDECALL_DIR": f"{directory}/missing"})
    assert done.returncode == (0 if bare else 69)
    if bare:
        assert done.stdout.split() == [b"service", b"state", b"details"]
    else:
        assert done.stderr.decode().splitlines() == [
            f"sidecall: the directory {directory}/missing of the sockets is missing",
            "hint: mount the shared volume there, or set SIDECALL_DIR",
        ]
