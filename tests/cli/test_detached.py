"""Calls that outlive their client: `exec -d`, `wait`, `attach`, `logs`, `status --all`, `rm`, at most once by an id."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import sidecall
from conftest import CLIENT, PYTHON_COMMAND, SIDECALL, children_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Server

AS_USER = """
import importlib, os, sys
from sidecall.cli import main
from sidecall.client import attempt, call, detached, signals, status, streams  # while they can be read
uid, words = int(sys.argv[1]), sys.argv[2:]
importlib.import_module(f"sidecall.cli.{words[0]}")
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
sys.exit(main(words))
"""
"""Runs the Python client as another user, who need not be allowed to read its files."""

CLIENTS = sorted({CLIENT, PYTHON_COMMAND})
both_clients = pytest.mark.parametrize("client", CLIENTS)


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """Return the directory of the records."""
    return tmp_path / "records"


@pytest.fixture
def recording(serve: Callable[..., Server], records: Path) -> Server:
    """Return a service called `tool` that runs any command, and records calls."""
    return serve("-v", "--allow-any", "tool", "--grace", "0.5", "--drain", "0.1", "--records", str(records))


def run(client: str, *words: str) -> tuple[int, str, str]:
    """Run a client; return how it ended and what it printed."""
    done = subprocess.run([client, *words], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout, done.stderr


def detach(client: str, *words: str) -> str:
    """Start a detached call of `tool`; return its id."""
    code, out, err = run(client, "exec", "-d", *words)
    assert (code, err) == (0, "")
    return out.strip()


def attach(call_id: str, line: str) -> subprocess.Popen[bytes]:
    """Attach to a call of `tool`; return the client, which has printed the first line of the call's output."""
    attached = subprocess.Popen([SIDECALL, "attach", "tool", call_id], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert attached.stdout is not None
    assert attached.stdout.readline().decode().strip() == line
    return attached


def wait_for(path: Path) -> str:
    """Wait until a file has a line, and return it."""
    while not path.exists() or not path.read_text().endswith("\n"):
        time.sleep(0.002)
    return path.read_text().strip()


def wait_for_end(pid: int) -> None:
    """Wait until a process is gone."""
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.002)


