"""Exceptions and the codes of REFUSED: each arrives as what it was."""

from __future__ import annotations

import pytest

from sidecall import errors
from sidecall.errors import DescriptorsLost, ProtocolError, SidecallError, refusal, refusal_code


@pytest.mark.parametrize("kind", [*errors.REFUSALS, DescriptorsLost])
def test_a_refusal_arrives_as_what_it_was(kind: type[SidecallError]) -> None:
    """With its reason and its hint."""
    arrived = refusal(refusal_code(kind("why", "do this")), "why", "do this")
    assert (type(arrived), arrived.reason, arrived.hint) == (kind, "why", "do this")


@pytest.mark.parametrize("code", [0, 2, 124, 125, 128, 255, 65535])
def test_a_code_that_is_not_in_the_table_is_a_violation(code: int) -> None:
    """It never becomes an exit code that a command can have."""
    arrived = refusal(code, "why", "")
    assert type(arrived) is ProtocolError
    assert arrived.code == errors.EXIT_PROTOCOL
    assert f"unknown code {code}" in arrived.reason


def test_a_request_to_relay_is_no_exit_code() -> None:
    """Its code is that of the message alone; the exception has an exit code that no command is taken for."""
    assert refusal_code(DescriptorsLost("lost")) == errors.DESCRIPTORS_LOST != DescriptorsLost("lost").code
