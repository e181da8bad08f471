"""`sidecall exec` on real processes: how it ends, and that every byte arrives."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import pty
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import CLIENT, IS_PYTHON_CLIENT, SIDECALL, both_modes, deliver, end, first_line, start, take_call
from sidecall import run_async
from sidecall.errors import ServiceUnavailable
from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode, frame_at

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import FileIO

    from conftest import Run, Server

DEADLY = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 24, 25, 26, 27, 29, 30, 31, 34, 50, 64]
"""Every signal whose default is to end a process, and some real-time ones: signal(7)."""


@pytest.mark.long
@both_modes
def test_ends_with_every_exit_code(tool: Server, sidecall: Run, mode: tuple[str, ...]) -> None:
    """A command's exit code 0…255 is the caller's."""
    with ThreadPoolExecutor(4) as pool:
        codes = list(
            pool.map(
                lambda code: sidecall("exec", "-q", *mode, "tool", "sh", "-c", f"exit {code}").returncode,
                range(256),
            )
        )
    assert codes == list(range(256))


@both_modes
def test_dies_of_the_signal_that_killed_the_command(tool: Server, sidecall: Run, mode: tuple[str, ...]) -> None:
    """Where a command dies of a signal its caller dies of the same one."""
    ends = {number: sidecall("exec", *mode, "tool", "sh", "-c", f"kill -{number} $$").returncode for number in DEADLY}
    assert ends == {number: -number for number in DEADLY}


@pytest.mark.parametrize(
    ("words", "code", "reason", "hint"),
    [
        ((), 64, "missing service", "usage: sidecall exec [OPTIONS] NAME COMMAND [ARG...]"),
        (("tool",), 64, "missing command", "usage: sidecall exec [OPTIONS] NAME COMMAND [ARG...]"),
        (("--nope", "tool", "true"), 64, "unknown option --nope", "see `sidecall exec --help`"),
        (("--timeout", "-1", "tool", "true"), 64, "invalid --timeout '-1': expected a positive number of seconds", ""),
        (("--outcome-fd", "77", "tool", "true"), 64, "--outcome-fd 77: this descriptor is not open", "open it with"),
        (("-u", "root", "tool", "true"), 64, "-u is not supported: the service decides as which user", "set `user`"),
        (("tool", "-it", "bash"), 64, "the option -it follows the service", "put options before NAME: sidecall exec"),
        (("missing", "true"), 69, "the socket is missing: ", "start the service with `sidecall serve`"),
        (("/no/such/directory/x.sock", "true"), 69, "the socket is missing, and so is its directory", "mount"),
        (("/etc/passwd", "true"), 69, "/etc/passwd is not a socket", "give the name of a service"),
        (("--timeout", "0.2", "tool", "sleep", "30"), 124, "the command timed out and was", "raise `--timeout`"),
        (("tool", "/etc/passwd"), 126, "cannot execute '/etc/passwd': Permission denied", ""),
        (("tool", "/"), 126, "cannot execute '/': Permission denied", ""),
        (("--cwd", "/no/such", "tool", "true"), 126, "cannot enter the working directory '/no/such'", "it has"),
        (("tool", "no-such-command"), 127, "no such command: 'no-such-command'", "check its spelling"),
        (("tool", "/no/such"), 127, "no such command: '/no/such'", "check the path"),
    ],
)  # fmt: skip
def test_every_other_end_has_its_code_and_one_sentence(
    tool: Server, sidecall: Run, words: tuple[str, ...], code: int, reason: str, hint: str
) -> None:
    """An end that is not the command's own has its own code, one sentence, and a hint where there is one."""
    done = sidecall("exec", *words)
    lines = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout) == (code, b"")
    assert lines[0].startswith(f"sidecall: {reason}")
    assert [line.startswith(f"hint: {hint}") for line in lines[1:]] == ([True] if hint else [])


@pytest.mark.parametrize(
    "words", [("exec", "--help"), ("exec", "-qh"), ("exec", "tool", "--help"), ("exec", "tool", "-h", "x")]
)
def test_help_is_found_before_and_after_the_service(sidecall: Run, words: tuple[str, ...]) -> None:
    """`--help` prints the options of `exec`, without a service."""
    done = sidecall(*words)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"usage: sidecall exec [OPTIONS] NAME COMMAND [ARG...]\n" in done.stdout


@pytest.mark.parametrize("command", ["exec", "connect", "ping", "serve"])
def test_help_of_a_command(command: str) -> None:
    """`sidecall help COMMAND` prints what `sidecall COMMAND --help` does."""
    printed = [
        subprocess.run([CLIENT, *words], capture_output=True, check=True).stdout
        for words in (["help", command], ["help", command, "more"], [command, "--help"])
    ]
    assert printed[0] == printed[1] == printed[2]
    assert f"usage: sidecall {command} ".encode() in printed[0]


