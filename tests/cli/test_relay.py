"""Relayed streams are as true as passed ones: each case ends as a local run does, in both modes."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from conftest import CLIENT, IS_PYTHON_CLIENT, both_modes, end, start, take_call
from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Server

LIMIT = 60
"""Seconds after which a case counts as one that never ends; no test passes because of it."""


def bash(script: str, run: str, directory: Path) -> tuple[int, bytes]:
    """Run a script in which `$run` stands before the command; return its exit code and its stdout."""
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        check=False,
        timeout=LIMIT,
        cwd=directory,
        env={**os.environ, "run": run},
    )
    return done.returncode, done.stdout


AFTER_A_HANG_UP = (
    "import os, select, signal; signal.signal(signal.SIGPIPE, signal.SIG_DFL); "
    'poll = select.poll(); poll.register(1, 0); poll.poll(); os.write(1, b"result")'
)
"""Waits until the reader of its stdout has gone, and writes."""

AS_LOCAL = {
    "a FIFO whose writer was quicker": "mkfifo f; exec 3<>f; echo x >f; $run cat <f 3<&- & exec 3<&-; wait $!",
    "a FIFO with two writers in turn": "mkfifo f; (echo a; sleep .1; echo b) >f & $run cat <f",
    "a reader that has gone before the output": f"$run python3 -c '{AFTER_A_HANG_UP}' | true; exit ${{PIPESTATUS[0]}}",
    "a reader that has gone while nothing is written": "$run tail -f /dev/null | true; exit ${PIPESTATUS[0]}",
    "a reader that goes in the middle": "$run yes | head -n 1; exit ${PIPESTATUS[0]}",
    "a stdin that is not for reading": "$run cat 0>file",
    "a stdin that is not for reading and not read": "$run true 0>file",
    "a directory as stdin": "$run cat </",
    "a directory as stdin that is not read": "$run true </",
    "stdout and stderr in one file": "$run sh -c 'for i in 1 2 3; do echo o; echo e >&2; done' >both 2>&1; cat both",
    "stdout and stderr in one pipe": "$run sh -c 'for i in 1 2 3 4 5; do echo o$i; echo e$i >&2; done' 2>&1 | cat",
    "an output that seeks": "$run dd if=/dev/zero bs=1 count=1 status=none | wc -c",
    "a status besides a full disk": "$run sh -c 'echo a; exit 3' >/dev/full",
    "a large input": "head -c 3000000 /dev/zero | $run wc -c",
    "a large input, hardly read": "head -c 3000000 /dev/zero | $run head -c 1 | wc -c",
    "a large output": "$run head -c 3000000 /dev/zero | wc -c",
}


if IS_PYTHON_CLIENT:  # the interpreter does not start with a directory as stdin
    AS_LOCAL = {case: script for case, script in AS_LOCAL.items() if "a directory as stdin" not in case}


@both_modes
@pytest.mark.parametrize("case", AS_LOCAL)
def test_ends_as_a_local_run(tool: Server, tmp_path: Path, mode: tuple[str, ...], case: str) -> None:
    """The exit code and the output are those of the same command without sidecall."""
    ends = []
    for number, run in enumerate(("", " ".join([CLIENT, "exec", *mode, "tool"]))):
        place = tmp_path / str(number)
        place.mkdir()
        ends.append(bash(AS_LOCAL[case], run, place))
    assert ends[1] == ends[0]


OPENED = {
    "O_PATH": "os.open('/etc/passwd', os.O_PATH)",
    "a listening UNIX socket": "(s := socket.socket(socket.AF_UNIX)).bind('\\0%d' % os.getpid()) or s.listen() or s.fileno()",  # noqa: E501 one expression
    "a listening TCP socket": "(s := socket.socket()).listen() or s.fileno()",
}


@both_modes
@pytest.mark.parametrize("stdin", OPENED)
def test_a_stdin_that_cannot_be_read_is_an_error_of_the_command(
    tool: Server, mode: tuple[str, ...], stdin: str
) -> None:
    """It neither hangs nor is an empty input: `cat` exits with 1, as it does locally."""
    script = f"import os, socket, subprocess, sys; sys.exit(subprocess.call(sys.argv[1:], stdin={OPENED[stdin]}))"
    for run in ((), (CLIENT, "exec", *mode, "tool")):
        done = subprocess.run(["python3", "-c", script, *run, "cat"], capture_output=True, check=False, timeout=LIMIT)
        assert done.returncode == 1, done.stderr


def test_a_disk_that_is_full_is_reported(tool: Server, tmp_path: Path) -> None:
    """The SIGPIPE that the command gets for it is not taken for a reader that has gone."""
    script = f"{CLIENT} exec --relay tool head -c 1000000 /dev/zero 2>&1 >/dev/full; exit $?"
    code, said = bash(script, "", tmp_path)
    assert (code, said[:58]) == (125, b"sidecall: cannot write stdout: No space left on device\nhin")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_third_signal_ends_the_client_whatever_its_reader_does(directory: Path, number: signal.Signals) -> None:
    """Neither a server that does not act on it nor a reader that stalls holds the client: the outcome is unknown."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "slow.sock"))
        listener.listen()
        client = start("--relay", "slow", "true")
        server, _ = listener.accept()
        with server:
            take_call(server)
            answer = [m.Hello(1, (), (), "test"), m.Started("1"), *[m.Data(1, b"x" * m.MAX_DATA)] * 4]
            server.sendall(b"".join(map(encode, answer)))
            for _ in range(2):
                client.send_signal(number)
                expect(server, encode(m.Signal(number)))
            client.send_signal(number)
            code = client.wait(LIMIT)
    _, _, said = end(client)
    assert (code, said[:32]) == (125, b"sidecall: interrupted repeatedly")


