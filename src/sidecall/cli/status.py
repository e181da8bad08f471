"""`sidecall status`: the calls of a service."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sidecall import texts
from sidecall.cli.options import Option, help_text, parse
from sidecall.client.named import named_service
from sidecall.client.status import MALFORMED, as_json, calls
from sidecall.errors import ProtocolError, UsageError, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = "sidecall status [OPTIONS] NAME"
ABOUT = """\
List the calls of service NAME that wait or run: your own, or all if you are root or the user of the server."""

OPTIONS = (
    Option("--json", "", "print JSON"),
    Option("--connect-timeout", "SECONDS", "wait up to SECONDS for the service to start"),
)


def main(words: Sequence[str]) -> int:
    """Run the subcommand; return the code to exit with."""
    options = parse(OPTIONS, words, "sidecall status", anywhere=True)
    if options.wants_help:
        print(help_text(USAGE, ABOUT, OPTIONS), end="")
        return 0
    if len(options.args) != 1:
        raise UsageError(*texts.SERVICE_MISSING(usage=USAGE))
    with named_service(options.args[0]) as path:
        answer = calls(path, options.seconds("connect-timeout"))
    print(as_json(answer) if options.flag("json") else _table(answer))
    return 0


def _table(answer: bytes) -> str:
    lines = [f"{'call':<16}{'state':<9}{'uid':<8}{'seconds':>9}  command"]
    try:
        lines += map(_line, json.loads(answer))
    except MALFORMED as error:
        raise ProtocolError("the answer of the server is not a list of calls") from error
    return "\n".join(lines)


def _line(row: dict[str, object]) -> str:
    return one_line(f"{row['call']:<16}{row['state']:<9}{row['uid']:<8}{row['seconds']:>9}  {row['command']}")
