"""What a hostile caller tries on one host, and what it comes to. docs/security.md refers to each of these.

After every one the service still answers, and holds no descriptor more than before.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

import pytest

import sidecall as client
from conftest import CLIENT, PROGRAMS, listens
from sidecall import errors
from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Run, Server, Table

CONFIG = f"""
[service]
name = "kit"
slots = 4
per-caller = 300

[volumes.data]
path = "data"
access = "write"

[commands.read]
argv = ["cat", "--", "{{file}}"]
parameters.file = {{ type = "path" }}

[commands.write]
argv = ["sh", "-c", 'cat > "$1"', "-", "{{file}}"]
parameters.file = {{ type = "path", access = "write" }}

[commands.print]
argv = ["printf", "%s.", "{{text}}"]
parameters.text = {{ repeatable = true, optional = true, max-count = 200000 }}

[commands.shown]
argv = ["{sys.executable}", "{PROGRAMS}/words.py", "{{text}}"]
pass-env = ["SHADE"]
parameters.text = {{ pattern = "[a-z]+" }}

[commands.fed]
argv = ["cat"]
"""

pytestmark = pytest.mark.long

HELLO = m.Hello(1, (), (), "attacker")
CAT = m.Call(b"fed", (), (), b"", b"/", (), (), m.PASSED, m.PASSED, m.PASSED)


@pytest.fixture
def data(directory: Path) -> Path:
    """Return the volume; a secret lies beside it."""
    (directory / "data").mkdir()
    (directory / "secret").write_text("SECRET")
    (directory / "data" / "file").write_text("harmless")
    return directory / "data"


@pytest.fixture
def kit(serve: Callable[..., Server], directory: Path, data: Path) -> Iterator[Server]:
    """Return the service under attack."""
    (directory / "kit.toml").write_text(CONFIG)
    server = serve("-v", "--config", str(directory / "kit.toml"))
    assert client.run("kit", ["read", "--file", f"{data}/file"], stdout=client.PIPE).stdout == b"harmless"
    before = descriptors(server)  # the directory for the calls' directories among them
    yield server
    assert client.run("kit", ["print"], timeout=20).returncode == 0
    while descriptors(server) > before + 2:  # another idle supervisor, and the directory for unfinished outputs
        time.sleep(0.05)


def descriptors(server: Server) -> int:
    """Count what a server has open, but for the lines to idle supervisors."""
    time.sleep(0.2)
    pid = server.process.pid
    nurseries = open_text(f"/proc/{pid}/task/{pid}/children").split()
    supervisors = [
        supervisor
        for forkserver in nurseries
        for supervisor in open_text(f"/proc/{forkserver}/task/{forkserver}/children").split()
    ]
    return len(os.listdir(f"/proc/{pid}/fd")) - len(supervisors)


def open_text(path: str) -> str:
    """Return what a file says."""
    with open(path) as file:
        return file.read()


def connect(server: Server) -> socket.socket:
    """Return a connection that says nothing yet."""
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.socket(socket.AF_UNIX))
        sock.connect(str(server.path))  # without a time limit, which would make a full backlog an error
        sock.settimeout(20)
        stack.pop_all()
    return sock


def answer(sock: socket.socket) -> bytes:
    """Return all that a service says until it hangs up."""
    heard = b""
    with contextlib.suppress(ConnectionResetError):
        while received := sock.recv(65536):
            heard += received
    return heard


PATHS = {
    "`..` out of the volume": "{data}/../secret",
    "absolute path elsewhere": "/etc/passwd",
    "`/proc/self/root`": "/proc/self/root/etc/passwd",
    "`..` to `/proc/self/root`": "{data}/" + "../" * 30 + "proc/self/root/etc/passwd",
    "link out of the volume": "{data}/link",
    "link to the directory above": "{data}/up/secret",
    "link through `/proc`": "{data}/magic/etc/passwd",
}


@pytest.mark.parametrize("attack", PATHS)
def test_a_path_out_of_the_volume_is_refused(kit: Server, sidecall: Run, data: Path, attack: str, table: Table) -> None:
    """Neither to read nor to write."""
    (data / "link").symlink_to("../secret")
    (data / "up").symlink_to("..")
    (data / "magic").symlink_to("/proc/self/root")
    path = PATHS[attack].format(data=data)
    for command in ("read", "write"):
        done = sidecall("exec", "kit", command, "--file", path, input=b"overwritten")
        assert done.returncode in {64, 77}, done
        assert b"SECRET" not in done.stdout + done.stderr
        assert b"root:" not in done.stdout
    assert (data.parent / "secret").read_text() == "SECRET"
    table(attack, f"refused, {done.stderr.decode().splitlines()[0].removeprefix('sidecall: ').replace(str(data), '…')}")


SWAP_LINK = """
    os.symlink("../secret", "spare")
    os.replace("spare", "victim")
    time.sleep(random.uniform(0, 0.002))
    pathlib.Path("spare").write_text("harmless")
    os.replace("spare", "victim")
    time.sleep(random.uniform(0, 0.002))
