"""Requests that try what was not offered, in the exact words, and odd ones that must not end the session."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from policy.plans import plan
from sidecall.errors import CallDenied, SidecallError, UsageError
from sidecall.files.volumes import Volume
from sidecall.policy.callers import Callers
from sidecall.policy.config import Command, Listen, Service
from sidecall.policy.parameters import Parameter
from sidecall.policy.plan import command_of, wants_help
from sidecall.policy.template import parse_group
from sidecall.protocol.codec import encode
from sidecall.protocol.messages import Call, Refused
from sidecall.protocol.options import TerminalRequest, call_options
from sidecall.transport.credentials import Peer

if TYPE_CHECKING:
    from collections.abc import Callable

OPEN = Command(
    "open",
    (parse_group("run"), parse_group("{p}"), parse_group("{w}")),
    parameters={
        "p": Parameter("p", "path", optional=True),
        "w": Parameter("w", "str", optional=True, pattern="a*"),
    },
    timeout=5.0,
    environment={"A": "declared", "B": "declared"},
    pass_environment=frozenset({"B"}),
    pass_directory=True,
    directory=parse_group("/declared"),
)
CLOSED = Command("closed", (parse_group("run"),), scratch=True)
SERVICE = Service(
    "s",
    {"open": OPEN, "closed": CLOSED},
    listeners=(Listen("s", Callers(frozenset({7}), frozenset({70}))),),
    volumes=(Volume("all", "/"),),
)


def call(
    command: bytes, *arguments: bytes, env: tuple[bytes, ...] = (), directory: bytes = b"", base: bytes = b"/h"
) -> Call:
    """Return a CALL without streams."""
    return Call(command, arguments, env, directory, base, (), (), 0, 0, 0)


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [
        (call(b"opne"), 127, "s has no command 'opne'"),
        (call(b""), 127, "s has no command ''"),
        (call(b"op\xffen"), 127, "s has no command 'op\\\\xffen'"),
        (call(b"open", env=(b"PATH=x",)), 77, "open does not take PATH from a caller's environment"),
        (call(b"open", env=(b"A=x",)), 77, "open does not take A from a caller's environment"),
        (call(b"open", env=(b"B",)), 64, "an environment variable must be NAME=VALUE without NUL bytes"),
        (call(b"open", env=(b"B=\0",)), 64, "an environment variable must be NAME=VALUE without NUL bytes"),
        (call(b"closed", directory=b"/"), 77, "closed does not let a caller choose its working directory"),
        (call(b"closed", b"x"), 64, "unexpected argument 'x': parameters are given as --name value"),
    ],
)
def test_what_is_refused_and_why(request_: Call, code: int, reason: str) -> None:
    """Each refusal has its code and its reason."""
    with pytest.raises(SidecallError) as error:
        plan(SERVICE, request_, {})
    assert (error.value.code, error.value.reason) == (code, reason)


def test_who_wins_when_several_set_the_same() -> None:
    """The client's variable, where allowed, overrides the declared one, and that the server's; so do directories."""
    made = plan(SERVICE, call(b"open", env=(b"B=caller=1",)), {b"A": b"server", b"B": b"server", b"C": b"server"})
    assert made.environ == {b"A": b"declared", b"B": b"caller=1", b"C": b"server"}
    assert made.directory == b"/declared"
    assert plan(SERVICE, call(b"open", directory=b"/usr"), {}).directory == b"/usr"
    assert plan(SERVICE, call(b"closed"), {}, "/tmp/1").environ == {b"SIDECALL_SCRATCH": b"/tmp/1"}


@pytest.mark.parametrize(
    ("declared", "wanted", "limit"), [(5.0, None, 5.0), (5.0, 9.0, 5.0), (5.0, 0.001, 0.001), (None, None, None)]
)
def test_the_shorter_timeout_counts(declared: float | None, wanted: float | None, limit: float | None) -> None:
    """A client can shorten a command's time, never extend it."""
    service = Service("s", {"c": Command("c", (parse_group("x"),), timeout=declared)})
    options = call_options(wanted or 0, can_queue=True)
    assert plan(service, Call(b"c", (), (), b"", b"/", (), (), 0, 0, 0), {}, options=options).timeout == limit


