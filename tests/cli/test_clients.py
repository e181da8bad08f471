"""The Python client and the native one are the same to everybody: the same CALL, the same ends, the same words.

Not collected where there is only one: in the standalone executable's tests, and in those of the Python client.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import subprocess
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conftest import CLIENT, PYTHON_COMMAND
from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode
from sidecall.protocol.connection import Connection
from sidecall.protocol.states import SERVER

if TYPE_CHECKING:
    from conftest import Server

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

HEARD = encode(m.Hello(1, (), (), "test"))
BEGUN = HEARD + encode(m.Started("a1"))
LONG = "é" * 1500
VARIABLES = b'\xef\xbb\xbfHOME\n  A=1\r\n\n#B=2\n \t# C=3\nD=\' # "x y" = \t\nNOT_SET_HERE\nE=\xff\n\r\nF=\nG=end'


class Service:
    """A service that takes one call, answers it with the bytes given, and remembers what came."""

    def __init__(self, path: Path, answer: bytes) -> None:
        self.hello: m.Message | None = None
        self.call: m.Message | None = None
        self.passed = 0
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except OSError:
            return  # no client has connected
        with peer:
            self.hello, self.call, self.passed = _receive_call(peer)
            try:
                peer.sendall(self._answer)
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(65536):
                    pass
            except OSError:
                pass  # the client has received enough

    def close(self) -> None:
        """Wait for the call to end; without one, wait no longer."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()


def _receive_call(peer: socket.socket) -> tuple[m.Message | None, m.Message | None, int]:
    """Return HELLO and CALL, as far as they come, and how many descriptors PASS brings."""
    connection = Connection(SERVER)
    messages: list[m.Message] = []
    passed = 0
    while not messages or not is_complete(messages):
        data, fds, _, _ = socket.recv_fds(peer, 1 << 20, 10)
        passed += len(fds)
        for fd in fds:
            os.close(fd)
        if not data:
            break
        connection.receive_data(data)
        messages += connection.events()
    hello, call, *_ = (*messages, None, None)
    return hello, call, passed


def _without_pipes(call: m.Message) -> m.Message:
    """Return a CALL without the numbers of the client's pipes, which are others each time."""
    assert isinstance(call, m.Call)
    return replace(call, options=tuple(re.sub(rb"-pipe=\d+:\d+$", b"-pipe=D:I", option) for option in call.options))


def is_complete(messages: list[m.Message]) -> bool:
    """Tell whether these are all of a call: its PASS comes last if it has passed streams."""
    call = messages[-1]
    return isinstance(call, m.Pass) or (isinstance(call, m.Call) and m.PASSED not in call.streams)


def run(program: str, directory: Path, words: tuple[Any, ...], answer: bytes | None, **options: Any) -> tuple[Any, ...]:
    """Return how a client ended, what it wrote, and what it asked for."""
    path, outcome = directory / "odd.sock", directory / "outcome"
    service = Service(path, answer) if answer is not None else None
    with outcome.open("wb") as out:
        given = {"env": {**os.environ, "SIDECALL_DIR": str(directory)}, "input": b"some input", **options}
        done = subprocess.run(
            [program, "exec", "--outcome-fd", str(out.fileno()), *words],
            capture_output=True, check=False, timeout=30, pass_fds=[out.fileno()], **given
        )  # fmt: skip
    asked: tuple[Any, ...] = ()
    if service is not None:
        service.close()
        path.unlink()
        needs = service.hello.needs if isinstance(service.hello, m.Hello) else None
        asked = (needs, service.call and _without_pipes(service.call), service.passed)
    fd = str(out.fileno() if not out.closed else "")
    return done.returncode, done.stdout, done.stderr.replace(fd.encode() or b"\0", b"N"), outcome.read_bytes(), asked


def agree(directory: Path, words: tuple[Any, ...], answer: bytes | None, **options: Any) -> tuple[Any, ...]:
    """Check that both clients do the same; return what."""
    python, native = (run(program, directory, words, answer, **options) for program in (PYTHON_COMMAND, CLIENT))
    assert [*map(plain, native)] == [*map(plain, python)], answer and answer[:200]
    return native


