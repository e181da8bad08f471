"""The hostile client of tests/containers/programs, as another process of this host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(__file__).parents[1] / "containers" / "programs" / "hostile.py"
OWN, INVITED, STRANGER = os.geteuid(), 4000, 4001
"""Users: this one, another one that the rules let in, and one that they do not."""

users = pytest.mark.parametrize(
    "user",
    [
        OWN,
        *(
            pytest.param(uid, marks=pytest.mark.skipif(OWN != 0, reason="only root can be several users"))
            for uid in (INVITED, STRANGER)
        ),
    ],
    ids=["own user", "another user", "a user that is not allowed"],
)


class Hostile:
    """A hostile client; a context manager. Iterating it goes from step to step.

    Args:
        path: the service's socket.
        user: the user that it is.
        words: the attack and its arguments.
    """

    def __init__(self, path: Path, user: int, *words: str) -> None:
        uid = "-" if user == OWN else str(user)
        self._process = subprocess.Popen(
            [sys.executable, PROGRAM, str(path), uid, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __iter__(self) -> Iterator[str]:
        """Yield what it has done, and let it go on after that; what it holds stays."""
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None
        while (step := stdout.readline().strip()) != "done":
            if not step:
                raise AssertionError(stderr.read())
            yield step
            stdin.write("\n")
            stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # it exits when its stdin has ended
