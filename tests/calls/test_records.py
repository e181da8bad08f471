"""Records of calls: claimed once, written whole, lost with their server, kept within limits."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from sidecall.calls import events
from sidecall.calls.call import Owner
from sidecall.calls.outcome import exit_of
from sidecall.calls.records import Records, digest
from sidecall.errors import ConfigError, ServiceBusy
from sidecall.policy.config import RecordRules
from sidecall.protocol import messages as m
from sidecall.protocol.options import Details
from sidecall.transport.credentials import Peer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecall.calls.call import Call

REQUEST = m.Call(b"stitch", (b"--key", b"hidden"), (b"TOKEN=hidden",), b"/work", b"/", (), (b"detach=a",), 0, 0, 0)
KEY = ("x", 7)


class FakeCall(SimpleNamespace):
    """What a record needs of a call."""

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)


def made(call_id: str, uid: int = 7) -> Call:
    """Return a call."""
    fields = {
        "id": call_id,
        "owner": Owner("x", Peer(uid, 8)),
        "request": REQUEST,
        "command": "stitch",
        "parameters": {"key": "***"},
        "directory": "/work",
        "environment_names": lambda: ["TOKEN"],
        "is_detached": True,
    }
    return cast("Call", FakeCall(**fields))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory for records that is not there yet."""
    return tmp_path / "records"


@pytest.fixture
def records(directory: Path) -> Iterator[Records]:
    """Return the records of a server."""
    kept = Records(RecordRules(str(directory), count=3, bytes=1000))
    yield kept
    kept.close()


def end(records: Records, ended: Call, written: bytes = b"", **fields: object) -> None:
    """Have a claimed call start, write to stdout, and end."""
    records(events.STARTED, ended, {})
    record = records.find(ended.owner.key, ended.id)
    assert record is not None
    Path(record.file("stdout")).write_bytes(written)
    records(events.ENDED, ended, {"outcome": "exited", "value": 0, **fields})


def ids(records: Records) -> list[str]:
    """Return the ids of the records of an owner."""
    return [record.id for record in records.of_listener("x")]


def test_a_record_has_the_request_the_events_and_the_outcome(records: Records, directory: Path) -> None:
    """In files of its owner alone, with no secret in them."""
    record = records.claim(made("a"))
    assert not record.is_decided
    own = directory / "x" / "7" / "a"
    request = json.loads((own / "request.json").read_text())
    assert (request["command"], request["parameters"], request["directory"]) == ("stitch", {"key": "***"}, "/work")
    assert (request["environment"], request["uid"]) == (["TOKEN"], 7)
    running = made("b")
    records.claim(running)
    end(records, running, b"out", run=1.5, stopped="operator")
    own = directory / "x" / "7" / "b"
    assert [json.loads(line)["event"] for line in (own / "events").read_text().splitlines()] == ["started", "ended"]
    outcome = json.loads((own / "outcome.json").read_text())
    assert (outcome["outcome"], outcome["value"], outcome["stopped"]) == ("exited", 0, "operator")
    assert sorted(file.name for file in own.iterdir()) == [
        "events", "marks", "outcome.json", "request.json", "stderr", "stdout",
    ]  # fmt: skip
    for file in directory.rglob("*"):
        assert not file.stat().st_mode & 0o077, file
        assert not file.is_file() or b"hidden" not in file.read_bytes(), file


def test_the_end_that_is_read_is_the_one_that_was_recorded(records: Records) -> None:
    """As an EXIT, with its details; a lost one has its reason."""
    ended = made("a")
    records.claim(ended)
    end(records, ended, queued=0.25, run=1.5, user=0.1, system=0.2, max_rss=4096, terminated=2, stopped="timeout")
    record = records.find(KEY, "a")
    assert record is not None
    message = exit_of(record.read("outcome.json"))
    assert (message.ended, message.value) == (m.ENDED_EXITED, 0)
    numbers = (b"queued-us", b"run-us", b"user-us", b"system-us", b"max-rss", b"terminated")
    assert [Details(message.details).number(name) for name in numbers] == [250000, 1500000, 100000, 200000, 4096, 2]
    assert Details(message.details).text(b"stopped") == "timeout"
    lost = exit_of({"outcome": "lost", "reason": "its supervisor\nwas killed"})
    assert (lost.ended, lost.details) == (m.ENDED_LOST, (b"reason=its supervisor\\nwas killed",))


def test_a_record_is_of_one_request(records: Records) -> None:
    """Each field that says what is to be done counts; where a client's volumes are does not."""
    record = records.claim(made("a"))
    assert record.is_of(REQUEST)
    for name, value in (
        ("command", b"x"), ("arguments", (b"--key",)), ("environment", ()), ("directory", b""), ("base", b"/x"),
        ("options", ()),
    ):  # fmt: skip
        assert not record.is_of(m.Call(**{**vars(REQUEST), name: value}))
    assert digest(m.Call(**{**vars(REQUEST), "directory_ids": (b"1:2:/",)})) == digest(REQUEST)


def test_what_was_not_started_leaves_no_record(records: Records, directory: Path) -> None:
    """Its id can be claimed again."""
    refused = made("a")
    records.claim(refused)
    records(events.REFUSED, refused, {"code": 127})
    assert records.find(KEY, "a") is None
    assert not list(directory.glob("x/7/*"))
    records.claim(made("a"))