def plain(value: Any) -> Any:
    """Return what was printed without the escapes of odd characters, on which the clients need not agree."""
    return re.sub(rb"(\\\\?(x..|u....|U........|[nrt]))+", b"?", value) if isinstance(value, bytes) else value


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("tool",),
        ("--nope", "tool", "true"),
        ("--nope=1", "tool", "true"),
        ("-qz", "tool", "true"),
        ("-vé", "tool", "true"),
        ("-q=1", "tool", "true"),
        ("-qe", "tool"),
        ("-quroot", "tool", "true"),
        ("--user=root", "tool", "true"),
        ("--detach", "tool", "true"),
        ("--env-file", "missing", "nobody", "true"),
        ("--env-file", "/", "nobody", "true"),
        ("--env-file", "/dev/zero", "nobody", "true"),
        ("nobody", "-it", "bash"),
        ("nobody", "--"),
        ("nobody", "--", "-x"),
        ("nobody", "--help", "bash"),
        ("nobody", "-h"),
        ("--quiet=1", "tool", "true"),
        ("--cwd",),
        ("--env",),
        ("--timeout=", "nobody", "true"),
        ("--timeout", "nan", "nobody", "true"),
        ("--timeout", "inf", "nobody", "true"),
        ("--timeout", "1e9", "nobody", "true"),
        ("--timeout", "0x10", "nobody", "true"),
        ("--timeout", "1__0", "nobody", "true"),
        ("--timeout", " 1_0.5e1 ", "nobody", "true"),
        ("--timeout", "it's", "nobody", "true"),
        ("--timeout", "it's\"\\\n\t\x7f\u202e\u00e9\u00ad\U0001f600\U000e0001", "nobody", "true"),
        ("--timeout", b"\xff\xc3\xa9\xed\xa0\x80\xf4\x90\x80\x80", "nobody", "true"),
        ("--connect-timeout", "-1", "nobody", "true"),
        ("--connect-timeout", "0.1", "nobody", "true"),
        ("--outcome-fd", "", "nobody", "true"),
        ("--outcome-fd", "-1", "nobody", "true"),
        ("--outcome-fd", "0077", "nobody", "true"),
        ("--outcome-fd", "x", "nobody", "true"),
        ("--outcome-fd", "9" * 30, "nobody", "true"),
        ("--outcome-fd", "2147483648", "nobody", "true"),
        ("--help=1", "--nope"),
        ("--env", "", "nobody", "true"),
        ("--env", "=x", "nobody", "true"),
        ("--env", "NOT_SET\x1b", "nobody", "true"),
        ("", "true"),
        (".", "true"),
        ("..", "true"),
        ("--", "--nope", "true"),
        ("-", "true"),
        ("nobody", "true"),
        ("nob\x1b[2Jody\n", "true"),
        (b"nob\xffody", "true"),
        ("n" * 300, "true"),
        ("n" * 2000, "true"),
        ("/etc/passwd", "true"),
        ("/etc/passwd/x.sock", "true"),
        ("/no/such/directory/x.sock", "true"),
        ("//no/such/../directory/./x.sock", "true"),
        ("x.sock", "true"),
        ("/dev/null", "true"),
        ("/", "true"),
    ],
)
def test_a_call_that_cannot_be_made_ends_in_the_same_words(directory: Path, words: tuple[Any, ...]) -> None:
    """Usage errors, names and paths: the same code, sentence, hint and outcome."""
    agree(directory, words, None, cwd=directory)


@pytest.mark.parametrize("line", [b"=x", b"A B=x", b"A\t", b"A=\0", b"\0", b"A\rB=1"])
def test_a_malformed_file_of_variables_ends_in_the_same_words(directory: Path, line: bytes) -> None:
    """The line is named."""
    (directory / "variables").write_bytes(b"# \0\n\nA=1\n" + line + b"\nB=2\n")
    code, _, said, *_ = agree(directory, ("--env-file", "variables", "odd", "true"), None, cwd=directory)
    assert (code, said.splitlines()[0][:39]) == (64, b"sidecall: invalid line 4 of --env-file ")