def test_variables_reach_the_command(tool: Server, sidecall: Run, tmp_path: Path) -> None:
    """The last value counts, and `--env` more than a file; a variable that is not set is left out."""
    file = tmp_path / "variables"
    file.write_text("# comment\nA=file\nB= '2' \nHERE\nNOT_SET_HERE\n")
    options = ("-qe", "A=given", "--env-file", str(file), "-eC=1", "-eC=3", "-e", "NOT_SET_HERE")
    script = 'echo "$A|$B|$C|$HERE|${NOT_SET_HERE-unset}"'
    done = sidecall("exec", *options, "tool", "--", "sh", "-c", script, env={"HERE": "here"})
    assert (done.stdout, done.stderr) == (b"given| '2' |3|here|unset\n", b"")


def test_a_file_of_variables_can_be_a_pipe(tool: Server) -> None:
    """As of `--env-file <(...)`."""
    script = f"{CLIENT} exec -w / --env-file <(echo A=1; sleep 0.1; echo B=2) tool sh -c 'echo $A $B $PWD'"
    assert subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout == b"1 2 /\n"


def test_a_stale_socket_is_told_from_a_missing_one(directory: Path, sidecall: Run) -> None:
    """A socket on which no server is listening any more is reported as stale."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(directory / "old.sock"))
    done = sidecall("exec", "old", "true")
    assert done.returncode == 69
    assert done.stderr.decode().startswith(f"sidecall: no server is listening on {directory}/old.sock (stale socket)\n")


@pytest.mark.parametrize("words", [("exec", "{}", "true"), ("connect", "{}", "true"), ("ping", "{}"), ("status", "{}")])
def test_a_server_that_accepts_nothing_is_given_up(directory: Path, sidecall: Run, words: tuple[str, ...]) -> None:
    """A stopped server has room for no more connections in the end, and connect(2) waits for room."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(directory / "odd.sock"))
        listener.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(str(directory / "odd.sock"))
        subcommand, *rest = (word.format("odd") for word in words)
        done = sidecall(subcommand, "--connect-timeout", "0.2", *rest)
        assert (done.returncode, done.stderr.splitlines()[0]) == (69, b"sidecall: the server does not answer"), done
        with pytest.raises(ServiceUnavailable, match="does not answer"):
            asyncio.run(run_async("odd", ["true"], connect_timeout=0.2))


def test_a_peer_that_speaks_something_else_is_76(directory: Path, sidecall: Run) -> None:
    """What does not speak the protocol is said not to."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "web.sock"))
        listener.listen()

        def answer() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        done = sidecall("exec", "web", "true")
        thread.join()
    assert done.returncode == 76


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def as_stranger(directory: Path, *words: str, before: str = "pass") -> list[str]:
    """Return what runs the client as uid 1, which need not be able to read what this user can.

    Args:
        directory: where the sockets are: it is opened to all.
        words: the client's words.
        before: what the process does before it becomes the client.
    """
    for parent in (directory, *directory.parents):
        parent.chmod(parent.stat().st_mode | 0o001)
    for path in directory.glob("*.sock"):
        path.chmod(0o666)
    script = f"import os, sys; {before}; become = lambda: (os.setgroups([]), os.setgid(1), os.setuid(1)); "
    if IS_PYTHON_CLIENT:
        script += "import sidecall.cli.exec, sidecall.transport.relay; become(); "
        script += "sys.exit(sidecall.cli.main(sys.argv[2:]))"
    else:
        shutil.copy(CLIENT, directory / "client")
        script += "become(); os.execv(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-c", script, str(directory / "client"), *words]


@needs_root
def test_another_user_is_denied(tool: Server) -> None:
    """By default only the server's own uid may call: the socket's mode says so, and then the service."""
    words = as_stranger(tool.path.parent, "exec", "tool", "true")
    tool.path.chmod(0o600)
    done = subprocess.run(words, capture_output=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        77,
        f"sidecall: uid 1 lacks write permission on the socket {tool.path} of uid 0, mode 0600".encode(),
    )
    tool.path.chmod(0o666)
    done = subprocess.run(words, capture_output=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        77,
        b"sidecall: uid 1 is not allowed to call this service",
    )


@both_modes
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("exit 3", {"outcome": "exited", "code": 3}),
        ("kill -TERM $$", {"outcome": "signaled", "signal": 15, "core_dumped": False}),
    ],
)
def test_writes_the_outcome_as_json(
    tool: Server, mode: tuple[str, ...], script: str, expected: dict[str, object]
) -> None:
    """`--outcome-fd` tells a command's own 64 from ours: one JSON line says how the call ended."""
    readable, writable = os.pipe()
    subprocess.run(
        [CLIENT, "exec", *mode, "--outcome-fd", str(writable), "tool", "sh", "-c", script],
        pass_fds=[writable],
        check=False,
    )
    os.close(writable)
    with open(readable) as lines:
        outcome = json.loads(lines.read())
    assert expected.items() <= outcome.items()
    assert set(outcome["usage"]) == {"queued", "run", "user", "system", "max_rss"}


