"""Processes: started, always reaped, stopped as a whole group."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sidecall.errors import CannotExecute, NoSuchCommand, SidecallError
from sidecall.supervise.executable import find_executable
from sidecall.supervise.process import Ended, Process, spawn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def run(script: str, act: Callable[[Process, int], Awaitable[Ended]]) -> Ended:
    """Run a shell script, wait for its first line of output, and act on it."""

    async def main() -> Ended:
        readable, writable = os.pipe()
        try:
            process = spawn([b"sh", b"-c", script.encode()], os.environb, None, (0, writable, 2))
        finally:
            os.close(writable)
        with open(readable) as lines:
            first = await asyncio.to_thread(lines.readline)
            return await act(process, int(first or 0))

    return asyncio.run(main())


def finish(grace: float) -> Callable[[Process, int], Awaitable[Ended]]:
    """Return an action that waits for the process' own end."""
    return lambda process, _: process.finish(grace)


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 200", 200 << 8), ("kill -9 $$", 9)])
def test_an_end_is_what_it_was(script: str, status: int) -> None:
    """A wait status arrives unchanged, with what the process used."""
    ended = run(script, finish(1))
    assert ended.status & ~0x80 == status
    assert ended.usage.ru_maxrss > 0


def gone(pid: int) -> bool:
    """Tell whether a process is gone, or only waits for somebody else to reap it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("ignoring", ["", "trap '' TERM; "])
def test_helpers_left_behind_are_stopped(ignoring: str) -> None:
    """A helper of a command that ended gets TERM and, if that does not help, KILL."""
    pids: list[int] = []

    def act(process: Process, pid: int) -> Awaitable[Ended]:
        pids.append(pid)
        return process.finish(0.2)

    ended = run(f"({ignoring}while :; do sleep 0.05; done) >/dev/null & echo $!; exit 3", act)
    assert ended.status == 3 << 8
    assert gone(pids[0])


def test_helpers_have_time_to_finish() -> None:
    """A helper that ends by itself soon, such as `tee`, is not disturbed."""
    marker = Path(f"/tmp/sidecall-test-{os.getpid()}")
    run(f"(sleep 0.2; : >{marker}) & exit 0", finish(5))
    assert marker.exists()
    marker.unlink()


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("echo $$; exec sleep 60", 15),
        ("trap '' TERM; echo $$; while :; do sleep 0.05; done", 9),
        ("trap 'exit 4' TERM; echo $$; while :; do sleep 0.05; done", 4 << 8),
        ("echo $$; kill -STOP $$", 15),
    ],
)
def test_stop_escalates(script: str, status: int) -> None:
    """TERM first, KILL after the grace; a stopped process is no exception."""
    ended = run(script, lambda process, _: process.stop(0.3))
    assert ended.status == status


def test_a_signal_to_what_is_gone_is_nothing() -> None:
    """Signals after the end reach nobody: the number may belong to somebody else."""

    async def act(process: Process, _: int) -> Ended:
        ended = await process.finish(1)
        assert process.gone
        process.signal(9)
        return ended

    assert run("exit 0", act).status == 0


@pytest.mark.parametrize(
    ("program", "content", "mode", "error"),
    [
        ("missing", None, 0, NoSuchCommand),
        ("plain", "x", 0o644, CannotExecute),
        ("interpreter", "#!/no/such/thing\n", 0o755, CannotExecute),
        ("binary", "\x7fELF", 0o755, CannotExecute),
    ],
)
def test_what_cannot_be_executed(
    tmp_path: Path, program: str, content: str | None, mode: int, error: type[SidecallError]
) -> None:
    """What is not there is 127, what cannot be executed 126; no child is left of either."""
    path = tmp_path / program
    if content is not None:
        path.write_text(content)
        path.chmod(mode)

    async def main() -> None:
        with pytest.raises(error):
            spawn([os.fsencode(path)], os.environb, None, (0, 1, 2))

    asyncio.run(main())


def test_finding_a_program(tmp_path: Path) -> None:
    """A program is looked up as execvp(3) does it, past files that cannot be executed."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "tool").touch()
    environ = {"PATH": f"{tmp_path}/a:{tmp_path}/b"}
    with pytest.raises(CannotExecute):
        find_executable("tool", environ)
    (tmp_path / "b" / "tool").touch(0o755)
    assert find_executable("tool", environ) == f"{tmp_path}/b/tool"
    with pytest.raises(NoSuchCommand):
        find_executable("other", environ)
    with pytest.raises(CannotExecute):
        find_executable(str(tmp_path), environ)


def test_stopping_does_not_take_the_whole_grace() -> None:
    """A command that ends on TERM is not waited for any longer."""
    began = time.monotonic()
    run("echo $$; exec sleep 60", lambda process, _: process.stop(60))
    assert time.monotonic() - began < 30
