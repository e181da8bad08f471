"""What a server holds: idle, with calls running, with callers waiting, and after many calls.

The callers here are bare sockets that speak PROTOCOL.md, since ten thousand processes would measure the machine.
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from beside.place import stop, wait_until
from beside.results import CaseFailed, attempt, in_turns
from sidecall.errors import ProtocolError
from sidecall.protocol.codec import encode, frame_at
from sidecall.protocol.messages import ENDED_EXITED, NONE, PASSED, Call, Exit, Hello, Pass, Queued, Refused, Started

if TYPE_CHECKING:
    from collections.abc import Iterator

    from beside.place import Place
    from beside.programs import Programs
    from beside.results import Results
    from sidecall.protocol.messages import Message

CONFIG = """
[service]
name = "{name}"
slots = {slots}
queue = 20000
per-caller = 20000
grace = 0.1
drain = 0.1

[commands.sleep]
argv = ["sleep", "1000"]

[commands.true]
argv = ["true"]
"""
SERVER = "server alone"
FAMILY = "server and all that is its own"
WARM = 1000
"""Calls after which a server has all it allocates once."""
SLOTS = 64
TOGETHER = 4
"""Calls that are made at once where many are made: enough for the server never to wait."""


def memory_table(server: str) -> str:
    """Return the name of the table of what a server holds."""
    return f"memory, {server}"


def beside_table(server: str) -> str:
    """Return the name of the table of how long `true` takes beside running calls."""
    return f"latency beside running calls, {server}"


def aged_table(server: str) -> str:
    """Return the name of the table of a server that is new and of one that has served many calls."""
    return f"latency after many calls, {server}"


def after(calls: int) -> str:
    """Return the name of the state of a server that has served so many calls and is idle again."""
    return f"after {calls} calls"


@dataclass(frozen=True)
class Process:
    """What the kernel says of one process: its parent, its command's name, and memory in bytes."""

    pid: int
    parent: int
    name: str

    def memory(self, key: str) -> int:
        """Return `Rss` or `Pss` in bytes, 0 if the process is gone. Source: proc_pid_smaps(5)."""
        try:
            lines = Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            return 0
        return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def processes() -> list[Process]:
    """Return all processes there are. Source: proc_pid_stat(5)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:
            continue
        name = text[text.index("(") + 1 : text.rindex(")")]
        found.append(Process(int(path.parent.name), int(text[text.rindex(")") + 2 :].split()[1]), name))
    return found


def family(root: int) -> list[Process]:
    """Return a process and all that descend from it."""
    everything, inside = processes(), {root}
    for _ in range(5):
        inside |= {process.pid for process in everything if process.parent in inside}
    return [process for process in everything if process.pid in inside]


def own(root: int) -> list[Process]:
    """Return a server's own processes: all that descend from it, but not the commands that run."""
    return [process for process in family(root) if process.name != "sleep"]


def held(root: int) -> tuple[int, int]:
    """Return the RSS of the server alone, and the PSS of it and all that is its own: not of the commands that run.

    The server is the largest of its processes: what unpacks and starts it may stand before it.
    """
    processes = own(root)
    return max(process.memory("Rss") for process in processes), sum(process.memory("Pss") for process in processes)