def bash(script: str) -> subprocess.CompletedProcess[bytes]:
    """Run a script of the shell in which `$S` is the client."""
    words = ["bash", "-c", script]
    return subprocess.run(words, capture_output=True, env={**os.environ, "S": CLIENT}, check=False, timeout=60)


@pytest.mark.parametrize(("file", "reason"), [(">/dev/full", b"No space left"), ("</dev/null", b"Bad file descriptor")])
def test_an_outcome_that_cannot_be_written_changes_no_status(tool: Server, file: str, reason: bytes) -> None:
    """Where the line of JSON gets lost it is said, and the exit code is the command's."""
    done = bash(f"$S exec --outcome-fd 3 tool sh -c 'exit 4' 3{file}")
    assert done.returncode == 4
    assert done.stderr.startswith(b"sidecall: cannot write the outcome to descriptor 3: " + reason)


@both_modes
def test_the_outcome_can_follow_the_output(tool: Server, mode: tuple[str, ...]) -> None:
    """The outcome may be asked for on stdout, which otherwise is left to the command."""
    first, second = bash(f"$S exec {' '.join(mode)} --outcome-fd 1 tool echo hello").stdout.splitlines()
    assert (first, json.loads(second)["outcome"]) == (b"hello", "exited")


@pytest.mark.parametrize(
    "words", ["exec --cwd sub tool true", "exec ./x.sock true", "ping ./x.sock", "serve --config x.toml"]
)
def test_relative_words_in_a_directory_that_is_gone_are_a_mistake(tool: Server, directory: Path, words: str) -> None:
    """What starts at a working directory that has been removed leads nowhere, and that is said."""
    done = bash(f"mkdir {directory}/gone; cd {directory}/gone; rmdir {directory}/gone; $S {words}")
    assert done.returncode == 64
    assert b" is relative, but the working directory has been removed\nhint: use an absolute path\n" in done.stderr


@pytest.mark.parametrize("words", ["ping tool", "status tool", "exec --help"])
def test_an_answer_that_cannot_be_written_is_a_failure(tool: Server, words: str) -> None:
    """A full disk under stdout is one sentence and a failure."""
    done = bash(f"$S {words} >/dev/full")
    assert (done.returncode, done.stderr) == (1, b"sidecall: cannot continue: No space left on device\n")


@both_modes
def test_a_caller_without_descriptors_says_what_it_knows(tool: Server, mode: tuple[str, ...]) -> None:
    """Where a caller runs out of descriptors it never ends as a command might have."""
    for limit in range(5, 11):
        done = bash(f"ulimit -n {limit}; exec $S exec {' '.join(mode)} tool sh -c 'exit 3'")
        if done.returncode != 3:
            assert done.returncode in {69, 125}, done
            assert done.stderr.startswith(b"sidecall: "), done


@both_modes
@pytest.mark.parametrize(("fd", "streams"), [("1", ""), ("0", "0>&1"), ("2", "2>&1"), ("01", "")])
def test_the_outcome_may_go_to_a_stream(tool: Server, mode: tuple[str, ...], fd: str, streams: str) -> None:
    """`--outcome-fd 1` writes after the command's own output, though the command was left alone with stdout."""
    line = f"exec {CLIENT} exec {' '.join(mode)} --no-stdin --outcome-fd {fd} tool sh -c 'echo out; exit 3' {streams}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, check=False)
    out, outcome = done.stdout.splitlines()
    assert (done.returncode, out, json.loads(outcome)["code"]) == (3, b"out", 3)


@pytest.mark.parametrize("fd", ["0", "1", "2"])
def test_a_closed_stream_is_no_place_for_an_outcome(tool: Server, fd: str, directory: Path) -> None:
    """What was closed when the caller started is not open because the caller needed the place."""
    line = f"exec {CLIENT} exec --outcome-fd {fd} tool touch {directory}/called {fd}>&-"
    assert subprocess.run(["sh", "-c", line], capture_output=True, check=False).returncode == 64
    assert not (directory / "called").exists()


