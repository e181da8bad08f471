"""`sidecall install`: put the standalone executable where other containers find it."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

from sidecall.cli.options import Option, help_text, parse
from sidecall.errors import CannotCreateOutput, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = "sidecall install DIR"
ABOUT = """\
Put this executable into DIR/bin, for containers that mount DIR: they can serve and call with it, whatever is in their
image. It takes the place of an older one at once; what runs meanwhile is not disturbed. It is said on stdout what was
placed. For the standalone executable: one that needs Python would not run there."""

OPTIONS: tuple[Option, ...] = ()


def main(words: Sequence[str]) -> int:
    """Run the subcommand; return the code to exit with."""
    options = parse(OPTIONS, words, "sidecall install", anywhere=True)
    if options.wants_help:
        print(help_text(USAGE, ABOUT, OPTIONS), end="")
        return 0
    if len(options.args) != 1:
        raise UsageError("one directory is needed", f"usage: {USAGE}")
    if not _standalone():
        raise UsageError(
            "this sidecall needs Python, and would not run in a container without it",
            "use the standalone executable's `install`; `make standalone` builds it",
        )
    print(install(sys.executable, options.args[0]))
    return 0


def install(program: str, directory: str) -> str:
    """Put a program into a directory's `bin`, which everybody may read; return its path there.

    Raises:
        CannotCreateOutput: the directory cannot be made, or written to.
    """
    placed = os.path.join(directory, "bin", "sidecall")
    mask = os.umask(0o022)
    try:
        os.makedirs(os.path.dirname(placed), exist_ok=True)
        _replace(program, placed)
    except OSError as error:
        reason = f"cannot place {placed}: {error.strerror}"
        raise CannotCreateOutput(
            reason, "name a directory on a volume that is writable here, with 10 MB free"
        ) from error
    finally:
        os.umask(mask)
    return placed


def _replace(program: str, placed: str) -> None:
    """Copy beside the place, then rename: a file that is being executed cannot be written to. Source: execve(2)."""
    beside = f"{placed}.{os.urandom(8).hex()}"
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o755)
    try:
        with open(program, "rb") as source, open(fd, "wb") as copy:
            shutil.copyfileobj(source, copy)
            copy.flush()
            os.fsync(fd)
        os.rename(beside, placed)
    except BaseException:
        os.unlink(beside)
        raise


def _standalone() -> bool:
    """Tell whether this is the standalone executable, whose modules are frozen into it."""
    return __spec__.origin == "frozen"