@pytest.mark.parametrize(
    "words",
    [
        ("odd", "true"),
        ("--relay", "odd", "true", "a", ""),
        ("--no-stdin", "odd", "true"),
        ("--relay", "--no-stdin", "odd", "true"),
        ("--no-queue", "-q", "odd", b"tr\xffue", b"\xff"),
        ("--timeout", "0.0001", "odd", "true"),
        ("--timeout", "0.0025", "odd", "true"),
        ("--timeout", "0.0035", "odd", "true"),
        ("--timeout", "1.05e1", "odd", "true"),
        ("--timeout=999999999", "odd", "true"),
        ("--env", "HOME", "--env=A=b=c", "--env", b"X=\xff", "odd", "true"),
        ("--cwd", "", "odd", "true"),
        ("--cwd", "sub/../other//.", "odd", "true"),
        ("--cwd=/usr/lib/..", "odd", "true", "sub", "../x", "--in=sub/deep/file", "-o=/etc/passwd", "--flag", "a=b"),
        ("odd", "true", *(f"/a{number}/b/c" for number in range(100))),
        ("odd", "true", "x" * 100_000, "/" + "y/" * 5000),
        ("odd", "true", "/", "//", "//usr//lib///", "///"),
        ("./odd.sock", "true"),
        ("--", "odd", "--", "--help", "-v"),
        ("-qeA=1", "-w/usr", "-e", "B=2=", "-e=C=3", "-w=/", "odd", "true"),
        ("--env-file", "variables", "--env", "A=last", "--env-file=variables", "odd", "true"),
    ],
)
def test_both_clients_ask_the_same(directory: Path, words: tuple[Any, ...]) -> None:
    """The same CALL with the same directories, features and passed descriptors goes out."""
    (directory / "sub" / "deep").mkdir(parents=True)
    (directory / "variables").write_bytes(VARIABLES)
    assert agree(directory, words, BEGUN, cwd=directory)[-1][1] is not None


def test_a_call_that_is_too_long_is_refused_here(directory: Path) -> None:
    """It is said how long it is; nothing is sent."""
    words = (*("--env=BIG", "--env", "SMALL") * 20, "odd", "true")
    environ = {**os.environ, "SIDECALL_DIR": str(directory), "BIG": "x" * 120_000, "SMALL": "y"}
    code, _, said, *_ = agree(directory, words, BEGUN, env=environ)
    assert (code, said[:44]) == (64, b"sidecall: the call is too long: Call of 2400")


@pytest.mark.parametrize("shape", ["deep", "name"])
def test_a_long_path_is_reached_through_its_directory(directory: Path, shape: str) -> None:
    """A socket's path may be longer than an address; its own name may not."""
    deep = directory / ("d" * 120)
    deep.mkdir()
    name = "odd.sock" if shape == "deep" else "o" * 104 + ".sock"
    os.chdir(deep)
    try:
        service = Service(Path("odd.sock"), BEGUN + exit_message(0, 5))
    finally:
        os.chdir("/")
    done = subprocess.run([CLIENT, "exec", str(deep / name), "true"], capture_output=True, check=False)
    if shape == "name":
        service.close()
        assert agree(directory, (str(deep / name), "true"), None)[0] == 69
    else:
        service.close()
        assert done.returncode == 5


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o000])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_socket_that_anybody_could_have_made_is_not_trusted(directory: Path, mode: int) -> None:
    """A directory that is open to all, a stranger's service, a directory that lets nobody in."""
    for parent in directory.parents:
        parent.chmod(parent.stat().st_mode | 0o005)
    binary, public = directory / "client", directory / "public"
    shutil.copy(CLIENT, binary)
    directory.chmod(0o755)
    public.mkdir()
    os.chown(public, 2, 2)
    path = public / "odd.sock"
    ends = []
    for program in (PYTHON_COMMAND, str(binary)):
        public.chmod(0o755)
        service = Service(path, BEGUN + exit_message(0, 0))
        path.chmod(0o777)
        public.chmod(mode)
        subprocess.run(["chown", "-h", "3", path], check=True)
        done = subprocess.run(["setpriv", "--reuid=1", "--clear-groups", program, "exec", path, "true"],
                              capture_output=True, check=False, cwd="/")  # fmt: skip
        ends.append((done.returncode, done.stderr))
        service.close()
        path.unlink()
    assert ends[0] == ends[1]


def exit_message(ended: int, value: int, *details: bytes) -> bytes:
    """Return an EXIT."""
    return encode(m.Exit(ended, value, details))


def used(*numbers: int) -> tuple[bytes, ...]:
    """Return details with numbers."""
    names = (b"core-dumped", b"queued-us", b"run-us", b"user-us", b"system-us", b"max-rss")
    return tuple(b"%s=%d" % pair for pair in zip(names, numbers, strict=True))


