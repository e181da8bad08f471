"""Compiles sidecall, and what it needs of the standard library, into one file that the standalone executable holds.

Run by the Python whose library is linked in: bytecode belongs to one version, and what its C modules lack is said here.

usage: freeze.py CPYTHON SOURCE SCRIPT OUT
    CPYTHON  the directory in which it was built
    SOURCE   the directory that has the package `sidecall`
    SCRIPT   the command, which becomes `__main__`
    OUT      the directory for `frozen.bin`, all code one after the other, and `frozen.h`, which says what is where
"""

from __future__ import annotations

import ast
import importlib
import marshal
import sys
from modulefinder import ModuleFinder
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType

BY_NAME = ["encodings.ascii", "encodings.latin_1", "encodings.unicode_escape", "encodings.utf_8"]
"""What is imported by a name that is only known at run time."""

LEFT_OUT = [
    *("_pydecimal", "_strptime", "argparse", "base64", "calendar", "concurrent.futures.process", "ctypes", "decimal"),
    *("doctest", "email", "getopt", "gettext", "hashlib", "hmac", "importlib.metadata", "importlib.resources"),
    *("multiprocessing", "optparse", "pdb", "pickle", "pydoc", "ssl", "statistics", "tarfile", "test", "tkinter"),
    *("unittest", "urllib", "zipfile"),
]
"""What the standard library would import for uses that sidecall does not make of it."""


def found(stdlib: Path, source: Path, script: str) -> Iterator[tuple[str, CodeType, bool]]:
    """Yield the name and the code of every module, and whether it is a package. No path of this machine is in it."""
    finder = ModuleFinder(
        [str(source), str(stdlib)],
        excludes=LEFT_OUT,
        replace_paths=[(str(source), "<frozen>"), (str(stdlib), "<frozen>")],
    )
    finder.run_script(script)
    ours = (path.relative_to(source).with_suffix("") for path in source.glob("sidecall/**/*.py"))
    for name in [*BY_NAME, *(".".join(path.parts).removesuffix(".__init__") for path in ours)]:
        finder.import_hook(name)
    for name, module in sorted(finder.modules.items()):
        if module.__code__ is not None:  # or it is a C module
            yield name, module.__code__, module.__path__ is not None


def named(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield each attribute that a source takes from a module, as pairs of names."""
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imported:
            yield node.value.id, node.attr


def lacking(source: Path) -> Iterator[str]:
    """Yield what sidecall takes from a module of the standard library, and this Python does not have there."""
    for path in source.glob("sidecall/**/*.py"):
        for module, name in named(ast.parse(path.read_bytes())):
            if module not in {"ctypes", "sidecall"} and not hasattr(importlib.import_module(module), name):
                yield f"{module}.{name}"


def main(cpython: Path, source: Path, script: str, out: Path) -> None:
    """Write the two files; leave out what CPython has frozen into its library itself."""
    if missing := sorted(set(lacking(source))):
        sys.exit(f"this Python was built without {', '.join(missing)}")
    blob, entries = bytearray(), []
    for name, code, is_package in found(cpython / "Lib", source, script):
        if not (cpython / "Python/frozen_modules" / f"{name}.h").exists():
            data = marshal.dumps(code)
            entries.append(f'    X("{name}", {len(blob)}, {len(data)}, {int(is_package)})')
            blob += data
    (out / "frozen.bin").write_bytes(blob)
    (out / "frozen.h").write_text("#define FROZEN_MODULES(X) \\\n" + " \\\n".join(entries) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
