"""`sidecall describe`: a description as text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecall.cli.describe import render
from sidecall.errors import ProtocolError

COMMAND: dict[str, Any] = {
    "name": "stitch",
    "summary": "Stitch",
    "parameters": [],
    "timeout": None,
    "environment": [],
    "working_directory": False,
    "stdin": True,
}


def described(*commands: dict[str, Any], **fields: Any) -> str:
    """Return the text of a description."""
    service = {
        "service": "hugin",
        "any_command": False,
        "volumes": {},
        "commands": [COMMAND | each for each in commands],
    }
    return render(json.dumps(service | fields).encode())


def test_a_command_with_all_there_is() -> None:
    """Its usage, its parameters in columns, and what else a caller can know."""
    parameters = [
        {"name": "in", "type": "path", "required": True, "volumes": ["a", "b"], "help": "Input"},
        {"name": "n", "type": "int", "required": False, "min": 1, "max": 9, "default": "3"},
        {"name": "tag", "type": "str", "required": False, "repeatable": True, "max_count": 5, "pattern": "[a-z]+"},
        {"name": "loud", "type": "flag", "required": False},
        {"name": "out", "type": "path", "required": False, "access": "write", "choices": ["x", "y"]},
    ]
    command = {
        "parameters": parameters, "timeout": 2.5, "environment": ["A", "B"], "working_directory": True,
        "terminal": True, "stdin": False,
    }  # fmt: skip
    assert (
        described(command, volumes={"a": {"path": "/a", "access": "read"}})
        == """\
stitch: Stitch
  usage: sidecall exec hugin stitch --in PATH [--n INT] [--tag STR]... [--loud] [--out PATH]

  --in PATH   Input; on the volume a or b
  --n INT     at least 1; at most 9; default 3
  --tag STR   matches [a-z]+; up to 5 times
  --loud
  --out PATH  one of x, y; written

  terminated after 2.5 seconds
  takes A, B with --env
  takes a working directory with --cwd
  runs in a terminal with -t
  takes no stdin

volumes for paths; clients can mount them elsewhere
  a: /a on the server, to read
"""
    )


def test_a_service_without_anything_to_say() -> None:
    """No command, one without a summary, and any command at all."""
    assert described() == ""
    assert described({"summary": ""}) == "stitch\n  usage: sidecall exec hugin stitch\n"
    assert described(any_command=True) == "hugin runs any command\n"


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"any_command": false}', b"\xff", b"[" * 100_000])
def test_what_is_no_description(answer: bytes) -> None:
    """One sentence, whatever the server sent."""
    with pytest.raises(ProtocolError, match="the answer of the server is not a description"):
        render(answer)
