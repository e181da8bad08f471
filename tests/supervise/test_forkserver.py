"""The fork server: which program it is, that it keeps nothing of its server, and that it never holds its server up."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from sidecall.errors import ConfigError
from sidecall.supervise.control import EXITED, FORKED, KILLED, Job, receive_event, send_job
from sidecall.supervise.forkserver import ForkServer, supervisor_program
from supervise.conftest import all_descendants, field, has_ended, lives


def run_one(fork_server: ForkServer) -> None:
    """Run a command to its end."""
    with fork_server.new_supervisor(1) as control:
        send_job(control, Job([b"true"], {}, None, 1, keep_background=False), (0, 1, 2), None)
        while (event := receive_event(control)) is not None and event.kind != EXITED:
            pass


def events(fork_server: ForkServer, count: int) -> list[tuple[int, int]]:
    """Wait for a number of the fork server's events; return their kinds and serial numbers."""
    found: list[tuple[int, int]] = []
    fork_server.sock.setblocking(True)
    while len(found) < count:
        event = receive_event(fork_server.sock)
        assert event is not None
        found.append((event.kind, event.serial))
    fork_server.sock.setblocking(False)
    return found


def test_the_program_that_is_named_is_the_fork_server() -> None:
    """The tests name one with SIDECALL_SUPERVISOR, so that is what they test."""
    fork_server = ForkServer.start()
    try:
        run_one(fork_server)
        assert Path(f"/proc/{fork_server.pid}/exe").resolve() == Path(supervisor_program()).resolve()
        assert Path(f"/proc/{fork_server.pid}/comm").read_text() == "sidecall-fork\n"
        names = set()
        for pid in all_descendants(fork_server.pid):
            with contextlib.suppress(OSError):  # a supervisor that was ending has ended
                if field(pid, 3) != "Z":
                    names.add(Path(f"/proc/{pid}/comm").read_text())
        assert names <= {"sidecall-super\n"}
    finally:
        fork_server.close()


@pytest.mark.parametrize("named", ["missing", "directory", "plain", "binary", "empty", "another"])
def test_without_a_program_that_can_be_executed_nothing_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """A pure wheel has none, another machine's cannot be executed, another release's is refused: with a hint."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "plain").write_text("x")
    for name, content in (("binary", b"\x7fELF of another machine"), ("empty", b""), ("another", b"#!/bin/false\n")):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("SIDECALL_SUPERVISOR", str(tmp_path / named))
    with pytest.raises(ConfigError) as error:
        ForkServer.start()
    assert error.value.reason.startswith("serving needs the native supervisor: ")
    assert error.value.hint == "install the wheel for this machine, or build it with `pip install .`"


def test_a_fork_server_has_nothing_else_open(tmp_path: Path) -> None:
    """What a server was started with, and what it had open by then, stays out of supervisors and commands."""
    inherited = os.open(tmp_path / "inherited", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(inherited, True)
    fork_server = ForkServer.start()
    try:
        run_one(fork_server)
        held = {os.readlink(f"/proc/{fork_server.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{fork_server.pid}/fd")}
        assert str(tmp_path / "inherited") not in held
        assert sum(name.startswith("socket:") for name in held) == 1
    finally:
        os.close(inherited)
        fork_server.close()


def test_a_supervisor_is_killed_by_its_number_also_when_it_is_stopped() -> None:
    """And nothing of its command is left."""
    fork_server = ForkServer.start()
    try:
        with fork_server.new_supervisor(7) as control:
            assert events(fork_server, 1) == [(FORKED, 7)]
            (supervisor,) = all_descendants(fork_server.pid)
            send_job(control, Job([b"sleep", b"100"], {}, None, 100, keep_background=False), (0, 1, 2), None)
            assert receive_event(control)
            (command,) = all_descendants(supervisor)
            os.kill(supervisor, signal.SIGSTOP)
            fork_server.kill_supervisor(6)
            assert events(fork_server, 1) == [(KILLED, 6)]
            assert lives(supervisor)
            fork_server.kill_supervisor(7)
            assert events(fork_server, 1) == [(KILLED, 7)]
            assert receive_event(control) is None
        while lives(supervisor) or lives(command):
            time.sleep(0.01)
    finally:
        fork_server.close()


@pytest.mark.parametrize("stopped", [False, True])
def test_closing_ends_a_fork_server_that_is_stopped(*, stopped: bool) -> None:
    """With a command that runs, in a supervisor that is stopped too."""
    fork_server = ForkServer.start()
    with fork_server.new_supervisor(1) as control:
        send_job(control, Job([b"sleep", b"100"], {}, None, 0.1, keep_background=False), (0, 1, 2), None)
        assert receive_event(control)
        below = all_descendants(fork_server.pid)
        for pid in (*below, fork_server.pid) if stopped else ():
            os.kill(pid, signal.SIGSTOP)
    fork_server.close()
    assert not any(lives(pid) for pid in (*below, fork_server.pid))


def test_a_fork_server_outlives_no_server(tmp_path: Path) -> None:
    """A server that is killed leaves nothing, though a supervisor was stopped when it happened."""
    ours, theirs = socket.socketpair()
    server = os.fork()
    if not server:
        fork_server = ForkServer.start()
        control = fork_server.new_supervisor(1)
        script = b"trap '' TERM; while :; do sleep 0.05; done"
        send_job(
            control, Job([b"sh", b"-c", script], dict(os.environb), None, 0.2, keep_background=False), (0, 1, 2), None
        )
        receive_event(control)
        ours.send(b" ".join(b"%d" % pid for pid in all_descendants(os.getpid())))
        signal.pause()
    below = [int(pid) for pid in theirs.recv(1000).split()]
    assert len(below) >= 3
    for pid in below:
        if Path(f"/proc/{pid}/comm").read_text() == "sidecall-super\n":
            os.kill(pid, signal.SIGSTOP)
    os.kill(server, signal.SIGKILL)
    os.waitpid(server, 0)
    ours.close()
    assert theirs.recv(1) == b""  # nobody has it open any more; nothing of it was inherited
    while not all(has_ended(pid) for pid in below):
        time.sleep(0.01)
    theirs.close()
