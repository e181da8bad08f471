"""Commands under supervisors: how they end is what is told, and nothing that they started is left."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import time
from typing import TYPE_CHECKING

import pytest

from sidecall.errors import CannotExecute, NoSuchCommand, ServiceUnavailable, SidecallError
from sidecall.supervise import process as process_module
from sidecall.supervise.control import Job, RunAs, send_job
from sidecall.supervise.forkserver import ForkServer
from sidecall.supervise.process import SupervisorDied, SupervisorPool, reset_inherited_signals
from supervise.conftest import field, first_line, lives, parent_of, shell, with_pool

if TYPE_CHECKING:
    from pathlib import Path

    from sidecall.supervise.process import Ended


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 200", 200 << 8), ("kill -9 $$", 9)])
def test_an_end_is_what_it_was(script: str, status: int) -> None:
    """A wait status arrives unchanged, with what the process used; nobody stopped it."""

    async def main(pool: SupervisorPool) -> Ended:
        return await (await shell(pool, script)).ended()

    ended = with_pool(main)
    assert ended.status & ~0x80 == status
    assert ended.used.max_rss > 0
    assert not ended.stopped


@pytest.mark.parametrize("number", sorted({*range(1, 32)} - {17, 18, 19, 20, 21, 22, 23, 28}))
def test_every_deadly_signal_ends_a_command_with_its_number(number: int) -> None:
    """The status names the very signal that was sent, with a number that is never mixed up with an exit code."""

    async def main(pool: SupervisorPool) -> Ended:
        process = await shell(pool, "ulimit -c 0; exec sleep 60")
        process.signal(number)
        return await process.ended()

    assert with_pool(main).status & 0x7F == number


def test_a_command_that_cannot_be_confined_is_not_executed(tmp_path: Path) -> None:
    """A path of its rules cannot be opened here; a kernel without Landlock is refused in the same way."""
    (tmp_path / "file").touch()

    async def main(pool: SupervisorPool) -> None:
        argv = [b"touch", os.fsencode(tmp_path / "made")]
        job = Job(argv, dict(os.environb), None, 1, False, confined_to=[b"x/", b"w" + os.fsencode(tmp_path / "file/x")])
        with pytest.raises(CannotExecute, match="cannot confine 'touch'"), open(os.devnull, "r+b") as null:
            await pool.spawn(job, (null.fileno(),) * 3).ended()

    with_pool(main)
    assert os.listdir(tmp_path) == ["file"]


def test_a_command_leads_a_session_of_its_own() -> None:
    """The group's number is the command's pid, so a signal reaches all of it and nothing else."""

    async def main(pool: SupervisorPool) -> None:
        process, pid = await first_line(pool, "echo $$; exec sleep 60")
        assert os.getsid(pid) == os.getpgid(pid) == pid
        process.stop(5)
        await process.ended()

    with_pool(main)


def test_a_command_starts_with_a_clean_slate() -> None:
    """No signal is blocked, ignored or caught, and nothing is open but its streams, whatever the server had."""

    async def main(pool: SupervisorPool) -> str:
        readable, writable = os.pipe()
        other = os.open(os.devnull, os.O_RDONLY)
        os.set_inheritable(other, True)
        script = "exec 2>&1; cat /proc/self/status; ls /proc/self/fd | tr '\\n' ' '"
        with open(readable) as lines:
            try:
                process = await shell(pool, script, stdout=writable)
            finally:
                os.close(writable)
                os.close(other)
            said = await asyncio.to_thread(lines.read)
        await process.ended()
        return said

    was = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        reset_inherited_signals()
        said = with_pool(main)
    finally:
        signal.signal(signal.SIGUSR1, was)
    *status, descriptors = said.splitlines()
    masks = [line for line in status if line.startswith(("SigBlk", "SigIgn", "SigCgt"))]
    libcs_own = 0x180000000  # 32 and 33, which glibc's posix_spawn(3) has ignored, and no program looks at
    assert [int(mask.split()[1], 16) & ~libcs_own for mask in masks] == [0, 0, 0]
    assert descriptors == "0 1 2 3 "  # the last is ls' own


ESCAPES = {
    "in the background": "sleep 100 & echo $! >{pid}",
    "ignores TERM": "(trap '' TERM; while :; do sleep 0.05; done) >/dev/null 2>&1 & echo $! >{pid}",
    "stopped": "sleep 100 & kill -STOP $!; echo $! >{pid}",
    "orphaned": "(sleep 100 & echo $! >{pid})",
    "own session": "setsid sh -c 'echo $$ >{pid}; exec sleep 100' &",
    "daemon": "setsid sh -c '(setsid sh -c \"echo \\$\\$ >{pid}; trap : TERM; exec sleep 100\" &)' &",
    "daemon without environment": "env -i /usr/bin/setsid -f /bin/sh -c"
    " 'echo $$ >{pid}; trap \"\" TERM HUP; exec sleep 100' &",
    "closed all": "(setsid sh -c 'echo $$ >{pid}; exec >&- <&- 2>&-; sleep 100' &) &",
}
"""Each writes the process id of what tries to escape into a file."""


@pytest.mark.parametrize("script", ESCAPES.values(), ids=ESCAPES)
@pytest.mark.parametrize("how", ["ends", "is stopped"])
def test_nothing_escapes(script: str, how: str, tmp_path: Path) -> None:
    """Whatever a command starts is gone when its end is told, be it in another group or session, orphaned or deaf."""
    file = tmp_path / "pid"
    script = f"{script.format(pid=file)}\nuntil [ -s {file} ]; do sleep 0.01; done; cat {file}; "

    async def main(pool: SupervisorPool) -> tuple[Ended, bool]:
        process, pid = await first_line(pool, script + ("exit 3" if how == "ends" else "exec sleep 100"))
        if how == "is stopped":
            process.stop(0.2)
        return await process.ended(), lives(pid)

    ended, is_left = with_pool(main)
    assert ended.status == (3 << 8 if how == "ends" else signal.SIGTERM)
    assert ended.stopped == (how == "is stopped")
    assert not is_left


def test_helpers_have_time_to_finish(tmp_path: Path) -> None:
    """A helper that ends by itself soon, such as `tee`, is not disturbed. On a loaded machine it can be late."""
    script = f"(while [ -e /proc/$$ ]; do :; done; sleep 0.1; : >{tmp_path}/marker) & exit 0"

    async def main(pool: SupervisorPool) -> None:
        while not (tmp_path / "marker").exists():
            ended = await (await shell(pool, script, 5)).ended()
            assert (tmp_path / "marker").exists() or ended.terminated

    with_pool(main)


def test_helpers_may_be_left_on_purpose() -> None:
    """A command that is declared so leaves its helpers running, and the next command is not mixed up with them."""

    async def main(pool: SupervisorPool) -> int:
        process, pid = await first_line(pool, "setsid sleep 100 >/dev/null 2>&1 & echo $!; exit 4", keep=True)
        assert (await process.ended()).status == 4 << 8
        other = await shell(pool, "exec sleep 100")
        other.stop(1)
        await other.ended()
        return pid

    pid = with_pool(main)
    assert lives(pid)
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("script", "grace", "status"),
    [
        ("echo $$; exec sleep 60", 60, 15),
        ("trap '' TERM; echo $$; while :; do sleep 0.05; done", 0.3, 9),
        ("trap 'exit 4' TERM; echo $$; while :; do sleep 0.05; done", 60, 4 << 8),
        ("echo $$; kill -STOP $$", 60, 15),
    ],
)
def test_stop_escalates(script: str, grace: float, status: int) -> None:
    """TERM first, KILL after the grace; a stopped process is no exception."""

    async def main(pool: SupervisorPool) -> Ended:
        process, _ = await first_line(pool, script)
        process.stop(grace)
        return await process.ended()

    assert with_pool(main).status == status


def test_what_has_ended_is_not_stopped() -> None:
    """A stop that comes before a supervisor has noticed the end of its command is not taken for the reason of it."""

    async def main(pool: SupervisorPool) -> Ended:
        process, pid = await first_line(pool, "echo $$; kill -STOP $$; exit 6")
        supervisor = parent_of(pid)
        os.kill(supervisor, signal.SIGSTOP)
        while field(pid, 3) != "Z":
            os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(0.01)
        process.stop(5)
        os.kill(supervisor, signal.SIGCONT)
        return await process.ended()

    ended = with_pool(main)
    assert (ended.status, ended.stopped) == (6 << 8, False)


def test_a_second_stop_hurries() -> None:
    """A stop without grace kills at once what an earlier one still gives time, and both learn of one end."""

    async def main(pool: SupervisorPool) -> list[Ended]:
        process, _ = await first_line(pool, "trap '' TERM; echo $$; while :; do sleep 0.05; done")
        process.stop(60)
        process.stop(0)
        return list(await asyncio.gather(process.ended(), process.ended()))

    assert {ended.status for ended in with_pool(main)} == {9}


def test_stopping_does_not_take_the_whole_grace() -> None:
    """A command that ends on TERM is not waited for any longer: the grace is longer than a test can take."""

    async def main(pool: SupervisorPool) -> Ended:
        process, _ = await first_line(pool, "echo $$; exec sleep 6000")
        process.stop(6000)
        return await process.ended()

    assert with_pool(main).status == signal.SIGTERM


def test_a_signal_to_what_is_gone_is_nothing() -> None:
    """Signals after the end reach nobody, not even the supervisor's next command."""

    async def main(pool: SupervisorPool) -> Ended:
        process = await shell(pool, "exit 0")
        await process.ended()
        process.signal(9)
        process.stop(0)
        return await (await shell(pool, "sleep 0.1; exit 5")).ended()

    assert with_pool(main).status == 5 << 8