UNPRINTABLE = encode(m.Started('é"\\\n\x01\x7f\U0001f600\u2028'))
ANSWERS = [
    b"",
    b"HTTP/1.1 200 OK\r\n\r\n",
    HEARD,
    HEARD[:-1],
    HEARD + HEARD,
    encode(m.Hello(0, (), (), "")) + BEGUN + exit_message(0, 0),
    encode(m.Hello(2, (b"pass",), (), "new")) + encode(m.Started("x")) + exit_message(0, 0),
    encode(m.Hello(2, (), (), "new")) + encode(m.Refused(76, "version 1 is not spoken here", "")),
    HEARD + encode(m.Description(b"{}")),
    HEARD + encode(m.Description(b"{}")) + encode(m.Started("x")) + exit_message(0, 0),
    HEARD + encode(m.Refused(69, "first", "")) + encode(m.Refused(64, "second", "")),
    HEARD + encode(m.Refused(69, "first", "")) + exit_message(0, 0),
    BEGUN + exit_message(0, 3) + b"\xff" * 100,
    BEGUN,
    BEGUN + exit_message(0, 0),
    BEGUN + exit_message(0, 255, *used(1, 1, 12, 123, 1234, 12345)),
    BEGUN + exit_message(1, 15, *used(1, 10, 100, 1_000_000, 123_456_789, 1 << 40)),
    BEGUN + exit_message(1, 10, *used(7, 2**64 - 1, 2**63, 10**16, 10**22 % 2**64, 2**64 - 1)),
    BEGUN + exit_message(0, 7, *used(0, 99, 100, 101, 99_999_999_999_999, 0)),
    BEGUN + exit_message(2, 0),
    BEGUN + exit_message(2, 9),
    BEGUN + exit_message(3, 0),
    BEGUN + exit_message(1, 0),
    BEGUN + exit_message(1, 65),
    BEGUN + exit_message(9, 0),
    BEGUN + exit_message(0, 0)[:-1],
    HEARD + exit_message(0, 0),
    HEARD + exit_message(1, 15),
    HEARD + encode(m.Started("")) + exit_message(0, 0),
    HEARD + encode(m.Started("")) + exit_message(1, 2),
    HEARD + UNPRINTABLE + exit_message(0, 3),
    HEARD + encode(m.Queued(0)) + encode(m.Queued(4_000_000_000)) + encode(m.Started("x")) + exit_message(0, 0),
    HEARD + encode(m.Pong((b"running=1",))) + encode(m.Calls(b"[]")) + encode(m.Started("x")) + exit_message(0, 1),
    HEARD + encode(m.Calls(b"x" * 3_000_000)) + encode(m.Started("x")) + exit_message(0, 1),
    HEARD + encode(m.Queued(1)) + encode(m.Pong((b"running=1",))),
    BEGUN + encode(m.Calls(b"[]")),
    BEGUN + encode(m.Queued(1)),
    BEGUN + encode(m.Started("2")),
    HEARD + encode(m.Ping()),
    HEARD + encode(m.Call(b"x" * 2_000_000, (), (), b"", b"", (), (), 0, 0, 0)),
    HEARD + encode(m.Description(b"x" * (m.DESCRIPTION_LIMIT - 4)))[:-1],
    HEARD + b"\0\x20\0\0\x15\0\x20\0\0" + b"x" * 0x200000,
    HEARD + b"\0\x20\0\0\x15\0\x1f\0\0" + b"x" * 0x200000,
    HEARD + encode(m.Signal(2)),
    HEARD + encode(m.Cancel("x")),
    HEARD + encode(m.Data(1, b"x")),
    BEGUN + encode(m.Data(0, b"x")),
    BEGUN + encode(m.Data(1, b"x")),
    BEGUN + encode(m.Data(3, b"x")),
    BEGUN + encode(m.Window(0, 1000)),
    BEGUN + encode(m.Window(1, 1)),
    BEGUN + encode(m.Stop(0)) + encode(m.Stop(0)) + exit_message(0, 0),
    BEGUN + encode(m.Stop(1)),
    BEGUN + encode(m.Eof(0)),
    BEGUN + encode(m.Eof(1)) + encode(m.Eof(1)),
    BEGUN + encode(m.Eof(2)) + encode(m.Data(2, b"x")),
    BEGUN + encode(m.Data(1, b"out")) + encode(m.Data(2, b"err\n")) + encode(m.Data(1, b"")) + exit_message(0, 0),
    BEGUN + encode(m.Data(1, b"x" * 65536)) * 4 + encode(m.Eof(1)) + exit_message(0, 2),
    b"\0\1\0\2\7\1" + b"x" * 65537,
    b"\0\0\0\5\1" + b"\0" * 5,
    b"\0\0\0\6\1" + b"\0\1\0\0\0\2",
    HEARD + b"\0\0\0\5\4\0\0\0\1\xff",
    HEARD + b"\0\0\0\5\4\0\0\0\2a",
    HEARD + b"\0\0\0\6\4\0\0\0\1ab",
    HEARD + b"\0\0\0\0\4",
    HEARD + b"\0\0\0\0\x15",
    HEARD + b"\0\0\0\5\x15\0\0\0\2a",
    HEARD + b"\0\0\0\5\x15\0\0\0\0a",
    HEARD + b"\0\0\0\0\x63",
    HEARD + b"\xff\xff\xff\xff\4",
    *(HEARD + encode(m.Refused(code, f"reason {code}", "do this")) for code in (0, 2, 64, 69, 70, 73, 75, 76, 77, 78)),
    *(HEARD + encode(m.Refused(code, f"reason {code}", "")) for code in (124, 125, 126, 127, 255)),
    HEARD + encode(m.Refused(64, "\x1b[2Jevil\nline\0more\t\x9b\u2028\U000e0001", "\u202e")),
    HEARD + encode(m.Refused(64, LONG + "end", "\n" * 1001)),
    HEARD + encode(m.Refused(99, LONG + "end", "x" * 1000)),
    HEARD + encode(m.Refused(75, "", "")),
]  # fmt: skip


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("mode", ["--relay", "--no-stdin", "-v"])
def test_every_answer_ends_a_call_the_same_way(directory: Path, mode: str, part: int) -> None:
    """The same code, words, output and JSON, whatever a service says."""
    for answer in ANSWERS[part::4]:
        agree(directory, (mode, "odd", "true"), answer)


