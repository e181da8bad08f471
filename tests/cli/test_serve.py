"""`sidecall serve`, `describe` and `ping` on real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import CLIENT, PROGRAMS, SIDECALL, both_modes, end, first_line, start

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Run, Server

CONFIG = f"""
[service]
name = "kit"
slots = 2
grace = 0.5

[volumes.all]
path = "/"
access = "write"

[commands.words]
summary = "Print the words it gets"
argv = ["{sys.executable}", "{PROGRAMS}/words.py", "{{in}}", ["-n", "{{count}}"], "{{loud}}", "{{tag}}", "s={{size}}"]
env = {{ COLOUR = "green" }}
pass-env = ["SHADE"]
cwd = "{{scratch}}"

[commands.words.parameters]
in = {{ type = "path", pin = false, help = "what to read" }}
count = {{ type = "int", min = 1, max = 9, optional = true }}
loud = {{ type = "flag", value = "--loud" }}
tag = {{ repeatable = true, optional = true, pattern = "[a-z ]+" }}
size = {{ type = "choice", choices = ["S", "L"], default = "S" }}

[commands.deaf]
argv = ["sh", "-c", "trap 'exit 5' INT; trap '' TERM; echo $$; while :; do sleep 0.05; done"]
signals = ["INT", "TERM"]
grace = 0.1

[commands.daemon]
argv = ["sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!; exit 4"]
background = "keep"

[commands.slow]
argv = ["sleep", "60"]
timeout = 0.2
"""


@pytest.fixture
def kit(serve: Callable[..., Server], directory: Path) -> Server:
    """Return a service with declared commands."""
    (directory / "kit.toml").write_text(CONFIG)
    return serve("-v", "--config", str(directory / "kit.toml"))


def test_parameters_become_words(kit: Server, sidecall: Run, directory: Path) -> None:
    """Each value is one word and nothing else; what was not given is left out."""
    relative = os.path.relpath(directory / "a b;c")
    (directory / "a b;c").touch()
    done = sidecall(
        "exec", "--env", "SHADE=dark", "kit", "words",
        "--in", relative, "--tag", "x y", "--count=3", "--loud", "--tag", "z",
    )  # fmt: skip
    seen = json.loads(done.stdout)
    assert os.path.normpath(seen["words"][0]) == f"{directory}/a b;c"
    assert seen["words"][1:] == ["-n", "3", "--loud", "x y", "z", "s=S"]
    assert (seen["COLOUR"], seen["SHADE"]) == ("green", "dark")
    assert seen["directory"] == seen["SIDECALL_SCRATCH"]
    assert not os.path.exists(seen["directory"])


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("words",), 64, "--in is missing"),
        (("words", "--in"), 64, "--in needs a value"),
        (("words", "--in", "x", "--in", "y"), 64, "--in is given 2 times, expected once"),
        (("words", "--in", "x", "--count", "ten"), 64, "--count must be a whole number: 'ten'"),
        (("words", "--in", "x", "--count", "10"), 64, "--count must be at most 9: '10'"),
        (("words", "--in", "x", "--tag", "A"), 64, "--tag must match [a-z ]+: 'A'"),
        (("words", "--in", "x", "--tag", "-rf"), 64, "--tag must not begin with a dash: '-rf'"),
        (("words", "--in", "x", "--size", "M"), 64, "--size must be one of S, L: 'M'"),
        (("words", "--in", "x", "--loud=1"), 64, "--loud is a flag and takes no value"),
        (("words", "--cuont", "1"), 64, "words has no parameter --cuont"),
        (("words", "stray"), 64, "unexpected argument 'stray': parameters are given as --name value"),
        (("sh", "-c", "true"), 127, "kit has no command 'sh'"),
        (("slow",), 124, "the command timed out and was terminated"),
    ],
)
def test_what_does_not_fit_is_refused(
    kit: Server, sidecall: Run, words: tuple[str, ...], code: int, reason: str
) -> None:
    """A parameter that was not declared so never reaches the command."""
    done = sidecall("exec", "kit", *words)
    assert (done.returncode, done.stderr.decode().splitlines()[0]) == (code, f"sidecall: {reason}")


def test_any_command_for_other_callers(serve: Callable[..., Server], sidecall: Run) -> None:
    """`--callers` names who can call a service of any command; its socket then lets others in."""
    own, other = os.geteuid(), os.geteuid() + 1
    mine, theirs = (
        serve("--allow-any", "mine", "--callers", f"{own}, {other}"),
        serve("--allow-any", "theirs", "--callers", str(other)),
    )
    assert [server.path.stat().st_mode & 0o777 for server in (mine, theirs)] == [0o666, 0o666]
    assert sidecall("exec", "mine", "true").returncode == 0
    refused = sidecall("exec", "theirs", "true")
    assert (refused.returncode, refused.stdout) == (127, b""), "the operator can ask, if not call"
    assert json.loads(sidecall("status", "--json", "theirs").stdout) == []


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (
            ("--allow-any", "x", "--callers", "no-such-user"),
            78,
            "--allow-any: --callers: expected names that this system",
        ),
        (("--allow-any", "x", "--callers", ""), 78, "--allow-any: --callers: expected names that this system knows"),
        (("--callers", "0", "x", "cat"), 64, "--callers goes with --allow-any"),
    ],
)
def test_callers_that_cannot_be(sidecall: Run, words: tuple[str, ...], code: int, reason: str) -> None:
    """They are refused before the service listens."""
    done = sidecall("serve", *words)
    assert done.returncode == code
    assert done.stderr.decode().startswith(f"sidecall: {reason}")


@both_modes
def test_any_command_runs_in_the_working_directory_of_the_client(
    serve: Callable[..., Server], tmp_path: Path, mode: tuple[str, ...]
) -> None:
    """Where that is the same for both sides nothing is printed about it."""
    serve("--allow-any", "tool")
    done = subprocess.run([CLIENT, "exec", *mode, "tool", "pwd"], cwd=tmp_path, capture_output=True, check=False)
    assert (done.stdout.decode(), done.stderr) == (f"{tmp_path.resolve()}\n", b"")


@pytest.mark.parametrize("option", [("--env", "PATH=/tmp"), ("--cwd", "/tmp")])
def test_a_caller_sets_only_what_it_may(kit: Server, sidecall: Run, option: tuple[str, ...]) -> None:
    """A caller's environment and working directory reach a declared command only where declared."""
    assert sidecall("exec", *option, "kit", "words", "--in", "x").returncode == 77


