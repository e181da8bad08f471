"""A service by its name: the path of its socket, and the hint that every failure to reach it ends with."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sidecall import texts
from sidecall.errors import CallDenied, ServiceUnavailable, one_line
from sidecall.transport.address import socket_path

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def named_service(name: str) -> Iterator[str]:
    """Return the path of a service's socket to a `with` block; an error of exit code 69 or 77 gets another hint there.

    Args:
        name: the service's name, or the path of its socket.

    Raises:
        UsageError: the name is invalid.
    """
    path = socket_path(name, os.environ)
    try:
        yield path
    except (ServiceUnavailable, CallDenied) as error:
        more, _ = texts.DOCTOR(name=name)
        error.hint = one_line(f"{error.hint}; {more}" if error.hint else more)
        raise
