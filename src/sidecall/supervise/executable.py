"""Finding a program the way execvp(3) does, and saying why there is none."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from sidecall.errors import CannotExecute, NoSuchCommand, SidecallError
from sidecall.texts import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping


def find_executable(program: str, environ: Mapping[str, str]) -> str:
    """Return the path of the file that executing `program` would run.

    Raises:
        NoSuchCommand: there is no such file.
        CannotExecute: there is one, but it may not be executed.
    """
    is_there = False
    for directory in [""] if "/" in program else environ.get("PATH", os.defpath).split(":"):
        path = os.path.join(directory, program)
        if os.path.isfile(path):
            if os.access(path, os.X_OK):
                return path
            is_there = True
    if is_there or ("/" in program and os.path.isdir(program)):
        raise CannotExecute(f"{quoted(program)} is not executable", "set its execute bit with `chmod +x`")
    raise no_such_command(program)


def no_such_command(program: str) -> NoSuchCommand:
    """Return the error for a program that does not exist."""
    hint = "check the path" if "/" in program else "check its spelling, and PATH on the side that runs it"
    return NoSuchCommand(f"no such command: {quoted(program)}", hint)


def is_about(error: OSError, directory: str | bytes | None) -> bool:
    """Tell whether it was entering the working directory that failed."""
    if directory is None or error.filename is None:
        return False
    return os.fsencode(error.filename) == os.fsencode(directory)


def explain_exec(
    error: OSError, program: str, directory: str | None, environ: Mapping[str, str] = os.environ
) -> SidecallError:
    """Return what a failed fork or exec means to the person who called.

    Args:
        error: what starting the program raised.
        program: the first word of its argv.
        directory: the working directory it was to start in, None for the server's own.
        environ: the variables in whose PATH it was looked up.
    """
    if is_about(error, directory):
        return CannotExecute(
            f"cannot enter the working directory {directory!r}: {error.strerror}",
            "it has to exist where the command runs",
        )
    if error.errno == errno.ENOENT:
        try:
            find_executable(os.path.join(directory or "", program) if "/" in program else program, environ)
        except SidecallError as reason:
            return reason
        return CannotExecute(f"the interpreter that {quoted(program)} names does not exist")
    if error.errno == errno.E2BIG:
        return CannotExecute(f"the arguments of {quoted(program)} are too long for the system")
    return CannotExecute(f"cannot execute {quoted(program)}: {error.strerror}")
