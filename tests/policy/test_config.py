"""What a caller finds at a listener of a service."""

from __future__ import annotations

import os

import pytest

from sidecall.errors import CallDenied
from sidecall.policy.callers import Callers
from sidecall.policy.config import Command, Listen, Service, is_operator, only_me
from sidecall.transport.credentials import UNMAPPED, Peer

SEVEN, EIGHT = Peer(7, 7), Peer(8, 8)
SERVICE = Service(
    "s",
    {"all": Command("all", ()), "seven": Command("seven", (), callers=Callers(frozenset({7})))},
    listeners=(
        Listen("open", Callers(frozenset({7, 8}))),
        Listen("few", Callers(frozenset({7})), commands=frozenset({"all"})),
    ),
)


def test_each_rule_leaves_out_commands_and_is_named() -> None:
    """The listener's own list comes before a command's callers."""
    assert list(SERVICE.at("open", SEVEN).commands or ()) == ["all", "seven"]
    for_eight = SERVICE.at("open", EIGHT)
    assert (list(for_eight.commands or ()), for_eight.withheld) == (["all"], {"seven": "commands.seven.callers"})
    few = SERVICE.at("few", SEVEN)
    assert (list(few.commands or ()), few.withheld) == (["all"], {"seven": "commands of the listener few"})


def test_who_is_let_in_nowhere() -> None:
    """The uid and what to do are said; a listener that does not exist lets nobody in."""
    with pytest.raises(CallDenied, match="uid 8 is not allowed to call this service") as error:
        SERVICE.at("few", EIGHT)
    assert error.value.hint == "add 8, or a group of it, to `callers` in the service configuration"
    for peer in (SEVEN, Peer(0, 0)):
        with pytest.raises(CallDenied):
            SERVICE.at("gone", peer)


def test_the_operator_can_ask_but_not_call() -> None:
    """Root, and the user of the server, have no command; each is withheld."""
    for uid in {0, os.geteuid()}:
        found = SERVICE.at("open", Peer(uid, 0))
        assert (found.commands, sorted(found.withheld)) == ({}, ["all", "seven"])


def test_an_unmapped_user_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if the server has that uid, too."""
    monkeypatch.setattr(os, "geteuid", lambda: UNMAPPED)
    assert not is_operator(Peer(UNMAPPED, UNMAPPED))
    assert is_operator(Peer(0, 0))


def test_any_command_stays_any() -> None:
    """There is nothing to leave out; who calls is the listener's rule."""
    service = Service("s", None, listeners=(Listen("s", only_me()),))
    assert service.at("s", Peer(os.geteuid(), 0)) is service
    with pytest.raises(CallDenied):
        service.at("s", Peer(os.geteuid() + 1, 0))