@both_modes
@pytest.mark.parametrize(
    ("script", "place", "code", "why"),
    [
        ("exit 3", "3>/dev/full", 3, "No space left on device"),
        ("exit 0", "3>/dev/full", 0, "No space left on device"),
        ("kill -TERM $$", "3</dev/null", -15, "Bad file descriptor"),
        ("exit 4", "3>&1 >/dev/null", 4, "Broken pipe"),
    ],
)
def test_an_outcome_that_cannot_be_written_changes_no_end(
    tool: Server, mode: tuple[str, ...], script: str, place: str, code: int, why: str
) -> None:
    """The caller ends as the command ended, and says that whoever waits for the JSON waits in vain."""
    readable, writable = os.pipe()
    os.close(readable)
    line = f"exec {CLIENT} exec {' '.join(mode)} --outcome-fd 3 tool sh -c '{script}' {place}"
    done = subprocess.run(["sh", "-c", line], stdout=writable, stderr=-1, check=False)
    os.close(writable)
    assert done.returncode == code
    assert done.stderr.decode() == f"sidecall: cannot write the outcome to descriptor 3: {why}\n"


@both_modes
def test_streams_are_exact_and_apart(tool: Server, sidecall: Run, mode: tuple[str, ...]) -> None:
    """32 MiB of random bytes come back unchanged, and stderr does not mix with stdout."""
    data = os.urandom(32 << 20)
    done = sidecall("exec", *mode, "tool", "sh", "-c", "cat; echo apart >&2", input=data)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()
    assert (done.returncode, done.stderr) == (0, b"apart\n")


@pytest.mark.long
@both_modes
def test_what_is_written_after_stdin_ended_arrives(tool: Server, sidecall: Run, mode: tuple[str, ...]) -> None:
    """A command that writes once its stdin has ended loses nothing, 100 times."""
    script = "cat >/dev/null; seq 500; echo last"
    expected = "".join(f"{number}\n" for number in range(1, 501)).encode() + b"last\n"
    for _ in range(100):
        assert sidecall("exec", *mode, "tool", "sh", "-c", script, input=b"x").stdout == expected


@both_modes
def test_a_command_may_close_stdout_early(tool: Server, mode: tuple[str, ...]) -> None:
    """The caller's reader sees the end of stdout while the command still runs."""
    caller = start(*mode, "tool", "sh", "-c", "echo a; exec >&-; read line; exit 5")
    assert caller.stdout is not None
    assert caller.stdin is not None
    assert caller.stdout.read() == b"a\n"
    assert caller.poll() is None
    caller.stdin.write(b"go\n")
    assert end(caller)[0] == 5


@both_modes
def test_a_command_need_not_read_its_stdin(tool: Server, mode: tuple[str, ...]) -> None:
    """A producer that the command does not listen to gets SIGPIPE, as in a local pipeline."""
    done = subprocess.run(
        ["bash", "-c", f"yes | {CLIENT} exec {' '.join(mode)} tool head -n 1; echo ${{PIPESTATUS[@]}}"],
        capture_output=True,
        check=False,
    )
    assert done.stdout == b"y\n141 0\n"


@both_modes
def test_a_reader_that_goes_ends_the_command(tool: Server, mode: tuple[str, ...]) -> None:
    """A command whose reader is gone dies of SIGPIPE, and so does its caller."""
    done = subprocess.run(
        ["bash", "-c", f"{CLIENT} exec {' '.join(mode)} tool yes | head -n 1; echo ${{PIPESTATUS[@]}}"],
        capture_output=True,
        check=False,
    )
    assert done.stdout == b"y\n141 0\n"


@pytest.mark.parametrize(
    ("mode", "streams", "code"),
    [
        ((), "<&-", 0),
        (("--relay",), "<&-", 0),
        ((), "<&- >/dev/null 2>&-", 0),
        (("--relay",), "<&- >/dev/null 2>&-", 0),
        ((), ">/dev/full", 1),
        (("--relay",), ">/dev/full", 125),
    ],
)
def test_odd_streams(tool: Server, mode: tuple[str, ...], streams: str, code: int) -> None:
    """Closed descriptors and a full disk neither hang nor become a false success."""
    line = f"exec {CLIENT} exec {' '.join(mode)} tool sh -c 'cat; echo x' {streams}"
    assert subprocess.run(["sh", "-c", line], capture_output=True, check=False, timeout=20).returncode == code


def test_a_stdin_that_breaks_off_is_no_success(tool: Server) -> None:
    """A command that read less than there is, and returned 0, has not succeeded: a disk may fail under stdin."""
    script = "import os, subprocess, sys; os.lseek(mem := os.open('/proc/self/mem', os.O_RDONLY), 0, 0); "
    script += f"sys.exit(subprocess.run([{CLIENT!r}, 'exec', '--relay', 'tool', *sys.argv[1:]], stdin=mem).returncode)"
    for words, code, said in (
        (
            ["cat"],
            125,
            "sidecall: cannot read stdin: Input/output error\nhint: the input of the command is incomplete\n",
        ),
        (["sh", "-c", "cat; exit 3"], 3, "sidecall: cannot read stdin: Input/output error\n"),
    ):
        done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, check=False)
        assert (done.returncode, done.stderr.decode()) == (code, said)


