"""docs/from-docker-exec.md: each option of the other programs does what its row says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from conftest import ROOT
from sidecall.cli.exec import OPTIONS, UNSUPPORTED

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Run, Server

PAGE = (ROOT / "docs" / "from-docker-exec.md").read_text()
ROWS = re.findall(r"^\| (`-[^|]*) \| ([^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE)
"""Options, the programs that have them, what `sidecall exec` does with them."""


def spellings(cell: str) -> list[str]:
    """Return the options in a cell."""
    return re.findall(r"`(-[\w-]*)`", cell)


@pytest.fixture
def tried(directory: Path) -> dict[str, tuple[tuple[str, ...], bytes]]:
    """Return, for each option that works, the arguments of a call that uses it, and what that prints."""
    (directory / "variables").write_text("A=1\n")
    show = ("tool", "sh", "-c", "echo $A $PWD")
    home = str(directory.resolve())
    return {
        "-i": (("-i", "tool", "cat"), b"in"),
        "--interactive": (("--interactive", "tool", "cat"), b"in"),
        "-e": (("-e", "A=1", "-w", "/", *show), b"1 /\n"),
        "--env": (("--env=A=1", "-w/", *show), b"1 /\n"),
        "--env-file": (("--env-file", f"{home}/variables", "-w", "/", *show), b"1 /\n"),
        "-w": (("-qw", home, *show), f"{home}\n".encode()),
        "--workdir": (("--workdir", home, *show), f"{home}\n".encode()),
        "-q": (("-q", "tool", "echo", "x"), b"x\n"),
        "--quiet": (("--quiet", "tool", "echo", "x"), b"x\n"),
        "--": (("tool", "--", "echo", "x"), b"x\n"),
    }


def test_each_option_does_what_its_row_says(
    tool: Server, sidecall: Run, tried: dict[str, tuple[tuple[str, ...], bytes]]
) -> None:
    """It works, or is refused with the reason and the way of the row."""
    assert len(ROWS) == PAGE.split("## What differs")[0].count("\n| `-")
    for options, _, does in ROWS:
        for option in spellings(options):
            if does.startswith("refused: "):
                refused = sidecall("exec", option, "tool", "true")
                said = refused.stderr.decode()
                reason, _, hint = does.removeprefix("refused: ").partition("; ")
                assert refused.returncode == 64
                assert said == f"sidecall: {option} is not supported: {reason}\nhint: {hint}\n"
            elif option in {"-t", "--tty"}:
                said = sidecall("exec", option, "tool", "true").stderr.decode()
                assert said, "a terminal is needed, or allowed by the service: tests/cli/test_terminal.py"
                assert "unknown option" not in said
            elif option in {"-d", "--detach"}:
                said = sidecall("exec", option, "tool", "true").stderr.decode()
                assert said.startswith("sidecall: this service records no calls"), "see tests/cli/test_detached.py"
            else:
                words, printed = tried[option]
                done = sidecall("exec", *words, input=b"in")
                assert (option, done.returncode, done.stdout, done.stderr) == (option, 0, printed, b"")


def test_each_option_that_is_refused_has_a_row() -> None:
    """And each option that the other programs have, by their own help, has one too."""
    shown = {option for options, *_ in ROWS for option in spellings(options)}
    refused = {option for each in UNSUPPORTED for option in each.names.split(", ")}
    assert refused <= shown
    assert shown - refused - {"--"} <= {option for each in OPTIONS for option in each.names.split(", ")}
    docker = (
        "-d --detach --detach-keys -e --env --env-file -i --interactive --privileged -t --tty -u --user -w --workdir"
    )
    podman = f"{docker} --cidfile -l --latest --no-session --preserve-fd --preserve-fds --wait"
    kubectl = "-c --container -f --filename -i --stdin -t --tty -q --quiet --pod-running-timeout -n --namespace"
    assert {*docker.split(), *podman.split(), *kubectl.split()} <= shown
