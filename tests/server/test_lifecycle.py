"""A server's life on real processes: it drains, cancels, reloads, and tells the truth about its end."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import SIDECALL, children_of, deliver, first_line, start
from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Run, Server

DEAF = "trap '' TERM INT; echo ready; while :; do sleep 0.05; done"


def test_term_lets_running_calls_end_and_tells_those_that_wait(serve: Callable[..., Server], sidecall: Run) -> None:
    """What runs has the drain time, what waits is refused with 75, nobody new gets in, and the server returns 0."""
    server = serve("--allow-any", "x", "--slots", "1", "--drain", "30")
    running = start("x", "sh", "-c", "echo ready; read line; exit 7")
    assert first_line(running) == "ready"
    waiting = start("x", "true")
    assert waiting.stderr is not None
    assert b"waiting for a slot" in waiting.stderr.readline()
    server.process.terminate()
    _, err = waiting.communicate(timeout=20)
    assert waiting.returncode == 75
    assert err.startswith(b"sidecall: the service is shutting down\nhint: ")
    assert sidecall("exec", "x", "true").returncode == 69
    running.communicate(b"go\n", timeout=20)
    assert running.returncode == 7
    assert server.process.wait(20) == 0


@pytest.mark.parametrize(
    ("signals", "drain", "grace", "script", "status"),
    [
        ([15], "0.3", "30", "echo ready; exec sleep 60", -15),
        ([15, 15], "60", "30", "echo ready; exec sleep 60", -15),
        ([2], "60", "30", "echo ready; exec sleep 60", -15),
        ([15], "0.3", "0.3", DEAF, -9),
        ([15, 15, 15], "60", "60", DEAF, -9),
        ([2, 2], "60", "60", DEAF, -9),
    ],
)
def test_the_end_can_be_hurried(
    serve: Callable[..., Server], signals: list[int], drain: str, grace: str, script: str, status: int
) -> None:
    """After the drain time, or at the next signal, calls are cancelled; at one more they are killed. All end truly."""
    server = serve("--allow-any", "x", "--drain", drain, "--grace", grace)
    caller = start("x", "sh", "-c", script)
    assert first_line(caller) == "ready"
    for number in signals:
        deliver(server.process, number)
    caller.communicate(timeout=20)
    assert caller.returncode == status
    assert server.process.wait(20) == (-2 if signals[0] == 2 else 0)


def test_the_configuration_is_read_again(serve: Callable[..., Server], directory: Path, sidecall: Run) -> None:
    """HUP takes a new configuration over, keeps the old one if the new one is wrong, and disturbs no call."""
    config = directory / "x.toml"
    config.write_text('[service]\nname = "x"\n[commands.one]\nargv = ["sh", "-c", "echo ready; read line; exit 3"]\n')
    server = serve("--config", str(config))
    caller = start("x", "one")
    assert first_line(caller) == "ready"
    config.write_text('[service]\nname = "x"\nslots = 7\n[commands.two]\nargv = ["echo", "two"]\n')
    server.process.send_signal(signal.SIGHUP)
    server.await_log("the configuration has been read again")
    assert sidecall("exec", "x", "two").stdout == b"two\n"
    assert sidecall("exec", "x", "one").returncode == 127
    assert b" of 7 slots" in sidecall("ping", "x").stdout
    config.write_text("[service\n")
    server.process.send_signal(signal.SIGHUP)
    server.await_log("the old configuration is kept: ")
    assert sidecall("exec", "x", "two").stdout == b"two\n"
    caller.communicate(b"\n")
    assert caller.returncode == 3


def test_readiness_is_told(directory: Path) -> None:
    """The socket that NOTIFY_SOCKET names hears when the service is up, reads its configuration again and ends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(directory / "notify"))
        manager.settimeout(20)
        server = subprocess.Popen(
            [SIDECALL, "serve", "--allow-any", "x"], env={**os.environ, "NOTIFY_SOCKET": str(directory / "notify")}
        )
        heard = [manager.recv(100)]
        assert (directory / "x.sock").exists()
        server.send_signal(signal.SIGHUP)
        heard += [manager.recv(100), manager.recv(100)]
        server.terminate()
        heard += [manager.recv(100)]
        assert server.wait(20) == 0
    assert [line.partition(b"\n")[0] for line in heard] == [b"READY=1", b"RELOADING=1", b"READY=1", b"STOPPING=1"]


def test_a_socket_can_be_passed_on(directory: Path, sidecall: Run) -> None:
    """A service manager's socket is served as it is, stays where it is, and its variables reach no command."""
    path = directory / "x.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        script = f"LISTEN_PID=$$ LISTEN_FDS=1 exec {SIDECALL} serve --allow-any other 3<&{listening.fileno()}"
        server = subprocess.Popen(["bash", "-c", script], pass_fds=[listening.fileno()])
        done = sidecall("exec", "x", "sh", "-c", "env | grep -c LISTEN_; ls /proc/self/fd | wc -l")
        server.terminate()
        assert server.wait(20) == 0
    assert done.stdout.split() == [b"0", b"4"]
    assert path.exists()


