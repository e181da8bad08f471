"""`sidecall rm`: remove the records of calls that have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecall import texts
from sidecall.cli.options import Option, help_text, parse
from sidecall.client.named import named_service
from sidecall.client.status import remove
from sidecall.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = "sidecall rm NAME CALL..."
ABOUT = """\
Remove the records of calls that have ended, with their output. Their ids can be used again then."""

OPTIONS: tuple[Option, ...] = ()


def main(words: Sequence[str]) -> int:
    """Run the subcommand; return the code to exit with."""
    options = parse(OPTIONS, words, "sidecall rm")
    if options.wants_help:
        print(help_text(USAGE, ABOUT, OPTIONS), end="")
        return 0
    if len(options.args) < 2:
        raise UsageError(*(texts.CALL_MISSING if options.args else texts.SERVICE_MISSING)(usage=USAGE))
    name, *call_ids = options.args
    with named_service(name) as path:
        for call_id in call_ids:
            remove(path, call_id)
    return 0
