"""Why a program cannot be run, in words and codes: env(1) and the POSIX shell's 126 and 127."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from sidecall.errors import NoSuchCommand, SidecallError
from sidecall.supervise.executable import explain_exec, find_executable

if TYPE_CHECKING:
    from pathlib import Path


def failure(number: int, name: str | None = None) -> OSError:
    """Return what `subprocess` raises."""
    return OSError(number, os.strerror(number), name)


@pytest.mark.parametrize(
    ("error", "program", "directory", "code", "reason"),
    [
        (failure(errno.ENOENT, "x"), "x", None, 127, "no such command: 'x'"),
        (failure(errno.ENOENT, "/no/x"), "/no/x", None, 127, "no such command: '/no/x'"),
        (failure(errno.ENOENT, "/bin/sh"), "/bin/sh", None, 126, "the interpreter that '/bin/sh' names does not exist"),
        (failure(errno.EACCES, "x"), "x", None, 126, "cannot execute 'x': Permission denied"),
        (failure(errno.ENOEXEC, "x"), "x", None, 126, "cannot execute 'x': Exec format error"),
        (failure(errno.E2BIG, "x"), "x", None, 126, "the arguments of 'x' are too long for the system"),
        (failure(errno.EAGAIN), "x", None, 126, "cannot execute 'x': Resource temporarily unavailable"),
        (
            failure(errno.ENOENT, "/gone"),
            "x",
            "/gone",
            126,
            "cannot enter the working directory '/gone': No such file or directory",
        ),
        (
            failure(errno.ENOTDIR, "/file"),
            "x",
            "/file",
            126,
            "cannot enter the working directory '/file': Not a directory",
        ),
        (failure(errno.ENOENT, "x"), "x", "/", 127, "no such command: 'x'"),
    ],
)
def test_what_a_failed_exec_means(error: OSError, program: str, directory: str | None, code: int, reason: str) -> None:
    """The directory, the program and its interpreter are told apart."""
    explained = explain_exec(error, program, directory)
    assert (explained.code, explained.reason) == (code, reason)


def test_a_program_in_no_directory_is_missing(tmp_path: Path) -> None:
    """PATH is searched and nothing else; the hint tells a name from a path."""
    with pytest.raises(NoSuchCommand) as error:
        find_executable("x", {"PATH": str(tmp_path)})
    assert error.value.hint == "check its spelling, and PATH on the side that runs it"
    with pytest.raises(NoSuchCommand) as error:
        find_executable("./no/x", {"PATH": "/bin"})
    assert error.value.hint == "check the path"


def test_an_empty_name_is_no_program() -> None:
    """A directory of PATH is not taken for the program of an empty name."""
    with pytest.raises(SidecallError) as error:
        find_executable("", {"PATH": "/bin"})
    assert error.value.code == 127


def test_the_default_path_stands_in() -> None:
    """Without PATH the system's default is searched, as execvp(3) does."""
    assert find_executable("sh", {}) in {"/bin/sh", "/usr/bin/sh"}
