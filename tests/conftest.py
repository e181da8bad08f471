"""What every test shares: services on real processes, and the check that nothing of a test is left."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from sidecall._kernel import landlock_version
from sidecall.protocol import messages as m
from sidecall.protocol.connection import Connection
from sidecall.protocol.states import SERVER

SIDECALL = os.environ.get("SIDECALL_TEST_COMMAND", str(Path(sys.executable).parent / "sidecall"))
"""The command under test: the standalone executable, for one, has to pass the same tests."""
CLIENT = os.environ.get("SIDECALL_TEST_CLIENT", SIDECALL)
"""What does `exec` and `connect`: the native client, for one, has to pass the same tests."""
PYTHON_COMMAND = os.environ.get("SIDECALL_TEST_COMMAND", str(Path(sys.executable).parent / "sidecall-python"))
"""What a native client becomes for all other subcommands: next to the one of a wheel."""
IS_PYTHON_CLIENT = CLIENT.endswith("sidecall-python")
"""Whether the client needs its interpreter and its environment's packages."""
if CLIENT != SIDECALL:
    os.environ.setdefault("SIDECALL_PYTHON_COMMAND", PYTHON_COMMAND)
collect_ignore = ["cli/test_clients.py"] if CLIENT == PYTHON_COMMAND else []
PROGRAMS = Path(__file__).parent / "programs"
ROOT = Path(__file__).parents[1]

for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):  # as nohup(1) or a shell's `&` may have left them
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
Table = Callable[[str, str], None]
ROWS = pytest.StashKey[list[tuple[str, str]]]()
needs_landlock = pytest.mark.skipif(landlock_version() < 3, reason="this kernel has no Landlock of version 3")
both_modes = pytest.mark.parametrize("mode", [(), ("--relay",)], ids=["passed", "relayed"])


class Server:
    """A running `sidecall serve`, known to listen.

    Attributes:
        path: its socket.
        process: the server itself.
    """

    def __init__(self, words: tuple[str, ...], directory: Path, program: str = SIDECALL) -> None:
        self._log_file = directory / f"server-{len(list(directory.iterdir()))}.log"
        environ = {**os.environ, "SIDECALL_DIR": str(directory)}
        with self._log_file.open("wb") as log:
            self.process = subprocess.Popen([program, "serve", *words], stderr=log, env=environ)
        self.path = Path(self.await_log("serving ").split("serving ")[1].split(" (")[0])

    def log(self) -> str:
        """Return what the server has said so far."""
        return self._log_file.read_text()

    def await_log(self, words: str, times: int = 1) -> str:
        """Wait until so many lines of the log have these words, and return the last of them."""
        while self.process.poll() is None:
            lines = [line for line in self.log().splitlines() if words in line]
            if len(lines) >= times:
                return lines[times - 1]
            time.sleep(0.002)
        raise AssertionError(f"the server ended with {self.process.returncode}: {self.log()}")

    def forget_tracebacks(self) -> None:
        """Let `stop` take no offence at what a test has provoked."""
        self._log_file.write_text("")

    def stop(self) -> None:
        """End the server by TERM and check that it leaves nothing."""
        if self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(20) == 0, self.log()
            assert not self.path.exists()
            assert not Path(f"{self.path}.lock").exists()
        assert "Traceback" not in self.log(), self.log()


@pytest.fixture
def table(request: pytest.FixtureRequest) -> Table:
    """Return a function that adds a row to the table of attacks: what was tried, and what happened."""
    return lambda attack, happened: request.config.stash.setdefault(ROWS, []).append((attack, happened))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table of attacks if it was asked for by name: `make attacks`."""
    rows = config.stash.get(ROWS, [])
    if rows and any("attacks" in word for word in config.args):
        terminalreporter.section("attacks")
        terminalreporter.write_line("| attack | what happened |\n|---|---|")
        for attack, happened in rows:
            terminalreporter.write_line(f"| {attack} | {happened} |")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a test that is skipped into a failure where SIDECALL_TEST_REQUIRE is `all`.

    What cannot be installed is not required: the reason begins with `this kernel` or `this machine`.
    """
    report = yield
    is_required = report.skipped and os.environ.get("SIDECALL_TEST_REQUIRE") == "all"
    if is_required and not any(f"Skipped: {what}" in report.longreprtext for what in ("this kernel", "this machine")):
        report.outcome = "failed"
        report.longrepr = f"skipped where all is required: {report.longreprtext}"
    return report


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the directory of the test's sockets. A test may open it to other users.

    It is not beneath pytest's own directory: whichever pytest starts closes that to others again.
    """
    with tempfile.TemporaryDirectory(prefix="sidecall-test-") as name:
        monkeypatch.setenv("SIDECALL_DIR", name)
        yield Path(name)


@pytest.fixture
def serve(directory: Path) -> Iterator[Callable[..., Server]]:
    """Return a function that starts `sidecall serve` with the words given; all are ended after the test."""
    servers: list[Server] = []

    def start(*words: str, program: str = SIDECALL) -> Server:
        servers.append(Server(words, directory, program))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def tool(serve: Callable[..., Server]) -> Server:
    """Return a service called `tool` that runs any command, four at once."""
    return serve("-v", "--allow-any", "tool", "--slots", "4", "--grace", "0.5")


@pytest.fixture
def lingering() -> Iterator[int]:
    """Return a TCP socket whose last close(2) waits ten minutes: its peer does not read what is to be sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as sock:
        peer, _ = listener.accept()
        with peer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 600))
            sock.setblocking(False)
            try:
                while True:
                    sock.send(bytes(65536))
            except BlockingIOError:
                pass
            yield sock.detach()


