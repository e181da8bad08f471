"""`sidecall status`: the calls of a service."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from typing import TYPE_CHECKING, Any

from sidecall import texts
from sidecall.cli.options import Option, help_text, parse
from sidecall.client.named import named_service
from sidecall.client.status import MALFORMED, as_json, calls
from sidecall.errors import ProtocolError, UsageError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

USAGE = "sidecall status [OPTIONS] NAME"
ABOUT = """\
List the calls of service NAME that wait or run, with their arguments and directory: your own, or all if you are root or
the user of the server. With --all, list those that have ended, too, as far as they are recorded."""

OPTIONS = (
    Option("-a, --all", "", "list calls that have ended, too"),
    Option("--json", "", "print JSON"),
    Option("--connect-timeout", "SECONDS", "wait up to SECONDS for the service to start"),
)


_LEAST = 20
"""Columns of a request that are shown on a narrow terminal, too."""


def main(words: Sequence[str]) -> int:
    """Run the subcommand; return the code to exit with."""
    options = parse(OPTIONS, words, "sidecall status", anywhere=True)
    if options.wants_help:
        print(help_text(USAGE, ABOUT, OPTIONS), end="")
        return 0
    if len(options.args) != 1:
        raise UsageError(*texts.SERVICE_MISSING(usage=USAGE))
    with_ended = options.flag("all")
    with named_service(options.args[0]) as path:
        answer = calls(path, options.seconds("connect-timeout"), with_ended=with_ended)
    if options.flag("json"):
        print(as_json(answer))
    else:
        print(_table(answer, _ended_line if with_ended else _line))
    return 0


def _table(answer: bytes, line: Callable[[dict[str, Any]], str]) -> str:
    heads = {"call": "call", "state": "state", "uid": "uid", "seconds": "seconds", "command": "command"}
    lines = [line(heads)]
    try:
        lines += map(line, json.loads(answer))
    except MALFORMED as error:
        raise ProtocolError("the answer of the server is not a list of calls") from error
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    return _fitted(f"{row['call']:<16}{row['state']:<9}{row['uid']:<8}{row['seconds']:>9}  ", _request(row))


def _ended_line(row: dict[str, Any]) -> str:
    """Return the line of a call with how it ended, who stopped it, and what was asked for."""
    state = row["state"]
    if "outcome" in row:
        state = f"{row['outcome']} {row['value']}" if "value" in row else row["outcome"]
    if "stopped" in row:
        state += f" (by {row['stopped']})"
    return _fitted(f"{row['call']:<24} {state:<26} {row['uid']:<6} {row['seconds']:>9}  ", _request(row))


def _request(row: dict[str, Any]) -> str:
    """Return what was asked for, as a shell would have it, and from where."""
    asked = shlex.join([row["command"], *_words(row.get("parameters", {}))])
    return f"{asked}  ({row['directory']})" if row.get("directory") else asked


def _fitted(columns: str, request: str) -> str:
    """Return a line; on a terminal, one that fits into it, with the middle of the request left out."""
    request = one_line(request)
    room = max(_LEAST, shutil.get_terminal_size().columns - len(columns)) if sys.stdout.isatty() else len(request)
    if len(request) > room:
        end = room // 2
        request = f"{request[: room - end - 1]}…{request[-end:]}"
    return one_line(columns) + request


def _words(parameters: dict[str, Any]) -> Iterator[str]:
    """Yield parameters as they were given, with secrets masked."""
    for name, value in parameters.items():
        values = value if isinstance(value, list) else [value]
        if name == "arguments":
            yield from map(str, values)
        else:
            yield from (f"--{name}" if each is True else f"--{name}={each}" for each in values)
