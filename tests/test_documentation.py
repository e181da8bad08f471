"""The documentation says what the code says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from conftest import SIDECALL
from sidecall import errors
from sidecall.cli import COMMANDS

if TYPE_CHECKING:
    from conftest import Server

REPO = Path(__file__).parent.parent


def test_the_page_of_commands_is_what_help_prints() -> None:
    """docs/commands.md is `tools/commands.py`'s output."""
    printed = subprocess.run(
        [sys.executable, REPO / "tools" / "commands.py"], capture_output=True, text=True, check=True
    )
    assert (REPO / "docs" / "commands.md").read_text() == printed.stdout


def test_the_manual_page_has_every_option_and_every_code() -> None:
    """docs/sidecall.1 is `tools/man.py`'s output; groff has nothing to say of it."""
    program = [sys.executable, str(REPO / "tools" / "man.py")]
    printed = subprocess.run(program, capture_output=True, text=True, check=True).stdout
    assert (REPO / "docs" / "sidecall.1").read_text() == printed
    text = printed.replace("\\-", "-").replace("\\fB", "").replace("\\fR", "").replace("\\fI", "")
    for name in COMMANDS:
        for option in import_module(f"sidecall.cli.{name}").OPTIONS:
            assert f".TP\n{option.names} {option.value}".rstrip() in text
    for name, code in vars(errors).items():
        assert not name.startswith("EXIT_") or f".TP\n.B {code}\n" in text, name
    if groff := shutil.which("groff"):
        words = [groff, "-man", "-ww", "-z", "-Tutf8", str(REPO / "docs" / "sidecall.1")]
        assert subprocess.run(words, capture_output=True, text=True, check=True).stderr == ""


def test_every_test_that_is_named_is_there() -> None:
    """A claim in docs/security.md names the tests that hold it."""
    named = re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", (REPO / "docs" / "security.md").read_text())
    assert len(named) > 20
    for file, name in named:
        assert not name or f"def {name}(" in (REPO / file).read_text(), f"{file}::{name}"
        assert (REPO / file).exists()


def test_every_link_leads_somewhere() -> None:
    """A relative link in a page names a file that is there."""
    for page in [*REPO.glob("*.md"), *REPO.glob("docs/*.md"), *REPO.glob("examples/*/*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_examples_of_the_library_do_what_they_say(tool: Server) -> None:
    """Each example of docs/library.md prints what stands below it."""
    page = (REPO / "docs" / "library.md").read_text()
    examples = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", page, re.DOTALL)
    assert len(examples) == page.count("```python") == 6
    for example, printed in examples:
        done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == (printed, ""), example


def test_the_first_commands_of_the_readme_do_what_they_show(directory: Path) -> None:
    """What is shown after the installation, pasted as a whole into a shell."""
    block = (REPO / "README.md").read_text().split("```console\n")[1].split("```")[0]
    commands = [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
    printed = [line for line in block.splitlines() if not line.startswith("$ ")]
    assert commands.pop(0).endswith("pip install .")
    (directory / "sidecall").symlink_to(SIDECALL)
    environ = {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}", "TMPDIR": str(directory)}
    script = "\n".join([*commands, "kill %1", "wait"])
    done = subprocess.run(["bash", "-m", "-c", script], env=environ, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == printed, done.stderr