@pytest.mark.parametrize("stdin", ["</dev/null", "<&-"])
def test_a_stdin_that_is_none_is_empty(tool: Server, directory: Path, stdin: str) -> None:
    """A closed stdin is an empty one for the command; so is /dev/null."""
    line = f"cd {directory}; exec {CLIENT} exec --relay tool cat {stdin}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, check=False, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_terminal_that_hangs_up_ends_stdin(tool: Server) -> None:
    """A terminal whose other end is gone gives EIO: that is its end."""
    ours, theirs = pty.openpty()
    caller = start("--relay", "tool", "sh", "-c", "echo ready; cat; exit 6", stdin=theirs)
    first_line(caller)
    os.close(theirs)
    os.close(ours)
    assert end(caller)[0] == 6


def test_a_terminal_is_relayed_and_left_as_it_was(tool: Server) -> None:
    """A terminal is never handed over, and its shared flags stay as they were."""
    ours, theirs = pty.openpty()
    caller = start("tool", "sh", "-c", "read line; echo got $line; test -t 0", stdin=theirs, stdout=theirs)
    os.write(ours, b"hello\n")
    assert end(caller)[0] == 1
    assert os.get_blocking(theirs)
    with open(ours, "rb", buffering=0, closefd=False) as screen:
        await_words(screen, b"got hello")
    os.close(ours)
    os.close(theirs)


def test_ctrl_z_stops_and_fg_goes_on(tool: Server, directory: Path) -> None:
    """In an interactive shell a call is a job like any other: Ctrl-Z, fg, Ctrl-C.

    The command starts none of its own: a shell in vfork(2) waits in state D for a child that was stopped.
    """
    script = f"trap 'exit 9' INT; echo $$ >{directory}/pid; while :; do :; done"
    pid, terminal = pty.fork()
    if not pid:
        os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
    with open(terminal, "r+b", buffering=0) as keys:
        keys.write(f"{CLIENT} exec tool sh -c {shlex.quote(script)}\n".encode())
        command = int(await_content(directory / "pid"))
        keys.write(b"\x1a")
        await_state(command, "T")
        await_words(keys, b"Stopped")  # what is typed earlier may still go to the command
        keys.write(b"fg; echo ended $?\n")
        await_state(command, "SR")
        keys.write(b"\x03")
        await_words(keys, b"ended 9")
        keys.write(b"exit\n")
        os.waitpid(pid, 0)


def await_words(screen: FileIO, words: bytes) -> None:
    """Wait until a terminal shows some words."""
    shown = b""
    while words not in shown:
        shown += screen.read(1024) or b""


def await_content(path: Path) -> str:
    """Wait until a file has a line, and return it."""
    while not path.exists() or not path.read_text().endswith("\n"):
        time.sleep(0.01)
    return path.read_text()


def await_state(pid: int, states: str) -> None:
    """Wait until a process is in one of some states: proc_pid_stat(5)."""
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in states:
        time.sleep(0.01)


def test_a_forwarder_of_bytes_only_is_no_hindrance(tool: Server, directory: Path, sidecall: Run) -> None:
    """Where descriptors get lost on the way the call is made again with relayed streams."""
    hop = directory / "hop.sock"
    with subprocess.Popen(["socat", f"UNIX-LISTEN:{hop},fork", f"UNIX-CONNECT:{tool.path}"]) as socat:
        sidecall("ping", "--connect-timeout", "10", "hop")
        done = sidecall("exec", "hop", "sh", "-c", "cat; exit 9", input=b"through\n")
        socat.terminate()
    assert (done.returncode, done.stdout) == (9, b"through\n")


@both_modes
@pytest.mark.parametrize("number", [1, 2, 3, 10, 12, 15])
def test_signals_reach_the_command(tool: Server, mode: tuple[str, ...], number: int) -> None:
    """HUP, INT, QUIT, USR1, USR2 and TERM are the command's, which may handle them."""
    script = f"trap 'echo caught; exit 40' {number}; echo ready; while :; do sleep 0.05; done"
    caller = start(*mode, "tool", "sh", "-c", script)
    assert caller.stdout is not None
    assert caller.stdout.readline() == b"ready\n"
    caller.send_signal(number)
    assert end(caller)[:2] == (40, b"caught\n")