def test_owners_have_ids_of_their_own(records: Records, directory: Path) -> None:
    """By their uid and their listener, also where that is a path."""
    records.claim(made("a"))
    records.claim(made("a", uid=8))
    other = made("a")
    other.owner = Owner("/run/a%2Fb.sock", Peer(7, 8))
    records.claim(other)
    assert len(list(directory.glob("*/*/a"))) == 3
    records.close()
    again = Records(records.rules)
    assert again.find(("/run/a%2Fb.sock", 7), "a") is not None
    assert again.find(("x", 8), "a") is not None
    records._fd = again._fd


def test_a_server_that_is_killed_loses_what_ran(directory: Path) -> None:
    """At the next start, and never as a success; a claim that was not complete is no record."""
    first = Records(RecordRules(str(directory)))
    ended, running = made("ended"), made("running")
    first.claim(ended)
    end(first, ended, b"12345")
    first.claim(running)
    first(events.STARTED, running, {})
    (directory / "x" / "7" / "begun").mkdir()
    first.close()
    second = Records(RecordRules(str(directory)))
    assert sorted(ids(second)) == ["ended", "running"]
    assert not (directory / "x" / "7" / "begun").exists()
    shown = {record.id: record.describe() for record in second.of_listener("x")}
    assert (shown["ended"]["outcome"], shown["running"]["outcome"]) == ("exited", "lost")
    found = second.find(KEY, "running")
    assert found is not None
    assert found.is_decided
    assert "killed" in found.read("outcome.json")["reason"]
    second.close()


def test_a_directory_has_one_server(records: Records, directory: Path) -> None:
    """Records of a server that runs are not taken for those of one that was killed."""
    assert ids(records) == []
    with pytest.raises(ConfigError, match="another server uses the directory"):
        Records(RecordRules(str(directory)))


def test_a_directory_of_others_is_not_used(tmp_path: Path) -> None:
    """They could put there what they like; and a file is none."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(ConfigError, match="another user can write"):
        Records(RecordRules(str(tmp_path / "open")))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot use the directory"):
        Records(RecordRules(str(tmp_path / "file")))


def test_too_many_records_go_the_oldest_first(records: Records, directory: Path) -> None:
    """Of one owner; what runs stays."""
    records.claim(made("running"))
    records.claim(made("other", uid=8))
    for call_id in "abcde":
        ended = made(call_id)
        records.claim(ended)
        end(records, ended)
    assert sorted(ids(records)) == ["c", "d", "e", "other", "running"]
    assert sorted(path.name for path in (directory / "x" / "7").iterdir()) == ["c", "d", "e", "running"]


def test_too_large_records_go_and_then_nothing_more_is_recorded(records: Records) -> None:
    """What has ended is removed; what runs is not, so no other call starts."""
    for call_id in "ab":
        ended = made(call_id)
        records.claim(ended)
        end(records, ended, b"x" * 600)
    assert ids(records) == ["b"]
    running = records.claim(made("running"))
    Path(running.file("stdout")).write_bytes(b"x" * 1001)
    assert running.measure() == 1001
    with pytest.raises(ServiceBusy, match="more than the 1000 bytes"):
        records.claim(made("c"))
    assert ids(records) == ["running"]
    records.claim(made("c", uid=8))


def test_too_old_records_go(directory: Path) -> None:
    """Also when nothing starts or ends."""
    records = Records(RecordRules(str(directory), age=1000.0))
    ended = made("a")
    records.claim(ended)
    end(records, ended)
    records.expire()
    assert ids(records) == ["a"]
    found = records.find(KEY, "a")
    assert found is not None
    found.ended = time.time() - 1001
    records.expire()
    assert ids(records) == []
    records.close()


def test_a_full_disk_refuses_the_claim(records: Records, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left of it; with room the id is free."""

    def full(_fd: int, _offset: int, _size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        with pytest.raises(ServiceBusy, match="cannot record the call: No space left on device"):
            records.claim(made("a"))
    assert not list(directory.glob("x/7/*"))
    assert records.find(KEY, "a") is None
    records.claim(made("a"))


def test_an_end_that_cannot_be_recorded_is_logged(
    records: Records, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is told those who wait, and is lost at the next start: never silently."""
    told: list[str] = []
    ended = made("a")
    record = records.claim(ended)
    record.watchers[lambda: told.append("told")] = None

    def full(_from: str, _to: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", full)
        end(records, ended)
    assert told == ["told", "told"]
    assert "call a: cannot record its end: No space left on device" in capfd.readouterr().err


def test_output_by_time(records: Records) -> None:
    """What was written after a time is never left out."""
    running = made("a")
    record = records.claim(running)
    stdout = Path(record.file("stdout"))
    stdout.write_bytes(b"12345")
    record.measure()
    between = int(time.time() * 1000)
    assert record.offsets(0) == (0, 0)
    assert record.offsets(between) == (5, 0)
    stdout.write_bytes(b"1234567")
    assert record.offsets(between + 1) == (5, 0)
    record.measure()
    assert record.offsets(between + 3_600_000) == (7, 0)
