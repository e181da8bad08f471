"""What one user's flood costs others: the server's memory, and how long another user's PING takes meanwhile.

Prints a table in Markdown. As root, the flood is another user's, as it would be from another container; else it is this
user's own.

usage: floods.py [SECONDS]      (5 by default: how long each flood is looked at)
"""

from __future__ import annotations

import array
import contextlib
import encodings.idna  # noqa: F401 which another user might not be able to import later
import os
import resource
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from sidecall.client.status import ping
from sidecall.errors import SidecallError
from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode

if TYPE_CHECKING:
    from collections.abc import Callable

OTHER = 4000
"""The user that floods."""
OWN = os.geteuid()
"""The user that is to be served."""
GIVE_UP = 20.0
"""Seconds after which a PING counts as not answered."""

CONFIG = f"""
[service]
name = "flooded"
slots = 1
queue = 20000
callers = [{OWN}, {OTHER}]
[commands.true]
argv = ["true"]
[commands.sleep]
argv = ["sleep", "1000"]
"""

HELLO = encode(m.hello("flood"))
PASS = encode(m.Pass())


def call(command: bytes, *arguments: bytes, environment: tuple[bytes, ...] = (), mode: int = m.NONE) -> bytes:
    """Return a CALL."""
    return encode(m.Call(command, arguments, environment, b"", b"/", (), (), mode, mode, mode))


PASSED = call(b"true", mode=m.PASSED)
LARGEST = call(b"true", b"x" * (m.CALL_LIMIT - 100))

kept: list[socket.socket] = []


def connect(path: str) -> socket.socket:
    """Return a connection."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    return sock


def keep(path: str, data: bytes, count: int) -> None:
    """Send the same on many connections, which stay open; a refusal is no obstacle."""
    for _ in range(count):
        kept.append(connect(path))
        kept[-1].settimeout(GIVE_UP)
        with contextlib.suppress(OSError):
            kept[-1].sendall(data)


def repeat(path: str, data: bytes) -> None:
    """Send the same on one connection after the other, and read what comes."""
    while True:
        with contextlib.suppress(OSError), connect(path) as sock:
            sock.settimeout(GIVE_UP)
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass


def ask(path: str) -> None:
    """Send PING without end on one connection, and read the answers."""
    with connect(path) as sock:
        sock.sendall(HELLO)
        while True:
            sock.sendall(encode(m.Ping()) * 100)
            sock.recv(1 << 20)


def linger(path: str) -> None:
    """Pass sockets whose close waits for minutes, in the place of streams and elsewhere."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for data in (HELLO + PASSED, PASS, b"x") * 10:
            sock = socket.create_connection(listener.getsockname())
            kept.append(listener.accept()[0])
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 600))
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    sock.send(bytes(65536))
            with connect(path) as client, contextlib.suppress(OSError):
                if not data.startswith(HELLO):
                    client.sendall(HELLO + PASSED)
                rights = array.array("i", [sock.fileno()] * 3)
                client.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
                closing = threading.Thread(target=sock.close, daemon=True)  # it blocks if the server has none any more
                closing.start()
                closing.join(0.5)


FLOODS: dict[str, Callable[[str], None]] = {
    "none": lambda _: None,
    "2,000 connections with all but a byte of a 2 MiB CALL": lambda path: keep(path, HELLO + LARGEST[:-1], 2000),
    "1,000 waiting calls of 1 MB": lambda path: keep(
        path, HELLO + call(b"sleep", environment=(b"A=" + b"x" * 1_000_000,)), 1000
    ),
    "5,000 idle connections": lambda path: keep(path, b"", 5000),
    "connections without end": lambda path: repeat(path, b""),
    "refused requests without end": lambda path: repeat(path, b"GET / HTTP/1.0\r\n\r\n"),
    "unknown parameters of 2 MB without end": lambda path: repeat(
        path, HELLO + call(b"true", b"--" + b"y" * 2_000_000)
    ),
    "PING without end": ask,
    "30 sockets that linger for 600 s": linger,
}


class Flood:
    """A process that floods; a context manager, which has begun when it is entered."""

    def __init__(self, path: str, attack: Callable[[str], None]) -> None:
        readable, writable = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            os.close(readable)
            _be_flood(path, attack, writable)
        os.close(writable)
        self._begun = readable

    def __enter__(self) -> None:
        with open(self._begun) as pipe:
            pipe.read()

    def __exit__(self, *_: object) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _be_flood(path: str, attack: Callable[[str], None], begun: int) -> None:
    try:
        if OWN == 0:
            os.setgid(OTHER)
            os.setuid(OTHER)
        os.close(begun)
        attack(path)
        signal.pause()
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(0)


def memory(pid: int) -> float:
    """Return what a process holds, in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def delay(path: str) -> float:
    """Return how long a new connection and a PING take, in seconds; GIVE_UP if there is no answer."""
    began = time.monotonic()
    with contextlib.suppress(SidecallError):
        ping(path, 0.0, GIVE_UP)
        return time.monotonic() - began
    return GIVE_UP


def measure(attack: Callable[[str], None], seconds: float) -> tuple[float, float, float]:
    """Return how much the server's memory grows, in MB, and the median and longest delay of a PING, in ms."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        (Path(name) / "x.toml").write_text(CONFIG.replace('"flooded"', f'"{name}/x.sock"'))
        words = ["sidecall", "serve", "--config", f"{name}/x.toml"]
        with subprocess.Popen(words, stderr=subprocess.DEVNULL) as server:
            try:
                path = f"{name}/x.sock"
                ping(path, GIVE_UP, GIVE_UP)
                return _look(server.pid, path, attack, seconds)
            finally:
                server.kill()


def _look(pid: int, path: str, attack: Callable[[str], None], seconds: float) -> tuple[float, float, float]:
    sleeper = subprocess.Popen(["sidecall", "exec", "-q", path, "sleep"], stdin=subprocess.DEVNULL)  # has the slot
    before, most, delays = memory(pid), 0.0, []
    with Flood(path, attack):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            delays.append(delay(path))
            most = max(most, memory(pid) - before)
            time.sleep(0.02)
    sleeper.kill()
    sleeper.wait()
    return most, statistics.median(delays) * 1000, max(delays) * 1000


def main() -> None:
    """Measure one flood after the other."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    print("| flood | server, MB more | PING, ms | slowest PING, ms |\n|---|---:|---:|---:|")
    for name, attack in FLOODS.items():
        most, median, slowest = measure(attack, seconds)
        print(f"| {name} | {most:.0f} | {median:.1f} | {slowest:.0f} |", flush=True)


if __name__ == "__main__":
    main()
