"""`sidecall list`: the services of the directory, each with its state."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from sidecall.cli.options import Option, help_text, parse
from sidecall.client.services import services
from sidecall.errors import UsageError, one_line
from sidecall.transport.address import DEFAULT_DIRECTORY, absolute

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecall.client.services import ServiceState

USAGE = "sidecall list [OPTIONS]"
ABOUT = """\
List the services whose sockets are in SIDECALL_DIR, each with its state: serving, bridge (it takes no calls), refused
(you are not allowed to call it), stale socket (no server is listening), or not answering (the server is stopped)."""

OPTIONS = (
    Option("--json", "", "print JSON"),
    Option("-q, --quiet", "", "print only the names of those that are serving"),
)


def main(words: Sequence[str]) -> int:
    """Run the subcommand; return the code to exit with."""
    options = parse(OPTIONS, words, "sidecall list", anywhere=True)
    if options.wants_help:
        print(help_text(USAGE, ABOUT, OPTIONS), end="")
        return 0
    if options.args:
        raise UsageError(f"unexpected argument {options.args[0]!r}", f"usage: {USAGE}")
    found = services(absolute(os.environ.get("SIDECALL_DIR") or DEFAULT_DIRECTORY))
    if options.flag("json"):
        print(json.dumps([_as_dict(service) for service in found]))
    elif options.flag("quiet"):
        print("".join(f"{one_line(service.name)}\n" for service in found if service.reply), end="")
    else:
        width = max([len("service"), *(len(one_line(service.name)) for service in found)]) + 2
        print(f"{'service':<{width}}{'state':<15}details")
        for service in found:
            print(f"{one_line(service.name):<{width}}{service.state:<15}{_details(service)}")
    return 0


def _details(service: ServiceState) -> str:
    if service.reply is None:
        return one_line(service.reason)
    load = service.reply.load
    return f"{load.number(b'running')} of {load.number(b'slots')} slots in use, {load.number(b'queued')} waiting"


def _as_dict(service: ServiceState) -> dict[str, object]:
    shown: dict[str, object] = {"name": service.name, "state": service.state}
    if service.reply is None:
        return {**shown, "reason": service.reason}
    load = service.reply.load
    return {**shown, **{name: load.number(name.encode()) for name in ("running", "slots", "queued", "queue")}}