def test_a_hundred_commands_leave_nothing() -> None:
    """No descriptor and no zombie stays, however commands end."""

    async def main(pool: SupervisorPool) -> None:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            processes = [await shell(pool, "exit 1" if index % 2 else "exec sleep 60") for index in range(20)]
            for process in processes:
                process.stop(5)
            await asyncio.gather(*(process.ended() for process in processes))
        pool.close()
        assert len(os.listdir("/proc/self/fd")) == before

    with_pool(main)


def test_a_killed_supervisor_is_told_and_takes_its_command_along() -> None:
    """Nobody knows how the command ended, so nobody says it; what the supervisor kept is killed all the same."""

    async def main(pool: SupervisorPool) -> int:
        process, pid = await first_line(pool, "trap '' TERM; setsid sleep 100 & echo $!; exec sleep 100")
        os.kill(parent_of(parent_of(pid)), signal.SIGKILL)
        with pytest.raises(SupervisorDied):
            await process.ended()
        return pid

    assert not lives(with_pool(main))


def test_a_server_killed_with_something_unread_is_gone_all_the_same(tmp_path: Path) -> None:
    """The command is asked to end as when the server had read all; its supervisor does not fall over the reset."""
    said = tmp_path / "said"
    fork_server = ForkServer.start()
    control = fork_server.new_supervisor(1)
    script = f"trap 'echo asked >{said}; exit' TERM; touch {tmp_path}/ready; while :; do sleep 0.02; done"
    job = Job([b"sh", b"-c", script.encode()], dict(os.environb), None, 10, keep_background=False)
    send_job(control, job, (2, 2, 2), None)
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    control.close()  # STARTED has not been read
    fork_server.close()
    assert said.read_text() == "asked\n"


