"""What a service answers to callers that do not behave, spoken to frame by frame."""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from conftest import children_of, end, first_line, start
from sidecall.client.status import ping
from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode
from sidecall.protocol.connection import Connection
from sidecall.protocol.states import CALLING, CLIENT, READY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Run, Server

HELLO = m.Hello(1, (), (), "test")
TRUE = m.Call(b"true", (), (), b"", b"/", (), (), m.NONE, m.NONE, m.NONE)
PASSING = m.Call(b"true", (), (), b"", b"/", (), (), m.PASSED, m.NONE, m.NONE)
SLEEP = m.Call(b"sleep", (b"60",), (), b"", b"/", (), (), m.RELAYED, m.NONE, m.NONE)


def answers(server: Server, *messages: m.Message, then: bytes = b"") -> list[m.Message]:
    """Say messages in one write, stop sending, and return all that the service answers."""
    connection = Connection(CLIENT)
    heard: list[m.Message] = []
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(server.path))
        sock.sendall(b"".join(map(encode, messages)) + then)
        calls = [message for message in messages if isinstance(message, m.Call)]
        for call in calls:
            connection._open_streams(call)
        connection._conversation.states[CLIENT] = CALLING if calls else READY
        while data := sock.recv(65536):
            connection.receive_data(data)
            heard += list(connection.events())
            if isinstance(heard[-1], (m.Exit, m.Refused)):
                break
    return heard


@pytest.mark.parametrize(
    ("messages", "code", "reason"),
    [
        ((m.Hello(2, (), (), "x"), TRUE), 76, "this server speaks version 1 of the protocol, the client 2"),
        ((m.Hello(1, (b"zip",), (), "x"), TRUE, m.Ping()), 76, "unknown feature 'zip'"),
        ((TRUE,), 76, "Call does not fit a client that is idle"),
        ((HELLO, HELLO), 76, "Hello does not fit a client that is ready"),
        (
            (HELLO, m.Call(b"true", (), (), b"", b"/", (), (), 1, 1, 1), m.Pass()),
            1,
            "the passed descriptors did not arrive",
        ),
        ((HELLO, m.Call(b"true", (), (), b"", b"/", (), (), 9, 0, 0)), 76, "unknown mode 9 for stream 0"),
        (
            (HELLO, m.Call(b"true", (), (), b"", b"/", (), (b"nice=5",), 0, 0, 0)),
            76,
            "unknown call option 'nice'",
        ),
        (
            (HELLO, m.Call(b"true", (), (), b"", b"/", (), (b"terminal=24x80",), 2, 2, 2)),
            76,
            "a call in a terminal relays stdin and stdout, and has stdout as stderr",
        ),
        (
            (HELLO, m.Call(b"a\0b", (), (), b"", b"/", (), (), 0, 0, 0)),
            64,
            "the command must not be empty, and arguments must not contain NUL",
        ),
    ],
)
def test_a_wrong_word_is_refused_by_name(tool: Server, messages: tuple[m.Message, ...], code: int, reason: str) -> None:
    """What is not understood is refused by name, never guessed."""
    last = answers(tool, *messages)[-1]
    assert isinstance(last, m.Refused)
    assert last.code == code
    assert last.reason.startswith(reason)


def test_a_resize_needs_a_terminal(tool: Server) -> None:
    """Without one it is a violation, which stops the call; with one it changes the size, also to an unknown one."""
    script = (b"-c", b"while test \"$(stty size 2>&1)\" != '0 7'; do :; done; echo resized")
    in_terminal = m.Call(b"sh", script, (), b"", b"/", (), (b"terminal=24x80",), *m.IN_TERMINAL)
    received = answers(tool, HELLO, in_terminal, m.Resize(1, 2), m.Resize(0, 7))
    assert b"".join(message.data for message in received if isinstance(message, m.Data)) == b"resized\r\n"
    assert isinstance(received[-1], m.Exit)
    assert (received[-1].ended, received[-1].value) == (m.ENDED_EXITED, 0)
    without = m.Call(b"sleep", (b"1000",), (), b"", b"/", (), (), m.NONE, m.NONE, m.NONE)
    ended = answers(tool, HELLO, without, m.Resize(1, 2))[-1]
    assert isinstance(ended, m.Exit)
    assert ended.ended == m.ENDED_SIGNALED


@pytest.mark.parametrize("call", [TRUE, PASSING])
def test_pass_begins_a_call_once(tool: Server, call: m.Call) -> None:
    """A PASS that no stream needs, or a second one, does not run the command again: it is a violation."""
    last = answers(tool, HELLO, call, m.Pass(), m.Pass())[-1]
    assert isinstance(last, (m.Exit, m.Refused))
    tool.await_log("command=true")
    assert tool.log().count("received") == 1