@pytest.fixture(scope="session")
def standalone() -> Path:
    """Return the standalone executable; build it, or skip (or fail, where all is required) with what is missing."""
    built = subprocess.run([ROOT / "native/standalone/build.sh"], capture_output=True, text=True, check=False)
    if built.returncode == 69 and "all" not in os.environ.get("SIDECALL_TEST_REQUIRE", ""):
        pytest.skip(built.stderr.strip().splitlines()[-1])
    assert built.returncode == 0, built.stderr
    return Path(built.stdout.strip())


@pytest.fixture
def sidecall(directory: Path) -> Run:
    """Return a function that runs `sidecall` with the words given and captures its output."""

    def run(*words: str, input: bytes = b"", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
        environ = {**os.environ, "SIDECALL_DIR": str(directory), **(env or {})}
        program = CLIENT if words[0] in {"exec", "connect"} else SIDECALL
        return subprocess.run([program, *words], input=input, capture_output=True, env=environ, check=False, timeout=60)

    return run


def start(*words: str, **options: int) -> subprocess.Popen[bytes]:
    """Start `sidecall exec` with pipes for its streams."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([CLIENT, "exec", *words], **pipes)  # type: ignore[call-overload,no-any-return]


def end(caller: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    """Wait for a caller; return its status and output."""
    out, err = caller.communicate(timeout=30)
    return caller.returncode, out, err


def listens(path: Path | str) -> bool:
    """Tell whether a socket takes connections: between bind and listen it is there, and refuses."""
    sockets = (line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:])
    return any(len(words) == 8 and words[3] == "00010000" and words[7] == str(path) for words in sockets)


def take_call(peer: socket.socket) -> tuple[m.Hello, m.Call]:
    """Receive what a client sends to make a call, PASS included; passed descriptors are closed by that."""
    connection = Connection(SERVER)
    messages: list[m.Message] = []
    while len(messages) < 2 or (m.PASSED in messages[1].streams and len(messages) < 3):  # type: ignore[attr-defined]
        data = peer.recv(1 << 20)
        assert data, "the client has closed the connection"
        connection.receive_data(data)
        messages += connection.events()
    hello, call = messages[:2]
    assert isinstance(hello, m.Hello)
    assert isinstance(call, m.Call)
    return hello, call


def deliver(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal and wait until the process has taken it, or has ended: two that are pending at once are one."""
    process.send_signal(number)
    while process.poll() is None and is_pending(process.pid, number):
        time.sleep(0.002)


def is_pending(pid: int, number: int) -> bool:
    """Tell whether a signal waits to be taken: SigPnd and ShdPnd in proc_pid_status(5)."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    masks = [int(line.split()[1], 16) for line in status if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


def first_line(caller: subprocess.Popen[bytes]) -> str:
    """Return the first line that a caller's command prints."""
    assert caller.stdout is not None
    return caller.stdout.readline().decode().strip()


def children_of(pid: int) -> list[int]:
    """Return the children of a process, zombies included."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def children() -> set[str]:
    """Return the children of this process, zombies included."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Check that a test leaves no child and no descriptor; a service's start may still clear what others have left."""
    before, descriptors = children(), len(os.listdir("/proc/self/fd"))
    yield
    for thread in threading.enumerate():
        if thread.name == "clear":
            thread.join()
    assert children() <= before
    assert len(os.listdir("/proc/self/fd")) <= descriptors
