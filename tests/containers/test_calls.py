"""Calls between two real containers without a network: what a call promises holds across the namespaces."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from containers.pod import Container, Pod

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

both_modes = pytest.mark.parametrize("mode", ["", "--relay"], ids=["passed", "relayed"])

# Every signal whose default is to end the process, and the first and last real-time ones. (signal(7))
DEADLY = {
    "HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "BUS": 7, "FPE": 8, "KILL": 9, "USR1": 10,
    "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15, "STKFLT": 16, "XCPU": 24, "XFSZ": 25,
    "VTALRM": 26, "PROF": 27, "IO": 29, "PWR": 30, "SYS": 31, "RTMIN": 34, "RTMAX": 64,
}  # fmt: skip


def experiment(caller: Container, what: str, name: str, mode: str, *arguments: str) -> Any:
    """Run one experiment of programs/caller.py inside the container and return its findings (JSON)."""
    done = caller.exec("python3", "/programs/caller.py", what, name, mode, *arguments, seconds=150)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@both_modes
def test_every_exit_code_arrives(caller: Container, mode: str) -> None:
    """A command's exit code 0…255 is the caller's."""
    assert experiment(caller, "codes", "tool", mode) == list(range(256))


@both_modes
def test_death_by_signal_is_mirrored(caller: Container, mode: str) -> None:
    """Where a command dies of a signal the caller dies of the same one, as if the command had been local."""
    numbers = [str(number) for number in DEADLY.values()]
    ends = experiment(caller, "signals", "tool", mode, *numbers)
    assert ends == {str(number): [-number, -number] for number in DEADLY.values()}


@both_modes
def test_one_gibibyte_arrives_unchanged(caller: Container, mode: str) -> None:
    """A stream has no size limit and loses nothing."""
    found = experiment(caller, "through_cat", "tool", mode, "1024")
    assert found == {"returncode": 0, "bytes": 1_073_741_824, "equal": True}


@both_modes
def test_what_is_written_after_stdin_ended_arrives(caller: Container, mode: str) -> None:
    """1000 runs, 500 in each mode, of a command that writes once its stdin has ended: not a byte is missing."""
    script = "cat >/dev/null; seq 2000; echo last >&2"
    expected = hashlib.sha256("".join(f"{line}\n" for line in range(1, 2001)).encode()).hexdigest()
    assert experiment(caller, "late_writers", "tool", mode, "500", script) == [[500, 0, expected, "last\n"]]


@both_modes
def test_output_a_second_after_stdin_ended_arrives(caller: Container, mode: str) -> None:
    """The original lost what came more than half a second after the caller's stdin ended."""
    expected = hashlib.sha256(b"late\n").hexdigest()
    found = experiment(caller, "late_writers", "tool", mode, "1", "cat >/dev/null; sleep 1; echo late")
    assert found == [[1, 0, expected, ""]]


@both_modes
def test_killed_server_container_is_125(pod: Pod, mode: str) -> None:
    """A caller whose server vanishes in mid-call cannot know the result: 125 and a line that says so."""
    service, caller = pod.service("tool"), pod.caller()
    call = caller.popen("sh", "-c", f"sidecall exec {mode} tool sh -c 'echo running; exec sleep 600'; echo status $?")
    assert call.stdout is not None
    assert call.stdout.readline() == "running\n"
    service.kill()
    output, errors = call.communicate(timeout=20)
    assert output == "status 125\n"
    assert errors.startswith("sidecall: ")


@both_modes
@pytest.mark.parametrize("trap", ["", 'trap "" TERM; '], ids=["ends at TERM", "ignores TERM"])
def test_killed_caller_container_takes_its_command_along(pod: Pod, mode: str, trap: str) -> None:
    """A caller that vanishes is cancelled: its command is gone within the grace, and the service goes on."""
    service, caller = pod.service("tool", "--grace", "1"), pod.caller()
    command = f"{trap}echo $$; exec sleep 600"
    with caller.popen("sidecall", "exec", *([mode] if mode else []), "tool", "sh", "-c", command) as call:
        assert call.stdout is not None
        pid = call.stdout.readline().strip()
        assert service.exec("python3", "/programs/gone.py", pid, "0").returncode == 1
        caller.kill()
        assert service.exec("python3", "/programs/gone.py", pid, "5").returncode == 0
        call.communicate(timeout=20)
    assert service.exec("sidecall", "exec", "tool", "echo", "still here").stdout == "still here\n"


def most_at_once(log: str) -> int:
    """Return how many were between their +N and -N line at the same time."""
    running = most = 0
    for line in log.split():
        running += 1 if line[0] == "+" else -1
        most = max(most, running)
    return most


def test_200_callers_at_four_slots_are_all_served(pod: Pod) -> None:
    """200 callers at once: each is served exactly once, at most four at a time."""
    pod.service("tool", "--slots", "4", "--queue", "200")
    found = experiment(pod.caller(), "crowd", "tool", "", "200")
    assert found == [[0, f"served {number}\n"] for number in range(200)]
    log = (pod.shared / "log").read_text()
    assert sorted(line for line in log.split() if line[0] == "+") == sorted(f"+{n}" for n in range(200))
    assert most_at_once(log) in {1, 2, 3, 4}


def test_waiting_callers_are_served_in_order_of_arrival(pod: Pod) -> None:
    """Callers are told that they wait, and start in the order in which they came."""
    pod.service("tool", "--slots", "1", "--queue", "20")
    found = experiment(pod.caller(), "queue", "tool", "", "20")
    assert found["holder"] == 0
    assert found["statuses"] == [0] * 20
    assert all(line.startswith("sidecall: ") for line in found["told"])
    assert (pod.shared / "order").read_text().split() == [str(number) for number in range(20)]