def named(path: Path, *, identity: str = "") -> m.Call:
    """Return a call of any command from a working directory, with the ids that it has, or others."""
    status = path.stat()
    entry = f"{identity or f'{status.st_dev}:{status.st_ino}'}:{path}".encode()
    return m.Call(b"sh", (b"-c", b"pwd -P >pwd"), (), b"", bytes(path), (entry,), (), m.NONE, m.NONE, m.NONE)


def test_any_command_runs_in_the_directory_of_its_client(tool: Server, tmp_path: Path) -> None:
    """If it is the same directory here."""
    assert [type(message) for message in answers(tool, HELLO, named(tmp_path))] == [m.Hello, m.Started, m.Exit]
    assert (tmp_path / "pwd").read_text() == f"{tmp_path.resolve()}\n"


@pytest.mark.parametrize("identity", ["1:1", "0:0"])
def test_a_client_is_told_that_its_directory_is_another_one_here(
    serve: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, identity: str
) -> None:
    """The command runs where the server runs."""
    (tmp_path / "server").mkdir()
    monkeypatch.chdir(tmp_path / "server")
    heard = answers(serve("--allow-any", "there"), HELLO, named(tmp_path, identity=identity))
    assert [type(message) for message in heard] == [m.Hello, m.Started, m.Notice, m.Exit]
    assert (tmp_path / "server" / "pwd").read_text() == f"{(tmp_path / 'server').resolve()}\n"
    notice = heard[2]
    assert isinstance(notice, m.Notice)
    where = f"the command runs in {tmp_path.resolve()}/server: {tmp_path} is not the same directory at the service"
    assert (notice.notice, notice.hint) == (where, "choose a directory of the service with `--cwd DIR`")


def test_a_call_is_answered_in_order(tool: Server) -> None:
    """HELLO, STARTED and EXIT, and nothing after."""
    assert [type(message) for message in answers(tool, HELLO, TRUE)] == [m.Hello, m.Started, m.Exit]


@pytest.mark.parametrize("then", [b"\xff" * 9, encode(m.Signal(11)), encode(m.Window(0, 1)), encode(m.Data(1, b"x"))])
def test_a_violation_in_mid_call_cancels_it(tool: Server, then: bytes) -> None:
    """A caller that breaks the protocol while its command runs loses the command."""
    last = answers(tool, HELLO, SLEEP, then=then)[-1]
    assert isinstance(last, (m.Exit, m.Refused))
    if isinstance(last, m.Exit):
        assert last.ended == m.ENDED_SIGNALED
        assert last.value in {15, 9}  # KILL on a machine that is too slow for the grace period


def test_status_may_be_asked_repeatedly(tool: Server) -> None:
    """Questions on one connection are answered in order."""
    heard = answers(tool, HELLO, m.Ping(), m.Describe(b""), m.Ping(), m.Describe(b"no-such"))
    assert [type(message) for message in heard] == [m.Hello, m.Pong, m.Description, m.Pong, m.Refused]


def test_what_was_refused_is_never_started(tool: Server, tmp_path: Path) -> None:
    """A caller that breaks the protocol while its command is being started hears no REFUSED: the command may run."""
    call = m.Call(b"touch", (os.fsencode(tmp_path / "ran"),), (), b"", b"/", (), (), m.NONE, m.NONE, m.NONE)
    (forkserver,) = children_of(tool.process.pid)
    os.kill(forkserver, signal.SIGSTOP)
    connection = Connection(CLIENT)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(tool.path))
        sock.sendall(connection.send(HELLO) + connection.send(call))
        tool.await_log("command=touch")
        sock.sendall(encode(m.Signal(11)))
        ping(str(tool.path))  # answered after the server has read that
        os.kill(forkserver, signal.SIGCONT)
        heard = b""
        while data := sock.recv(65536):
            heard += data
    connection.receive_data(heard)
    assert [type(message) for message in connection.events()] == [m.Hello, m.Started, m.Exit]


@pytest.mark.parametrize(
    ("call", "answer"),
    [(m.Call(b"words", (b"--help",), (), b"", b"/", (), (), 0, 0, 0), m.Description), (TRUE, m.Refused)],
)
def test_a_violation_in_the_same_breath_is_refused(
    serve: Callable[..., Server], directory: Path, call: m.Call, answer: type[m.Message]
) -> None:
    """A caller that breaks the protocol right after its CALL is answered once, and nothing falls over."""
    (directory / "x.toml").write_text('[service]\nname = "x"\n[commands.words]\nargv = ["true"]\n')
    server = serve("-v", "--config", str(directory / "x.toml"))
    heard = answers(server, HELLO, call, then=encode(m.Pong(())))
    assert [type(message) for message in heard] == [m.Hello, answer]


