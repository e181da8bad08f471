"""`sidecall connect`, and the bridge that it connects to, on real processes."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from conftest import CLIENT, listens

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Run, Server

DIALOGUE = "echo hello; read a; echo got $a; read b; echo got $b"
ANSWERS = "read h; echo $h >&2; echo one; read g; echo $g >&2; echo two; read g; echo $g >&2; exit 6"


@pytest.mark.parametrize("server_is", ["sidecall", "socat"])
@pytest.mark.parametrize("client_is", ["sidecall", "socat"])
def test_the_bridge_carries_the_original_dialogue(
    serve: Callable[..., Server], directory: Path, sidecall: Run, server_is: str, client_is: str
) -> None:
    """Two apps talk line by line, the server's first; either side may be plain socat."""
    path, server = directory / "talk.sock", directory / "server.sh"
    server.write_text(f"#!/bin/sh\n{DIALOGUE}\n")
    server.chmod(0o755)
    client = directory / "client.sh"
    client.write_text(f"#!/bin/sh\n{ANSWERS}\n")
    client.chmod(0o755)
    if server_is == "sidecall":
        serve("talk", str(server))
        other = None
    else:
        other = subprocess.Popen(["socat", "-t60", f"UNIX-LISTEN:{path},fork", f"EXEC:{server}"])
        while not listens(path):
            time.sleep(0.01)
    words = {
        "sidecall": [CLIENT, "connect", "talk", str(client)],
        "socat": ["socat", "-t60", f"UNIX-CONNECT:{path}", f"EXEC:{client}"],
    }[client_is]
    done = subprocess.run(words, capture_output=True, check=False, timeout=20)
    if other is not None:
        other.terminate()
        other.wait()
    assert [line for line in done.stderr.splitlines() if b"socat" not in line] == [b"hello", b"got one", b"got two"]
    if client_is == "sidecall":
        assert done.returncode == 6


def test_the_bridge_is_binary_and_half_closes(serve: Callable[..., Server], directory: Path) -> None:
    """The server's app sees the end of what the client sent, and can still answer."""
    serve("sum", "sha256sum")
    script = "import sys,socket; s=socket.socket(fileno=0); s.sendall(bytes(range(256))*4096); s.shutdown(1); " \
        "sys.stderr.write(s.recv(64).decode())"  # fmt: skip
    done = subprocess.run([CLIENT, "connect", "sum", sys.executable, "-c", script], capture_output=True, check=False)
    assert done.stderr == b"fbbab289f7f94b25736c58be46a994c441fd02552cc6022352e3d86d2fab7c83"


def test_the_bridge_runs_as_many_apps_as_allowed(serve: Callable[..., Server], directory: Path) -> None:
    """A second caller waits for the first by default, in order."""
    server = serve("-v", "line", "cat")
    first = subprocess.Popen([CLIENT, "connect", "line", "sh", "-c", "exec sleep 60"])
    server.await_log("program started")
    second = subprocess.Popen(
        [CLIENT, "connect", "line", "sh", "-c", "echo hi; read x; echo $x >&2"], stderr=subprocess.PIPE
    )
    assert server.log().count("program started") == 1
    first.send_signal(signal.SIGTERM)
    first.wait()
    assert second.communicate(timeout=20)[1] == b"hi\n"
    server.await_log("program started", times=2)


def test_bridge_apps_know_their_peer(serve: Callable[..., Server], directory: Path) -> None:
    """Both apps see the UCSPI variables."""
    serve("who", "sh", "-c", "echo $PROTO $IPCREMOTEEUID $IPCREMOTEEGID")
    script = "read line; echo $line $PROTO $IPCREMOTEPATH $IPCREMOTEEUID >&2"
    done = subprocess.run([CLIENT, "connect", "who", "sh", "-c", script], capture_output=True, check=False)
    uid, gid = os.getuid(), os.getgid()
    assert done.stderr.decode() == f"IPC {uid} {gid} IPC {directory}/who.sock {uid}\n"


def test_an_app_finds_no_variables_of_an_outer_bridge(serve: Callable[..., Server], directory: Path) -> None:
    """A bridge inside a bridge: an app is told of its own peer alone."""
    serve("who", "sh", "-c", "read x")
    outer = {"PROTO": "TCP", "IPCREMOTEPATH": "/outer", "IPCREMOTEEUID": "7", "IPCREMOTEEGID": "7", "OTHER": "kept"}
    words = [CLIENT, "connect", "who", "sh", "-c", "echo; env >&2"]
    done = subprocess.run(words, capture_output=True, check=False, env={**os.environ, **outer})
    lines = done.stderr.decode().splitlines()
    told = sorted(line for line in lines if line.startswith(("PROTO=", "IPC", "OTHER=")))
    assert told == [
        f"IPCREMOTEEGID={os.getgid()}", f"IPCREMOTEEUID={os.getuid()}", f"IPCREMOTEPATH={directory}/who.sock",
        "OTHER=kept", "PROTO=IPC",
    ]  # fmt: skip


