"""The package layout is the architecture: imports go one way, between packages and between modules."""

from __future__ import annotations

import ast
import graphlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
LEVELS = [
    {"errors", "texts", "_kernel"},
    {"outcome"},
    {"protocol"},
    {"transport", "supervise"},
    {"files"},
    {"policy"},
    {"calls"},
    {"client", "server"},
    {"integrations"},
    {"cli", "__init__"},
    {"__main__"},
]
"""The parts of the package, the lowest first. Each imports those below it, and no other one of its own level."""

PURE = {"__future__", "collections", "dataclasses", "struct", "typing"}
"""Modules that cannot wait, read a clock or touch a file."""


def is_for_types_only(node: ast.stmt) -> bool:
    """Tell whether a statement is `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(path: Path, *, at_run_time: bool = False) -> Iterator[str]:
    """Yield the full name of every module that a file imports, wherever in it."""
    tree = ast.parse(path.read_text())
    if at_run_time:
        tree.body = [node for node in tree.body if not is_for_types_only(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in names)


def module_name(path: Path) -> str:
    """Return the full name of a module."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}


def part_of(name: str) -> str:
    """Return the part of the package that a module belongs to."""
    return [*name.split("."), "__init__"][1]


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_downwards(name: str) -> None:
    """The package itself is imported for its version only."""
    level = next(level for level, parts in enumerate(LEVELS) if part_of(name) in parts)
    allowed = {part_of(name)}.union(*LEVELS[:level])
    ours = {other for other in imports(MODULES[name]) if other.split(".")[0] == "sidecall"}
    assert {part_of(other) for other in ours - {"sidecall"}} <= allowed


def test_modules_form_no_circle() -> None:
    """What is imported for types only does not count: it is not imported at run time."""
    graph = {name: set(imports(path, at_run_time=True)) & set(MODULES) for name, path in MODULES.items()}
    for name in graph:
        graph[name] -= {"sidecall"}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize("program", ["client", "supervisor"])
def test_native_modules_form_no_circle(program: str) -> None:
    """A module is a .c and its .h; commands.h declares what several modules define."""
    graph: dict[str, set[str]] = {}
    for path in sorted((ROOT / "native" / program).iterdir()):
        included = re.findall(r'^#include "(?:\.\./supervisor/)?(\w+)\.h"', path.read_text(), re.MULTILINE)
        graph.setdefault(path.stem, set()).update(set(included) - {path.stem})
    list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("name", [name for name in MODULES if part_of(name) == "protocol"])
def test_the_protocol_does_no_io(name: str) -> None:
    assert {other.split(".")[0] for other in imports(MODULES[name])} <= PURE | {"sidecall"}


@pytest.mark.parametrize("name", [name for name in MODULES if part_of(name) != "integrations"])
def test_the_core_needs_the_standard_library_only(name: str) -> None:
    """It runs in other people's images."""
    of_other_versions = {"_sha2", "_sha512"}  # from Python 3.12 on, and before
    known = sys.stdlib_module_names | {"sidecall", "_sidecall"} | of_other_versions
    assert {other.split(".")[0] for other in imports(MODULES[name])} <= known