def test_idle_supervisors_that_were_killed_are_replaced() -> None:
    """A supervisor killed between two commands costs nobody a call."""

    async def main(pool: SupervisorPool) -> int:
        process, kept_by = await first_line(pool, "echo $PPID")
        await process.ended()
        os.kill(kept_by, signal.SIGKILL)
        while lives(kept_by):
            await asyncio.sleep(0.01)
        return (await (await shell(pool, "exit 6")).ended()).status

    assert with_pool(main) == 6 << 8


def test_a_killed_fork_server_is_an_unavailable_service() -> None:
    """Without a fork server nothing new can be started; that is said, not guessed around."""

    async def main(pool: SupervisorPool) -> None:
        pool._fork_server.kill()
        os.waitid(os.P_PID, pool._fork_server.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ServiceUnavailable):
            await shell(pool, "exit 0")

    with_pool(main)


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
    """What is not there is 127, what cannot be executed 126; the supervisor goes on to the next command."""
    path = tmp_path / program
    if content is not None:
        path.write_text(content)
        path.chmod(mode)

    async def main(pool: SupervisorPool) -> int:
        with pytest.raises(error):
            await pool.spawn(
                Job([os.fsencode(path)], dict(os.environb), None, 1, keep_background=False), (0, 1, 2)
            ).ended()
        return (await (await shell(pool, "exit 8")).ended()).status

    assert with_pool(main) == 8 << 8


