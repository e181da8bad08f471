"""Floods: while one user sends more than it may, others are served, and the server can be ended."""

from __future__ import annotations

import contextlib
import os
import resource
from typing import TYPE_CHECKING

import pytest

from attacks.hostile import INVITED, OWN, STRANGER, Hostile, users

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Run, Server, Table

pytestmark = pytest.mark.long

CONFIG = f"""
[service]
name = "x"
per-caller = 200
callers = [{OWN}, {INVITED}, {STRANGER}, {STRANGER + 1}, {STRANGER + 2}]
[commands.true]
argv = ["true"]
"""
as_root = pytest.mark.skipif(OWN != 0, reason="only root can be several users")


@pytest.fixture
def server(serve: Callable[..., Server], directory: Path) -> Server:
    """Return a service that several users can call."""
    directory.chmod(0o755)
    (directory / "x.toml").write_text(CONFIG)
    return serve("-v", "--config", str(directory / "x.toml"))


def megabytes(server: Server) -> float:
    """Return how much memory a server holds."""
    with open(f"/proc/{server.process.pid}/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


@as_root
def test_unfinished_calls_leave_room_for_others(server: Server, sidecall: Run, table: Table) -> None:
    """All but the last byte of the largest call, on 150 connections: they would be 300 MB."""
    before = megabytes(server)
    with Hostile(server.path, INVITED, "unfinished", "150") as attacker:
        (said,) = attacker
        assert sidecall("exec", "x", "true").returncode == 0
        grown = megabytes(server) - before
        assert grown < 150
    table("150 calls without their last byte, by another user", f"{said}, the server holds {grown:.0f} MB more")


@as_root
def test_idle_connections_of_many_users_leave_room_for_others(server: Server, sidecall: Run, table: Table) -> None:
    """Each has as many connections as it may have, and more."""
    with contextlib.ExitStack() as stack:
        for user in (INVITED, STRANGER, STRANGER + 1, STRANGER + 2):
            assert list(stack.enter_context(Hostile(server.path, user, "idle", "300"))) == ["connected"]
        assert sidecall("exec", "x", "true").returncode == 0
    table("300 idle connections of each of four users", "200 of each are kept; another user is served")


@users
def test_connects_do_not_hold_up_the_end(server: Server, table: Table, user: int) -> None:
    """A server ends on SIGTERM while clients connect as fast as they can."""
    with Hostile(server.path, user, "connects") as attacker:
        assert list(attacker) == ["connecting"]
        server.process.terminate()
        assert server.process.wait(60) == 0
    table(f"connects without end by uid {user}, while the server is to end", "it ends with 0")


@users
def test_refusals_do_not_fill_the_log(server: Server, sidecall: Run, table: Table, user: int) -> None:
    """Lines of one kind come at a bounded rate; others are served."""
    with Hostile(server.path, user, "refused") as attacker:
        assert list(attacker) == ["sending"]
        server.await_log("omitted=")
        assert sidecall("exec", "x", "true").returncode == 0
        line = server.await_log("omitted=")
    table(f"connections of uid {user} that have to be refused", f"logged at a bounded rate: {line.split()[-1]}")
    assert os.path.exists(server.path)
