"""`exec -t`: a command in a terminal. The client is driven through a terminal of its own, as by a person."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import CLIENT, Server, listens, take_call
from sidecall.client.terminal import RESET
from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Run

TEST_FOR = 60.0
"""Seconds after which a wait counts as one that never ends; no test passes because of it."""

PROMPT = b"ready> "
SHELL = ("-e", "PS1=ready> ", "tool", "bash", "--norc", "--noprofile", "-i")
END = b"<the end>"
NOT_RAW = termios.ECHO | termios.ICANON | termios.ISIG


class Screen:
    """A client in a terminal of its own, which is its controlling terminal.

    Attributes:
        process: the client.
        shown: what has appeared by now.
        before: the attributes that the terminal had.
    """

    def __init__(self, *argv: str, size: tuple[int, int] = (24, 80), **streams: int) -> None:
        self._ours, self._theirs = pty.openpty()
        self.resize(*size)
        self.before = self.attributes
        self.shown = b""
        self._expected = 0
        given = {"stdin": self._theirs, "stdout": self._theirs, "stderr": self._theirs, **streams}
        environ = {**os.environ, "TERM": "xterm-256color"}
        self.process: subprocess.Popen[bytes] = subprocess.Popen(["setsid", "--ctty", *argv], env=environ, **given)  # type: ignore[call-overload]

    @property
    def attributes(self) -> list[object]:
        """The terminal's attributes as they are now."""
        return termios.tcgetattr(self._theirs)

    @property
    def is_raw(self) -> bool:
        """Tell whether the client passes every key on."""
        flags = self.attributes[3]
        assert isinstance(flags, int)
        return not flags & NOT_RAW

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal another size."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def set_as_before(self) -> None:
        """Set the terminal as a shell does when its job was stopped."""
        termios.tcsetattr(self._theirs, termios.TCSANOW, self.before)  # type: ignore[arg-type]

    def type(self, keys: bytes) -> None:
        """Type."""
        os.write(self._ours, keys)

    def expect(self, words: bytes) -> None:
        """Wait until some words have appeared, after those that were waited for before."""
        until = time.monotonic() + TEST_FOR
        while words not in self.shown[self._expected :]:
            assert select.select([self._ours], [], [], until - time.monotonic())[0], self.shown
            self.shown += os.read(self._ours, 65536)
        self._expected = self.shown.index(words, self._expected) + len(words)

    def end(self) -> int:
        """Wait for the end; return how the client ended, once all that it printed has appeared."""
        waiting = threading.Thread(target=self._mark_end)
        waiting.start()
        self.expect(END)
        waiting.join()
        self.shown = self.shown.removesuffix(END)
        return self.process.wait()

    def hang_up(self) -> None:
        """Close the terminal, as its window's end does."""
        os.close(self._theirs)
        os.close(self._ours)
        self._ours = self._theirs = -1

    def close(self) -> None:
        """Let go of it; the client has ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self._ours >= 0:
            self.hang_up()

    def _mark_end(self) -> None:
        self.process.wait()
        os.write(self._theirs, END)


@pytest.fixture
def screen() -> Iterator[Callable[..., Screen]]:
    """Return a function that runs `exec` with the words given in a terminal."""
    screens: list[Screen] = []

    def run(*words: str, **options: object) -> Screen:
        screens.append(Screen(CLIENT, "exec", *words, **options))  # type: ignore[arg-type]
        return screens[-1]

    yield run
    for each in screens:
        each.close()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    until = time.monotonic() + TEST_FOR
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def is_stopped(pid: int) -> bool:
    """Tell whether a process is stopped: proc_pid_stat(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_a_command_has_a_terminal_of_the_clients_size_and_type(tool: Server, screen: Callable[..., Screen]) -> None:
    """Its three streams are that terminal, and it is the controlling one."""
    assert tool.path.exists()
    script = "stty size </dev/tty; echo $TERM; test -t 0 && test -t 1 && test -t 2 && echo error >&2; exit 7"
    for options in (("-t",), ("-it",), ("-ti",), ("--interactive", "--tty"), ("-t", "--relay")):
        shown = screen(*options, "tool", "sh", "-c", script, size=(33, 99))
        assert shown.end() == 7
        assert shown.shown == b"33 99\r\nxterm-256color\r\nerror\r\n"
        assert shown.attributes == shown.before


def test_a_resize_arrives(tool: Server, screen: Callable[..., Screen]) -> None:
    """The command's terminal gets the size that the client's has, and the command SIGWINCH."""
    assert tool.path.exists()
    script = "trap change=signaled WINCH; echo ready; until stty size | grep -qx '40 120'; do :; done; echo $change"
    shown = screen("-t", "tool", "sh", "-c", script)  # bash 5.2 fails if a trap interrupts its parsing of a "$(...)"
    shown.expect(b"ready")
    shown.resize(40, 120)
    assert shown.end() == 0, shown.shown
    assert shown.shown == b"ready\r\nsignaled\r\n"


def test_a_resize_in_the_queue_counts(
    serve: Callable[..., Server], screen: Callable[..., Screen], tmp_path: Path
) -> None:
    """The command gets the size that the terminal has by then."""
    serve("--allow-any", "tool", "--slots", "1")
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    first = screen("-t", "tool", "sh", "-c", f"echo ready; read line <{gate}")
    first.expect(b"ready")
    script = "while test \"$(stty size)\" != '50 132'; do :; done; echo resized"
    second = screen("-t", "tool", "sh", "-c", script)
    second.expect(b"waiting for a slot of tool, 0 ahead\r\n")
    assert not second.is_raw
    second.resize(50, 132)
    with gate.open("w") as opened:
        opened.write("go\n")
    assert first.end() == 0
    assert second.end() == 0
    assert second.shown.endswith(b"\r\nresized\r\n")


def test_ctrl_c_and_ctrl_d_are_keys(tool: Server, screen: Callable[..., Screen]) -> None:
    """They act on the command's terminal, not on the client."""
    assert tool.path.exists()
    for key, code in ((b"\x03", -signal.SIGINT), (b"\x04", 0)):
        shown = screen("-t", "tool", "sh", "-c", "echo ready; exec cat")
        shown.expect(b"ready\r\n")
        shown.type(b"hello\r")
        shown.expect(b"hello\r\nhello\r\n")
        shown.type(key)
        assert shown.end() == code
        assert shown.attributes == shown.before


def test_job_control_of_a_shell(tool: Server, screen: Callable[..., Screen]) -> None:
    """Ctrl-Z stops its job, `fg` continues it, Ctrl-C ends it, and the shell's exit status arrives."""
    assert tool.path.exists()
    shown = screen("-it", *SHELL)
    shown.expect(PROMPT)
    shown.type(b"""bash -c 'trap "echo ag""ain" CONT; echo star""ted; while :; do :; done'\r""")
    shown.expect(b"started\r\n")
    shown.type(b"\x1a")
    shown.expect(b"Stopped")
    shown.expect(PROMPT)
    shown.type(b"fg\r")
    shown.expect(b"again\r\n")
    shown.type(b"\x03")
    shown.expect(PROMPT)
    shown.type(b'echo "sta""tus $?"\r')
    shown.expect(b"status 130\r\n")
    shown.expect(PROMPT)
    shown.type(b"exit 3\r")
    assert shown.end() == 3
    assert shown.attributes == shown.before


def test_all_output_arrives_before_the_end(tool: Server, screen: Callable[..., Screen]) -> None:
    """1 MB, then an exit code."""
    assert tool.path.exists()
    shown = screen("-t", "tool", "sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x; exit 7")
    assert shown.end() == 7
    assert shown.shown == b"x" * 1000000


def test_short_commands_lose_nothing(tool: Server) -> None:
    """Neither bytes nor their order, 25 times."""
    assert tool.path.exists()
    script = f"i=0; while test $i -lt 25; do {CLIENT} exec -t tool echo $i; i=$((i+1)); done"
    shown = Screen("sh", "-c", script)
    assert shown.end() == 0
    shown.close()
    assert shown.shown.split() == [b"%d" % i for i in range(25)]


def test_output_can_go_elsewhere(tool: Server, screen: Callable[..., Screen], tmp_path: Path) -> None:
    """Stdout of the client is a file, and gets what the command's terminal shows."""
    assert tool.path.exists()
    with (tmp_path / "out").open("wb") as out:
        shown = screen("-t", "tool", "sh", "-c", "echo out; echo err >&2", stdout=out.fileno())
        assert shown.end() == 0
    assert shown.shown == b""
    assert (tmp_path / "out").read_bytes() == b"out\r\nerr\r\n"


def test_a_server_that_is_killed_leaves_the_terminal_as_it_was(tool: Server, screen: Callable[..., Screen]) -> None:
    """The client exits with 125; the modes that the command can have set are reset, too."""
    shown = screen("-t", "tool", "sh", "-c", "echo ready; exec cat")
    shown.expect(b"ready")
    assert shown.is_raw
    tool.process.kill()
    tool.process.wait()
    assert shown.end() == 125
    assert shown.attributes == shown.before
    assert RESET + b"sidecall: the connection to the server was lost" in shown.shown


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_client_that_is_terminated_ends_the_call(
    tool: Server, screen: Callable[..., Screen], number: signal.Signals
) -> None:
    """Also if the command is an interactive shell, which ignores SIGTERM; the terminal is as it was."""
    assert tool.path.exists()
    shown = screen("-t", *SHELL)
    shown.expect(PROMPT)
    shown.process.send_signal(number)
    assert shown.end() == -signal.SIGHUP
    assert shown.attributes == shown.before
    assert shown.shown.endswith(RESET)
    assert "stopped=client" in tool.await_log("ended")


def test_a_terminal_that_is_closed_ends_the_call(tool: Server, screen: Callable[..., Screen]) -> None:
    """With all that it started."""
    shown = screen("-t", "tool", "sh", "-c", "sleep 1000 & echo $! ready; exec sleep 1000")
    shown.expect(b"ready")
    other = int(shown.shown.split()[0])
    shown.hang_up()
    tool.await_log("ended")
    assert not Path(f"/proc/{other}").exists()
    shown.process.wait(TEST_FOR)


def test_a_timeout_ends_a_shell(tool: Server, screen: Callable[..., Screen]) -> None:
    """The terminal is as it was before the sentence about it."""
    assert tool.path.exists()
    shown = screen("-t", "--timeout", "0.3", *SHELL)
    assert shown.end() == 124
    assert shown.attributes == shown.before
    assert b"sidecall: the command timed out and was terminated\r\n" in shown.shown


def test_a_client_that_is_stopped_gives_the_terminal_back(tool: Server, screen: Callable[..., Screen]) -> None:
    """As it was; it makes it raw again when it continues, and reports the size that it has then."""
    assert tool.path.exists()
    shown = screen("-t", "tool", "sh", "-c", "echo ready; read line; stty size; read line; stty size")
    shown.expect(b"ready")
    shown.process.send_signal(signal.SIGTSTP)
    wait_until(lambda: is_stopped(shown.process.pid))
    assert shown.attributes == shown.before
    shown.process.send_signal(signal.SIGCONT)
    wait_until(lambda: shown.is_raw)
    shown.type(b"\r")
    shown.expect(b"24 80\r\n")
    shown.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: is_stopped(shown.process.pid))
    shown.set_as_before()
    shown.resize(40, 120)
    shown.process.send_signal(signal.SIGCONT)
    wait_until(lambda: shown.is_raw)
    shown.type(b"\r")
    assert shown.end() == 0
    assert shown.shown.endswith(b"40 120\r\n")
    assert shown.attributes == shown.before


