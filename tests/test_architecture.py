"""The folder list is the architecture: imports only point downwards, and the exec path stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

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

HEAVY = ("asyncio", "argparse", "dataclasses", "enum", "socket", "subprocess", "json", "typing", "re", "threading")


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


def test_the_exec_path_is_light() -> None:
    """`sidecall exec` does not pay for modules that take longer to import than a call takes."""
    script = (
        f"import sys; sys.path.insert(0, {str(SOURCE.parent)!r}); before = set(sys.modules); "
        "import sidecall.cli.exec; print(*(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & set(HEAVY) == set()
