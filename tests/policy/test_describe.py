"""The JSON of a DESCRIPTION: only what was declared, and all of it."""

from __future__ import annotations

import json

import pytest

from sidecall.errors import NoSuchCommand
from sidecall.files.volumes import Volume
from sidecall.policy.config import Command, Service
from sidecall.policy.describe import describe
from sidecall.policy.parameters import Parameter
from sidecall.policy.template import parse_group

COMMAND = Command(
    name="stitch",
    argv=(parse_group("hugin"),),
    summary="Stitch.",
    parameters={
        "pto": Parameter("pto", "path", help="the project"),
        "size": Parameter("size", "int", default="5", minimum=1, maximum=9),
        "mode": Parameter("mode", "choice", optional=True, choices=("a", "b"), repeatable=True),
        "fast": Parameter("fast", "flag", value="-f"),
    },
    timeout=5.0,
    pass_environment=frozenset({"B", "A"}),
    pass_directory=True,
)
SERVICE = Service(
    "hugin",
    {"stitch": COMMAND, "true": Command("true", ())},
    slots=2,
    queue=3,
    volumes=(Volume("data", "/d", writable=True),),
)


def test_a_command_is_described_as_declared() -> None:
    """Every declared property is there, none that was not, and nothing of argv."""
    assert json.loads(describe(SERVICE, "stitch")) == {
        "service": "hugin",
        "any_command": False,
        "slots": 2,
        "queue": 3,
        "volumes": {"data": {"path": "/d", "access": "write"}},
        "commands": [
            {
                "name": "stitch",
                "summary": "Stitch.",
                "timeout": 5.0,
                "environment": ["A", "B"],
                "working_directory": True,
                "stdin": True,
                "descriptors": True,
                "terminal": False,
                "signals": ["CONT", "HUP", "INT", "KILL", "QUIT", "TERM", "TSTP", "USR1", "USR2"],
                "parameters": [
                    {"name": "pto", "type": "path", "required": True, "help": "the project", "access": "read"},
                    {"name": "size", "type": "int", "required": False, "default": "5", "min": 1, "max": 9},
                    {
                        "name": "mode",
                        "type": "choice",
                        "required": False,
                        "repeatable": True,
                        "choices": ["a", "b"],
                        "max_count": 1000,
                    },
                    {"name": "fast", "type": "flag", "required": False},
                ],
            }
        ],
    }


def test_no_name_means_all_commands_in_their_order() -> None:
    """Without a name everything is described, in the order of the file."""
    assert [command["name"] for command in json.loads(describe(SERVICE))["commands"]] == ["stitch", "true"]


def test_a_service_for_any_command_says_so() -> None:
    """A service without declarations has no commands to list, and knows none by name."""
    service = Service("any", None, slots=1, queue=0)
    assert json.loads(describe(service)) == {
        "service": "any",
        "any_command": True,
        "slots": 1,
        "queue": 0,
        "volumes": {},
        "commands": [],
    }
    with pytest.raises(NoSuchCommand):
        describe(service, "ls")


def test_a_bound_of_zero_is_a_bound() -> None:
    """`min = 0` was declared, so it is described."""
    service = Service("x", {"c": Command("c", (), parameters={"p": Parameter("p", "int", minimum=0, maximum=0.0)})})
    parameter = json.loads(describe(service))["commands"][0]["parameters"][0]
    assert (parameter["min"], parameter["max"]) == (0, 0)


def test_only_volumes_that_an_offered_command_can_use_are_described() -> None:
    """A caller learns nothing of the others, not even by a command that it is not offered."""
    volumes = tuple(Volume(name, f"/{name}") for name in ("a", "b", "c"))
    of_a = Command("x", (), parameters={"in": Parameter("in", "path", volumes=("a",))})
    of_none = Command("y", (), parameters={"n": Parameter("n", "int")})
    of_all = Command("z", (), pass_directory=True)
    for commands, expected in (((of_a, of_none), ["a"]), ((of_none,), []), ((of_all,), ["a", "b", "c"])):
        service = Service("s", {command.name: command for command in commands}, volumes=volumes)
        assert list(json.loads(describe(service))["volumes"]) == expected
    service = Service("s", {command.name: command for command in (of_a, of_none, of_all)}, volumes=volumes)
    described = {name: list(json.loads(describe(service, name))["volumes"]) for name in "xyz"}
    assert described == {"x": ["a"], "y": [], "z": ["a", "b", "c"]}