def expect(server: socket.socket, frame: bytes) -> None:
    """Receive up to a frame; WINDOW and EOF can come before it."""
    received = b""
    while not received.endswith(frame):
        more = server.recv(1 << 16)
        assert more, "the client has closed the connection"
        received += more


def test_a_stalled_reader_does_not_outlast_a_timeout(tool: Server) -> None:
    """What nobody reads is dropped once the call was stopped, and that is said."""
    client = start("--relay", "--timeout", "0.2", "tool", "yes")
    code = client.wait(LIMIT)
    _, _, said = end(client)
    assert code == 124
    assert said.startswith(b"sidecall: the reader of stdout takes no output: the rest was dropped\n")


def test_a_stalled_reader_does_not_outlast_a_signal(tool: Server) -> None:
    """One signal is enough: the command ends by it, and what its reader does not take is dropped."""
    clients = {}
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)  # less than what yes(1) writes at once
        clients[number] = start("--relay", "tool", "yes", stdout=writing), reading
        os.close(writing)
    for number, (client, reading) in clients.items():
        select.select([reading], [], [])
        client.send_signal(number)
    for number, (client, reading) in clients.items():
        code = client.wait(LIMIT)
        os.close(reading)
        _, _, said = end(client)
        assert code == -number
        assert said.startswith(b"sidecall: the reader of stdout takes no output: the rest was dropped\n")


@both_modes
def test_output_to_a_terminal_keeps_its_order(tool: Server, mode: tuple[str, ...]) -> None:
    """Where stdout and stderr are one terminal the command has one file for both."""
    ours, theirs = pty.openpty()
    script = "for i in 1 2 3 4 5; do echo o$i; echo e$i >&2; done; echo end"
    client = start(*mode, "tool", "sh", "-c", script, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while b"end" not in shown:
        shown += os.read(ours, 1 << 16)
    assert end(client)[0] == 0
    os.close(ours)
    assert shown.split() == [b"o1", b"e1", b"o2", b"e2", b"o3", b"e3", b"o4", b"e4", b"o5", b"e5", b"end"]


@both_modes
def test_a_relative_path_from_a_removed_directory_is_refused(
    serve: Callable[..., Server], tmp_path: Path, mode: tuple[str, ...]
) -> None:
    """It leads nowhere, which is no violation of the protocol."""
    config = tmp_path / "kit.toml"
    config.write_text(
        f'[service]\nname = "kit"\n[volumes.data]\npath = "{tmp_path}"\n'
        '[commands.show]\nargv = ["cat", "{file}"]\n[commands.show.parameters.file]\ntype = "path"\naccess = "read"\n'
    )
    serve("--config", str(config))
    script = "mkdir gone; cd gone; rmdir ../gone; $run kit show --file ../kit.toml; code=$?; "
    script += f"$run kit show --file {config} >/dev/null && exit $code"
    assert bash(script, " ".join([CLIENT, "exec", *mode]), tmp_path) == (77, b"")
