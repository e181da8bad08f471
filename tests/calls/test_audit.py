"""The audit log: a line for each call, in either form, that no client can forge and no secret gets into."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from sidecall.calls import events
from sidecall.calls.audit import Audit
from sidecall.calls.call import Owner
from sidecall.errors import ConfigError
from sidecall.transport.credentials import Peer

if TYPE_CHECKING:
    from pathlib import Path

    from sidecall.calls.call import Call


def call(call_id: str = "a-1", **parameters: list[str]) -> Call:
    """Return what the audit log reads of a call."""
    owner = Owner("tool", Peer(7, 8))
    names: list[str] = []
    fake = SimpleNamespace(id=call_id, owner=owner, command="c", environment_names=lambda: names, parameters=parameters)
    return cast("Call", fake)


def lines(path: Path, form: str, **fields: object) -> list[str]:
    """Record the end of two calls and return what is in the file."""
    audit = Audit(str(path), form)
    for call_id in ("a-1", "a-2"):
        audit(events.RECEIVED, call(call_id), {})
        audit(events.ENDED, call(call_id, x=["1"]), fields)
    audit.close()
    return path.read_text().splitlines()


def test_a_line_of_json_for_each_call(tmp_path: Path) -> None:
    """Lines are appended, and only the file's owner can read them."""
    first, second = lines(tmp_path / "log", "json", outcome="exited", value=3)
    fields = {"call": "a-2", "listener": "tool", "uid": 7, "gid": 8, "outcome": "exited", "value": 3, "command": "c"}
    assert json.loads(second) == json.loads(second) | fields
    assert json.loads(first)["time"].endswith("Z")
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    assert len(lines(tmp_path / "log", "json")) == 4


def test_a_line_for_people(tmp_path: Path) -> None:
    """Pairs, without what is empty; a value with spaces, or a forged line in it, is quoted."""
    line = lines(tmp_path / "log", "text", outcome="lost", reason='a "b"\nuid=0', files=[])[0]
    time, rest = line.split(" ", 1)
    assert time.startswith("time=2")
    assert rest == (
        'call=a-1 listener=tool uid=7 gid=8 outcome=lost reason="a \\"b\\"\\nuid=0" command=c parameters={"x": ["1"]}'
    )


def test_a_call_that_did_not_end_by_itself_has_its_event_as_outcome(tmp_path: Path) -> None:
    """Refused and lost calls are recorded under these names."""
    audit = Audit(str(tmp_path / "log"), "json")
    for event in (events.REFUSED, events.LOST):
        audit(event, call(), {"reason": "why"})
    audit.close()
    recorded = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(line["outcome"], line["reason"]) for line in recorded] == [("refused", "why"), ("lost", "why")]


def test_a_file_that_cannot_be_opened_is_a_configuration_error(tmp_path: Path) -> None:
    """A server that cannot open its audit log does not start."""
    with pytest.raises(ConfigError, match=r"cannot open audit log .*: No such file or directory"):
        Audit(str(tmp_path / "gone" / "log"), "json")


def test_a_fifo_without_a_reader_is_not_waited_for(tmp_path: Path) -> None:
    """It cannot be opened; one that has a reader can."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="cannot open audit log"):
        Audit(str(tmp_path / "fifo"), "json")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    audit = Audit(str(tmp_path / "fifo"), "json")
    audit(events.ENDED, call(), {})
    audit.close()
    assert json.loads(os.read(reader, 4096))["call"] == "a-1"
    os.close(reader)


def test_a_full_disk_loses_the_line_and_is_logged(capfd: pytest.CaptureFixture[str]) -> None:
    """The call is not lost with it."""
    audit = Audit("/dev/full", "json")
    audit(events.ENDED, call(), {})
    audit.close()
    assert "cannot write audit log: No space left on device" in capfd.readouterr().err
