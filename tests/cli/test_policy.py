"""Who may run what, on which files, through the installed command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import CLIENT, both_modes, end, first_line, start

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Run, Server

CONFIG = """
[service]
name = "kit"
grace = 0.5
audit = "{directory}/audit"

[[listen]]
name = "kit"

[[listen]]
name = "acceptor"
commands = ["print"]

[[listen]]
name = "shut"
callers = [12345]

[volumes.data]
path = "elsewhere"
access = "write"

[commands.print]
argv = ["echo", "{{text}}"]
parameters.text = {{ pattern = "[a-z]+", secret = true, default = "nothing" }}

[commands.hush]
argv = ["cat", "{{file}}"]
parameters.file = {{ type = "path", secret = true }}

[commands.others]
argv = ["true"]
callers = [12345]

[commands.make]
argv = [
    "sh", "-c", 'printf half > "$1"; sleep "$2"; printf +half >> "$1"; exit "$3"', "-",
    "{{out}}", "{{for}}", "{{code}}",
]
parameters.out = {{ type = "path", access = "write", atomic = true }}
parameters.for = {{ type = "float", default = 0 }}
parameters.code = {{ type = "int", default = 0 }}

[commands.record]
argv = ["sh", "-c", 'echo $$; exec tee "$1"', "-", "{{out}}"]
parameters.out = {{ type = "path", access = "write", atomic = true }}

[commands.forget]
argv = ["echo", "{{out}}"]
parameters.out = {{ type = "path", access = "write", atomic = true }}

[commands.where]
argv = ["pwd", "-P"]
pass-cwd = true

[commands.deaf]
argv = ["cat"]
stdin = false

[commands.careful]
argv = ["sh", "-c", "readlink /proc/self/fd/0 | cut -d: -f1; cat"]
pass-descriptors = false
"""

AS_ANOTHER = """
[service]
name = "other"

[volumes.data]
path = "data"
access = "write"

[commands.who]
argv = ["sh", "-c", "id -u; id -g; id -G; umask; nice; ulimit -n; ulimit -c; echo $USER $HOME"]
user = "daemon"
umask = "027"
nice = 3
limits = { open-files = 40, core-bytes = 0 }

[commands.copy]
argv = ["cp", "{in}", "{out}"]
user = "daemon"
scratch = true
parameters.in = { type = "path" }
parameters.out = { type = "path", access = "write", atomic = true }
"""


@pytest.fixture
def data(directory: Path) -> Path:
    """Return the volume."""
    (directory / "data").mkdir()
    return directory / "data"


@pytest.fixture
def kit(serve: Callable[..., Server], directory: Path, data: Path) -> Server:
    """Return a service with a rule of each kind; its volume's path is given on the command line."""
    (directory / "kit.toml").write_text(CONFIG.format(directory=directory))
    return serve("-v", "--config", str(directory / "kit.toml"), "--volume", f"data={data}")


def audited(directory: Path) -> list[dict[str, object]]:
    """Return the lines of the audit log."""
    return [json.loads(line) for line in (directory / "audit").read_text().splitlines()]


def test_each_socket_offers_its_own(kit: Server, sidecall: Run, directory: Path) -> None:
    """A command that is not offered does not exist there; the log knows which rule withheld it."""
    assert sidecall("exec", "acceptor", "print").stdout == b"nothing\n"
    hidden = sidecall("exec", "acceptor", "deaf")
    unknown = sidecall("exec", "acceptor", "no-such")
    assert hidden.returncode == unknown.returncode == 127
    assert hidden.stderr.replace(b"deaf", b"no-such") == unknown.stderr
    others = sidecall("exec", "kit", "others")
    assert (others.returncode, others.stderr.splitlines()[0]) == (127, b"sidecall: kit has no command 'others'")
    shut = sidecall("exec", "shut", "print")  # the server's own user can ask and cancel there, and call nothing
    assert (shut.returncode, shut.stderr.splitlines()[0]) == (127, b"sidecall: kit has no command 'print'")
    rules = [line["rule"] for line in audited(directory) if line["outcome"] == "refused"]
    assert rules == [
        "commands of the listener acceptor",
        "commands",
        "commands.others.callers",
        "callers of the listener shut",
    ]


