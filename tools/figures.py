"""What the code looks like in numbers: function length, annotations, tests to source, lines of each part."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent


def functions(directory: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function of every module below a directory."""
    for path in sorted(directory.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function's body, without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return 1 + sum((node.end_lineno or node.lineno) - node.lineno + 1 for node in body)


def annotated(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Tell whether the whole signature is annotated."""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    named = [argument for argument in arguments if argument.arg not in {"self", "cls"}]
    return function.returns is not None and all(argument.annotation is not None for argument in named)


def code_lines(directory: Path) -> int:
    """Return the lines below a directory that are neither empty nor comments."""
    lines = (line.strip() for path in directory.rglob("*.py") for line in path.read_text().splitlines())
    return sum(1 for line in lines if line and not line.startswith("#"))


def lines(*patterns: str) -> int:
    """Return the lines of files, all of them counted."""
    return sum(len(path.read_text().splitlines()) for pattern in patterns for path in ROOT.glob(pattern))


def untested_modules() -> list[str]:
    """Return the modules that have no test file of their name, at the same place below tests/."""
    modules = (path.relative_to(ROOT / "src/sidecall") for path in sorted((ROOT / "src/sidecall").rglob("*.py")))
    return [
        str(path)
        for path in modules
        if not path.name.startswith("__") and not (ROOT / "tests" / path.parent / f"test_{path.name}").exists()
    ]


def main() -> None:
    """Print the figures."""
    source = list(functions(ROOT / "src"))
    lengths = sorted(map(length, source))
    source_lines, test_lines = code_lines(ROOT / "src"), code_lines(ROOT / "tests")
    longest = max((ROOT / "src").rglob("*.py"), key=lambda path: len(path.read_text().splitlines()))
    rows = [
        ("functions", f"{len(source)}"),
        ("function length, median", f"{statistics.median(lengths):g} lines"),
        ("function length, 90th percentile", f"{lengths[len(lengths) * 9 // 10]} lines"),
        ("annotated signatures", f"{100 * sum(map(annotated, source)) / len(source):.1f} %"),
        ("source lines", f"{source_lines}"),
        ("test lines to source lines", f"{test_lines / source_lines:.2f}"),
        ("longest module", f"{longest.name}, {len(longest.read_text().splitlines())} lines"),
        ("src/sidecall", f"{lines('src/sidecall/**/*.py')} lines"),
        ("native/client", f"{lines('native/client/*.[ch]')} lines"),
        ("native/supervisor", f"{lines('native/supervisor/*.[ch]')} lines"),
        ("native/standalone", f"{lines('native/standalone/*')} lines"),
        ("modules without a test file", " ".join(untested_modules()) or "none"),
    ]
    for name, value in rows:
        print(f"{name:<34}{value}")


if __name__ == "__main__":
    main()
