"""The callers' side of the soak: makes calls, kills some callers and some callers' parents, and counts what was wrong.

In calm weather another process sends PING after PING, and counts how long the answers take.

usage: callers.py NAME COUNT SEED calm|disturbed
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections import Counter
from typing import NamedTuple

from adversaries import ADVERSARIES, CONFINED, FORWARDED, LINGERING, MARK, STALLED, Adversary

from sidecall.cli import main as sidecall
from sidecall.client.status import ping
from sidecall.errors import SidecallError
from sidecall.transport.address import socket_path

WORKERS = 6
HUNG_AFTER = 90.0
"""Seconds after which a call that has not ended is taken as hung."""

STALL = 0.7
"""Seconds after which one that is read late is read."""

UNDISTURBED, CALLER, PARENT = "undisturbed", "caller killed", "caller's parent killed"

TRUE_WHEN_DISTURBED = {-9, -15, 69, 75, 125}
"""Killed with its command; stopped or turned away with its server; nobody there; nobody knows."""


class Result(NamedTuple):
    """How a call ended; `status` is None if it hung."""

    status: int | None
    stdout: bytes
    stderr: bytes


def call(words: list[str], adversary: Adversary, dice: random.Random, fate: str) -> Result:
    """Run `sidecall exec` in a fork of this process, kill what its fate says, and return its end."""
    inside, outside = _pipes()
    if adversary.client == LINGERING:
        for fd in (inside[0], outside[0]):
            os.close(fd)
        inside[0], outside[0] = lingering()
    pid = os.fork()
    if not pid:
        _be_caller(words, inside, outside, with_parent=fate == PARENT)
    for fd in inside:
        os.close(fd)
    kill_at = None if fate == UNDISTURBED else time.monotonic() + dice.expovariate(10)
    try:
        return _communicate(pid, outside, adversary, kill_at)
    finally:
        for fd in outside:
            with contextlib.suppress(OSError):
                os.close(fd)


def _pipes() -> tuple[list[int], list[int]]:
    pairs = os.pipe(), os.pipe()[::-1], os.pipe()[::-1]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def lingering() -> tuple[int, int]:
    """Return a TCP socket whose last close(2) waits ten minutes, and its peer, which reads nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = socket.create_connection(listener.getsockname())
        peer, _ = listener.accept()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 600))
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(65536))
    sock.setblocking(True)
    return sock.detach(), peer.detach()


def _be_caller(words: list[str], inside: list[int], outside: list[int], *, with_parent: bool) -> None:
    """Become the caller; or its parent, which dies as it does."""
    code = 70
    try:
        if with_parent and (child := os.fork()):
            for fd in (*inside, *outside):
                os.close(fd)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if code < 0:
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                _reset(-code)
                os.kill(os.getpid(), -code)
            return
        for fd in outside:
            os.close(fd)
        for number, fd in enumerate(inside):
            os.dup2(fd, number)
        os.closerange(3, 64)
        options = ["--die-with-parent"] if with_parent else []
        code = sidecall(["exec", *options, *words])
    finally:
        os._exit(code)


def _reset(number: int) -> None:
    """Let a signal end this process, also if a shell's `&` has made it ignore that one."""
    with contextlib.suppress(OSError):  # KILL
        signal.signal(number, signal.SIG_DFL)


def _communicate(pid: int, outside: list[int], adversary: Adversary, kill_at: float | None) -> Result:
    """Feed and read until both outputs have ended, which is when nothing holds them any more; then reap."""
    out: dict[int, bytes] = {outside[1]: b"", outside[2]: b""}
    stdin, feeding = adversary.stdin, outside[0]
    began = time.monotonic()
    deadline, read_from = began + HUNG_AFTER, began + STALL * (adversary.client == STALLED)
    os.set_blocking(feeding, False)
    open_ends = set(out)
    while open_ends:
        now = time.monotonic()
        if now > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return Result(None, *out.values())
        if kill_at is not None and now >= kill_at:
            os.kill(pid, signal.SIGKILL)
            kill_at = None
        wait = 0.5 if kill_at is None else max(0.0, kill_at - now)
        wait = min(wait, 0.05) if now < read_from else wait
        readable, writable, _ = select.select(
            open_ends if now >= read_from else [], [feeding] if stdin else [], [], wait
        )
        if not stdin and feeding >= 0:
            _end_stdin(feeding, adversary)
            feeding = -1
        if writable:
            stdin = _feed(feeding, stdin)
        for fd in readable:
            data = os.read(fd, 65536)
            out[fd] += data
            if not data:
                open_ends.discard(fd)
    return Result(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), *out.values())