"""
SWAP_DIR = """
    os.rename("directory", "away")
    os.symlink("../outside", "directory")
    time.sleep(random.uniform(0, 0.002))
    os.unlink("directory")
    os.rename("away", "directory")
    time.sleep(random.uniform(0, 0.002))
"""


@contextlib.contextmanager
def repeated(steps: str, directory: Path) -> Iterator[None]:
    """Repeat `steps` in a process of their own, on its own processor, with pauses that fall differently each time."""
    program = f"import os, pathlib, random, time\nwhile True:{steps}"
    with subprocess.Popen([sys.executable, "-I", "-c", program], cwd=directory) as attacker:
        try:
            yield
            assert attacker.poll() is None, "the attacker gave up"
        finally:
            attacker.kill()


def test_swapping_a_link_between_check_and_use_wins_nothing(kit: Server, data: Path, table: Table) -> None:
    """The command gets what was checked: never the secret, however the race goes."""
    victim, ends = data / "victim", {"harmless": 0, "refused": 0}
    victim.write_text("harmless")
    with repeated(SWAP_LINK, data):
        for _ in range(3000):
            try:
                done = client.run("kit", ["read", "--file", str(victim)], capture_output=True, check=True)
            except errors.SidecallError:
                ends["refused"] += 1
            else:
                assert done.stdout == b"harmless"
                ends["harmless"] += 1
            if min(ends.values()) >= 75:
                break
    assert min(ends.values()) >= 75, f"the race was never a race: {ends}"
    table("link swapped between check and use, until it was met 75 times", f"never followed: {ends}")


def test_swapping_a_directory_wins_nothing(kit: Server, data: Path, table: Table) -> None:
    """A file is written into the directory that was checked, or not at all."""
    outside, directory, ends = data.parent / "outside", data / "directory", {"written": 0, "refused": 0}
    outside.mkdir()
    directory.mkdir()
    with repeated(SWAP_DIR, data):
        for number in range(3000):
            try:
                client.run("kit", ["write", "--file", f"{directory}/{number}"], input=b"x", check=True)
            except errors.SidecallError:
                ends["refused"] += 1
            else:
                ends["written"] += 1
            if min(ends.values()) >= 50:
                break
    assert min(ends.values()) >= 50, f"the race was never a race: {ends}"
    assert list(outside.iterdir()) == []
    found = next(place for place in (directory, data / "away") if place.is_dir() and not place.is_symlink())
    assert len(list(found.iterdir())) == ends["written"]
    table(
        "directory swapped for a link while a file is made in it, until it was met 50 times", "nothing was made outside"
    )


@pytest.mark.parametrize("value", ["-rf", "--help", "-"])
def test_a_leading_dash_is_no_option(kit: Server, sidecall: Run, data: Path, value: str, table: Table) -> None:
    """A string may not begin with one unless declared so; a path is absolute by then."""
    refused = sidecall("exec", "kit", "print", "--text", value)
    assert refused.returncode == 64
    (data / value).write_text("a file with an odd name")
    done = subprocess.run([CLIENT, "exec", "kit", "read", "--file", value], cwd=data, capture_output=True, check=False)
    assert done.stdout == b"a file with an odd name"
    table(f"`{value}` as a value", "refused as a string; as a path it is the file of that name")


@pytest.mark.parametrize("value", [b"a\0b", b"\xff\xfe", b"a\nb", b"$(id)", b"; id", b"{text}", b"%s"])
def test_bytes_are_one_word_or_refused(kit: Server, value: bytes, table: Table) -> None:
    """No value is parsed again: not by a shell, nor as a template."""
    with connect(kit) as sock:
        call = m.Call(b"print", (b"--text", value), (), b"", b"/", (), (), m.NONE, m.RELAYED, m.NONE)
        hello = m.Hello(1, (), (), "attacker")
        sock.sendall(encode(hello) + encode(call))
        heard = b""
        with contextlib.suppress(OSError):
            while b"has a NUL" not in heard and value + b"." not in heard:
                received = sock.recv(65536)
                assert received, heard
                heard += received
    table(f"`{value!r}` as a value", "refused" if b"has a NUL" in heard else "one word, byte for byte")
    assert (b"has a NUL" in heard) is (b"\0" in value)


def test_a_value_must_match_as_a_whole(kit: Server, sidecall: Run, table: Table) -> None:
    """A pattern is not a prefix, and its `$` does not let a newline through."""
    for value in ("abc;", "abc\n", " abc", "ABC"):
        assert sidecall("exec", "kit", "shown", "--text", value).returncode == 64
    table("a value that matches its pattern in part", "refused")


@pytest.mark.parametrize("name", ["LD_PRELOAD", "BASH_ENV", "PATH", "PYTHONPATH"])
def test_the_environment_is_the_services(kit: Server, sidecall: Run, name: str, table: Table) -> None:
    """A caller sets only what is declared, and its own variables go nowhere."""
    done = sidecall("exec", "--env", f"{name}=/evil", "kit", "shown", "--text", "a")
    assert done.returncode == 77
    kept = sidecall("exec", "kit", "shown", "--text", "a", env={"COLOUR": "evil", "SHADE": "evil"})
    assert (json.loads(kept.stdout)["COLOUR"], json.loads(kept.stdout)["SHADE"]) == (None, None)
    table(f"`--env {name}=…`", "refused: it is not declared")


def test_100_000_arguments(kit: Server, sidecall: Run, table: Table) -> None:
    """They arrive, or are refused in words; the service does not suffer."""
    words = ["--text=x"] * 100_000
    done = sidecall("exec", "kit", "print", *words)
    assert (done.returncode, done.stdout) == (0, b"x." * 100_000)
    with pytest.raises(errors.UsageError) as more:
        client.run("kit", ["print", *["--text=" + "x" * 40] * 45_000])
    table("100,000 arguments", f"run; over 2 MiB of them: {more.value.reason}")


def test_an_endless_frame(kit: Server, table: Table) -> None:
    """A frame that says it is long is refused before it is read."""
    with connect(kit) as sock:
        sock.sendall(encode(HELLO) + b"\xff\xff\xff\xff\x02" + b"x" * 4096)
        heard = answer(sock)
    assert b"Call of 4294967295 bytes exceeds its limit of 2097152" in heard
    table("a frame of 4 GiB", "refused at its header")


def test_idle_connections_leave_room_for_callers(kit: Server, sidecall: Run, table: Table) -> None:
    """A user has a limit of its own; what it holds idle is closed after ten seconds."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(5000, hard - 200)
    began = time.monotonic()
    with contextlib.ExitStack() as idle:
        for _ in range(count):
            idle.enter_context(connect(kit))
        crowded = sidecall("exec", "kit", "print")
        assert crowded.returncode in {0, 75}
        while sidecall("exec", "kit", "print").returncode:
            assert time.monotonic() < began + 60
            time.sleep(0.3)
    seconds = time.monotonic() - began
    table(
        f"{count} idle connections",
        f"at most 300 of a user are kept (meanwhile it gets {crowded.returncode}), served again after {seconds:.0f} s",
    )


