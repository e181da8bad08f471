"""From a request to what would be executed, or to a refusal. Pure but for the server's own environment.

Deny by default: nothing that a caller says reaches a command unless it was declared.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sidecall.errors import CallDenied, NoSuchCommand, UsageError
from sidecall.policy.config import SCRATCH, Command, Service
from sidecall.policy.parameters import parse, shown
from sidecall.policy.template import fill
from sidecall.protocol.messages import SIGNALS
from sidecall.protocol.options import CallOptions
from sidecall.supervise.control import RunAs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sidecall.files.paths import Paths
    from sidecall.protocol.messages import Call

NO_OPTIONS = CallOptions(())

_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
"""Files that a confined command can always use."""


@dataclass(frozen=True)
class Plan:
    """What a call would execute.

    Attributes:
        argv: the command's words.
        environ: its whole environment.
        directory: its working directory; None for the server's own.
        timeout: seconds that it may run; None for no limit.
        grace: seconds between TERM and KILL.
        keeps_background: whether background processes are kept when the command has exited by itself.
        signals: the numbers of the signals that the caller may send.
        run_as: user, groups, limits and the like.
        stdin: whether it gets the caller's stdin.
        parameters: what the caller said, as text for the audit log.
        confined_to: the files that it can use: see `supervise.control.Job`.
    """

    argv: list[bytes]
    environ: dict[bytes, bytes]
    directory: bytes | None
    timeout: float | None
    grace: float
    keeps_background: bool = False
    signals: frozenset[int] = SIGNALS
    run_as: RunAs = field(default_factory=RunAs)
    stdin: bool = True
    parameters: Mapping[str, object] = field(default_factory=dict)
    confined_to: tuple[bytes, ...] = ()


def command_of(service: Service, call: Call) -> Command | None:
    """Return the declared command that is called; None if the service runs any.

    Raises:
        NoSuchCommand: the service does not offer it.
    """
    return None if service.commands is None else declared_command(service, command_name(call.command))


def plan(
    service: Service,
    call: Call,
    environ: Mapping[bytes, bytes],
    paths: Paths,
    scratch: str = "",
    *,
    options: CallOptions = NO_OPTIONS,
) -> Plan:
    """Work out what a call executes.

    Args:
        service: what is offered.
        call: what is asked for.
        environ: the server's own environment.
        paths: finds the files that the call names.
        scratch: the call's own directory, if its command wants one.
        options: the options of the call.

    Raises:
        NoSuchCommand: the command is not offered.
        UsageError: its parameters are wrong.
        CallDenied: the caller may not set what it wants to set, or not use a file.
    """
    if b"\0" in call.directory + call.base:
        raise UsageError("a directory's name cannot have a NUL byte")
    if service.commands is None:
        return _plan_any(service, call, _of_terminal(environ, options), options)
    return _plan_declared(service, call, _of_terminal(environ, options), paths, scratch, options)


def _of_terminal(environ: Mapping[bytes, bytes], options: CallOptions) -> Mapping[bytes, bytes]:
    """Return the environment with the client's TERM in place of the server's own, if the call has a terminal."""
    if options.terminal is None:
        return environ
    others = {name: value for name, value in environ.items() if name != b"TERM"}
    return {**others, b"TERM": options.terminal.term} if options.terminal.term else others


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
            f"`sidecall describe {service.name}` lists its commands",
            rule=service.withheld.get(name, "commands"),
        )
    return command


def command_name(name: bytes) -> str:
    """Return a command's name as text; one that is no text matches no declared command."""
    return name.decode(errors="backslashreplace")


def _plan_any(service: Service, call: Call, environ: Mapping[bytes, bytes], options: CallOptions) -> Plan:
    words = [call.command, *call.arguments]
    if not call.command or any(b"\0" in word for word in words):
        raise UsageError("the command must not be empty, and arguments must not contain NUL")
    directory = call.directory or None
    shown = {"arguments": [word.decode(errors="backslashreplace") for word in call.arguments]}
    variables = {**environ, **_variables(call)}
    return Plan(words, variables, directory, options.timeout, service.grace, parameters=shown)


def _plan_declared(  # noqa: PLR0917 see `plan`
    service: Service,
    call: Call,
    environ: Mapping[bytes, bytes],
    paths: Paths,
    scratch: str,
    options: CallOptions,
) -> Plan:
    command = declared_command(service, command_name(call.command))
    variables = _variables(call)
    for variable in variables:
        if os.fsdecode(variable) not in command.pass_environment:
            raise CallDenied(
                f"{command.name} does not take {os.fsdecode(variable)} from a caller's environment",
                "add it to `pass-env` of the command in the service configuration",
                rule=f"commands.{command.name}.pass-env",
            )
    if call.directory and not command.pass_directory:
        raise CallDenied(
            f"{command.name} does not let a caller choose its working directory",
            "call without `--cwd`, or set `pass-cwd = true` for the command in the service configuration",
            rule=f"commands.{command.name}.pass-cwd",
        )
    if options.terminal is not None and not command.terminal:
        raise CallDenied(
            f"{command.name} does not run in a terminal",
            "call without `-t`, or set `terminal = true` in the service configuration",
            rule=f"commands.{command.name}.terminal",
        )
    values = parse(command.parameters, call.arguments, os.fsdecode(call.base), command.name)
    said = shown(values, frozenset(name for name, parameter in command.parameters.items() if parameter.secret))
    for name, parameter in command.parameters.items():
        if parameter.type == "path":
            values[name] = tuple(paths.use(parameter, path) for path in values[name])
    values[SCRATCH] = (os.fsencode(scratch),)
    directory = fill([command.directory], values)[0] if command.directory else None
    if call.directory:
        directory = paths.directory(call.directory)
    return Plan(
        argv=fill(command.argv, values),
        environ={**environ, **_own_variables(command, scratch), **variables},
        directory=directory,
        timeout=min((limit for limit in (options.timeout, command.timeout) if limit is not None), default=None),
        grace=service.grace if command.grace is None else command.grace,
        keeps_background=command.keeps_background,
        signals=command.signals,
        run_as=command.run_as,
        stdin=command.stdin,
        parameters=said,
        confined_to=() if command.landlock is None else _confinement(command.landlock, paths, scratch),
    )


def _confinement(landlock: Sequence[str], paths: Paths, scratch: str) -> tuple[bytes, ...]:
    """Return what a confined command can use: what is configured, the call's own files, and the usual devices."""
    return (
        *(b"x" + os.fsencode(path) for path in landlock),
        *(b"w" + os.fsencode(path) for path in (*_DEVICES, scratch)),
        *paths.given,
    )


def _own_variables(command: Command, scratch: str) -> dict[bytes, bytes]:
    """Return the variables that a command has in addition to the server's."""
    variables = _login(command) if command.user else {}
    if command.landlock is not None:
        variables[b"TMPDIR"] = os.fsencode(scratch)
    variables.update((os.fsencode(name), os.fsencode(value)) for name, value in command.environment.items())
    if scratch:
        variables[b"SIDECALL_SCRATCH"] = os.fsencode(scratch)
    return variables


def _login(command: Command) -> dict[bytes, bytes]:
    """Return what a login sets. Source: environ(7)."""
    user = os.fsencode(command.user)
    return {b"USER": user, b"LOGNAME": user, b"HOME": os.fsencode(command.home)}


def _variables(call: Call) -> dict[bytes, bytes]:
    variables = {}
    for entry in call.environment:
        name, equals, value = entry.partition(b"=")
        if not name or not equals or b"\0" in entry:
            raise UsageError("an environment variable must be NAME=VALUE without NUL bytes")
        variables[name] = value
    return variables