@both_modes
@pytest.mark.parametrize("how", ["ignored", "blocked"])
def test_a_signal_that_the_caller_was_spared_stays_its_own(
    tool: Server, mode: tuple[str, ...], how: str, directory: Path
) -> None:
    """What was ignored or blocked when the caller started, as by nohup(1), does not reach the command."""
    spare = "signal.signal(10, signal.SIG_IGN)" if how == "ignored" else "signal.pthread_sigmask(0, [10])"
    script = "trap 'echo one' USR1; trap 'echo two; exit 8' USR2; echo ready; while :; do sleep 0.05; done"
    words = [CLIENT, "exec", *mode, "tool", "sh", "-c", script]
    caller = subprocess.Popen(
        [sys.executable, "-c", f"import os, signal, sys; {spare}; os.execv(sys.argv[1], sys.argv[1:])", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert first_line(caller) == "ready"
    caller.send_signal(signal.SIGUSR1)
    caller.send_signal(signal.SIGUSR2)
    assert end(caller)[:2] == (8, b"two\n")


@pytest.mark.parametrize("number", [1, 2, 3, 10, 12, 15, 20])
def test_a_signal_that_comes_with_the_end_changes_nothing(directory: Path, number: int) -> None:
    """A caller that has been told how its command ended is not ended otherwise by a signal that was meant for it."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "odd.sock"))
        listener.listen()
        caller = start("--no-stdin", "odd", "true", stdout=subprocess.DEVNULL)
        service, _ = listener.accept()
        with service:
            take_call(service)
            service.sendall(BEGUN)
            await_let_go(caller.pid)
            caller.send_signal(signal.SIGSTOP)
            await_state(caller.pid, "T")
            service.sendall(exit_message(0, 44))
            caller.send_signal(number)
            caller.send_signal(signal.SIGCONT)
            assert end(caller)[0] == 44


def await_let_go(pid: int) -> None:
    """Wait until a caller has let go of its stdout, as it does once its command runs."""
    own = os.stat(f"/proc/{pid}/fd/2")
    while (fd := Path(f"/proc/{pid}/fd/0")).exists() and fd.stat() == own:
        time.sleep(0.01)


def test_a_server_started_in_the_background_of_a_script_runs_commands_that_can_be_interrupted(
    directory: Path, sidecall: Run
) -> None:
    """A shell's `&` makes a server ignore INT; its commands do not."""
    server = subprocess.Popen(["sh", "-c", f"{SIDECALL} serve --allow-any bg 2>/dev/null & echo $!; wait"], stdout=-1)
    assert server.stdout is not None
    pid = int(server.stdout.readline())
    sidecall("ping", "--connect-timeout", "10", "bg")
    caller = start("bg", "sh", "-c", "echo ready; exec sleep 60")
    assert caller.stdout is not None
    caller.stdout.readline()
    caller.send_signal(signal.SIGINT)
    assert end(caller)[0] == -2
    os.kill(pid, signal.SIGTERM)
    server.communicate()


@both_modes
def test_a_second_interrupt_kills(tool: Server, mode: tuple[str, ...]) -> None:
    """A command that ignores INT and TERM is killed when the caller insists."""
    caller = start(*mode, "tool", "sh", "-c", "trap '' INT TERM; echo ready; while :; do sleep 0.05; done")
    assert caller.stdout is not None
    caller.stdout.readline()
    for _ in range(2):
        deliver(caller, signal.SIGINT)
    assert end(caller)[0] == -9


def test_a_service_that_does_not_act_is_left_at_the_third_interrupt(directory: Path) -> None:
    """A server that stands still cannot hold its callers: they say that they do not know."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "slow.sock"))
        listener.listen()
        caller = start("slow", "true")
        service, _ = listener.accept()
        with service:
            take_call(service)
            for _ in range(3):
                deliver(caller, signal.SIGINT)
            code, _, said = end(caller)
    assert code == 125
    assert said.startswith(b"sidecall: interrupted repeatedly, but the server does not stop the command")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ((m.Started("1"), m.Exit(m.ENDED_EXITED, 40, ())), 40),
        ((m.Exit(m.ENDED_SIGNALED, 10, ()),), -10),
    ],
)
def test_only_the_service_knows_whether_a_signal_came_before_the_start(
    directory: Path, answer: tuple[m.Message, ...], code: int
) -> None:
    """A caller that has not heard of the start yet sends the signal on and does not act on it."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "slow.sock"))
        listener.listen()
        caller = start("--relay", "slow", "true")
        service, _ = listener.accept()
        with service:
            take_call(service)
            caller.send_signal(signal.SIGUSR1)
            assert service.recv(65536) == encode(m.Signal(10))
            service.sendall(b"".join(map(encode, (m.Hello(1, (), (), "test"), *answer))))
            assert end(caller)[0] == code


def test_a_caller_in_a_directory_that_is_gone_can_call(tool: Server, tmp_path: Path) -> None:
    """Its working directory matters to nobody but itself."""
    script = f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir ../gone; exec {CLIENT} exec tool echo here"
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"here\n"), done.stderr


@needs_root
def test_descriptors_that_the_kernel_does_not_pass_are_relayed(directory: Path) -> None:
    """A user may only have so many under way (ETOOMANYREFS in unix(7)): in a crowd of callers nobody is lost for it."""
    crowd = "import os, socket; os.setuid(1); ends = socket.socketpair(); "
    crowd += "[socket.send_fds(ends[0], [b'x'], [1] * 10) for _ in range(3)]; print(flush=True); input()"
    keeping = subprocess.Popen([sys.executable, "-c", crowd], stdin=-1, stdout=-1)
    first_line(keeping)
    heard = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "odd.sock"))
        listener.listen()
        few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))"
        caller = subprocess.Popen(
            as_stranger(directory, "exec", "odd", "true", before=few), stdin=-1, stdout=-1, stderr=-1
        )
        for _ in range(2):
            service, _ = listener.accept()
            with service:
                heard.append(modes(service))
                if m.PASSED in heard[-1]:
                    assert service.recv(1) == b""
                else:
                    service.sendall(BEGUN + exit_message(0, 7))
                    assert end(caller)[0] == 7
    keeping.communicate(b"\n")
    assert heard == [[m.PASSED] * 3, [m.RELAYED] * 3]