class Served:
    """A server of our own on this host, and bare callers of it.

    Args:
        place: this host.
        name: the service's name.
        words: the server's command line up to `serve`.
        slots: calls that may run at once.
    """

    def __init__(self, stack: ExitStack, place: Place, name: str, words: tuple[str, ...], slots: int) -> None:
        self.path = place.directory / f"{name}.sock"
        config = place.directory / f"{name}.toml"
        config.write_text(CONFIG.format(name=name, slots=slots))
        self.process = place.serve(*words, "serve", "--config", str(config))
        stack.callback(stop, self.process)
        self.callers: list[socket.socket] = []
        self._null = os.open(os.devnull, os.O_RDWR)
        stack.callback(os.close, self._null)
        stack.callback(self.hang_up)
        wait_until(self.path.exists, str(self.path))

    def add(self, count: int, expected: type[Message]) -> None:
        """Call `sleep` so many times more.

        Raises:
            CaseFailed: a call was answered otherwise than expected.
        """
        for _ in range(count):
            try:
                self._call(b"sleep", NONE)
                answer = first_answer(self.callers[-1])
            except OSError as error:
                raise CaseFailed(f"caller {len(self.callers)}: {error}") from error
            if not isinstance(answer, expected):
                raise CaseFailed(f"caller {len(self.callers)} got {answer}")

    def make(self, count: int) -> None:
        """Call `true` so many times, its streams passed, a few at once, and wait for the ends.

        Raises:
            CaseFailed: a call did not end well.
        """
        for _ in range(count // TOGETHER):
            for _ in range(TOGETHER):
                self._call(b"true", PASSED)
            for caller in self.callers:
                expect_success(caller)
            self.hang_up()

    def _call(self, command: bytes, mode: int) -> None:
        caller = socket.socket(socket.AF_UNIX)
        self.callers.append(caller)
        caller.settimeout(60)
        caller.connect(str(self.path))
        caller.sendall(
            encode(Hello(1, (), (), "benchmark")) + encode(Call(command, (), (), b"", b"/", (), (), *[mode] * 3))
        )
        if mode == PASSED:
            socket.send_fds(caller, [encode(Pass())], [self._null] * 3)

    def hang_up(self) -> None:
        """Close all callers, which ends their calls."""
        for caller in self.callers:
            caller.close()
        self.callers.clear()


def messages(caller: socket.socket) -> Iterator[Message]:
    """Yield what a service says to a caller, until it closes the connection."""
    buffer, start = bytearray(), 0
    while chunk := caller.recv(4096):
        buffer += chunk
        try:
            while found := frame_at(buffer, start):
                message, start = found
                if message is not None:
                    yield message
        except ProtocolError as error:
            raise CaseFailed(str(error)) from error


def first_answer(caller: socket.socket) -> Message | None:
    """Return the first message that tells what becomes of a call, None if there is none."""
    return next((message for message in messages(caller) if isinstance(message, (Queued, Started, Refused))), None)


def expect_success(caller: socket.socket) -> None:
    """Wait for a call's end.

    Raises:
        CaseFailed: it is another than success.
    """
    try:
        last = [None, *messages(caller)][-1]
    except OSError as error:
        raise CaseFailed(str(error)) from error
    if not isinstance(last, Exit) or (last.ended, last.value) != (ENDED_EXITED, 0):
        raise CaseFailed(f"a call ended with {last}")


def record(results: Results, table: str, state: str, root: int) -> tuple[int, int]:
    """Record what a server holds in some state; return both figures."""
    alone, together = held(root)
    results.add(table, f"{state}, {SERVER}", alone)
    results.add(table, f"{state}, {FAMILY}", together)
    return alone, together


def measure_running(results: Results, place: Place, programs: Programs, server: str, counts: list[int]) -> None:
    """Measure a server idle and with so many calls running, and how long `true` takes beside them."""
    with ExitStack() as stack:
        served = Served(stack, place, "running", programs.servers[server], max(counts) + SLOTS)
        words = [programs.native, "exec", "-q", "running", "true"]
        record(results, memory_table(server), "idle", served.process.pid)
        for count in counts:
            served.add(count - len(served.callers), Started)
            record(results, memory_table(server), f"{count} running", served.process.pid)
            for _ in range(20):
                case = f"beside {count} running"
                attempt(results, beside_table(server), case, partial(place.ask, "command", words))


def measure_waiting(results: Results, place: Place, programs: Programs, server: str, count: int) -> None:
    """Measure a server with one call running and so many waiting for its end."""
    with ExitStack() as stack:
        served = Served(stack, place, "waiting", programs.servers[server], 1)
        served.add(1, Started)
        before, _ = held(served.process.pid)
        served.add(count, Queued)
        crowded, _ = record(results, memory_table(server), f"{count} waiting", served.process.pid)
        results.add(memory_table(server), "each waiting caller", (crowded - before) / count)


def measure_aged(results: Results, place: Place, programs: Programs, server: str, *, calls: int, rounds: int) -> None:
    """Make many calls of one server; measure what it holds then, and its latency in turns with that of a new one."""
    with ExitStack() as stack:
        words = programs.servers[server]
        servers = {name: Served(stack, place, name, words, SLOTS) for name in ("new", "aged")}
        clients = {name: [programs.native, "exec", "-q", name, "true"] for name in servers}
        for served in servers.values():
            served.make(WARM)
        root = servers["aged"].process.pid
        before, _ = record(results, memory_table(server), after(WARM), root)
        servers["aged"].make(calls - WARM)
        grown, _ = record(results, memory_table(server), after(calls), root)
        results.add(memory_table(server), "growth over them", grown - before)
        in_turns(
            results,
            {(aged_table(server), name): partial(place.ask, "command", clients[name]) for name in servers},
            rounds,
        )


def limit_waiting(results: Results, wanted: int) -> int:
    """Raise this process' limit of open files, which servers inherit; return how many callers may wait."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < wanted + 500:
        results.leave_out(f"{wanted} waiting", f"this machine allows {hard} open files, so {hard - 500} wait")
    return min(wanted, hard - 500)