@pytest.mark.parametrize("name", ["od\x1b[2Jd", "o\u202ed\n", "d" * 200 + "/../" * 30 + "odd"])
def test_a_name_is_shown_in_printable_words(directory: Path, name: str) -> None:
    """What a caller is called to wait for may hold anything, and be long."""
    path = directory / "odd.sock"
    link = os.path.join(directory, name + ".sock")
    if "/" in name:
        name, link = f"{directory}/./././" + "./" * 600 + "odd.sock", ""
    else:
        os.symlink(path, link)
    answer = HEARD + encode(m.Queued(3)) + encode(m.Started("x")) + exit_message(0, 5)
    ended, _, said, *_ = agree(directory, (name, "true"), answer)
    assert ended == 5
    assert said.decode().replace("\n", "").isprintable()
    assert 0 < len(said) < 1100


def test_descriptors_that_got_lost_are_the_same_to_both(directory: Path) -> None:
    """Where nothing was passed, nothing can have been lost: the service breaks the protocol."""
    end = agree(directory, ("--relay", "odd", "true"), HEARD + encode(m.Refused(1, "lost", "come again")))
    assert end[0] == 76


def test_mutated_answers_end_a_call_the_same_way(directory: Path) -> None:
    """So it is for answers with a few wrong bytes."""
    chance = random.Random(5)
    for _ in range(150):
        answer = bytearray(chance.choice([answer for answer in ANSWERS if 20 < len(answer) < 5000]))
        for _ in range(chance.randint(1, 3)):
            answer[chance.randrange(len(answer))] = chance.choice([0, 1, 2, 4, 7, 9, 255, chance.randrange(256)])
        mode = chance.choice(["--relay", "-q"])
        try:
            agree(directory, (mode, "odd", "true"), bytes(answer))
        except AssertionError as error:
            raise AssertionError(f"{mode} {bytes(answer)!r}") from error


@pytest.mark.parametrize(
    "words",
    [(), ("--version",), ("exec", "--help"), ("describe", "nobody"), ("exec", "-v", "-h"), ("connect", "--help")],
)
def test_the_rest_is_handed_over(directory: Path, words: tuple[str, ...]) -> None:
    """What the native client does not do the Python command does, with the same words."""
    ends = [subprocess.run([program, *words], capture_output=True, check=False) for program in (PYTHON_COMMAND, CLIENT)]
    python, native = [(end.returncode, end.stdout, end.stderr) for end in ends]
    assert native == python


