"""The audit log: a line for each call, in either form, that no caller can forge and no secret gets into."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from sidecall.errors import ConfigError
from sidecall.calls.audit import Audit, why_not_writable, shown
from sidecall.transport.credentials import Peer

if TYPE_CHECKING:
    from pathlib import Path


def lines(path: Path, form: str, **fields: object) -> list[str]:
    """Record two calls and return what is in the file."""
    audit = Audit(str(path), form)
    for number in "12":
        audit.record(number, "tool", Peer(7, 8), **fields)
    audit.close()
    return path.read_text().splitlines()


def test_a_line_of_json_for_each_call(tmp_path: Path) -> None:
    """Lines are appended, and the file is its owner's alone."""
    first, second = lines(tmp_path / "log", "json", outcome="exited", value=3)
    assert json.loads(second) == json.loads(second) | {"call": "2", "listener": "tool", "uid": 7, "gid": 8, "value": 3}
    assert json.loads(first)["time"].endswith("Z")
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    assert len(lines(tmp_path / "log", "json")) == 4


def test_a_line_for_people(tmp_path: Path) -> None:
    """Pairs, without what is empty; a value with spaces, or a forged line in it, is quoted."""
    line = lines(tmp_path / "log", "text", reason='a "b"\nuid=0', files=[], parameters={"x": ["1"]})[0]
    time, rest = line.split(" ", 1)
    assert time.startswith("time=2")
    assert rest == 'call=1 listener=tool uid=7 gid=8 reason="a \\"b\\"\\nuid=0" parameters={"x": ["1"]}'


def test_secrets_are_masked() -> None:
    """What is not text is shown as text, what is secret not at all."""
    values = {"a": (b"\xff", b"x"), "token": (b"hunter2",), "none": ()}
    assert shown(values, frozenset({"token"})) == {"a": ["\\xff", "x"], "token": ["***"]}


def test_a_file_that_cannot_be_opened_is_a_configuration_error(tmp_path: Path) -> None:
    """A service that cannot keep its log does not start."""
    with pytest.raises(ConfigError, match=r"cannot open the audit log .*: No such file or directory"):
        Audit(str(tmp_path / "gone" / "log"), "json")


def test_a_fifo_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    """It cannot be opened; one that has a reader can."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="cannot open the audit log"):
        Audit(str(tmp_path / "fifo"), "json")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    assert why_not_writable(str(tmp_path / "fifo")) == ""
    audit = Audit(str(tmp_path / "fifo"), "json")
    audit.record("1", "tool", Peer(0, 0))
    audit.close()
    assert json.loads(os.read(reader, 4096))["call"] == "1"
    os.close(reader)


def test_a_full_disk_loses_the_line_and_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    """The call is not lost with it."""
    audit = Audit("/dev/full", "json")
    audit.record("1", "tool", Peer(0, 0))
    audit.close()
    assert "the audit log cannot be written: No space left on device" in capfd.readouterr().err
