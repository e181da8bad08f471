"""`sidecall describe`: the commands of a service, as text or as JSON."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from sidecall import texts
from sidecall.cli.options import Option, help_text, parse
from sidecall.client.named import named_service
from sidecall.client.status import MALFORMED, as_json, describe
from sidecall.errors import ProtocolError, UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Description = dict[str, Any]

USAGE = "sidecall describe [OPTIONS] NAME [COMMAND]"
ABOUT = "Show the commands of service NAME, or the usage of COMMAND."

OPTIONS = (
    Option("--json", "", "print JSON"),
    Option("--connect-timeout", "SECONDS", "wait up to SECONDS for the service to start"),
)


def main(words: Sequence[str]) -> int:
    """Run the subcommand; return the code to exit with."""
    options = parse(OPTIONS, words, "sidecall describe", anywhere=True)
    if options.wants_help:
        print(help_text(USAGE, ABOUT, OPTIONS), end="")
        return 0
    if not 1 <= len(options.args) <= 2:
        raise UsageError(*texts.SERVICE_MISSING(usage=USAGE))
    name, command = (*options.args, "")[:2]
    with named_service(name) as path:
        answer = describe(path, os.fsencode(command), options.seconds("connect-timeout"))
    print(as_json(answer) + "\n" if options.flag("json") else render(answer), end="")
    return 0


def render(answer: bytes) -> str:
    """Return a description as text that is safe to print.

    Raises:
        ProtocolError: it is none.
    """
    try:
        return "\n".join(map(printable, _text(json.loads(answer)).split("\n")))
    except MALFORMED as error:
        raise ProtocolError("the answer of the server is not a description") from error


def _text(description: Description) -> str:
    if description["any_command"]:
        return f"{description['service']} runs any command\n"
    commands = [_command(description["service"], command) for command in description["commands"]]
    return "\n".join([*commands, *_volumes(description["volumes"])])


def _command(service: str, command: Description) -> str:
    summary = f": {command['summary']}" if command["summary"] else ""
    lines = [f"{command['name']}{summary}", f"  usage: sidecall exec {service} {_usage(command)}"]
    if command["parameters"]:
        rows = [(_option(parameter), _explanation(parameter)) for parameter in command["parameters"]]
        width = max(len(left) for left, _ in rows) + 2
        lines += ["", *(f"  {left:<{width}}{right}".rstrip() for left, right in rows)]
    lines += ["", *(f"  {remark}" for remark in _remarks(command))] if list(_remarks(command)) else []
    return "\n".join(lines) + "\n"


def _volumes(volumes: dict[str, Description]) -> list[str]:
    """Return the volumes as text."""
    if not volumes:
        return []
    rows = [f"  {name}: {each['path']} on the server, to {each['access']}\n" for name, each in volumes.items()]
    return ["volumes for paths; clients can mount them elsewhere\n" + "".join(rows)]


def _usage(command: Description) -> str:
    words = [command["name"]]
    for parameter in command["parameters"]:
        word = _option(parameter)
        word = word if parameter["required"] else f"[{word}]"
        words.append(word + "..." if parameter.get("repeatable") else word)
    return " ".join(words)


def _option(parameter: Description) -> str:
    kind = "" if parameter["type"] == "flag" else f" {parameter['type'].upper()}"
    return f"--{parameter['name']}{kind}"


def _explanation(parameter: Description) -> str:
    parts = [parameter.get("help", "")]
    parts += [f"one of {', '.join(parameter['choices'])}"] if "choices" in parameter else []
    parts += [f"matches {parameter['pattern']}"] if "pattern" in parameter else []
    parts += [f"at least {parameter['min']:g}"] if "min" in parameter else []
    parts += [f"at most {parameter['max']:g}"] if "max" in parameter else []
    parts += [f"up to {parameter['max_count']} times"] if parameter.get("repeatable") else []
    parts += ["written"] if parameter.get("access") == "write" else []
    parts += [f"on the volume {' or '.join(parameter['volumes'])}"] if "volumes" in parameter else []
    parts += [f"default {parameter['default']}"] if "default" in parameter else []
    return "; ".join(part for part in parts if part)


def _remarks(command: Description) -> Iterator[str]:
    if command["timeout"] is not None:
        yield f"terminated after {command['timeout']:g} seconds"
    if command["environment"]:
        yield f"takes {', '.join(command['environment'])} with --env"
    if command["working_directory"]:
        yield "takes a working directory with --cwd"
    if command.get("terminal"):
        yield "runs in a terminal with -t"
    if not command["stdin"]:
        yield "takes no stdin"
