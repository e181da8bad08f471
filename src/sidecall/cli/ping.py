"""`sidecall ping`: whether a service responds, and how busy it is. Usable as a health check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecall import texts
from sidecall.cli.options import Option, help_text, parse
from sidecall.client.named import named_service
from sidecall.client.status import ping
from sidecall.errors import UsageError, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecall.client.status import PingReply


USAGE = "sidecall ping [OPTIONS] NAME"
ABOUT = """\
Check whether service NAME responds, over its socket, so also across network namespaces. The exit code suits a health
check: 0 if the service responds, 69 if not."""

OPTIONS = (
    Option("--connect-timeout", "SECONDS", "wait up to SECONDS for the service to start"),
    Option("--timeout", "SECONDS", "wait up to SECONDS for the answer [default: 5]"),
    Option("-q, --quiet", "", "print nothing"),
)


def main(words: Sequence[str]) -> int:
    """Run the subcommand; return the code to exit with."""
    options = parse(OPTIONS, words, "sidecall ping", anywhere=True)
    if options.wants_help:
        print(help_text(USAGE, ABOUT, OPTIONS), end="")
        return 0
    if len(options.args) != 1:
        raise UsageError(*texts.SERVICE_MISSING(usage=USAGE))
    with named_service(options.args[0]) as path:
        reply = ping(path, options.seconds("connect-timeout"), options.seconds("timeout") or 5.0)
    if not options.flag("quiet"):
        print(describe_load(options.args[0], reply))
    return 0


def describe_load(name: str, reply: PingReply) -> str:
    """Return a reply to PING as one line for a person."""
    numbers = {
        detail: reply.load.number(detail.encode()) for detail in ("running", "slots", "queued", "queue", "ended")
    }
    line, _ = texts.PING_REPLY(
        name=one_line(name),
        software=one_line(reply.software),
        milliseconds=reply.round_trip * 1000,
        uptime=reply.load.number(b"uptime-ms") / 1000,
        **numbers,
    )
    return line
