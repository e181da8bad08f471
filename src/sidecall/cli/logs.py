"""`sidecall logs`: print the output of a detached call."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sidecall import texts
from sidecall.cli.exec import end_as
from sidecall.cli.options import Option, help_text, parse
from sidecall.cli.stderr import say
from sidecall.client.attempt import Reports
from sidecall.client.detached import follow
from sidecall.client.named import named_service
from sidecall.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = "sidecall logs [OPTIONS] NAME CALL"
ABOUT = """\
Print what a call that was made with `sidecall exec -d` has written: its stdout to stdout, its stderr to stderr."""

OPTIONS = (
    Option("-f, --follow", "", "go on until the call ends"),
    Option("--stdout", "", "print its stdout alone"),
    Option("--stderr", "", "print its stderr alone"),
    Option("--since", "SECONDS", "leave out what was written more than SECONDS ago, to the second"),
    Option("--connect-timeout", "SECONDS", "wait up to SECONDS for the service to start"),
)


def main(words: Sequence[str]) -> int:
    """Run the subcommand; return the code to exit with."""
    options = parse(OPTIONS, words, "sidecall logs", anywhere=True)
    if options.wants_help:
        print(help_text(USAGE, ABOUT, OPTIONS), end="")
        return 0
    if len(options.args) != 2:
        raise UsageError(*(texts.CALL_MISSING if options.args else texts.SERVICE_MISSING)(usage=USAGE))
    name, call_id = options.args
    ago = options.seconds("since")
    with named_service(name) as path:
        outcome = follow(
            path,
            call_id,
            None if options.flag("stderr") and not options.flag("stdout") else 1,
            None if options.flag("stdout") and not options.flag("stderr") else 2,
            Reports(on_lost_bytes=say),
            to_end=options.flag("follow"),
            needs_outcome=False,
            since=time.time() - ago if ago else 0.0,
            connect_timeout=options.seconds("connect-timeout"),
        )
    return end_as(outcome)
