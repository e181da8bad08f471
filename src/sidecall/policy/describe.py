"""The commands that a caller can run, as the JSON object of a DESCRIPTION message."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

from sidecall.policy.plan import declared_command

if TYPE_CHECKING:
    from sidecall.files.volumes import Volume
    from sidecall.policy.config import Command, Service
    from sidecall.policy.parameters import Parameter


def describe(service: Service, name: str = "") -> bytes:
    """Return the description of one command, or of all if there is no name.

    Raises:
        NoSuchCommand: the service does not offer it.
    """
    chosen = [declared_command(service, name)] if name else [*(service.commands or {}).values()]
    return json.dumps(
        {
            "service": service.name,
            "any_command": service.commands is None,
            "slots": service.slots,
            "queue": service.queue,
            "volumes": {
                volume.name: {"path": volume.path, "access": "write" if volume.writable else "read"}
                for volume in service.volumes
                if any(_can_use(command, volume) for command in chosen)
            },
            "commands": [_command(command) for command in chosen],
        }
    ).encode()


def _can_use(command: Command, volume: Volume) -> bool:
    """Tell whether a command can be given a directory or a file of a volume; no other one concerns its callers."""
    rules = [parameter for parameter in command.parameters.values() if parameter.type == "path"]
    return command.pass_directory or any(not rule.volumes or volume.name in rule.volumes for rule in rules)


def _command(command: Command) -> dict[str, object]:
    return {
        "name": command.name,
        "summary": command.summary,
        "timeout": command.timeout,
        "environment": sorted(command.pass_environment),
        "working_directory": command.pass_directory,
        "stdin": command.stdin,
        "descriptors": command.passes,
        "terminal": command.terminal,
        "signals": sorted(signal.Signals(number).name.removeprefix("SIG") for number in command.signals),
        "parameters": [_parameter(parameter) for parameter in command.parameters.values()],
    }


def _parameter(parameter: Parameter) -> dict[str, object]:
    """Return only what was declared, so that a reader sees what matters."""
    required = parameter.type != "flag" and not parameter.optional and parameter.default is None
    fields: dict[str, object] = {"name": parameter.name, "type": parameter.type, "required": required}
    extras = {
        "help": parameter.help or None,
        "default": None if parameter.secret else parameter.default,
        "repeatable": parameter.repeatable or None,
        "pattern": parameter.pattern,
        "choices": list(parameter.choices) or None,
        "min": parameter.minimum,
        "max": parameter.maximum,
        "max_count": parameter.max_count if parameter.repeatable else None,
        "secret": parameter.secret or None,
        "access": parameter.access if parameter.type == "path" else None,
        "volumes": list(parameter.volumes) or None,
    }
    return fields | {key: value for key, value in extras.items() if value is not None}