def test_describe_shows_what_this_caller_may_run_here(kit: Server, sidecall: Run, data: Path) -> None:
    """As text and as JSON: nothing else; and no command where only the operator is admitted."""
    assert json.loads(sidecall("describe", "--json", "acceptor").stdout)["commands"][0]["name"] == "print"
    names = [command["name"] for command in json.loads(sidecall("describe", "--json", "kit").stdout)["commands"]]
    assert names == ["print", "hush", "make", "record", "forget", "where", "deaf", "careful"]
    text = sidecall("describe", "kit").stdout.decode()
    assert "others" not in text
    assert "takes no stdin" in text
    assert f"data: {data} on the server, t" in text
    assert json.loads(sidecall("describe", "--json", "shut").stdout)["commands"] == []
    assert sidecall("exec", "shut", "print", "--help").returncode == 127
    assert sidecall("ping", "shut").returncode == sidecall("status", "shut").returncode == 0


def test_every_call_leaves_a_line(kit: Server, sidecall: Run, directory: Path, data: Path) -> None:
    """Who, what, on which files, how it ended; a secret is neither in the audit log nor in the other one."""
    sidecall("exec", "kit", "print", "--text", "hunter")
    sidecall("exec", "kit", "print", "--text", "HUNTER-2")
    sidecall("exec", "--relay", "kit", "make", "--out", f"{data}/a", "--code", "3")
    ran, refused, failed = audited(directory)
    assert ran == ran | {"listener": "kit", "uid": os.geteuid(), "command": "print", "outcome": "exited"}
    assert ran["parameters"] == {"text": ["***"]}
    assert refused == refused | {"outcome": "refused", "code": 64, "reason": "--text must match [a-z]+"}
    assert failed == failed | {"value": 3, "files": [["data", "a"]], "bytes": {"stdin": 0, "stdout": 0, "stderr": 0}}
    assert {"time", "queued", "run", "user", "system", "max_rss"} <= failed.keys()
    assert "hunter" not in ((directory / "audit").read_text() + kit.log()).lower()


def test_a_secret_path_is_not_told(kit: Server, sidecall: Run, directory: Path, data: Path) -> None:
    """A path that is secret is in no log and no message, be it found, missing, or on no volume; nor is a default."""
    (data / "quiet").write_text("whisper")
    done = [sidecall("exec", "kit", "hush", "--file", path) for path in (f"{data}/quiet", f"{data}/quieter", "/quiet")]
    assert [each.returncode for each in done] == [0, 64, 77]
    assert done[0].stdout == b"whisper"
    assert [line.get("files") for line in audited(directory)] == [[["data", "***"]], None, None]
    said = b"".join(each.stderr for each in done).decode() + kit.log() + (directory / "audit").read_text()
    assert "quiet" not in said
    for words in (("describe", "kit"), ("describe", "--json", "kit"), ("exec", "kit", "print", "--help")):
        assert b"nothing" not in sidecall(*words).stdout


def test_the_audit_log_can_be_rotated(kit: Server, sidecall: Run, directory: Path) -> None:
    """After a HUP the lines go to a new file."""
    sidecall("exec", "kit", "print")
    (directory / "audit").rename(directory / "audit.1")
    kit.process.send_signal(signal.SIGHUP)
    kit.await_log("the configuration has been read again")
    sidecall("exec", "kit", "print")
    assert len((directory / "audit.1").read_text().splitlines()) == len(audited(directory)) == 1


@both_modes
def test_an_output_is_not_created_for_a_client_that_has_gone(kit: Server, data: Path, mode: tuple[str, ...]) -> None:
    """Killed, it ends its command's stdin: the command exits with 0 before the server has noticed, and has a part."""
    caller = start(*mode, "kit", "record", "--out", f"{data}/out")
    assert caller.stdin is not None
    assert caller.stdout is not None
    pid = int(first_line(caller))
    caller.stdin.write(b"half\n")
    caller.stdin.flush()
    assert first_line(caller) == "half"
    kit.process.send_signal(signal.SIGSTOP)
    caller.kill()
    caller.communicate(timeout=30)
    while not mode and Path(f"/proc/{pid}").exists():
        time.sleep(0.01)  # until its supervisor has reaped it
    kit.process.send_signal(signal.SIGCONT)
    kit.await_log("outcome=")
    assert list(data.glob("[!.]*")) == []