@pytest.fixture
def echo(serve: Callable[..., Server]) -> None:
    """Serve a bridge that gives back what it gets."""
    serve("echo", "cat")


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 9", 9), ("kill -TERM $$", -15)])
def test_the_end_of_the_app_is_the_end_of_connect(echo: None, script: str, status: int) -> None:
    """`connect` becomes its app: there is no exit code that is not the app's."""
    assert subprocess.run([CLIENT, "connect", "echo", "sh", "-c", script], check=False).returncode == status


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-", "<&- >&- 2>&-"])
def test_an_app_gets_the_socket_whatever_was_closed(echo: None, directory: Path, closed: str) -> None:
    """The socket is stdin and stdout of the app, also where the descriptors were free before."""
    script = f"echo there; read line; echo $line >{directory}/heard"
    line = f"exec {CLIENT} connect echo sh -c {shlex.quote(script)} {closed}"
    assert subprocess.run(["sh", "-c", line], check=False, timeout=20).returncode == 0
    assert (directory / "heard").read_text() == "there\n"


def test_an_app_has_only_its_streams(echo: None) -> None:
    """No descriptor of ours is left in the app, and writing to nobody ends it as usual."""
    script = "import os, signal, sys; print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1], "
    script += "signal.sigpending(), signal.pthread_sigmask(signal.SIG_BLOCK, []), file=sys.stderr)"
    done = subprocess.run([CLIENT, "connect", "echo", sys.executable, "-c", script], capture_output=True, check=False)
    assert done.stderr == b"[0, 1, 2] set() set()\n"
    broken = "read line 2>/dev/null; kill -PIPE $$"
    words = [CLIENT, "connect", "echo", "sh", "-c", f"exec 0<&-; {broken}"]
    assert subprocess.run(words, check=False).returncode == -13


def test_waits_for_a_bridge_that_comes_up(serve: Callable[..., Server], directory: Path) -> None:
    """`--connect-timeout` bridges the time until a container has started."""
    words = [CLIENT, "connect", "--connect-timeout", "20", "late", "sh", "-c", "echo there; read line; echo $line >&2"]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as caller:
        time.sleep(0.2)
        serve("late", "cat")
        assert caller.communicate(timeout=20)[1] == b"there\n"


@pytest.fixture
def apps(directory: Path) -> Path:
    """Return a directory of files that cannot be executed, first in PATH, and one that can, in another."""
    first, second = directory / "first", directory / "second"
    for place in (first, second):
        place.mkdir()
    (first / "text").write_text("no program")
    (first / "hidden").write_text("no program")
    (first / "dir").mkdir()
    for name, content in [("hidden", "#!/bin/sh\nexit 5"), ("lost", "#!/no/such/shell"), ("junk", "\x7fELF")]:
        (second / name).write_text(content)
        (second / name).chmod(0o755)
    return directory


@pytest.mark.parametrize(
    ("app", "code", "said"),
    [
        ("no-such-app", 127, "no such command: 'no-such-app'"),
        ("it's", 127, "no such command: 'it's'"),
        ("", 127, "no such command: ''"),
        ("/no/such/app", 127, "no such command: '/no/such/app'"),
        ("text", 126, "'text' is not executable"),
        ("first/text", 126, "'first/text' is not executable"),
        ("first/dir", 126, "'first/dir' is not executable"),
        ("dir", 127, "no such command: 'dir'"),
        ("lost", 126, "the interpreter that 'lost' names does not exist"),
        ("junk", 126, "cannot execute 'junk': Exec format error"),
        ("hidden", 5, ""),
    ],
)
def test_an_app_that_cannot_run_is_refused(echo: None, apps: Path, app: str, code: int, said: str) -> None:
    """As a shell would: 127 for no such program, 126 for one that cannot be executed; each says which."""
    environ = {**os.environ, "PATH": f"{apps}/first:{apps}/second"}
    done = subprocess.run([CLIENT, "connect", "echo", app], capture_output=True, check=False, env=environ, cwd=apps)
    assert (done.returncode, done.stderr.decode().split("\n")[0]) == (code, f"sidecall: {said}" if said else "")


@pytest.mark.parametrize(
    ("words", "code"),
    [((), 64), (("echo",), 64), (("--nope", "echo", "cat"), 64), (("nobody", "cat"), 69), (("nobody", "nope"), 127)],
)
def test_what_cannot_be_connected_says_so(directory: Path, sidecall: Run, words: tuple[str, ...], code: int) -> None:
    """The app is looked for first, so that nobody is connected to for nothing."""
    done = sidecall("connect", *words)
    assert done.returncode == code
    assert done.stderr.startswith(b"sidecall: ")
    assert list(directory.iterdir()) == []


def test_a_refusal_is_one_though_nobody_hears_it(directory: Path) -> None:
    """A closed stderr is no reason to die of SIGPIPE."""
    readable, writable = os.pipe()
    os.close(readable)
    done = subprocess.run([CLIENT, "connect", "nobody", "cat"], stderr=writable, check=False)
    os.close(writable)
    assert done.returncode == 69


def test_a_service_that_is_none_is_left_to_the_app(directory: Path) -> None:
    """A bridge has no protocol of ours: whatever listens talks to the app."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "plain.sock"))
        listener.listen()
        words = [CLIENT, "connect", str(directory / "plain.sock"), "sh", "-c", "read line; echo $line >&2; exit 3"]
        with subprocess.Popen(words, stderr=subprocess.PIPE) as caller:
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b"GET / HTTP/1.0\n")
                assert (caller.communicate(timeout=20)[1], caller.returncode) == (b"GET / HTTP/1.0\n", 3)
