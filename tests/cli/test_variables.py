"""`--env` and `--env-file` of the Python client. That both clients agree: test_from_docker_exec.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecall.cli.variables import variables
from sidecall.errors import UsageError
from sidecall.protocol.messages import CALL_LIMIT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of a file for variables."""
    return tmp_path / "env"


def test_names_take_the_value_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not set is left out; an empty value is one."""
    monkeypatch.setenv("SET", "1=2")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("UNSET", raising=False)
    assert variables((), ("SET", "UNSET", "EMPTY", "A=b", "C=")) == (b"SET=1=2", b"EMPTY=", b"A=b", b"C=")


def test_a_file_comes_before_what_is_given_one_by_one(file: Path) -> None:
    """With a byte order mark, comments, indented and empty lines, and ends of lines of another system."""
    file.write_bytes(b"\xef\xbb\xbfA=1\r\n# no\n\n  B= 2 \n\xff=\xfe")
    assert variables((str(file),), ("A=3",)) == (b"A=1", b"B= 2 ", b"\xff=\xfe", b"A=3")


@pytest.mark.parametrize("content", [b"A=1\n=2", b"A=1\nB C=2", b"A=1\nB=\0", b"#\nB C"])
def test_a_wrong_line_is_named(file: Path, content: bytes) -> None:
    """By its number and the file."""
    file.write_bytes(content)
    with pytest.raises(UsageError, match="invalid line 2 of --env-file .*/env: expected NAME=VALUE"):
        variables((str(file),), ())


@pytest.mark.parametrize("given", ["", "=", "=x"])
def test_a_variable_without_a_name(given: str) -> None:
    """Nothing can be passed on by it."""
    with pytest.raises(UsageError, match="invalid --env .* expected NAME or NAME=VALUE"):
        variables((), (given,))


def test_a_file_that_cannot_be_used(file: Path) -> None:
    """It is missing, a directory, or longer than any call."""
    with pytest.raises(UsageError, match="No such file or directory"):
        variables((str(file),), ())
    with pytest.raises(UsageError, match="Is a directory"):
        variables((str(file.parent),), ())
    file.write_bytes(b"#" * (CALL_LIMIT + 1))
    with pytest.raises(UsageError, match=f"too long: the limit is {CALL_LIMIT} bytes"):
        variables((str(file),), ())
