"""`sidecall attach`: follow a detached call: its output, then its end."""

from __future__ import annotations

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

USAGE = "sidecall attach [OPTIONS] NAME CALL"
ABOUT = """\
Print the output of a call that was made with `sidecall exec -d`, from its start; go on until it ends, and exit as its
command did. Ctrl-C ends this process alone: the call goes on."""

OPTIONS = (Option("--connect-timeout", "SECONDS", "wait up to SECONDS for the service to start"),)


def main(words: Sequence[str]) -> int:
    """Run the subcommand; return the code to exit with."""
    options = parse(OPTIONS, words, "sidecall attach", anywhere=True)
    if options.wants_help:
        print(help_text(USAGE, ABOUT, OPTIONS), end="")
        return 0
    if len(options.args) != 2:
        raise UsageError(*(texts.CALL_MISSING if options.args else texts.SERVICE_MISSING)(usage=USAGE))
    with named_service(options.args[0]) as path:
        return follow_to_end(path, options.args, 1, 2, options.seconds("connect-timeout"))


def follow_to_end(
    path: str, arguments: Sequence[str], stdout: int | None, stderr: int | None, connect_timeout: float
) -> int:
    """Follow a call to its end, and end as its command did; return the code to exit with.

    Args:
        path: the service's socket.
        arguments: the service's name and the call's id, as they were given.
        stdout: where to write the command's stdout; None for nowhere.
        stderr: likewise.
        connect_timeout: seconds to wait for the service to start.
    """
    name, call_id = arguments
    reports = Reports(on_lost_bytes=say)
    try:
        outcome = follow(path, call_id, stdout, stderr, reports, connect_timeout=connect_timeout)
    except KeyboardInterrupt:
        say(f"the call goes on; to cancel it, use `sidecall kill {name} {call_id}`")
        raise
    return end_as(outcome)