def test_notices_begin_at_the_left(tool: Server, screen: Callable[..., Screen]) -> None:
    """Also while the terminal is raw."""
    assert tool.path.exists()
    shown = screen("-t", "tool", "sh", "-c", "trap '' HUP; sleep 1000 & exit 0")
    assert shown.end() == 0
    assert b"sidecall: 1 background process was terminated when the command had exited\r\nhint: have " in shown.shown


def test_without_a_terminal_it_is_refused(tool: Server, screen: Callable[..., Screen]) -> None:
    """With 64 and a hint, before anything is called."""
    assert tool.path.exists()
    sentence = b"sidecall: -t needs a terminal as stdin\nhint: call without `-t`, or from a terminal\n"
    for given in (subprocess.DEVNULL, subprocess.PIPE):
        done = subprocess.run([CLIENT, "exec", "-it", "tool", "true"], stdin=given, capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (64, b"", sentence)
    closed = subprocess.run(["sh", "-c", f"{CLIENT} exec -t tool true <&-"], capture_output=True, check=False)
    assert (closed.returncode, closed.stderr) == (64, sentence)
    shown = screen("-t", "--no-stdin", "tool", "true")
    assert shown.end() == 64
    assert shown.shown == sentence.replace(b"\n", b"\r\n")
    assert "received" not in tool.log()


def test_a_command_has_to_allow_it(
    serve: Callable[..., Server], screen: Callable[..., Screen], sidecall: Run, tmp_path: Path
) -> None:
    """By `terminal = true`, which `describe` shows; any other one is refused with 77."""
    config = tmp_path / "tool.toml"
    config.write_text(
        '[service]\nname = "tool"\n[commands.plain]\nargv = ["tty"]\n'
        '[commands.shell]\nargv = ["sh", "-c", "test -t 0; echo $?"]\nterminal = true\n'
    )
    serve("--config", str(config))
    refused = screen("-t", "tool", "plain")
    assert refused.end() == 77
    assert refused.shown.startswith(
        b"sidecall: plain does not run in a terminal\r\n"
        b"hint: call without `-t`, or set `terminal = true` in the service configuration"
    )
    allowed = screen("-t", "tool", "shell")
    assert allowed.end() == 0
    assert allowed.shown == b"0\r\n"
    described = sidecall("describe", "tool").stdout.decode()
    assert described.count("runs in a terminal with -t") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_terminal_belongs_to_the_user_of_the_command(
    serve: Callable[..., Server], screen: Callable[..., Screen], tmp_path: Path
) -> None:
    """It can open the terminal by its path, as after a login."""
    config = tmp_path / "tool.toml"
    config.write_text(
        '[service]\nname = "tool"\n[commands.shell]\nargv = ["sh", "-c", "id -u; echo opened >$(tty)"]\n'
        'terminal = true\nuser = "nobody"\n'
    )
    serve("--config", str(config))
    shown = screen("-t", "tool", "shell")
    assert shown.end() == 0
    assert shown.shown.endswith(b"opened\r\n")


def test_a_forwarder_is_no_hindrance(tool: Server, screen: Callable[..., Screen], directory: Path) -> None:
    """Nothing but bytes has to cross it."""
    hop = directory / "hop.sock"
    forwarder = subprocess.Popen(["socat", f"UNIX-LISTEN:{hop},fork", f"UNIX-CONNECT:{tool.path}"])
    wait_until(lambda: listens(hop))
    try:
        shown = screen("-t", "hop", "sh", "-c", "read line; echo got $line; stty size; exit 7")
        shown.type(b"hello\r")
        assert shown.end() == 7
        assert shown.shown.endswith(b"got hello\r\n24 80\r\n")
    finally:
        forwarder.terminate()
        forwarder.wait()


def test_a_server_without_terminals_refuses_by_name(directory: Path, screen: Callable[..., Screen]) -> None:
    """The client needs the feature, so a server that does not know it refuses at once, with 76."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "old.sock"))
        listener.listen()
        shown = screen("-t", "old", "true")
        peer, _ = listener.accept()
        with peer:
            hello, call = take_call(peer)
            reason = "unknown feature 'terminal'"
            peer.sendall(encode(m.Hello(1, (), (), "old")) + encode(m.Refused(76, reason, "")))
            assert shown.end() == 76
    assert hello.needs == (b"terminal",)
    assert call.options == (b"terminal=24x80", b"term=xterm-256color")
    assert call.streams == m.IN_TERMINAL
    assert shown.shown.endswith(b"sidecall: unknown feature 'terminal'\r\n")