@pytest.mark.parametrize("named", [None, "itself", "/no/such"])
def test_without_a_python_command_it_is_a_client_alone(directory: Path, named: str | None) -> None:
    """It does calls, bridges, `ping`, help and version itself, and reports what it cannot do."""
    client = shutil.copy(CLIENT, directory / "client")
    environ = {"SIDECALL_DIR": str(directory), "PATH": "/no/such"}
    if named is not None:
        environ["SIDECALL_PYTHON_COMMAND"] = str(client) if named == "itself" else named
    for words in (("--help",), ("--version",), ("exec", "--help"), ("connect", "-h"), ("ping", "--help")):
        done = subprocess.run([client, *words], capture_output=True, check=False, env=environ)
        assert (done.returncode, done.stderr) == (0, b"")
    done = subprocess.run([client, "status", "x"], capture_output=True, check=False, env=environ)
    assert done.returncode == 64
    assert done.stderr.startswith(b"sidecall: this client has no subcommand 'status', and the Python command that")
    done = subprocess.run([client], capture_output=True, check=False, env=environ)
    assert (done.returncode, done.stderr) == (64, b"sidecall: missing subcommand\nhint: see `sidecall --help`\n")
    answer = HEARD + encode(m.Description(b'{"service": "odd"}'))
    described = run(str(client), directory, ("odd", "print", "--help"), answer, env=environ)
    assert described[:2] == (0, b'{"service": "odd"}\n')


def test_the_end_of_a_real_call_has_the_same_fields(tool: Server, directory: Path) -> None:
    """The JSON line of a real call has the same keys in the same order."""
    lines = [run(program, directory, ("tool", "sh", "-c", "exit 4"), None)[3] for program in (PYTHON_COMMAND, CLIENT)]
    keys = [list(json.loads(line)) + list(json.loads(line)["usage"]) for line in lines]
    assert keys[0] == keys[1]


def test_a_producer_is_held_up_by_a_service_that_does_not_read(directory: Path) -> None:
    """The window holds: of an endless stdin only as much is read as the service allows."""
    answer = BEGUN
    path = directory / "odd.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        caller = subprocess.Popen([CLIENT, "exec", "--relay", "odd", "x"], stdin=subprocess.PIPE)
        peer, _ = listener.accept()
        assert caller.stdin is not None
        with peer, caller.stdin:
            peer.recv(65536)
            peer.sendall(answer)
            os.set_blocking(caller.stdin.fileno(), False)
            written, deaf = 0, 0
            while deaf < 20:
                try:
                    written += os.write(caller.stdin.fileno(), b"x" * 4096)
                    deaf = 0
                except BlockingIOError:
                    deaf += 1
                    threading.Event().wait(0.02)
            assert m.INITIAL_WINDOW <= written <= m.INITIAL_WINDOW + 2 * 65536
            peer.sendall(exit_message(0, 3))
            assert caller.wait(10) == 3


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("nobody",),
        ("--", "nobody"),
        ("--nope", "nobody", "cat"),
        ("--connect-timeout",),
        ("--connect-timeout=x", "nobody", "cat"),
        ("--connect-timeout=x", "nobody", "no-such-app"),
        ("--connect-timeout=0.1", "nobody", "cat"),
        ("", "cat"),
        ("..", "no-such-app"),
        ("nobody", ""),
        ("nobody", "no\x1bsuch\u202eapp"),
        ("nobody", b"\xff'\""),
        ("nobody", "./no-such-app"),
        ("nobody", "."),
        ("nobody", "/etc"),
        ("nobody", "/etc/passwd"),
        ("nobody", "cat"),
        ("nobody", "n" * 5000),
        ("/etc/passwd", "cat"),
        ("/no/such/directory/x.sock", "cat"),
        ("x.sock", "cat"),
    ],
)
def test_a_bridge_that_cannot_be_connected_ends_in_the_same_words(directory: Path, words: tuple[Any, ...]) -> None:
    """The same code, sentence and hint; with a PATH, without one, with an empty one."""
    for path in ({}, {"PATH": ""}, {"PATH": ":/bin:"}, {"PATH": f"{directory}:/etc/passwd:/no/such"}, None):
        environ = {name: value for name, value in os.environ.items() if name != "PATH" or path is not None}
        given = {**environ, **(path or {}), "SIDECALL_DIR": str(directory)}
        ends = [
            subprocess.run([program, "connect", *words], capture_output=True, check=False, env=given, cwd=directory)
            for program in (PYTHON_COMMAND, CLIENT)
        ]
        python, native = [(end.returncode, end.stdout, plain(end.stderr)) for end in ends]
        assert native == python
        assert 0 < native[0] < 128