@pytest.mark.parametrize(
    ("directory", "reason"),
    [
        (b"/no/such", "cannot enter the working directory '/no/such': No such file or directory"),
        (b"/dev/null", "cannot enter the working directory '/dev/null': Not a directory"),
    ],
)
def test_a_directory_that_cannot_be_entered(directory: bytes, reason: str) -> None:
    """The directory is blamed, not the program."""

    async def main(pool: SupervisorPool) -> str:
        with pytest.raises(CannotExecute) as error:
            await pool.spawn(Job([b"true"], dict(os.environb), directory, 1, keep_background=False), (0, 1, 2)).ended()
        return error.value.reason

    assert with_pool(main) == reason


@pytest.mark.parametrize(
    ("program", "directory", "blamed"),
    [
        (b"n" * 5000, None, "cannot execute 'nnn"),
        (b"n" * 100_000, None, "cannot execute 'nnn"),
        (b"true", b"/" + b"n" * 5000, "cannot enter the working directory '/nnn"),
    ],
)
def test_a_name_that_is_too_long_has_an_answer_too(program: bytes, directory: bytes | None, blamed: str) -> None:
    """A name may be as long as a word, and a supervisor's answer does not grow with it."""

    async def main(pool: SupervisorPool) -> str:
        with pytest.raises(CannotExecute) as error:
            await pool.spawn(Job([program], dict(os.environb), directory, 1, keep_background=False), (0, 1, 2)).ended()
        return error.value.reason

    reason = with_pool(main)
    assert reason.startswith(blamed)
    assert reason.endswith("nnn': File name too long")


def test_the_commands_own_path_counts(tmp_path: Path) -> None:
    """The program is looked up in the PATH that the command gets, not in the server's."""
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\nexit 7\n")
    tool.chmod(0o755)

    async def main(pool: SupervisorPool) -> int:
        process = pool.spawn(
            Job([b"tool"], {b"PATH": os.fsencode(tmp_path)}, None, 1, keep_background=False), (0, 1, 2)
        )
        with pytest.raises(NoSuchCommand):
            await pool.spawn(Job([b"tool"], {b"PATH": b"/bin"}, None, 1, keep_background=False), (0, 1, 2)).ended()
        return (await process.ended()).status

    assert with_pool(main) == 7 << 8


def test_a_missing_interpreter_is_not_a_missing_command(tmp_path: Path) -> None:
    """A script found in PATH whose interpreter does not exist is there, and cannot be executed: 126."""
    tool = tmp_path / "tool"
    tool.write_text("#!/no/such/interpreter\n")
    tool.chmod(0o755)

    async def main(pool: SupervisorPool) -> None:
        with pytest.raises(CannotExecute):
            await pool.spawn(
                Job([b"tool"], {b"PATH": os.fsencode(tmp_path)}, None, 1, keep_background=False), (0, 1, 2)
            ).ended()

    with_pool(main)


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


def test_a_stopped_supervisor_holds_up_no_other_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """When its own command is to be stopped the supervisor is killed: the end is unknown, and nothing is left."""
    monkeypatch.setattr(process_module, "STOP_MARGIN", 0.1)

    async def main(pool: SupervisorPool) -> int:
        process, pid = await first_line(pool, "trap '' TERM; echo $$; exec sleep 100")
        supervisor = parent_of(pid)
        os.kill(supervisor, signal.SIGSTOP)
        assert (await (await shell(pool, "exit 4")).ended()).status == 4 << 8
        process.stop(0)
        with pytest.raises(SupervisorDied):
            await process.ended()
        while lives(pid):
            await asyncio.sleep(0.01)
        assert (await (await shell(pool, "exit 5")).ended()).status == 5 << 8
        return supervisor

    assert not lives(with_pool(main))