def test_a_violation_after_an_ending_signal_is_one_end(serve: Callable[..., Server]) -> None:
    """A waiting caller that interrupts its call and breaks the protocol in one write is answered once."""
    server = serve("-v", "--allow-any", "x", "--slots", "1")
    first = start("x", "sh", "-c", "echo ready; read line")
    assert first_line(first) == "ready"
    heard = answers(server, HELLO, TRUE, m.Signal(2), then=encode(m.Pong(())))
    assert [type(message) for message in heard][-1] in {m.Exit, m.Refused}
    end(first)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("OSError(5, 'Input/output error')", "cannot serve the call: Input/output error"),
        ("sidecall.ServiceUnavailable('no room')", "no room"),
        ("RuntimeError('odd')", "a bug in the server: RuntimeError: odd"),
        ("sidecall.supervise.process.SupervisorDied()", "its supervisor was killed"),
    ],
)
def test_a_call_that_the_service_loses_is_125_and_in_the_audit_log(
    serve: Callable[..., Server], sidecall: Run, directory: Path, error: str, reason: str
) -> None:
    """Whatever goes wrong in the service after a start: nobody is told that the command returned 0, though it did."""
    config, program = directory / "x.toml", directory / "faulty"
    config.write_text(f'[service]\nname = "x"\naudit = "{directory}/audit"\n[commands.true]\nargv = ["true"]\n')
    program.write_text(
        f"#!{sys.executable}\nimport sys\nimport sidecall.supervise.process\nfrom sidecall.cli import main\n"
        "from sidecall.calls.execution import Execution\n\n"
        f"async def drained(execution):\n    raise {error}\n\nExecution.drained = drained\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    server = serve("-v", "--config", str(config), program=str(program))
    done = sidecall("exec", "x", "true")
    assert (done.returncode, done.stdout) == (125, b"")
    server.await_log(f"lost reason={json.dumps(reason)}")
    (line,) = map(json.loads, (directory / "audit").read_text().splitlines())
    assert line == line | {"command": "true", "outcome": "lost", "reason": reason}
    server.forget_tracebacks()


SLOW = """\
#!{python}
import os, pwd, sys, time
from sidecall.cli import main
from sidecall.files.paths import Paths

def slow(work):
    def wait(*arguments, **options):
        open("{directory}/begun", "w").close()
        while not os.path.exists("{directory}/go"):
            time.sleep(0.01)
        return work(*arguments, **options)
    return wait

{what} = slow({what})
sys.exit(main())
"""

MAKE = """
[service]
name = "x"
slots = 2
[volumes.data]
path = "."
access = "write"
[commands.true]
argv = ["true"]
[commands.make]
argv = ["sh", "-c", 'touch "$1"; echo $SIDECALL_SCRATCH', "-", "{out}"]
scratch = true
parameters.out = { type = "path", access = "write", atomic = true }
"""


@pytest.mark.parametrize("what", ["Paths.commit", "os.rmdir"])
def test_slow_work_on_files_holds_up_its_own_call_alone(
    serve: Callable[..., Server], sidecall: Run, directory: Path, what: str
) -> None:
    """While a large file or a scratch directory of a call is being removed others go on; it ends when that is done."""
    (directory / "x.toml").write_text(MAKE)
    (directory / "slow").write_text(SLOW.format(python=sys.executable, directory=directory, what=what))
    (directory / "slow").chmod(0o755)
    serve("--config", str(directory / "x.toml"), program=str(directory / "slow"))
    caller = start("x", "make", "--out", str(directory / "out"))
    scratch = first_line(caller)
    while not (directory / "begun").exists():
        assert caller.poll() is None
    assert sidecall("exec", "x", "true").returncode == 0
    assert caller.poll() is None
    (directory / "go").touch()
    assert end(caller)[0] == 0
    assert (directory / "out").exists()
    assert not os.path.exists(scratch)


def test_slow_look_ups_of_users_hold_up_no_call(serve: Callable[..., Server], sidecall: Run, directory: Path) -> None:
    """A directory service that does not answer while the configuration is read again is no matter for callers."""
    (directory / "x.toml").write_text(MAKE)
    (directory / "slow").write_text(SLOW.format(python=sys.executable, directory=directory, what="pwd.getpwnam"))
    (directory / "slow").chmod(0o755)
    server = serve("--config", str(directory / "x.toml"), program=str(directory / "slow"))
    callers = f'callers = ["{pwd.getpwuid(os.geteuid()).pw_name}"]'
    (directory / "x.toml").write_text(MAKE.replace("slots = 2", callers))
    server.process.send_signal(signal.SIGHUP)
    while not (directory / "begun").exists():
        assert server.process.poll() is None
    assert sidecall("exec", "x", "true").returncode == 0
    (directory / "go").touch()
    server.await_log("the configuration has been read again")