def test_only_declared_signals_are_delivered(kit: Server) -> None:
    """A signal that the command does not take is dropped, and the call goes on."""
    caller = start("kit", "deaf")
    first_line(caller)
    caller.send_signal(signal.SIGUSR1)
    kit.await_log("signal-refused signal=10")
    caller.send_signal(signal.SIGINT)
    assert end(caller)[0] == 5


def test_a_command_has_a_grace_of_its_own(kit: Server) -> None:
    """What ignores TERM is killed after the command's grace, not after the service's."""
    caller = start("kit", "deaf")
    pid = int(first_line(caller))
    caller.kill()
    end(caller)
    kit.await_log("outcome=signaled value=9")
    assert not Path(f"/proc/{pid}").exists()


def test_background_processes_are_kept_where_that_is_declared(kit: Server) -> None:
    """A command that starts a daemon on purpose returns at once, and the daemon lives on."""
    caller = start("kit", "daemon")
    pid = int(first_line(caller))
    assert end(caller)[0] == 4
    os.kill(pid, 0)
    kit.stop()
    os.kill(pid, signal.SIGKILL)


def test_describes_what_may_be_called(kit: Server, sidecall: Run) -> None:
    """`describe` and `--help` say the same, for people and for programs."""
    text = sidecall("exec", "kit", "words", "--help").stdout.decode()
    assert text == sidecall("describe", "kit", "words").stdout.decode()
    assert text.splitlines()[:2] == [
        "words: Print the words it gets",
        "  usage: sidecall exec kit words --in PATH [--count INT] [--loud] [--tag STR]... [--size CHOICE]",
    ]
    assert "--count INT    at least 1; at most 9" in text
    described = json.loads(sidecall("describe", "--json", "kit").stdout)
    assert [command["name"] for command in described["commands"]] == ["words", "deaf", "daemon", "slow"]
    assert sidecall("describe", "kit", "nothing").returncode == 127


def test_checks_a_configuration(directory: Path, sidecall: Run) -> None:
    """`--check` only checks: 0 or 78 and one sentence."""
    good, bad = directory / "good.toml", directory / "bad.toml"
    good.write_text(CONFIG)
    bad.write_text(CONFIG.replace("slots", "slotz"))
    assert sidecall("serve", "--config", str(good), "--check").returncode == 0
    done = sidecall("serve", "--config", str(bad), "--check")
    assert done.returncode == 78
    assert done.stderr.decode() == f"sidecall: {bad}: service.slotz: unknown key (did you mean 'slots'?)\n"


@pytest.mark.parametrize(
    ("target", "trouble"), [("directory", "it is a directory"), ("gone/audit", "its directory is not there")]
)
def test_an_audit_log_that_cannot_be_written_is_a_mistake(
    serve: Callable[..., Server], directory: Path, sidecall: Run, target: str, trouble: str
) -> None:
    """It is found by `--check`, at the start and when the configuration is read again, and told by file and key."""
    (directory / "directory").mkdir()
    good, bad = CONFIG, CONFIG.replace("slots = 2", f'audit = "{target}"')
    config = directory / "kit.toml"
    config.write_text(bad)
    reason = f"{config}: service.audit: expected a file that can be written ({trouble}), not '{directory}/{target}'"
    for words in (("--check",), ()):
        done = sidecall("serve", "--config", str(config), *words)
        assert (done.returncode, done.stderr.decode()) == (78, f"sidecall: {reason}\n")
    config.write_text(good)
    server = serve("--config", str(config))
    config.write_text(bad)
    server.process.send_signal(signal.SIGHUP)
    assert server.await_log("the old configuration is kept") == f"sidecall: the old configuration is kept: {reason}"


