"""The callers' side of the soak: makes calls, kills some callers and some callers' parents, and counts what was wrong.

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
import sys
import time
from collections import Counter
from typing import NamedTuple

from adversaries import ADVERSARIES, MARK, Adversary

from sidecall.cli import main as sidecall

WORKERS = 6
HUNG_AFTER = 90.0
"""Seconds after which a call that has not ended is taken as hung."""

UNDISTURBED, CALLER, PARENT = "undisturbed", "caller killed", "caller's parent killed"

TRUE_WHEN_DISTURBED = {-9, -15, 69, 75, 125}
"""Killed with its command; stopped or turned away with its server; nobody there; nobody knows."""


class Result(NamedTuple):
    """How a call ended; `status` is None if it hung."""

    status: int | None
    stdout: bytes
    stderr: bytes


def call(words: list[str], stdin: bytes, dice: random.Random, fate: str) -> Result:
    """Run `sidecall exec` in a fork of this process, kill what its fate says, and return its end."""
    inside, outside = _pipes()
    pid = os.fork()
    if not pid:
        _be_caller(words, inside, outside, with_parent=fate == PARENT)
    for fd in inside:
        os.close(fd)
    kill_at = None if fate == UNDISTURBED else time.monotonic() + dice.expovariate(10)
    try:
        return _communicate(pid, outside, stdin, kill_at)
    finally:
        for fd in outside:
            with contextlib.suppress(OSError):
                os.close(fd)


def _pipes() -> tuple[list[int], list[int]]:
    pairs = os.pipe(), os.pipe()[::-1], os.pipe()[::-1]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


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


def _communicate(pid: int, outside: list[int], stdin: bytes, kill_at: float | None) -> Result:
    """Feed and read until both outputs have ended, which is when nothing holds them any more; then reap."""
    out: dict[int, bytes] = {outside[1]: b"", outside[2]: b""}
    feeding, deadline = outside[0], time.monotonic() + HUNG_AFTER
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
        readable, writable, _ = select.select(open_ends, [feeding] if stdin else [], [], wait)
        if not stdin and feeding >= 0:
            os.close(feeding)
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
    except BrokenPipeError:
        return b""


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
    for _ in range(count):
        adversary = dice.choice(ADVERSARIES)
        mode = dice.choice(([], ["--relay"]))
        fate = dice.choices((UNDISTURBED, CALLER, PARENT), (8, 1, 1))[0]
        words = ["-q", "--connect-timeout", "30", *mode, "--env", f"MARK={MARK}", name, "sh", "-c", adversary.script]
        result = call(words, adversary.stdin, dice, fate)
        if fate != UNDISTURBED and result.status == -signal.SIGKILL:
            found[fate] += 1
        else:
            found[judge(adversary, result, disturbed=disturbed)] += 1
    return found


def main() -> None:
    """Share the calls among workers; print what they found as JSON."""
    name, count, seed, weather = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    ends = []
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
    print(json.dumps(total))


if __name__ == "__main__":
    main()
