"""`sidecall.Popen` on a real service."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

import sidecall
from sidecall import DEVNULL, PIPE, STDOUT, NoSuchCommand, Popen, ServiceBusy, ServiceUnavailable, SidecallError
from sidecall.client.status import calls
from sidecall.errors import CannotExecute, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Server

both = pytest.mark.parametrize("relay", [False, True], ids=["passed", "relayed"])


@both
def test_it_runs_while_this_goes_on(tool: Server, relay: bool) -> None:
    """A conversation by lines, and then the end."""
    with Popen("tool", ["sh", "-c", "while read x; do echo got $x; done; exit 3"],
               stdin=PIPE, stdout=PIPE, relay=relay) as call:  # fmt: skip
        assert call.poll() is None
        assert call.returncode is None
        assert call.outcome is None
        assert call.call_id
        assert call.stdin is not None
        assert call.stdout is not None
        assert call.stderr is None
        for word in (b"one", b"two"):
            call.stdin.write(word + b"\n")
            call.stdin.flush()
            assert call.stdout.readline() == b"got " + word + b"\n"
        call.stdin.close()
        assert call.stdout.read() == b""
        assert call.wait() == 3
    assert call.poll() == 3
    assert call.outcome is not None
    assert (call.outcome.kind, call.outcome.call_id) == ("exited", call.call_id)


@both
def test_communicate_moves_more_than_pipes_hold(tool: Server, relay: bool) -> None:
    """Both directions at once, and stderr apart."""
    data = os.urandom(3 << 20)
    call = Popen("tool", ["sh", "-c", "cat; echo apart >&2"], stdin=PIPE, stdout=PIPE, stderr=PIPE, relay=relay)
    out, err = call.communicate(data)
    assert (out == data, err, call.returncode) == (True, b"apart\n", 0)
    assert call.communicate() == (out, err)


def test_text(tool: Server) -> None:
    """Pipes of text, in an encoding, with an error handler; lines are written at once with `bufsize=1`."""
    with Popen("tool", ["cat"], stdin=PIPE, stdout=PIPE, text=True, bufsize=1) as call:
        assert call.stdin is not None
        assert call.stdout is not None
        call.stdin.write("one\n")
        assert call.stdout.readline() == "one\n"
        assert call.communicate("two\r\n") == ("two\n", None)
    latin = Popen("tool", ["printf", r"\351"], stdout=PIPE, encoding="latin-1")
    assert latin.communicate() == ("é", None)
    replaced = Popen("tool", ["printf", r"\351"], stdout=PIPE, encoding="utf-8", errors="replace")
    assert replaced.communicate() == ("\ufffd", None)


def test_streams(tool: Server, tmp_path: Path) -> None:
    """A file, nothing, and stderr where stdout goes."""
    with (tmp_path / "out").open("wb") as out:
        call = Popen("tool", ["sh", "-c", "cat; echo out; echo err >&2"], stdin=DEVNULL, stdout=out, stderr=STDOUT)
        assert call.communicate() == (None, None)
    assert (tmp_path / "out").read_bytes() == b"out\nerr\n"
    call = Popen("tool", ["sh", "-c", "echo $A; pwd"], stdout=PIPE, env={"A": "1"}, cwd=tmp_path)
    assert call.communicate() == (f"1\n{tmp_path.resolve()}\n".encode(), None)


CANNOT_START: list[tuple[list[str], str | None, type[OSError], int, str]] = [
    (["no-such-command"], None, FileNotFoundError, errno.ENOENT, "no-such-command"),
    (["/no/such"], None, FileNotFoundError, errno.ENOENT, "/no/such"),
    (["true"], "/no/such", FileNotFoundError, errno.ENOENT, "/no/such"),
    (["true"], "/etc/passwd", NotADirectoryError, errno.ENOTDIR, "/etc/passwd"),
    (["/etc/passwd"], None, PermissionError, errno.EACCES, "/etc/passwd"),
    (["/"], None, PermissionError, errno.EACCES, "/"),
    (["true", "x" * 200_000], None, OSError, errno.E2BIG, "true"),
]


def test_what_cannot_start_raises_at_once(tool: Server) -> None:
    """As the OSError that `subprocess.Popen` raises, and as the SidecallError that `run` does."""
    for command, cwd, kind, number, filename in CANNOT_START:
        with pytest.raises(kind) as error:
            Popen("tool", command, cwd=cwd, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        assert (error.value.errno, error.value.filename) == (number, filename)
        assert isinstance(error.value, (NoSuchCommand, CannotExecute))
        assert str(error.value) == f"[Errno {number}] {os.strerror(number)}: {filename!r}"
        with pytest.raises(SidecallError) as same:
            sidecall.run("tool", command, cwd=cwd)
        assert (same.value.code, same.value.reason) == (error.value.code, error.value.reason)


def test_other_refusals_raise_at_once(tool: Server) -> None:
    """As `run` raises them."""
    with pytest.raises(ServiceUnavailable):
        Popen("missing", ["true"], stdout=PIPE)
    with pytest.raises(UsageError, match="as a list"):
        Popen("tool", "true")
    with pytest.raises(UsageError, match="77 is no open descriptor"):
        Popen("tool", ["true"], stdin=PIPE, stdout=77)
    with pytest.raises(NoSuchCommand):
        Popen("tool", ["--help"])


@both
def test_signals(tool: Server, relay: bool) -> None:
    """They reach the command; what is not caught is its end."""
    script = "trap 'echo caught' USR1; echo ready; while :; do sleep 0.02; done"
    call = Popen("tool", ["sh", "-c", script], stdout=PIPE, relay=relay)
    assert call.stdout is not None
    assert call.stdout.readline() == b"ready\n"
    call.send_signal(signal.SIGUSR1)
    assert call.stdout.readline() == b"caught\n"
    with pytest.raises(UsageError, match="signal 14 cannot be sent"):
        call.send_signal(signal.SIGALRM)
    call.terminate()
    call.communicate()
    assert call.returncode == -signal.SIGTERM
    call.send_signal(signal.SIGTERM)


@both
def test_kill_kills_all_of_a_call(tool: Server, relay: bool) -> None:
    """Also what ignores TERM, in a session of its own, without the grace period."""
    script = "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo ready; while :; do sleep 0.02; done'; true"
    call = Popen("tool", ["sh", "-c", script], stdout=PIPE, relay=relay)
    assert call.stdout is not None
    assert call.stdout.readline() == b"ready\n"
    call.kill()
    assert call.wait() == -signal.SIGKILL
    assert call.stdout.read() == b""
    call.stdout.close()


def test_stop_and_continue(tool: Server) -> None:
    """A stopped command goes on where it was."""
    call = Popen("tool", ["sh", "-c", "echo $$; read x; echo $x"], stdin=PIPE, stdout=PIPE)
    assert call.stdin is not None
    assert call.stdout is not None
    pid = int(call.stdout.readline())
    call.send_signal(signal.SIGSTOP)
    while _state(pid) != "T":
        time.sleep(0.01)
    call.send_signal(signal.SIGCONT)
    assert call.communicate(b"on\n")[0] == b"on\n"


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(") ")[2][0]


def test_timeouts_of_waiting_lose_nothing(tool: Server) -> None:
    """`wait` and `communicate` raise; the call goes on, and its output is there the next time."""
    call = Popen("tool", ["sh", "-c", "echo first; read x; echo $x"], stdin=PIPE, stdout=PIPE)
    with pytest.raises(subprocess.TimeoutExpired):
        call.wait(0.01)
    assert call.stdin is not None
    assert call.communicate(b"second\n") == (b"first\nsecond\n", None)
    call = Popen(
        "tool", ["sh", "-c", "echo first; echo second >&2; cat; echo third"], stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    keep = os.dup(call.stdin.fileno()) if call.stdin is not None else -1
    out = err = None
    while (out, err) != (b"first\n", b"second\n"):
        with pytest.raises(subprocess.TimeoutExpired) as error:
            call.communicate(timeout=0.1)
        out, err = error.value.output, error.value.stderr
    os.close(keep)
    assert call.communicate() == (b"first\nthird\n", b"second\n")


def test_the_time_that_a_command_may_run(tool: Server) -> None:
    """The service keeps it."""
    call = Popen("tool", ["sleep", "60"], timeout=0.1)
    assert call.wait() == 124
    assert call.outcome is not None
    assert call.outcome.kind == "timed-out"


def test_a_reader_that_goes_is_sigpipe(tool: Server) -> None:
    """As for a local process."""
    call = Popen("tool", ["yes"], stdout=PIPE)
    assert call.stdout is not None
    assert call.stdout.read(2) == b"y\n"
    call.stdout.close()
    assert call.wait() == -signal.SIGPIPE


def test_a_command_that_reads_nothing(tool: Server) -> None:
    """`communicate` does not fail because the command leaves its input."""
    call = Popen("tool", ["true"], stdin=PIPE, stdout=PIPE)
    assert call.communicate(b"x" * 1_000_000) == (b"", None)
    assert call.returncode == 0


def test_a_lost_connection_is_125(serve: Callable[..., Server]) -> None:
    """It is not raised: the exit status is unknown, and `outcome` has the reason."""
    server = serve("--allow-any", "short")
    call = Popen("short", ["sleep", "60"])
    server.process.kill()
    server.process.wait()
    assert call.wait() == 125
    assert call.outcome is not None
    assert (call.outcome.kind, call.outcome.reason[:18]) == ("lost", "the connection to ")


def test_an_interrupt_in_the_block_is_sent_on(tool: Server) -> None:
    """As a terminal would send it to a local process."""
    with pytest.raises(KeyboardInterrupt), Popen("tool", ["sleep", "60"]) as call:
        raise KeyboardInterrupt
    assert call.returncode == -signal.SIGINT


def test_it_waits_for_a_slot(serve: Callable[..., Server]) -> None:
    """The command has started when it returns, not before; without the queue it is busy."""
    serve("--allow-any", "one", "--slots", "1")
    first = Popen("one", ["cat"], stdin=PIPE)
    with pytest.raises(ServiceBusy):
        Popen("one", ["true"], queue=False)
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(Popen("one", ["true"]).wait()))
    thread.start()
    first.communicate()
    thread.join()
    assert found == [0]


def test_an_interrupt_while_it_waits_for_a_slot_drops_the_call(serve: Callable[..., Server]) -> None:
    """It is raised, and nothing of the call is left."""
    server = serve("--allow-any", "one", "--slots", "1")

    def states() -> list[str]:
        return [call["state"] for call in json.loads(calls(str(server.path), timeout=60))]

    def interrupt() -> None:
        while "waiting" not in states():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    first = Popen("one", ["cat"], stdin=PIPE)
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        Popen("one", ["true"], stdout=PIPE)
    thread.join()
    while states() != ["running"]:
        time.sleep(0.01)
    first.communicate()


@pytest.mark.parametrize("moment", ["before the thread", "after the thread", "while the command runs"])
def test_an_interrupt_at_any_moment_leaves_no_call(tool: Server, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """Also in Thread.start, which waits until the new thread runs."""
    threads: list[threading.Thread] = []

    def is_listed() -> bool:
        return calls(str(tool.path), timeout=60) != b"[]"

    class Interrupted(threading.Thread):
        def start(self) -> None:
            threads.append(self)
            if moment != "before the thread":
                super().start()
            while moment == "while the command runs" and not is_listed():
                time.sleep(0.01)
            raise KeyboardInterrupt

    monkeypatch.setattr("sidecall.client.popen.Thread", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        Popen("tool", ["sleep", "1000"], stdin=PIPE, stdout=PIPE)
    if moment == "before the thread":
        threading.Thread.start(threads[0])
    threads[0].join()
    while is_listed():
        time.sleep(0.01)


def test_what_cannot_be_read_starts_nothing(tool: Server, tmp_path: Path) -> None:
    """An unknown encoding is found before the command has done anything."""
    made = tmp_path / "made"
    with pytest.raises(LookupError, match="nope"):
        Popen("tool", ["touch", str(made)], stdout=PIPE, encoding="nope")
    with pytest.raises(LookupError, match="nope"):
        Popen("tool", ["touch", str(made)], stdout=PIPE, errors="nope")
    assert " started" not in tool.log()
    assert not made.exists()


def test_many_at_once(tool: Server) -> None:
    """From several threads, and each end of a pipe is closed: none keeps another's open."""
    calls = [Popen("tool", ["cat"], stdin=PIPE, stdout=PIPE, queue=True) for _ in range(4)]
    for number, call in reversed([*enumerate(calls)]):
        assert call.communicate(b"%d" % number) == (b"%d" % number, None)


def test_a_pipeline(tool: Server) -> None:
    """The output of one call is the input of another one, or of a local process."""
    first = Popen("tool", ["seq", "1000"], stdout=PIPE)
    with subprocess.Popen(["wc", "-l"], stdin=first.stdout, stdout=PIPE) as second:
        assert isinstance(first.stdout, io.BufferedReader)
        first.stdout.close()
        assert second.communicate()[0] == b"1000\n"
    assert first.wait() == 0


def test_repr(tool: Server) -> None:
    """It names the command and the return code."""
    call = Popen("tool", ["true"])
    call.wait()
    assert repr(call) == "<Popen: returncode: 0 args: ['true']>"
