"""`sidecall install`: copy the standalone executable to a directory that other containers mount."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

from sidecall.cli.options import Option, help_text, parse
from sidecall.errors import CannotCreateOutput, UsageError
from sidecall.transport.address import directory_denied

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = "sidecall install DIR"
ABOUT = """\
Copy this executable to DIR/bin and print its path. Containers that mount DIR can serve and call with it, whatever is in
their image. An older one is replaced atomically; processes that run it are not affected. Only the standalone executable
can be installed, since the others need Python."""

OPTIONS: tuple[Option, ...] = ()


def main(words: Sequence[str]) -> int:
    """Run the subcommand; return the code to exit with."""
    options = parse(OPTIONS, words, "sidecall install", anywhere=True)
    if options.wants_help:
        print(help_text(USAGE, ABOUT, OPTIONS), end="")
        return 0
    if len(options.args) != 1:
        reason = "missing directory" if not options.args else f"unexpected argument {options.args[1]!r}"
        raise UsageError(reason, f"usage: {USAGE}")
    if not _standalone():
        raise UsageError(
            "cannot install this sidecall: it needs Python",
            "build the standalone executable with `make standalone`, and run its `install`",
        )
    print(install(sys.executable, options.args[0]))
    return 0


def install(program: str, directory: str) -> str:
    """Copy a program to a directory's `bin`, readable by all users; return its path there.

    Raises:
        CannotCreateOutput: the directory cannot be made, or is not writable.
    """
    installed = os.path.join(directory, "bin", "sidecall")
    mask = os.umask(0o022)
    try:
        os.makedirs(os.path.dirname(installed), exist_ok=True)
        _replace(program, installed)
    except OSError as error:
        is_denied = isinstance(error, PermissionError)
        reason = directory_denied(os.path.dirname(installed), "write").reason if is_denied else error.strerror
        raise CannotCreateOutput(
            f"cannot create {installed}: {reason}",
            "give a directory on a volume that is writable here, with 10 MB free",
        ) from error
    finally:
        os.umask(mask)
    return installed


def _replace(program: str, installed: str) -> None:
    """Copy to the same directory, then rename: a file that is executed cannot be written to. Source: execve(2)."""
    temporary = f"{installed}.{os.urandom(8).hex()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o755)
    try:
        with open(fd, "wb") as copy, open(program, "rb") as source:
            shutil.copyfileobj(source, copy)
            copy.flush()
            os.fsync(fd)
        os.rename(temporary, installed)
    except BaseException:
        os.unlink(temporary)
        raise


def _standalone() -> bool:
    """Tell whether this is the standalone executable, whose modules are frozen into it."""
    return __spec__.origin == "frozen"