def test_slow_words_do_not_hold_a_connection(kit: Server, table: Table) -> None:
    """HELLO byte by byte: ten seconds after the first one it is over."""
    began = time.monotonic()
    with connect(kit) as sock:
        for byte in encode(HELLO) + encode(CAT):
            try:
                sock.send(bytes([byte]))
            except OSError:
                break
            time.sleep(0.5)
            if time.monotonic() > began + 30:
                break
        heard = answer(sock)
    seconds = time.monotonic() - began
    assert b"no request within 10 seconds" in heard
    table("HELLO, a byte each half second", f"refused after {seconds:.0f} s")


@pytest.mark.parametrize("count", [4, 253])
def test_too_many_descriptors_are_refused_and_closed(kit: Server, count: int, table: Table) -> None:
    """Three streams are all that is ever passed. 253 is the kernel's limit; the message is truncated then."""
    with connect(kit) as sock, open(os.devnull, "r+b") as null:
        passed = array.array("i", [null.fileno()] * count)
        sock.sendall(encode(HELLO) + encode(CAT))
        sock.sendmsg([encode(m.Pass())], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])
        heard = answer(sock)
    assert b"the passed descriptors are not those of three streams" in heard
    table(f"{count} descriptors", "refused, none is left open")


def test_truncated_descriptors_are_refused(kit: Server, table: Table) -> None:
    """Fewer than announced start nothing."""
    with connect(kit) as sock, open(os.devnull, "r+b") as null:
        passed = array.array("i", [null.fileno()] * 2)
        sock.sendall(encode(HELLO) + encode(CAT))
        sock.sendmsg([encode(m.Pass())], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])
        heard = answer(sock)
    assert b"the passed descriptors did not arrive" in heard
    assert kit.log().count(" started") == 1  # that of the fixture
    table("two descriptors for three streams", "refused, nothing starts")