def test_a_live_service_is_never_displaced(tool: Server, sidecall: Run) -> None:
    """A second server on one name is refused, and the first goes on."""
    assert sidecall("serve", "--allow-any", "tool").returncode == 75
    assert sidecall("exec", "tool", "echo", "alive").stdout == b"alive\n"


def test_a_stale_socket_is_replaced(serve: Callable[..., Server], sidecall: Run) -> None:
    """After a crash the next start needs no help."""
    first = serve("--allow-any", "crash")
    first.process.kill()
    first.process.wait()
    assert first.path.exists()
    serve("--allow-any", "crash")
    assert sidecall("exec", "crash", "echo", "back").stdout == b"back\n"


@pytest.mark.parametrize("garbage", [b"", b"GET / HTTP/1.0\r\n\r\n", b"\0" * 5, b"\xff" * 100000])
def test_garbage_does_no_harm(tool: Server, sidecall: Run, garbage: bytes) -> None:
    """A service outlives whatever connects to it."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(tool.path))
        try:
            sock.sendall(garbage)
        except BrokenPipeError:
            pass
    assert sidecall("exec", "tool", "true").returncode == 0


def test_a_shortage_of_descriptors_passes(directory: Path, sidecall: Run) -> None:
    """A server without descriptors accepts no connection; what waits is served when there are some again."""
    words = f"ulimit -n 64; exec {SIDECALL} serve --allow-any few 2>/dev/null"
    with subprocess.Popen(["bash", "-c", words]) as server:
        sidecall("ping", "--connect-timeout", "10", "few")
        idle = [socket.socket(socket.AF_UNIX) for _ in range(80)]
        for sock in idle:
            sock.connect(str(directory / "few.sock"))
        while len(os.listdir(f"/proc/{server.pid}/fd")) < 64:
            assert server.poll() is None
        caller = start("few", "echo", "late")
        for sock in idle:
            sock.close()
        assert end(caller)[:2] == (0, b"late\n")
        assert sidecall("exec", "few", "echo", "again").stdout == b"again\n"
        server.terminate()


@pytest.mark.skipif(os.geteuid() != 0, reason="the limit counts a user's processes, and does not bind root")
def test_a_shortage_of_processes_passes(directory: Path, sidecall: Run) -> None:
    """A server whose user may have no more processes refuses truly, ends nothing, and serves again when it may."""
    user = 100_000 + os.getpid()  # of no other test run
    os.chown(directory, user, user)
    for parent in directory.parents:
        parent.chmod(parent.stat().st_mode | 0o001)
    (directory / "few.toml").write_text(FEW)
    script = "import os, resource, sys, sidecall.cli.serve; os.setgroups([]); "
    script += f"os.setgid({user}); os.setuid({user}); "
    script += "resource.setrlimit(resource.RLIMIT_NPROC, (7, 7)); from sidecall.cli import main; "
    script += f"sys.exit(main(['serve', '--config', '{directory}/few.toml']))"
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) as server:
        try:
            sidecall("ping", "--connect-timeout", "10", "few")
            first = start("few", "wait")
            assert first_line(first) == "ready"
            crowd = [start("--relay", "few", "wait") for _ in range(5)]
            refused = [caller for caller in crowd if first_line(caller) != "ready"]
            assert refused
            for caller in refused:
                code, _, said = end(caller)
                assert (code, b"Resource temporarily unavailable" in said) == (75, True)
            for caller in (first, *(each for each in crowd if each not in refused)):
                assert caller.communicate(b"\n", timeout=30) == (b"", b"")
                assert caller.returncode == 3
            assert sidecall("exec", "few", "again").stdout == b"again\n"
            server.terminate()
            assert server.wait(20) == 0
            assert server.stderr is not None
            assert b"Traceback" not in server.stderr.read()
        finally:
            server.kill()


FEW = """
[service]
name = "few"
slots = 8
callers = [0]
[commands.wait]
argv = ["sh", "-c", "echo ready; read line; exit 3"]
[commands.again]
argv = ["echo", "again"]
"""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("serve", "new", "no-such-app"), 127),
        (("serve", "new", "/etc/passwd"), 126),
        (("serve", "new"), 64),
        (("serve", "--slots", "1", "new", "cat"), 64),
        (("nope",), 64),
    ],
)
def test_what_cannot_start_says_so(directory: Path, sidecall: Run, words: tuple[str, ...], code: int) -> None:
    """An app that is not there is refused at once, before any socket is made."""
    done = sidecall(*words)
    assert done.returncode == code
    assert done.stderr.startswith(b"sidecall: ")
    assert list(directory.iterdir()) == []
