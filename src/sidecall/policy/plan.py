"""From a request to what would be executed, or to a refusal. Pure but for the server's own environment.

Deny by default: nothing that a caller says reaches a command unless it was declared.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sidecall.errors import CallDenied, NoSuchCommand, UsageError
from sidecall.protocol.messages import SIGNALS
from sidecall.calls.audit import shown
from sidecall.policy.config import SCRATCH, Command, Identity, Service
from sidecall.policy.parameters import parse
from sidecall.policy.template import fill

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecall.protocol.messages import Call
    from sidecall.files.paths import Paths


@dataclass(frozen=True)
class Plan:
    """What a call would execute.

    Attributes:
        argv: the command's words.
        environ: its whole environment.
        directory: its working directory; None for the server's own.
        timeout: seconds that it may run; None for no limit.
        grace: seconds between TERM and KILL.
        leaves_helpers: whether processes that outlive the command are left running.
        signals: the numbers of the signals that the caller may send.
        identity: what it becomes before it runs.
        stdin: whether it gets the caller's stdin.
        parameters: what the caller said, as text for the audit log.
    """

    argv: list[bytes]
    environ: dict[bytes, bytes]
    directory: bytes | None
    timeout: float | None
    grace: float
    leaves_helpers: bool = False
    signals: frozenset[int] = SIGNALS
    identity: Identity = field(default_factory=Identity)
    stdin: bool = True
    parameters: Mapping[str, object] = field(default_factory=dict)


def command_of(service: Service, call: Call) -> Command | None:
    """Return the declared command that is called; None if the service runs any.

    Raises:
        NoSuchCommand: the service does not offer it.
    """
    return None if service.commands is None else declared_command(service, command_name(call.command))


def plan(service: Service, call: Call, environ: Mapping[bytes, bytes], paths: Paths, scratch: str = "") -> Plan:
    """Work out what a call executes.

    Args:
        service: what is offered.
        call: what is asked for.
        environ: the server's own environment.
        paths: finds the files that the call names.
        scratch: the call's own directory, if its command wants one.

    Raises:
        NoSuchCommand: the command is not offered.
        UsageError: its parameters are wrong.
        CallDenied: the caller may not set what it wants to set, or not use a file.
    """
    if b"\0" in call.directory + call.base:
        raise UsageError("a directory's name cannot have a NUL byte")
    if service.commands is None:
        return _plan_any(service, call, environ)
    return _plan_declared(service, call, environ, paths, scratch)


def wants_help(service: Service, call: Call) -> bool:
    """Tell whether a call only asks how to call a declared command."""
    return service.commands is not None and call.arguments in {(b"--help",), (b"-h",)}


def declared_command(service: Service, name: str) -> Command:
    """Return a declared command.

    Raises:
        NoSuchCommand: the service does not offer it.
    """
    command = (service.commands or {}).get(name)
    if command is None:
        raise NoSuchCommand(
            f"{service.name} has no command {name!r}",
            f"`sidecall describe {service.name}` lists what it has",
            rule=service.withheld.get(name, "commands"),
        )
    return command


def command_name(name: bytes) -> str:
    """Return a command's name as text; one that is no text matches no declared command."""
    return name.decode(errors="backslashreplace")


def _plan_any(service: Service, call: Call, environ: Mapping[bytes, bytes]) -> Plan:
    words = [call.command, *call.arguments]
    if not call.command or any(b"\0" in word for word in words):
        raise UsageError("a command's words cannot be empty or have a NUL byte")
    directory = call.directory or None
    shown = {"arguments": [word.decode(errors="backslashreplace") for word in call.arguments]}
    variables = {**environ, **_variables(call)}
    return Plan(words, variables, directory, _timeout(call, None), service.grace, parameters=shown)


def _plan_declared(service: Service, call: Call, environ: Mapping[bytes, bytes], paths: Paths, scratch: str) -> Plan:
    command = declared_command(service, command_name(call.command))
    variables = _variables(call)
    for variable in variables:
        if os.fsdecode(variable) not in command.pass_environment:
            raise CallDenied(
                f"{command.name} does not take {os.fsdecode(variable)} from a caller's environment",
                "the service's configuration would have to name it under `pass-env`",
                rule=f"commands.{command.name}.pass-env",
            )
    if call.directory and not command.pass_directory:
        raise CallDenied(
            f"{command.name} does not let a caller choose its working directory",
            "call without `--cwd`, or have the service's configuration say `pass-cwd = true`",
            rule=f"commands.{command.name}.pass-cwd",
        )
    values = parse(command.parameters, call.arguments, os.fsdecode(call.base), command.name)
    said = shown(values, frozenset(name for name, parameter in command.parameters.items() if parameter.secret))
    for name, parameter in command.parameters.items():
        if parameter.type == "path":
            values[name] = tuple(paths.use(parameter, path) for path in values[name])
    values[SCRATCH] = (os.fsencode(scratch),)
    declared = {os.fsencode(name): os.fsencode(value) for name, value in command.environment.items()}
    if scratch:
        declared[b"SIDECALL_SCRATCH"] = os.fsencode(scratch)
    if command.identity.user:
        declared = {**_login(command.identity), **declared}
    directory = fill([command.directory], values)[0] if command.directory else None
    if call.directory:
        directory = paths.directory(call.directory)
    return Plan(
        argv=fill(command.argv, values),
        environ={**environ, **declared, **variables},
        directory=directory,
        timeout=_timeout(call, command.timeout),
        grace=service.grace if command.grace is None else command.grace,
        leaves_helpers=command.leaves_helpers,
        signals=command.signals,
        identity=command.identity,
        stdin=command.stdin,
        parameters=said,
    )


def _login(identity: Identity) -> dict[bytes, bytes]:
    """Return what a login sets. Source: environ(7)."""
    user = os.fsencode(identity.user)
    return {b"USER": user, b"LOGNAME": user, b"HOME": os.fsencode(identity.home)}


def _variables(call: Call) -> dict[bytes, bytes]:
    variables = {}
    for entry in call.environment:
        name, equals, value = entry.partition(b"=")
        if not name or not equals or b"\0" in entry:
            raise UsageError("an environment variable must be NAME=VALUE without NUL bytes")
        variables[name] = value
    return variables


def _timeout(call: Call, declared: float | None) -> float | None:
    """The earlier of the caller's deadline and the declared one; a caller cannot extend it."""
    wanted = call.timeout_ms / 1000 or None
    return min((limit for limit in (wanted, declared) if limit is not None), default=None)