@pytest.mark.parametrize(
    ("count", "reason"), [("2", "one socket is needed"), ("1", "the inherited descriptor is not a listening")]
)
def test_a_wrong_socket_is_a_mistake(directory: Path, count: str, reason: str) -> None:
    """What a service manager passes on has to be one listening socket: 78."""
    script = f"LISTEN_PID=$$ LISTEN_FDS={count} exec {SIDECALL} serve --allow-any x 3</dev/null"
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=False, timeout=20)
    assert done.returncode == 78
    assert reason in done.stderr.decode()


def test_without_its_fork_server_a_server_ends(serve: Callable[..., Server], sidecall: Run) -> None:
    """When the process that starts commands is killed the server says so, ends what runs truly, and fails."""
    server = serve("--allow-any", "x", "--drain", "30")
    caller = start("x", "sh", "-c", "echo ready; read line; exit 5")
    assert first_line(caller) == "ready"
    (forkserver,) = children_of(server.process.pid)
    os.kill(forkserver, signal.SIGKILL)
    server.await_log("the fork server died; shutting down")
    caller.communicate(b"\n", timeout=20)
    assert caller.returncode == 5
    assert server.process.wait(20) == 70, server.log()


def test_a_killed_supervisor_is_125(serve: Callable[..., Server]) -> None:
    """When the process that keeps a command is killed the caller says that it does not know; nothing is left."""
    server = serve("--allow-any", "x")
    caller = start("x", "sh", "-c", "trap '' TERM; setsid sleep 100 & echo $!; exec sleep 100")
    pid = int(first_line(caller))
    (forkserver,) = children_of(server.process.pid)
    (supervisor,) = children_of(forkserver)
    os.kill(supervisor, signal.SIGKILL)
    caller.communicate(timeout=20)
    assert caller.returncode == 125
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.01)


def test_a_supervisor_killed_with_the_fork_server_leaves_nothing(serve: Callable[..., Server]) -> None:
    """What neither of the two can kill any more falls to the server, which does before it ends."""
    server = serve("--allow-any", "x", "--drain", "0.2")
    caller = start("x", "sh", "-c", "trap '' TERM; setsid sleep 100 & echo $!; exec sleep 100")
    pid = int(first_line(caller))
    (forkserver,) = children_of(server.process.pid)
    (supervisor,) = children_of(forkserver)
    os.kill(forkserver, signal.SIGKILL)
    os.kill(supervisor, signal.SIGKILL)
    caller.communicate(timeout=20)
    assert caller.returncode == 125
    assert server.process.wait(20) == 70, server.log()
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_server_without_streams_ends(directory: Path, sidecall: Run, closed: str) -> None:
    """A server that was started with stdin, stdout or stderr closed serves, reloads and ends like any other."""
    with subprocess.Popen(["bash", "-c", f"exec {SIDECALL} serve --allow-any x {closed}"]) as server:
        assert sidecall("ping", "--connect-timeout", "20", "x").returncode == 0
        for mode in ((), ("--relay",)):
            done = sidecall("exec", *mode, "x", "sh", "-c", "cat; echo err >&2; exit 3", input=b"in")
            assert (done.returncode, done.stdout, done.stderr) == (3, b"in", b"err\n")
        server.send_signal(signal.SIGHUP)
        assert sidecall("ping", "x").returncode == 0
        server.terminate()
        try:
            assert server.wait(20) == 0
        finally:
            server.kill()
    assert list(directory.iterdir()) == []


def serves_with_logs(directory: Path, sidecall: Run, audit: str, stderr: int) -> None:
    """Check that a server whose audit log and stderr take nothing reloads, serves a call and ends by TERM."""
    (directory / "x.toml").write_text(
        f'[service]\nname = "x"\naudit = "{audit}"\n[commands.three]\nargv = ["sh", "-c", "echo out; exit 3"]\n'
    )
    server = subprocess.Popen([SIDECALL, "serve", "-v", "--config", str(directory / "x.toml")], stderr=stderr)
    try:
        assert sidecall("ping", "--connect-timeout", "20", "x").returncode == 0
        server.send_signal(signal.SIGHUP)
        done = sidecall("exec", "x", "three")
        assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"")
        server.terminate()
        assert server.wait(20) == 0
    finally:
        server.kill()
        server.wait()


def test_logs_that_cannot_be_written_end_no_call(directory: Path, sidecall: Run) -> None:
    """A full disk under the audit log and under stderr takes nothing from a call, nor from the server."""
    with open("/dev/full", "wb") as full:
        serves_with_logs(directory, sidecall, "/dev/full", full.fileno())


def test_logs_that_nobody_reads_hold_up_no_call(directory: Path, sidecall: Run) -> None:
    """A server whose stderr is a full pipe that nobody reads loses its log, audit and all, and serves on."""
    unread, full = os.pipe()
    with open(unread), open(full, "wb") as pipe:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
        os.write(full, b"x" * select.PIPE_BUF)
        serves_with_logs(directory, sidecall, "-", full)


