"""What a service manager is sent."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from sidecall.server.notify import notify

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("is_abstract", [False, True])
def test_a_state_is_sent_to_the_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_abstract: bool) -> None:
    """A path and an abstract address both work; a reload has the time of sd_notify(3)."""
    address = f"\0sidecall-test-{os.getpid()}" if is_abstract else str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address.replace("\0", "@"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        notify("READY=1")
        notify("RELOADING=1")
        assert manager.recv(100) == b"READY=1"
        state, _, time = manager.recv(100).partition(b"\n")
    assert (state, time.rpartition(b"=")[0]) == (b"RELOADING=1", b"MONOTONIC_USEC")


@pytest.mark.parametrize("address", ["", "/no/such/socket"])
def test_without_a_manager_nothing_is_sent(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """A missing or removed manager does not stop the server."""
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")
