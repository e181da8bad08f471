"""`sidecall wait`: wait for the end of a detached call, and end as it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecall import texts
from sidecall.cli.attach import follow_to_end
from sidecall.cli.options import Option, help_text, parse
from sidecall.client.named import named_service
from sidecall.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = "sidecall wait [OPTIONS] NAME CALL"
ABOUT = """\
Wait for the end of a call that was made with `sidecall exec -d`, and exit as its command did. If the server was killed
while the call ran, its end is unknown: exit with 125."""

OPTIONS = (Option("--connect-timeout", "SECONDS", "wait up to SECONDS for the service to start"),)


def main(words: Sequence[str]) -> int:
    """Run the subcommand; return the code to exit with."""
    options = parse(OPTIONS, words, "sidecall wait", anywhere=True)
    if options.wants_help:
        print(help_text(USAGE, ABOUT, OPTIONS), end="")
        return 0
    if len(options.args) != 2:
        raise UsageError(*(texts.CALL_MISSING if options.args else texts.SERVICE_MISSING)(usage=USAGE))
    with named_service(options.args[0]) as path:
        return follow_to_end(path, options.args, None, None, options.seconds("connect-timeout"))