def modes(service: socket.socket) -> list[int]:
    """Return how the streams of the call travel that a client asks for, whether or not it can pass descriptors."""
    buffer = bytearray(service.recv(65536))
    hello = frame_at(buffer, 0)
    assert hello is not None
    call = frame_at(buffer, hello[1])
    assert call is not None
    assert isinstance(call[0], m.Call)
    return [*call[0].streams]


HEARD = encode(m.Hello(1, (), (), "test"))
BEGUN = HEARD + encode(m.Started("1"))


def exit_message(ended: int, value: int) -> bytes:
    """Return an EXIT."""
    return encode(m.Exit(ended, value, ()))


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", 125),
        (b"HTTP/1.1 200 OK\r\n\r\n", 76),
        (HEARD, 125),
        (BEGUN, 125),
        (BEGUN + exit_message(0, 0)[:-1], 125),
        (HEARD + exit_message(0, 0), 76),
        (HEARD + exit_message(1, 0), 76),
        (BEGUN + exit_message(1, 0), 76),
        (BEGUN + exit_message(1, 200), 76),
        (BEGUN + exit_message(9, 0), 125),
        (BEGUN + encode(m.Started("2")) + exit_message(0, 0), 76),
        (HEARD + encode(m.Refused(0, "all is well", "")), 76),
        (HEARD + encode(m.Refused(64, "\x1b[2Jevil\nline", "\u202e")), 64),
        (encode(m.Hello(9, (), (), "x")) + exit_message(0, 0), 76),
        (encode(m.Hello(2, (), (), "x")) + encode(m.Started("1")) + exit_message(0, 0), 76),
        (HEARD + encode(m.Description(b'{"commands": []}')), 76),
        (HEARD + encode(m.Refused(69, "gone", "")) + exit_message(0, 0), 69),
    ],
)
def test_an_unusable_answer_is_never_a_success(directory: Path, answer: bytes, code: int) -> None:
    """Whatever a broken or hostile service says, the end is one of the table's, said in printable words."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "odd.sock"))
        listener.listen()
        caller = start("odd", "true")
        service, _ = listener.accept()
        with service:
            take_call(service)
            service.sendall(answer)
            service.shutdown(socket.SHUT_WR)
            status, _, said = end(caller)
    assert status == code, said
    assert said.decode().replace("\n", "").isprintable()


def test_a_full_stream_does_not_block_a_signal(tool: Server) -> None:
    """A caller whose reader does not read can still be interrupted."""
    caller = start("--relay", "tool", "sh", "-c", "echo $$; exec yes")
    assert caller.stdout is not None
    pid = int(caller.stdout.readline())
    await_state(pid, "S")  # it waits for room in a pipe
    caller.send_signal(signal.SIGINT)
    while Path(f"/proc/{pid}").exists():
        pass
    assert end(caller)[0] == -2


@both_modes
def test_a_killed_caller_takes_its_command_along(tool: Server, mode: tuple[str, ...]) -> None:
    """When the caller is killed even a command that ignores TERM is gone after the grace."""
    caller = start(*mode, "tool", "sh", "-c", "trap '' TERM; echo $$; while :; do sleep 0.05; done")
    assert caller.stdout is not None
    pid = int(caller.stdout.readline())
    caller.kill()
    end(caller)
    tool.await_log("outcome=signaled value=9")
    assert not Path(f"/proc/{pid}").exists()


@both_modes
def test_a_caller_can_die_with_its_parent(tool: Server, mode: tuple[str, ...]) -> None:
    """When the shell around a caller is killed the command goes, however deaf it is."""
    words = [CLIENT, "exec", *mode, "--die-with-parent", "tool", "sh", "-c", "trap '' TERM; echo $$; sleep 60; :"]
    shell = subprocess.Popen(["bash", "-c", f"true; {shlex.join(words)}; true"], stdout=subprocess.PIPE)
    assert shell.stdout is not None
    pid = int(shell.stdout.readline())
    shell.kill()
    shell.communicate(timeout=20)
    tool.await_log("outcome=signaled value=9")
    assert not Path(f"/proc/{pid}").exists()


def test_a_caller_whose_parent_is_gone_already_calls_nobody(tool: Server, directory: Path) -> None:
    """A parent that ends before the caller could ask to die with it is noticed all the same."""
    os.mkfifo(directory / "go")
    caller = f"read line <{directory}/go; exec {CLIENT} exec --die-with-parent tool touch {directory}/called"
    words = ["sh", "-c", f"sh -c {shlex.quote(caller)} &"]
    # In a session of its own, since the parent that an orphan gets could be in this one.
    with subprocess.Popen(words, stderr=subprocess.PIPE, start_new_session=True) as parent:
        assert parent.wait(60) == 0
        (directory / "go").write_text("\n")
        assert parent.stderr is not None
        said = parent.stderr.read()
    assert said.startswith(b"sidecall: the parent process has ended before the call\n")
    assert not (directory / "called").exists()


@both_modes
def test_a_killed_server_is_125(serve: Callable[..., Server], mode: tuple[str, ...]) -> None:
    """When the server dies the caller says that it does not know, never 0, and the command dies too."""
    server = serve("--allow-any", "short")
    caller = start(*mode, "short", "sh", "-c", "echo $$; exec sleep 60")
    assert caller.stdout is not None
    pid = int(caller.stdout.readline())
    server.process.kill()
    server.process.wait()
    assert caller.wait(20) == 125
    _, err = caller.communicate()
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.01)
    assert err.startswith(b"sidecall: the connection to the server was lost: the exit status of the command is unknown")


@both_modes
def test_a_stopped_server_ends_its_calls_truly(serve: Callable[..., Server], mode: tuple[str, ...]) -> None:
    """When the server is told to end its commands get TERM, and their callers learn of it."""
    server = serve("--allow-any", "brief", "--drain", "0.1")
    caller = start(*mode, "brief", "sh", "-c", "echo ready; exec sleep 60")
    assert caller.stdout is not None
    caller.stdout.readline()
    server.stop()
    assert end(caller)[0] == -15


@pytest.mark.long
def test_200_callers_are_served_in_order(tool: Server, directory: Path) -> None:
    """200 callers at once against 4 slots: all are served, none is lost, and those that wait start in order."""
    script = f"until [ -e {directory}/go ]; do sleep 0.02; done; echo"
    callers = [start("-q", "tool", "sh", "-c", f"{script} {number}") for number in range(200)]
    while tool.log().count(" queued ") < 196:
        time.sleep(0.05)
    (directory / "go").touch()
    assert [end(caller) for caller in callers] == [(0, f"{number}\n".encode(), b"") for number in range(200)]
    log = [line.split() for line in tool.log().splitlines() if line.startswith("sidecall: call")]
    waited = [words[2] for words in log if words[3] == "queued"]
    started = [words[2] for words in log if words[3] == "started"]
    assert len(waited) == 196
    order = [waited.index(call) for call in started if call in set(waited)]
    assert sorted(order) == list(range(196))
    for place, number in enumerate(order):  # of four calls that have a slot each can be the first to be executed
        assert sum(later < number for later in order[place:]) < 4


def test_a_waiting_caller_is_told_and_can_be_interrupted(serve: Callable[..., Server], sidecall: Run) -> None:
    """A call that has to wait says so; interrupted, it ends and never starts; `--no-queue` and a full queue are 75."""
    server = serve("-v", "--allow-any", "one", "--slots", "1", "--queue", "1")
    first = start("one", "sh", "-c", "echo ready; read line")
    assert first.stdout is not None
    first.stdout.readline()
    assert sidecall("exec", "--no-queue", "one", "true").returncode == 75
    second = start("one", "true")
    assert second.stderr is not None
    assert second.stderr.readline() == b"sidecall: waiting for a slot of one, 0 ahead\n"
    assert sidecall("exec", "one", "true").returncode == 75
    second.send_signal(signal.SIGINT)
    assert end(second)[0] == -2
    assert end(first)[0] == 1
    assert server.log().count(" started\n") == 1


def test_waits_for_a_service_that_comes_up(serve: Callable[..., Server], directory: Path) -> None:
    """`--connect-timeout` bridges the time until a container has started."""
    caller = start("--connect-timeout", "20", "late", "echo", "there")
    time.sleep(0.2)
    serve("--allow-any", "late")
    assert end(caller) == (0, b"there\n", b"")