def test_a_terminal_has_to_be_allowed() -> None:
    """Its command has the type of the client's terminal, unless the client or the configuration sets another one."""
    asked = call_options(0, can_queue=True, terminal=TerminalRequest(24, 80, b"xterm"))
    with pytest.raises(CallDenied, match="closed does not run in a terminal") as error:
        plan(SERVICE, call(b"closed"), {}, options=asked)
    assert error.value.rule == "commands.closed.terminal"
    shell = Command("c", (parse_group("sh"),), terminal=True, pass_environment=frozenset({"TERM"}))
    server = {b"TERM": b"linux", b"A": b"1"}
    for service in (Service("s", {"c": shell}), Service("s", None)):
        assert plan(service, call(b"c"), server, options=asked).environ == {b"TERM": b"xterm", b"A": b"1"}
        assert plan(service, call(b"c"), server, options=(b"terminal=24x80",)).environ == {b"A": b"1"}
        assert plan(service, call(b"c"), server).environ == server
        assert plan(service, call(b"c", env=(b"TERM=vt100",)), server, options=asked).environ[b"TERM"] == b"vt100"
    fixed = Service("s", {"c": replace(shell, environment={"TERM": "ansi"})})
    assert plan(fixed, call(b"c"), server, options=asked).environ[b"TERM"] == b"ansi"


def test_help_is_the_whole_request() -> None:
    """Only a declared command has help, and help is the whole request or none."""
    anything = Service("any", None)
    assert command_of(SERVICE, call(b"closed")) is CLOSED
    assert command_of(anything, call(b"closed")) is None
    assert wants_help(SERVICE, call(b"open", b"--help"))
    assert wants_help(SERVICE, call(b"open", b"-h"))
    assert not wants_help(SERVICE, call(b"open", b"--help", b"x"))
    assert not wants_help(anything, call(b"ls", b"--help"))


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        (Peer(7, 1), True),
        (Peer(8, 70), True),
        (Peer(8, 1, (5, 70)), True),
        (Peer(6, 7), False),
        (Peer(8, 1, (7,)), False),
        (Peer(65534, 65534, (65534,)), False),
    ],
)
def test_only_named_users_and_groups_may_call(peer: Peer, allowed: bool) -> None:
    """The kernel's numbers decide; the refusal names the uid: translated ones surprise people."""
    if allowed:
        assert SERVICE.at("s", peer).commands == SERVICE.commands
        return
    with pytest.raises(SidecallError) as error:
        SERVICE.at("s", peer)
    assert (error.value.code, error.value.reason) == (77, f"uid {peer.uid} is not allowed to call this service")


@pytest.mark.parametrize("uid", [0, os.geteuid()])
def test_the_operator_is_admitted_without_commands(uid: int) -> None:
    """Root and the server's own user can list and cancel calls although no rule names them; they can call nothing."""
    service = SERVICE.at("s", Peer(uid, 0))
    assert service.commands == {}
    assert set(service.withheld) == {"open", "closed"}


def test_the_unmapped_identity_matches_no_rule() -> None:
    """65534 stands for everybody without a mapping, so a rule that names it lets nobody in."""
    rule = Callers(frozenset({65534}), frozenset({65534}))
    assert not rule.include(Peer(65534, 65534, (65534,)))


def test_a_listener_and_a_command_narrow_what_is_offered() -> None:
    """What a caller may not run does not exist for it, and what another listener offers neither."""
    mine = replace(OPEN, callers=Callers(frozenset({7})))
    service = replace(
        SERVICE,
        commands={"open": mine, "closed": CLOSED},
        listeners=(
            Listen("a", Callers(frozenset({7, 8}))),
            Listen("b", Callers(frozenset({7})), frozenset({"closed"})),
        ),
    )
    assert set(service.at("a", Peer(7, 0)).commands or ()) == {"open", "closed"}
    assert set(service.at("a", Peer(8, 0)).commands or ()) == {"closed"}
    assert set(service.at("b", Peer(7, 0)).commands or ()) == {"closed"}
    for listener, uid in (("b", 8), ("c", 7)):
        with pytest.raises(CallDenied):
            service.at(listener, Peer(uid, 0))


BIG = b"b" * 100_000


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(call(BIG), id="command"),
        pytest.param(call(b"open", BIG), id="word"),
        pytest.param(call(b"open", b"--" + BIG), id="parameter"),
        pytest.param(call(b"open", b"--w", BIG), id="value"),
        pytest.param(call(b"open", env=(BIG + b"=1",)), id="variable"),
        pytest.param(call(b"open", env=(b"A\xff=1",)), id="bytes-that-are-no-text"),
    ],
)
def test_every_refusal_can_be_said(request_: Call) -> None:
    """Whatever a caller sends, the reason fits a REFUSED message: text, and within its 64 KiB."""
    with pytest.raises(SidecallError) as error:
        plan(SERVICE, request_, {})
    encode(Refused(error.value.code, error.value.reason, error.value.hint))


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(lambda: call(b"open", directory=b"/a\0b"), id="directory"),
        pytest.param(lambda: call(b"open", b"--p", b"x", base=b"/a\0b"), id="base"),
    ],
)
def test_no_nul_byte_reaches_a_plan(request_: Callable[[], Call]) -> None:
    """What execve(2) or chdir(2) cannot take is a usage error, in directories as well as in words."""
    with pytest.raises(UsageError):
        plan(SERVICE, request_(), {})