def test_a_caller_writes_no_line_of_the_log(serve: Callable[..., Server], sidecall: Run) -> None:
    """The name of what it calls stands in the log as one printable line, as long as a line may be."""
    server = serve("-v", "--allow-any", "x")
    assert sidecall("exec", "x", "no\nsidecall: call 9 exited 0").returncode == 127
    assert sidecall("exec", "x", "\n" * 3000).returncode == 126
    assert 'command="no\\nsidecall: call 9 exited 0"' in server.log()
    assert max(map(len, server.log().splitlines())) < select.PIPE_BUF


HELLO = m.Hello(m.VERSION, (), (), "test")


def hasty(directory: Path, timeout: str) -> str:
    """Return a `sidecall` whose server has little patience with callers, in one respect."""
    program = directory / "hasty"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nfrom sidecall.cli import main\nfrom sidecall.server import session\n"
        f"session.{timeout} = 0.2\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    return str(program)


def test_a_caller_that_stands_still_gets_all_output(serve: Callable[..., Server], directory: Path) -> None:
    """A caller that is stopped when its command ends, for longer than the server waits for others, misses nothing."""
    server = serve("-v", "--allow-any", "x", program=hasty(directory, "CLOSE_TIMEOUT"))
    script = f"echo; until [ -e {directory}/go ]; do sleep 0.02; done; "
    script += "head -c 260000 /dev/zero; head -c 260000 /dev/zero >&2; exit 3"
    caller = start("--relay", "x", "sh", "-c", script)
    assert first_line(caller) == ""
    os.kill(caller.pid, signal.SIGSTOP)
    (directory / "go").touch()
    server.await_log("outcome=exited value=3")
    time.sleep(1)
    os.kill(caller.pid, signal.SIGCONT)
    out, err = caller.communicate(timeout=20)
    assert (caller.returncode, len(out), len(err)) == (3, 260000, 260000)


def test_what_a_cancelled_command_says_at_its_end_arrives(serve: Callable[..., Server], sidecall: Run) -> None:
    """A caller whose call is killed by somebody else gets all that the command still wrote."""
    server = serve("--allow-any", "x")
    script = "trap 'head -c 250000 /dev/zero; exit 3' TERM; echo $$; read line; while :; do sleep 0.05; done"
    caller = start("--relay", "x", "sh", "-c", script)
    pid = first_line(caller)
    (call,) = json.loads(sidecall("status", "--json", "x").stdout)
    assert sidecall("kill", "x", call["call"]).returncode == 0
    os.kill(server.process.pid, signal.SIGSTOP)
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.01)
    os.kill(server.process.pid, signal.SIGCONT)
    out, _ = caller.communicate(timeout=20)
    assert (caller.returncode, len(out)) == (3, 250000)


def test_who_is_at_the_door_when_the_service_ends_is_told(serve: Callable[..., Server], sidecall: Run) -> None:
    """A call that comes while the service ends is refused with 75, served or cancelled: it is told which."""
    server = serve("--allow-any", "x")
    call = m.Call(b"true", (), (), b"", b"/", (), (), m.NONE, m.NONE, m.NONE)
    with socket.socket(socket.AF_UNIX) as early, socket.socket(socket.AF_UNIX) as late:
        early.connect(str(server.path))
        assert sidecall("ping", "x").returncode == 0  # so it has been let in
        os.kill(server.process.pid, signal.SIGSTOP)
        late.connect(str(server.path))
        for sock in (early, late):
            sock.sendall(encode(HELLO) + encode(call))
        server.process.send_signal(signal.SIGINT)
        os.kill(server.process.pid, signal.SIGCONT)
        answers = [read_all(sock) for sock in (early, late)]
    assert server.process.wait(20) == -2
    served, cancelled = (encode(m.Exit(*end, ()))[4:7] for end in ((0, 0), (1, signal.SIGTERM)))
    for answer in answers:  # a call that came before the signal may have been started
        assert b"the service is shutting down" in answer or served in answer or cancelled in answer, answer


def read_all(sock: socket.socket) -> bytes:
    """Return what comes until the server shuts its side down; then close the socket."""
    with sock:
        return b"".join(iter(lambda: sock.recv(65536), b""))


def test_a_caller_that_is_being_left_hides_no_calls(
    serve: Callable[..., Server], directory: Path, sidecall: Run
) -> None:
    """While a connection that has asked for no call in time is being closed the calls can be listed."""
    server = serve("-v", "--allow-any", "x", program=hasty(directory, "REQUEST_TIMEOUT"))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(server.path))
        sock.sendall(encode(HELLO) + encode(m.Ping()) * 10_000)
        server.await_log("no request within")
        assert json.loads(sidecall("status", "--json", "x").stdout) == []


def test_answers_that_nobody_reads_are_bounded(serve: Callable[..., Server]) -> None:
    """Who asks on and on without reading is refused before its answers fill the server's memory."""
    server = serve("-v", "--allow-any", "x")
    with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        sock.connect(str(server.path))
        sock.settimeout(30)
        sock.sendall(encode(HELLO) + encode(m.Describe(b"")) * 100_000)
    server.await_log("does not read the answers")