def test_a_stopped_fork_server_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """When it does not answer in time. What runs goes on to its end, what was to start has an unknown one."""

    async def main(pool: SupervisorPool) -> None:
        readable, writable = os.pipe()
        running = pool.spawn(
            Job([b"sh", b"-c", b"read gate; exit 3"], dict(os.environb), None, 1, False), (readable, 2, 2)
        )
        while not running.has_started:
            await asyncio.sleep(0.001)
        os.kill(pool._fork_server.pid, signal.SIGSTOP)
        monkeypatch.setattr(process_module, "ANSWER_WITHIN", 0.1)
        with pytest.raises(SupervisorDied):
            await (await shell(pool, "exit 4")).ended()
        os.waitid(os.P_PID, pool._fork_server.pid, os.WEXITED | os.WNOWAIT)
        os.write(writable, b"\n")
        assert (await running.ended()).status == 3 << 8
        os.close(readable)
        os.close(writable)

    with_pool(main)


async def output_as(pool: SupervisorPool, script: str, run_as: RunAs) -> str:
    """Return what a shell script prints that runs as described."""
    readable, writable = os.pipe()
    null = os.open(os.devnull, os.O_RDWR)
    with open(readable) as lines:
        process = pool.spawn(
            Job([b"sh", b"-c", script.encode()], dict(os.environb), None, 1, False, run_as), (null, writable, writable)
        )
        os.close(writable)
        os.close(null)
        text = await asyncio.to_thread(lines.read)
    await process.ended()
    return text


@pytest.mark.parametrize(
    ("run_as", "script", "expected"),
    [
        (RunAs(umask=0o027), "umask", "0027\n"),
        (RunAs(nice=5), "nice", f"{min(os.nice(0) + 5, 19)}\n"),
        (RunAs(oom_score_adj=700), "cat /proc/self/oom_score_adj", "700\n"),
        (RunAs(limits=((resource.RLIMIT_NOFILE, 77),)), "ulimit -n; ulimit -Hn", "77\n77\n"),
        (RunAs(limits=((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 512))), "ulimit -c; ulimit -f", "0\n1\n"),
        (RunAs(limits=((resource.RLIMIT_AS, 2**64 - 1),)), "ulimit -v", "unlimited\n"),
    ],
)
def test_a_command_runs_as_described(run_as: RunAs, script: str, expected: str) -> None:
    async def main(pool: SupervisorPool) -> str:
        return await output_as(pool, script, run_as)

    assert with_pool(main) == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which needs root")
@pytest.mark.parametrize("count", [0, 1, 256, 300, 20000])
def test_a_command_has_all_its_groups(count: int) -> None:
    """Also more than a message has room for."""
    groups = tuple(range(100000, 100000 + count))

    async def main(pool: SupervisorPool) -> str:
        return await output_as(pool, "id -u; id -g; grep Groups /proc/self/status", RunAs(54321, 54322, groups))

    uid, gid, *rest = with_pool(main).replace("Groups:", "").split()
    assert (uid, gid, tuple(map(int, rest))) == ("54321", "54322", groups)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which needs root")
@pytest.mark.parametrize(
    "run_as", [RunAs(groups=tuple(range(65537))), RunAs(limits=((99, 1),)), RunAs(uid=2**32 - 2, nice=-1)]
)
def test_what_the_kernel_refuses_is_reported(run_as: RunAs) -> None:
    """More groups than it has room for, a resource that it does not have, a privilege that is gone."""

    async def main(pool: SupervisorPool) -> None:
        with pytest.raises(CannotExecute):
            await pool.spawn(Job([b"true"], dict(os.environb), None, 1, False, run_as), (2, 2, 2)).ended()
        assert (await (await shell(pool, "exit 4")).ended()).status == 4 << 8

    with_pool(main)
