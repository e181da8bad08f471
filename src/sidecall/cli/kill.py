"""`sidecall kill`: cancel calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecall import texts
from sidecall.cli.options import Option, help_text, parse
from sidecall.client.named import named_service
from sidecall.client.status import cancel
from sidecall.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = "sidecall kill NAME CALL..."
ABOUT = """\
Cancel calls of service NAME. A waiting call is dropped; a running one gets SIGTERM and, after the grace period, SIGKILL
for all its processes. Its client exits with the status of the command. You can cancel the calls that `sidecall status`
lists."""

OPTIONS: tuple[Option, ...] = ()


def main(words: Sequence[str]) -> int:
    """Run the subcommand; return the code to exit with."""
    options = parse(OPTIONS, words, "sidecall kill")
    if options.wants_help:
        print(help_text(USAGE, ABOUT, OPTIONS), end="")
        return 0
    if len(options.args) < 2:
        raise UsageError("missing call" if options.args else texts.SERVICE_MISSING.reason, f"usage: {USAGE}")
    name, *call_ids = options.args
    with named_service(name) as path:
        for call_id in call_ids:
            cancel(path, call_id)
    return 0