def test_a_replaced_file_is_whole_or_not_there(kit: Server, sidecall: Run, data: Path) -> None:
    """It appears after a success; a failure, a caller that is killed and a service that is stopped leave nothing."""
    assert sidecall("exec", "kit", "make", "--out", f"{data}/a").returncode == 0
    assert (data / "a").read_text() == "half+half"
    assert sidecall("exec", "kit", "make", "--out", f"{data}/b", "--code", "4").returncode == 4
    caller = start("kit", "make", "--out", f"{data}/c", "--for", "60")
    while not list(data.glob(".sidecall-*/*/c")):
        assert caller.poll() is None
    caller.send_signal(signal.SIGKILL)
    end(caller)
    kit.await_log("outcome=signaled value=15")
    caller = start("kit", "make", "--out", f"{data}/a", "--for", "60")
    while not list(data.glob(".sidecall-*/*/a")):
        assert caller.poll() is None
    kit.process.send_signal(signal.SIGINT)
    assert end(caller)[0] in {-15, 143}
    kit.process.wait()
    assert [path.name for path in data.iterdir()] == ["a"]
    assert (data / "a").read_text() == "half+half"


def test_a_success_without_the_file_is_73(kit: Server, sidecall: Run, data: Path, directory: Path) -> None:
    """The command says that all is well, the file says otherwise: the caller hears it."""
    done = sidecall("exec", "kit", "forget", "--out", f"{data}/a")
    assert done.returncode == 73
    assert b"the command did not write 'a'" in done.stderr
    assert audited(directory)[0]["outcome"] == "output-failed"
    assert list(data.glob("[!.]*")) == []


def test_the_working_directory_lies_on_a_volume(kit: Server, sidecall: Run, data: Path) -> None:
    """By whatever name the caller knows it, and nowhere else."""
    (data / "sub").mkdir()
    done = subprocess.run([CLIENT, "exec", "--cwd", "sub", "kit", "where"], cwd=data, capture_output=True, check=False)
    assert done.stdout.decode() == f"{data}/sub\n"
    assert sidecall("exec", "--cwd", "/etc", "kit", "where").returncode == 77
    assert sidecall("exec", "--cwd", f"{data}/gone", "kit", "where").returncode == 64


def test_a_command_may_take_no_stdin_or_no_descriptors(kit: Server, sidecall: Run) -> None:
    """Then it reads nothing, or reads a pipe of the service's; its caller notices no difference."""
    assert sidecall("exec", "kit", "deaf", input=b"x" * 200_000).stdout == b""
    assert sidecall("exec", "--relay", "kit", "deaf", input=b"x" * 200_000).stdout == b""
    assert sidecall("exec", "kit", "careful", input=b"hello").stdout == b"pipe\nhello"


def test_a_command_can_run_as_another_user(serve: Callable[..., Server], sidecall: Run, directory: Path) -> None:
    """With that user's groups, home and name, its own mask and limits; files are read and made as that user."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    directory.chmod(0o755)
    data = directory / "data"
    data.mkdir()
    (data / "in").write_text("content")
    (directory / "other.toml").write_text(AS_ANOTHER)
    serve("--config", str(directory / "other.toml"))
    done = sidecall("exec", "other", "who")
    nice = b"%d" % min(os.nice(0) + 3, 19)  # it is added to that of the server
    assert done.stdout.split() == [b"1", b"1", b"1", b"0027", nice, b"40", b"0", b"daemon", b"/usr/sbin"], done.stderr
    done = sidecall("exec", "other", "copy", "--in", f"{data}/in", "--out", f"{data}/out")
    assert done.returncode == 0, done.stderr
    assert (data / "out").read_text() == "content"
    assert (data / "out").stat().st_uid == 1
    assert sorted(path.name for path in data.glob("[!.]*")) == ["in", "out"]


def test_a_volume_that_is_not_declared_cannot_be_placed(sidecall: Run, directory: Path) -> None:
    """One sentence each."""
    (directory / "kit.toml").write_text(CONFIG.format(directory=directory))
    for given, code, reason in [
        ("other=/x", 78, f"{directory}/kit.toml: volumes.other: expected to be declared, since it is given a path"),
        ("data", 64, "--volume takes NAME=PATH, not 'data'"),
    ]:
        done = sidecall("serve", "--config", str(directory / "kit.toml"), "--check", "--volume", given)
        assert (done.returncode, done.stderr.decode().splitlines()[0]) == (code, f"sidecall: {reason}")
