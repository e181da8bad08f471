"""`sidecall ping`: is a service there, and how busy is it. Fit for a health check."""

from __future__ import annotations

from typing import TYPE_CHECKING
import os

from sidecall.cli.options import Option, help_text, parse
from sidecall.client.status import ping
from sidecall.errors import UsageError, one_line
from sidecall.transport.address import socket_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecall.client.status import PingReply

USAGE = "sidecall ping [OPTIONS] NAME"
ABOUT = """\
Ask the service NAME whether it is there. The question travels over its socket, so it works across network
namespaces, and the exit code is fit for a health check: 0 if it answers, 69 if nobody does."""

OPTIONS = (
    Option("--connect-timeout", "SECONDS", "wait up to SECONDS for the service to start"),
    Option("--timeout", "SECONDS", "how long to wait for the answer; 5 by default"),
    Option("-q, --quiet", "", "print nothing"),
)


def main(words: Sequence[str]) -> int:
    """Run the subcommand; return the code to exit with."""
    options = parse(OPTIONS, words, "sidecall ping", anywhere=True)
    if options.wants_help:
        print(help_text(USAGE, ABOUT, OPTIONS), end="")
        return 0
    if len(options.args) != 1:
        raise UsageError("one service is needed", f"usage: {USAGE}")
    path = socket_path(options.args[0], os.environ)
    reply = ping(path, options.seconds("connect-timeout"), options.seconds("timeout") or 5.0)
    if not options.flag("quiet"):
        print(describe_load(options.args[0], reply))
    return 0


def describe_load(name: str, reply: PingReply) -> str:
    """Return a reply to PING as one line for a person."""
    load = reply.load
    return (
        f"{name}: {one_line(reply.software)}, round trip {reply.round_trip * 1000:.1f} ms, "
        f"{load.number(b'running')} of {load.number(b'slots')} slots in use, "
        f"{load.number(b'queued')} of {load.number(b'queue')} waiting, "
        f"{load.number(b'ended')} connections ended, up {load.number(b'uptime-ms') / 1000:.0f} s"
    )