def test_a_directory_is_no_stream(kit: Server, table: Table) -> None:
    """It would lead out of the service's file system."""
    with connect(kit) as sock:
        directory = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        passed = array.array("i", [directory] * 3)
        sock.sendall(encode(HELLO) + encode(CAT))
        sock.sendmsg([encode(m.Pass())], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])
        os.close(directory)
        heard = answer(sock)
    assert b"or one is of a directory" in heard
    table("a directory as a descriptor", "refused")


def test_a_fake_server_is_not_called(sidecall: Run, table: Table) -> None:
    """Where another user could have made the socket: in its directory, or by renaming a directory on the way to it.

    The overflow uid is every unmapped user's, also if the directory or the client has it.
    """
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    cases = [
        (0o755, 0o777, 65533, b"any user can replace the sockets"),
        (0o777, 0o755, 65533, b"any user can replace the sockets"),
        (0o755, 0o755, 65533, b"uid 65533 serves"),
        (0o755, 0o755, 65534, b"every unmapped user has that uid"),
    ]
    for above_mode, mode, uid, reason in cases:
        with tempfile.TemporaryDirectory() as above:
            shared = f"{above}/shared"
            fake = f"{shared}/fake.sock"
            os.mkdir(shared)
            os.chmod(above, 0o755)
            os.chmod(shared, 0o777)
            words = ["socat", f"UNIX-LISTEN:{fake},mode=666", "SYSTEM:echo caught"]
            with subprocess.Popen(words, user=uid, group=uid, stdin=subprocess.DEVNULL) as server:
                while not listens(fake) and server.poll() is None:
                    time.sleep(0.02)
                os.chown(shared, 65534 if uid == 65534 else 0, -1)
                os.chmod(above, above_mode)
                os.chmod(shared, mode)
                done = sidecall("exec", fake, "true")
                server.kill()
            assert (done.returncode, reason in done.stderr) == (77, True), done
            said = done.stderr.decode().splitlines()[0][10:].replace(above, "…")
            table(
                f"a fake server of uid {uid} in a directory of mode {mode:o} in one of {above_mode:o}",
                f"not called: {said}",
            )
