"""`sidecall ping`: is a service there, and how busy is it. Fit for a health check."""

from __future__ import annotations

import os

from sidecall.cli.options import Option, help_text, parse
from sidecall.client.status import ping
from sidecall.errors import UsageError, one_line
from sidecall.transport.address import socket_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = "sidecall ping [OPTIONS] NAME"
ABOUT = """\
Ask the service NAME whether it is there. The question travels over its socket, so it works across network
namespaces, and the exit code is fit for a health check: 0 if it answers, 69 if nobody does."""

OPTIONS = (
    Option("--wait", "SECONDS", "wait for the service to come up"),
    Option("--timeout", "SECONDS", "how long to wait for the answer; 5 by default"),
    Option("-q, --quiet", "", "print nothing"),
)


def main(words: Sequence[str]) -> int:
    """Run the subcommand; return the code to exit with."""
    options = parse(OPTIONS, words, "sidecall ping", anywhere=True)
    if options.wants_help:
        print(help_text(USAGE, ABOUT, OPTIONS), end="")
        return 0
    if len(options.words) != 1:
        raise UsageError("one service is needed", f"usage: {USAGE}")
    path = socket_path(options.words[0], os.environ)
    presence = ping(path, options.seconds("wait"), options.seconds("timeout") or 5.0)
    if not options.flag("quiet"):
        load = presence.load
        print(
            f"{options.words[0]}: {one_line(presence.software)}, round trip {presence.round_trip * 1000:.1f} ms, "
            f"{load.running} of {load.slots} slots busy, {load.queued} of {load.queue} waiting, "
            f"{load.ended} connections ended, up {load.uptime_ms / 1000:.0f} s"
        )
    return 0
