"""Process groups in odd company: zombies nobody reaps, descriptors, folders, signals while stopping."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sidecall.errors import CannotExecute, NoSuchCommand
from sidecall.supervise.process import Ended, Process, reset_inherited_signals, spawn

SOURCE = Path(__file__).parents[2] / "src"


def shell(script: str, folder: bytes | None = None, environ: dict[bytes, bytes] | None = None) -> Process:
    """Start a shell script with all streams closed to the outside."""
    null = os.open(os.devnull, os.O_RDWR)
    try:
        return spawn([b"sh", b"-c", script.encode()], environ or dict(os.environb), folder, (null, null, null))
    finally:
        os.close(null)


@pytest.mark.parametrize("number", sorted({*range(1, 32)} - {17, 18, 19, 20, 21, 22, 23, 28}))
def test_every_deadly_signal_ends_a_command_with_its_number(number: int) -> None:
    """The status names the very signal that was sent, with a number that is never mixed up with an exit code."""

    async def main() -> Ended:
        process = shell("ulimit -c 0; exec sleep 60")
        process.signal(number)
        return await process.finish(5)

    assert asyncio.run(main()).status & 0x7F == number


def test_a_command_leads_a_session_of_its_own() -> None:
    """The group's number is the command's pid, so a signal reaches all of it and nothing else."""

    async def main() -> None:
        process = shell("exec sleep 60")
        assert os.getsid(process.pid) == os.getpgid(process.pid) == process.pid
        await process.stop(5)
        assert process.gone

    asyncio.run(main())


def test_stopping_twice_is_stopping_once() -> None:
    """Two that stop the same command both learn how it ended, and it is reaped once."""

    async def main() -> list[Ended]:
        process = shell("trap '' TERM; while :; do sleep 0.05; done")
        await asyncio.sleep(0)
        return list(await asyncio.gather(process.stop(0.1), process.stop(0.1), process.finish(0.1)))

    assert {ended.status for ended in asyncio.run(main())} <= {9, 15}


def test_a_hundred_commands_leave_nothing() -> None:
    """No descriptor and no zombie stays, however commands end."""

    async def main() -> None:
        before = set(os.listdir("/proc/self/fd"))
        for _ in range(5):
            processes = [shell("exit 1" if index % 2 else "exec sleep 60") for index in range(20)]
            await asyncio.gather(*(process.stop(5) for process in processes))
        assert set(os.listdir("/proc/self/fd")) == before
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        (b"/no/such", "cannot enter the working folder '/no/such': No such file or directory"),
        (b"/dev/null", "cannot enter the working folder '/dev/null': Not a directory"),
    ],
)
def test_a_folder_that_cannot_be_entered(folder: bytes, reason: str) -> None:
    """The folder is blamed, not the program."""

    async def main() -> str:
        with pytest.raises(CannotExecute) as error:
            shell("exit 0", folder)
        return error.value.reason

    assert asyncio.run(main()) == reason


def test_the_commands_own_path_counts(tmp_path: Path) -> None:
    """The program is looked up in the PATH that the command gets, not in the server's."""
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\nexit 7\n")
    tool.chmod(0o755)

    async def main() -> int:
        process = spawn([b"tool"], {b"PATH": os.fsencode(tmp_path)}, None, (0, 1, 2))
        with pytest.raises(NoSuchCommand):
            spawn([b"tool"], {b"PATH": b"/bin"}, None, (0, 1, 2))
        return (await process.finish(1)).status

    assert asyncio.run(main()) == 7 << 8


def test_a_missing_interpreter_is_not_a_missing_command(tmp_path: Path) -> None:
    """A script found in PATH whose interpreter does not exist is there, and cannot be executed: 126."""
    tool = tmp_path / "tool"
    tool.write_text("#!/no/such/interpreter\n")
    tool.chmod(0o755)

    async def main() -> None:
        with pytest.raises(CannotExecute):
            spawn([b"tool"], {b"PATH": os.fsencode(tmp_path)}, None, (0, 1, 2))

    asyncio.run(main())


UNREAPED = """
import asyncio, ctypes, os, sys
sys.path.insert(0, sys.argv[1])
from sidecall.supervise.process import spawn

PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0

async def main():
    process = spawn([b"sh", b"-c", b"sleep 60 & exit 3"], os.environb, None, (0, 1, 2))
    async with asyncio.timeout(3):
        ended = await process.finish(0.1)
    assert ended.status == 3 << 8

child = os.fork()
if not child:
    status = 1
    try:
        asyncio.run(main())
        status = 0
    finally:
        os._exit(status)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_zombie_that_nobody_reaps_does_not_hold_up_the_end() -> None:
    """In a container whose PID 1 does not reap orphans, a dead helper is dead all the same."""
    done = subprocess.run(
        [sys.executable, "-c", UNREAPED, str(SOURCE)], stderr=subprocess.DEVNULL, check=False, timeout=30
    )
    assert done.returncode == 0


def test_inherited_dispositions_are_undone() -> None:
    """What a shell's `&` left ignored or blocked is default again, for this process and what it starts."""
    child = os.fork()
    if not child:
        status = 1
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGQUIT, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            reset_inherited_signals()
            status = int(
                (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGQUIT)) != (signal.SIG_DFL, signal.SIG_DFL)
                or bool(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
            )
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
