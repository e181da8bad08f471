"""A service by its name, and the hint of errors about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import sidecall
from sidecall.client.named import named_service
from sidecall.errors import CallDenied, ServiceBusy, ServiceUnavailable, SidecallError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (ServiceUnavailable("a"), "for more, run `sidecall doctor x`"),
        (CallDenied("a", "b"), "b; for more, run `sidecall doctor x`"),
        (ServiceBusy("a", "b"), "b"),
        (UsageError("a"), ""),
    ],
)
def test_only_unreachable_and_denied_end_with_doctor(directory: Path, error: SidecallError, hint: str) -> None:
    """Exit codes 69 and 77; the reason stays as it is."""

    def fail() -> None:
        with named_service("x") as path:
            assert path == f"{directory}/x.sock"
            raise error

    with pytest.raises(type(error)) as raised:
        fail()
    assert (raised.value.reason, raised.value.hint) == ("a", hint)


@pytest.mark.usefixtures("directory")
def test_the_library_has_the_hint_too() -> None:
    """By the name that it was given."""
    with pytest.raises(ServiceUnavailable) as raised:
        sidecall.run("gone.sock", ["true"])
    assert raised.value.hint.endswith("; for more, run `sidecall doctor gone.sock`")
