"""The directory list is the architecture: imports only point downwards, and the exec path stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Server

SOURCE = Path(__file__).parents[1] / "src" / "sidecall"
ALLOWED = {
    "_kernel": set(),
    "_record": set(),
    "errors": set(),
    "outcome": {"_record", "errors"},
    "protocol": {"_record", "errors", "outcome", "protocol"},
    "transport": {"_record", "errors", "outcome", "protocol", "transport"},
    "supervise": {"_kernel", "_record", "errors", "outcome", "supervise"},
    "server": {"_kernel", "_record", "errors", "outcome", "protocol", "transport", "supervise", "server", ""},
    "client": {"_record", "errors", "outcome", "protocol", "transport", "client", ""},
    "cli": {"_record", "errors", "outcome", "transport", "supervise", "server", "client", "cli", ""},
}  # fmt: skip
"""What each part may import; the empty name is the package itself, for its version."""

EXEC_PATH = {
    "": {"_record", "errors", "outcome"},
    "cli": {"exec", "options"},
    "client": {"call", "directories", "signals"},
    "protocol": {"codec", "connection", "messages", "states"},
    "transport": {"address", "channel", "credentials", "descriptors", "loop"},
}
"""Our modules that a call on passed streams takes. Each costs it 1 to 2 % of Python's own start."""

CALL = ["exec", "--timeout", "60", "tool", "true"]

STANDARD = {"__future__", "_socket", "_struct", "errno", "select"}
"""What these take of the standard library, besides `os` and what every Python has at its start."""


def imports(path: Path) -> Iterator[str]:
    """Yield the full name of every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module == "sidecall")


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_imports_point_downwards(part: str) -> None:
    """No part knows one above it, and transport and supervise do not know each other."""
    files = [SOURCE / f"{part}.py"] if (SOURCE / f"{part}.py").exists() else sorted((SOURCE / part).rglob("*.py"))
    assert files
    for path in files:
        ours = {name.partition(".")[2].split(".")[0] for name in imports(path) if name.split(".")[0] == "sidecall"}
        ours.discard("__version__")
        assert ours <= ALLOWED[part], path


def test_the_protocol_does_no_io() -> None:
    """The protocol's core imports nothing that could wait, read a clock or touch a file."""
    for path in (SOURCE / "protocol").rglob("*.py"):
        for name in imports(path):
            assert name.split(".")[0] in {"sidecall", "__future__", "_struct", "collections", "typing"}, path


def imported(script: str) -> set[str]:
    """Return the name of every module that a fresh Python, without `site`, imports for a script."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "importtime", "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.removeprefix("import time:") for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {row.split("|")[2].strip() for row in rows[1:]}


def test_the_exec_path_is_light(tool: Server) -> None:
    """A call of `sidecall exec`, from its first import to its end, takes these modules and no other."""
    call = f"import sys; sys.path.append({str(SOURCE.parent)!r}); from sidecall.cli import main; main({CALL!r})"
    taken = imported(call) - imported("import os")
    packages = {f"sidecall.{package}".rstrip(".") for package in EXEC_PATH}
    modules = {f"sidecall.{package}.{name}".replace("..", ".") for package in EXEC_PATH for name in EXEC_PATH[package]}
    assert {name for name in taken if name.startswith("sidecall")} == packages | modules
    assert {name for name in taken if not name.startswith("sidecall")} <= STANDARD
