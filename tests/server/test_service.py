"""What a service does with a connection before anything is read from it."""

from __future__ import annotations

import os
import socket

import pytest

from sidecall.policy.config import Service
from sidecall.server.service import CallService


@pytest.mark.parametrize(
    ("per_caller", "is_ending", "reason"),
    [
        (0, False, "this user has too many connections to the service"),
        (1, True, "the service is shutting down"),
        (0, True, "the service is shutting down"),
    ],
)
def test_a_connection_is_turned_away_for_the_reason_that_is_told(per_caller: int, is_ending: bool, reason: str) -> None:
    """The caller and the log hear the same: it is one too many, or one too late."""
    log: list[str] = []
    service = CallService(Service("x", None, per_caller=per_caller), log.append)
    if is_ending:
        service.reject_queued()
    ours, theirs = socket.socketpair()
    with theirs:
        service.receive("x", ours)
        assert reason.encode() in theirs.recv(1000)
    assert log == [f"uid {os.geteuid()} has 0 connections, one more is refused: {reason}"]