@both_clients
def test_a_call_goes_on_without_its_client(recording: Server, records: Path, client: str, tmp_path: Path) -> None:
    """Its id is printed once it has started; its end and its output are there for whoever asks, as often as it asks."""
    os.mkfifo(tmp_path / "go")
    script = 'echo started; read line <"$0"; cat; echo "$line"; echo err >&2; exit 3'
    call_id = detach(client, "tool", "sh", "-c", script, str(tmp_path / "go"))
    output = records / "tool" / str(os.geteuid()) / call_id / "stdout"
    assert wait_for(output) == "started"
    (running,) = json.loads(run(SIDECALL, "status", "--json", "tool")[1])
    assert (running["call"], running["state"]) == (call_id, "running")
    waiting = subprocess.Popen([SIDECALL, "wait", "tool", call_id])
    attached = subprocess.Popen([SIDECALL, "attach", "tool", call_id], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    following = subprocess.Popen(
        [SIDECALL, "logs", "-f", "tool", call_id], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert run(SIDECALL, "logs", "tool", call_id) == (0, "started\n", "")
    (tmp_path / "go").write_text("go\n")
    assert waiting.wait(60) == 3
    assert (attached.communicate(timeout=60), attached.returncode) == ((b"started\ngo\n", b"err\n"), 3)
    assert (following.communicate(timeout=60), following.returncode) == ((b"started\ngo\n", b"err\n"), 0)
    for _ in range(2):
        assert run(SIDECALL, "wait", "tool", call_id) == (3, "", "")
        assert run(SIDECALL, "attach", "tool", call_id) == (3, "started\ngo\n", "err\n")
        assert run(SIDECALL, "logs", "tool", call_id) == (0, "started\ngo\n", "err\n")
    assert run(SIDECALL, "logs", "--stderr", "tool", call_id) == (0, "", "err\n")
    assert run(SIDECALL, "logs", "--stdout", "--since", "3600", "tool", call_id) == (0, "started\ngo\n", "")
    (ended,) = json.loads(run(SIDECALL, "status", "--all", "--json", "tool")[1])
    assert (ended["call"], ended["outcome"], ended["value"], ended["command"]) == (call_id, "exited", 3, "sh")
    assert "exited 3" in run(SIDECALL, "status", "-a", "tool")[1]
    assert run(SIDECALL, "status", "--json", "tool")[1] == "[]\n"
    assert run(SIDECALL, "rm", "tool", call_id) == (0, "", "")
    for words in (("wait",), ("attach",), ("logs",), ("rm",)):
        code, _, err = run(SIDECALL, *words, "tool", call_id)
        assert (code, err.splitlines()[0]) == (64, f"sidecall: there is no record of a call '{call_id}'")
    assert recording.process.poll() is None
    assert not output.exists()


@both_clients
def test_all_output_arrives(recording: Server, client: str) -> None:
    """More than what is in flight, of both streams, while it is written and afterwards."""
    assert recording.path.exists()
    call_id = detach(client, "tool", "sh", "-c", "seq 200000; seq 200000 >&2; exit 9")
    expected = "".join(f"{n}\n" for n in range(1, 200001))
    for _ in range(2):
        assert run(SIDECALL, "attach", "tool", call_id) == (9, expected, expected)
    with subprocess.Popen([SIDECALL, "logs", "tool", call_id], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as logs:
        assert logs.stdout is not None
        assert logs.stdout.readline() == b"1\n"
        logs.stdout.close()
        logs.communicate(timeout=60)
        assert logs.returncode in {0, -signal.SIGPIPE}


@both_clients
@pytest.mark.parametrize("kills_group", [False, True])
def test_a_call_survives_the_kill_of_its_client(
    recording: Server, client: str, tmp_path: Path, *, kills_group: bool
) -> None:
    """Killed with all of its process group, where the call had been submitted by a pipeline; so does who attaches."""
    assert recording.path.exists()
    os.mkfifo(tmp_path / "go")
    pid_file = tmp_path / "pid"
    command = ["sh", "-c", f"echo $$ >{pid_file}; read line <{tmp_path}/go; exit 4"]
    submit = [client, "exec", "-d", "--id", "job", "tool", *command]
    pipeline = ["sh", "-c", '"$@" && exec "$0" attach tool job', SIDECALL, *submit]
    caller = subprocess.Popen(pipeline, start_new_session=True, stdout=subprocess.DEVNULL)
    pid = int(wait_for(pid_file))
    while Path(f"/proc/{caller.pid}/cmdline").read_bytes().split(b"\0")[0] == b"sh":
        time.sleep(0.002)  # until it attaches
    os.killpg(caller.pid, signal.SIGKILL) if kills_group else caller.kill()
    assert caller.wait(30) == -signal.SIGKILL
    assert Path(f"/proc/{pid}").exists()
    assert detach(client, "--id", "job", "tool", *command) == "job"
    (tmp_path / "go").write_text("\n")
    assert run(SIDECALL, "wait", "tool", "job")[0] == 4
    assert detach(client, "--id", "job", "tool", *command) == "job"


@both_clients
def test_ctrl_c_detaches_again(recording: Server, client: str, tmp_path: Path) -> None:
    """The client that attaches ends of it, and prints how to cancel the call, which goes on until then."""
    assert recording.path.exists()
    call_id = detach(client, "tool", "sh", "-c", f"echo $$ >{tmp_path}/pid; echo ready; exec sleep 60")
    attached = attach(call_id, "ready")
    attached.send_signal(signal.SIGINT)
    _, err = attached.communicate(timeout=60)
    assert attached.returncode == -signal.SIGINT
    assert err.decode() == f"sidecall: the call goes on; to cancel it, use `sidecall kill tool {call_id}`\n"
    pid = int(wait_for(tmp_path / "pid"))
    assert Path(f"/proc/{pid}").exists()
    assert run(SIDECALL, "rm", "tool", call_id)[0] == 64
    assert run(SIDECALL, "kill", "tool", call_id)[0] == 0
    assert run(SIDECALL, "wait", "tool", call_id)[0] == -signal.SIGTERM
    wait_for_end(pid)
    (ended,) = json.loads(run(SIDECALL, "status", "--all", "--json", "tool")[1])
    assert (ended["outcome"], ended["value"], ended["stopped"]) == ("signaled", 15, "operator")


@both_clients
def test_an_id_is_of_one_request(recording: Server, client: str) -> None:
    """The same id again with another request is refused, as is an invalid one; nothing is started by that."""
    assert recording.path.exists()
    assert detach(client, "--id", "job", "tool", "sh", "-c", "exit 5") == "job"
    for words, reason, hint in (
        (("--id", "job", "tool", "true"), "the id 'job' is that of a call with another request", "use another id, or"),
        (("--id", "../x", "tool", "true"), "invalid call id '../x'", "use up to 100 letters"),
    ):
        code, out, err = run(client, "exec", "-d", *words)
        assert (code, out) == (64, "")
        assert err.startswith(f"sidecall: {reason}\nhint: {hint}")
    code, _, err = run(client, "exec", "--id", "job", "tool", "true")
    assert (code, err.splitlines()[0]) == (64, "sidecall: --id goes with -d")
    code, _, err = run(client, "exec", "-td", "tool", "true")
    assert (code, err.splitlines()[0]) == (64, "sidecall: -t does not go with -d")
    assert run(SIDECALL, "wait", "tool", "job")[0] == 5
    assert len(json.loads(run(SIDECALL, "status", "--all", "--json", "tool")[1])) == 1
    assert run(SIDECALL, "rm", "tool", "job")[0] == 0
    assert detach(client, "--id", "job", "tool", "true") == "job"
    assert run(SIDECALL, "wait", "tool", "job")[0] == 0


@both_clients
def test_what_cannot_be_started_is_refused(recording: Server, client: str) -> None:
    """As without -d, and it leaves no record: its id can be used again."""
    assert recording.path.exists()
    code, out, err = run(client, "exec", "-d", "--id", "job", "tool", "no-such-command")
    assert (code, out) == (127, "")
    assert err.startswith("sidecall: no such command: 'no-such-command'\n")
    assert run(SIDECALL, "status", "--all", "--json", "tool")[1] == "[]\n"
    assert detach(client, "--id", "job", "tool", "true") == "job"


@both_clients
def test_without_records_nothing_is_detached(tool: Server, client: str) -> None:
    """The hint names what is missing."""
    assert tool.path.exists()
    code, out, err = run(client, "exec", "-d", "tool", "true")
    assert (code, out) == (64, "")
    assert err.startswith("sidecall: this service records no calls, so none can be detached\nhint: name a directory")


@both_clients
def test_the_outcome_is_that_it_goes_on(recording: Server, client: str) -> None:
    """For who reads `--outcome-fd`, neither a success nor a failure."""
    assert recording.path.exists()
    code, out, err = run(client, "exec", "-d", "--id", "job", "--outcome-fd", "2", "tool", "false")
    assert (code, out, json.loads(err)) == (0, "job\n", {"outcome": "detached", "call": "job"})


@both_clients
def test_jobs_that_are_submitted_again_run_once(recording: Server, client: str, tmp_path: Path) -> None:
    """The client is killed at a random moment of each submission, before or after its job started; all come again."""
    assert recording.path.exists()
    jobs = [f"job-{n}" for n in range(20 if client == CLIENT else 5)]
    ran = tmp_path / "ran"

    def words(job: str) -> list[str]:
        return [client, "exec", "-d", "--id", job, "tool", "sh", "-c", f"echo {job} >>{ran}; sleep 0.05; exit 7"]

    for job in jobs:
        caller = subprocess.Popen(words(job), stdout=subprocess.DEVNULL)
        time.sleep(random.uniform(0, 0.01 if client == CLIENT else 0.15))
        caller.kill()
        caller.wait()
    for job in jobs:
        assert subprocess.run(words(job), check=False, stdout=subprocess.DEVNULL).returncode == 0
    for job in jobs:
        assert sidecall.wait("tool", job).returncode == 7
    assert sorted(ran.read_text().split()) == sorted(jobs)


def test_submissions_at_the_same_time_start_one(serve: Callable[..., Server], records: Path, tmp_path: Path) -> None:
    """Also while they wait for a slot: the first one that gets one starts the command, the others join it."""
    server = serve("-v", "--allow-any", "tool", "--slots", "1", "--records", str(records))
    os.mkfifo(tmp_path / "go")
    detach(CLIENT, "--id", "first", "tool", "sh", "-c", f"read line <{tmp_path}/go")
    words = [CLIENT, "exec", "-q", "-d", "--id", "job", "tool", "sh", "-c", f"echo ran >>{tmp_path}/ran; exit 6"]
    callers = [subprocess.Popen(words, stdout=subprocess.PIPE) for _ in range(5)]
    server.await_log(" queued", 5)
    (tmp_path / "go").write_text("\n")
    assert {caller.communicate(timeout=60)[0] for caller in callers} == {b"job\n"}
    assert {caller.returncode for caller in callers} == {0}
    assert run(SIDECALL, "wait", "tool", "job")[0] == 6
    assert (tmp_path / "ran").read_text() == "ran\n"


def test_a_client_that_leaves_the_queue_starts_nothing(
    serve: Callable[..., Server], records: Path, tmp_path: Path
) -> None:
    """Until its command starts, a call is its client's."""
    server = serve("-v", "--allow-any", "tool", "--slots", "1", "--records", str(records))
    os.mkfifo(tmp_path / "go")
    detach(CLIENT, "tool", "sh", "-c", f"read line <{tmp_path}/go")
    waiting = subprocess.Popen([CLIENT, "exec", "-q", "-d", "--id", "job", "tool", "touch", str(tmp_path / "ran")])
    server.await_log(" queued")
    waiting.kill()
    waiting.wait()
    server.await_log(" refused")
    (tmp_path / "go").write_text("\n")
    assert run(CLIENT, "exec", "tool", "true")[0] == 0
    assert not (tmp_path / "ran").exists()
    assert run(SIDECALL, "wait", "tool", "job")[0] == 64


def test_the_death_of_the_server_is_recorded_as_lost(
    serve: Callable[..., Server], recording: Server, records: Path, tmp_path: Path
) -> None:
    """Nothing of the call survives it; the next server reports it as lost, with its output, and never as a success."""
    call_id = detach(CLIENT, "--id", "job", "tool", "sh", "-c", f"echo $$ >{tmp_path}/pid; echo so far; exec sleep 60")
    ended = detach(CLIENT, "tool", "sh", "-c", "exit 2")
    assert run(SIDECALL, "wait", "tool", ended)[0] == 2
    pid = int(wait_for(tmp_path / "pid"))
    attached = attach(call_id, "so far")
    helpers = children_of(recording.process.pid)
    recording.process.kill()
    recording.process.wait()
    for each in (pid, *helpers):
        wait_for_end(each)
    assert b"the connection to the server was lost" in attached.communicate(timeout=60)[1]
    assert attached.returncode == 125
    serve("--allow-any", "tool", "--records", str(records))
    code, _, err = run(SIDECALL, "wait", "tool", call_id)
    assert (code, err.splitlines()[0]) == (
        125,
        "sidecall: the call is lost: the server was killed before the call ended",
    )
    code, out, _ = run(SIDECALL, "attach", "tool", call_id)
    assert (code, out) == (125, "so far\n")
    assert run(SIDECALL, "logs", "tool", call_id) == (0, "so far\n", "")
    assert run(SIDECALL, "wait", "tool", ended)[0] == 2
    shown = {row["call"]: row["outcome"] for row in json.loads(run(SIDECALL, "status", "--all", "--json", "tool")[1])}
    assert shown == {call_id: "lost", ended: "exited"}
    words = ("tool", "sh", "-c", f"echo $$ >{tmp_path}/pid; echo so far; exec sleep 60")
    assert detach(CLIENT, "--id", "job", *words) == "job"
    assert run(SIDECALL, "wait", "tool", "job")[0] == 125


def test_a_shutdown_ends_and_records_calls(recording: Server, serve: Callable[..., Server], records: Path) -> None:
    """Who waits is told; the record says who stopped the call."""
    call_id = detach(CLIENT, "tool", "sh", "-c", "echo ready; exec sleep 60")
    attached = attach(call_id, "ready")
    recording.stop()
    attached.communicate(timeout=60)
    assert attached.returncode == -signal.SIGTERM
    serve("--allow-any", "tool", "--records", str(records))
    assert run(SIDECALL, "wait", "tool", call_id)[0] == -signal.SIGTERM
    (row,) = json.loads(run(SIDECALL, "status", "--all", "--json", "tool")[1])
    assert (row["outcome"], row["stopped"]) == ("signaled", "shutdown")


def test_output_over_its_limit_ends_the_call(serve: Callable[..., Server], records: Path, tmp_path: Path) -> None:
    """With the cause `limit`; a call within it is left alone."""
    (tmp_path / "x.toml").write_text(
        f'[service]\nname = "x"\n[records]\ndirectory = "{records}"\nbytes-per-call = 1000\n'
        '[commands.much]\nargv = ["sh", "-c", "seq 1000; exec sleep 60"]\n[commands.little]\nargv = ["seq", "10"]\n'
    )
    serve("--config", str(tmp_path / "x.toml"))
    little, much = detach(CLIENT, "x", "little"), detach(CLIENT, "x", "much")
    assert run(SIDECALL, "wait", "x", little)[0] == 0
    assert run(SIDECALL, "wait", "x", much)[0] == -signal.SIGTERM
    shown = {row["call"]: row.get("stopped") for row in json.loads(run(SIDECALL, "status", "-a", "--json", "x")[1])}
    assert shown == {little: None, much: "limit"}


def test_secrets_are_masked_and_attached_calls_recorded(
    serve: Callable[..., Server], records: Path, tmp_path: Path
) -> None:
    """What was asked for is shown without them, of calls that are not detached as well where that is configured."""
    (tmp_path / "x.toml").write_text(
        f'[service]\nname = "x"\n[records]\ndirectory = "{records}"\nattached = true\n'
        '[commands.c]\nargv = ["sh", "-c", "exit 3", "{key}", "{n}"]\n'
        "[commands.c.parameters]\nkey = { secret = true }\nn = {}\n"
    )
    serve("--config", str(tmp_path / "x.toml"))
    words = ("x", "c", "--key", "hidden-word", "--n", "5")
    call_id = detach(CLIENT, *words)
    assert run(SIDECALL, "wait", "x", call_id)[0] == 3
    assert run(CLIENT, "exec", *words)[0] == 3
    assert run(CLIENT, "exec", "x", "c", "--n", "5")[0] == 64
    rows = json.loads(run(SIDECALL, "status", "-a", "--json", "x")[1])
    assert [(row["outcome"], row["value"], row["parameters"]["n"]) for row in rows] == [("exited", 3, ["5"])] * 2
    assert "--n=5" in run(SIDECALL, "status", "-a", "x")[1]
    (attached,) = [row["call"] for row in rows if row["call"] != call_id]
    assert run(SIDECALL, "attach", "x", attached) == (3, "", "")
    for file in records.rglob("*"):
        assert file.is_dir() or "hidden-word" not in file.read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")
def test_users_do_not_see_each_other(
    serve: Callable[..., Server], directory: Path, records: Path, tmp_path: Path
) -> None:
    """Each has ids of its own; another one's call is neither shown nor read, cancelled or removed; root sees all."""
    directory.chmod(0o755)
    (tmp_path / "x.toml").write_text(
        f'[service]\nname = "x"\ncallers = [0, 4001, 4002]\n[records]\ndirectory = "{records}"\n'
        '[commands.c]\nargv = ["sleep", "60"]\n[commands.true]\nargv = ["true"]\n'
    )
    serve("--config", str(tmp_path / "x.toml"))

    def run_as(uid: int, *words: str) -> tuple[int, str, str]:
        return run(sys.executable, "-c", AS_USER, str(uid), *words)

    assert run_as(4001, "exec", "-d", "--id", "job", "x", "c") == (0, "job\n", "")
    for words in (("kill",), ("rm",), ("logs",), ("wait",), ("attach",)):
        assert run_as(4002, *words, "x", "job")[0] == 64, words
    assert run_as(4002, "status", "--all", "--json", "x")[1] == "[]\n"
    assert run_as(4002, "exec", "-d", "--id", "job", "x", "true") == (0, "job\n", "")
    assert run_as(4002, "wait", "x", "job")[0] == 0
    rows = json.loads(run(SIDECALL, "status", "--all", "--json", "x")[1])
    assert sorted((row["call"], row["uid"], row["state"]) for row in rows) == [
        ("job", 4001, "running"),
        ("job", 4002, "ended"),
    ]
    code, _, err = run(SIDECALL, "wait", "x", "job")
    assert (code, err.splitlines()[0]) == (64, "sidecall: several users have a call 'job': 4001, 4002")
    assert run(SIDECALL, "exec", "-d", "--id", "job", "x", "true")[0] == 0
    assert run(SIDECALL, "wait", "x", "job")[0] == 0
    assert run_as(4001, "kill", "x", "job")[0] == 0
    assert run_as(4001, "wait", "x", "job")[0] == -signal.SIGTERM


def test_many_records_can_be_listed(recording: Server, serve: Callable[..., Server], records: Path) -> None:
    """A thousand of an earlier run, by a server that has just started."""
    recording.stop()
    for n in range(1000):
        own = records / "tool" / str(os.geteuid()) / f"job-{n}"
        own.mkdir(parents=True)
        (own / "request.json").write_text('{"command": "true", "parameters": {"arguments": ["x"]}}')
        (own / "outcome.json").write_text('{"outcome": "exited", "value": 0}')
    serve("--allow-any", "tool", "--records", str(records))
    rows = json.loads(run(SIDECALL, "status", "--all", "--json", "tool")[1])
    assert {row["call"] for row in rows} == {f"job-{n}" for n in range(1000)}
    assert len(run(SIDECALL, "status", "--all", "tool")[1].splitlines()) == 1001


def test_outputs_are_created_without_the_client(serve: Callable[..., Server], records: Path, tmp_path: Path) -> None:
    """An atomic output of a detached call appears although its client has gone."""
    (tmp_path / "volume").mkdir()
    (tmp_path / "x.toml").write_text(
        f'[service]\nname = "x"\n[records]\ndirectory = "{records}"\n'
        f'[volumes.v]\npath = "{tmp_path}/volume"\naccess = "write"\n'
        '[commands.c]\nargv = ["sh", "-c", "echo whole >$0", "{to}"]\n'
        '[commands.c.parameters]\nto = { type = "path", access = "write", atomic = true }\n'
    )
    serve("--config", str(tmp_path / "x.toml"))
    call_id = detach(CLIENT, "x", "c", "--to", str(tmp_path / "volume" / "file"))
    assert run(SIDECALL, "wait", "x", call_id)[0] == 0
    assert (tmp_path / "volume" / "file").read_text() == "whole\n"
