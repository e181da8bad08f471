"""A server whose processes are stopped or killed, by a command of its own user for one, ends in bounded time."""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING

import pytest

from conftest import children_of, first_line, start

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Server, Table

DEAF = "trap '' TERM; setsid sleep 600 & echo $!; exec sleep 600"


@pytest.mark.parametrize("stopped", ["supervisor", "fork server", "both"])
@pytest.mark.parametrize("killed", ["client", "server", "nothing"])
def test_stopped_processes_hold_up_nothing(
    serve: Callable[..., Server], stopped: str, killed: str, table: Table
) -> None:
    """Nothing is left of a command whose client is killed, of a server that is killed, or of one that is to end."""
    server = serve("--allow-any", "x", "--grace", "0.1", "--drain", "0.1")
    client = start("x", "sh", "-c", DEAF)
    command = int(first_line(client))
    (fork_server,) = children_of(server.process.pid)
    (supervisor,) = (pid for pid in children_of(fork_server) if children_of(pid))
    watched = {pid: os.pidfd_open(pid) for pid in (command, supervisor, fork_server)}
    for pid in {"supervisor": [supervisor], "fork server": [fork_server]}.get(stopped, [supervisor, fork_server]):
        os.kill(pid, signal.SIGSTOP)
    if killed == "client":
        client.kill()
    else:
        server.process.send_signal(signal.SIGKILL if killed == "server" else signal.SIGTERM)
    client.communicate(timeout=60)
    is_known = killed == "nothing" and stopped == "fork server"  # the supervisor has reported how the command ended
    assert client.returncode == (-signal.SIGKILL if killed == "client" or is_known else 125)
    if killed == "client" and stopped != "both":  # it serves on
        wait_for_exit(watched[command])
        server.stop()
    else:
        assert server.process.wait(60) == {"client": 70, "server": -signal.SIGKILL}.get(killed, 0)
    for pidfd in watched.values():
        wait_for_exit(pidfd)
        os.close(pidfd)
    then = {"client": "SIGKILL of the client", "server": "SIGKILL of the server"}.get(killed, "the server's end")
    table(f"SIGSTOP of {stopped.replace('both', 'both supervisor and fork server')}, then {then}", "nothing is left")


def wait_for_exit(pidfd: int) -> None:
    """Wait until a process has exited; the test's own timeout bounds it."""
    select.select([pidfd], [], [])


def test_a_client_is_missed_while_the_start_is_not_reported(serve: Callable[..., Server]) -> None:
    """Its descriptors are still in the socket for all that the server knows: a stopped supervisor has not reported."""
    server = serve("-v", "--allow-any", "x", "--grace", "0.1")
    warm = start("x", "true")
    warm.communicate(timeout=60)
    (fork_server,) = children_of(server.process.pid)
    (supervisor,) = children_of(fork_server)
    os.kill(supervisor, signal.SIGSTOP)
    client = start("x", "sleep", "600")
    server.await_log("received", 2)
    client.kill()
    client.communicate(timeout=60)
    server.await_log("lost")
    server.stop()