def _feed(fd: int, data: bytes) -> bytes:
    try:
        return data[os.write(fd, data) :]
    except BlockingIOError:
        return data
    except (BrokenPipeError, ConnectionResetError):
        return b""


def _end_stdin(fd: int, adversary: Adversary) -> None:
    if adversary.client == LINGERING:  # it lingers for as long as its peer is there
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as sock:
            sock.shutdown(socket.SHUT_WR)
    else:
        os.close(fd)


def judge(adversary: Adversary, result: Result, *, disturbed: bool) -> str:
    """Return what a call that was not killed comes to: right, a true end that is somebody's doing, or what is wrong."""
    if result.status is None:
        return f"hung: {adversary.name}"
    if result.status != adversary.status:
        if disturbed and result.status in TRUE_WHEN_DISTURBED:
            return f"ended {result.status} by a kill"
        return f"wrong outcome: {adversary.name} gave {result.status} {result.stderr[-200:]!r}"
    if disturbed and adversary.status < 0:
        return "right"
    said = min(len(result.stderr), adversary.stderr) if disturbed else len(result.stderr)  # a shell may add "Killed"
    if result.stdout != adversary.stdout or said != adversary.stderr:
        lost = len(adversary.stdout) - len(result.stdout), adversary.stderr - len(result.stderr)
        return f"bytes lost: {adversary.name} lacks {lost} {result.stderr[-200:]!r}"
    return "right"


def work(name: str, count: int, seed: int, *, disturbed: bool) -> Counter[str]:
    """Make some calls, one after the other."""
    dice, found = random.Random(seed), Counter[str]()
    there = [one for one in ADVERSARIES if os.path.exists(socket_path(_service(name, one), os.environ))]
    for _ in range(count):
        (adversary,) = dice.choices(there, [one.weight for one in there])
        mode = dice.choice(([], ["--relay"]))
        fate = dice.choices((UNDISTURBED, CALLER, PARENT), (8, 1, 1))[0]
        service = _service(name, adversary)
        words = ["-q", "--connect-timeout", "30", *mode, "--env", f"MARK={MARK}", service, "sh", "-c", adversary.script]
        result = call(words, adversary, dice, fate)
        if fate != UNDISTURBED and result.status == -signal.SIGKILL:
            found[fate] += 1
        else:
            found[judge(adversary, result, disturbed=disturbed)] += 1
    return found


def _service(name: str, adversary: Adversary) -> str:
    """Return what is called: the forwarder and the confined server are there if the machine allows that."""
    return f"{name}-{adversary.client}" if adversary.client in {FORWARDED, CONFINED} else name


def watch(name: str, until: int) -> Counter[str]:
    """Send PING after PING until a pipe has no writer any more; count the answers by how long they take."""
    found, path = Counter[str](), socket_path(name, os.environ)
    while not select.select([until], [], [], 0.05)[0]:
        began = time.monotonic()
        with contextlib.suppress(SidecallError):
            ping(path, 10.0, 60.0)
            seconds = time.monotonic() - began
            found["PING within 0.1 s" if seconds < 0.1 else "PING within 1 s" if seconds < 1 else "PING over 1 s"] += 1
    return found


def main() -> None:
    """Share the calls among workers; print what they found as JSON."""
    name, count, seed, weather = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    ends = []
    finished, working = os.pipe()
    readable, writable = os.pipe()
    if not os.fork():
        os.close(working)
        with open(writable, "w") as pipe:
            json.dump(watch(name, finished) if weather == "calm" else {}, pipe)
        os._exit(0)
    os.close(writable)
    answers = readable
    for worker in range(WORKERS):
        readable, writable = os.pipe()
        if not os.fork():
            share = count // WORKERS + (worker < count % WORKERS)
            found = work(name, share, seed + worker, disturbed=weather == "disturbed")
            with open(writable, "w") as pipe:
                json.dump(found, pipe)
            os._exit(0)
        os.close(writable)
        ends.append(readable)
    total: Counter[str] = Counter()
    for readable in ends:
        with open(readable) as pipe:
            total.update(json.load(pipe))
    os.close(working)
    with open(answers) as pipe:
        total.update(json.load(pipe))
    print(json.dumps(total))


if __name__ == "__main__":
    main()
