"""`sidecall doctor`: what keeps a client from its service, and the line to change."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING

from sidecall.cli.options import Option, help_text, parse
from sidecall.client.doctor import PROBLEM, Finding, examine, examine_directory, services_in
from sidecall.errors import UsageError, one_line
from sidecall.transport.address import DEFAULT_DIRECTORY, absolute, socket_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

USAGE = "sidecall doctor [OPTIONS] [NAME]"
ABOUT = """\
Find what keeps a client from service NAME, or from any service in SIDECALL_DIR, and print the line to change. Run it
where the call fails, then where the server runs, and compare. It changes nothing. The exit code is 0 if a call would
reach the service, otherwise the one that `sidecall exec` would have."""

OPTIONS = (Option("--json", "", "print JSON"),)


def main(words: Sequence[str]) -> int:
    """Run the subcommand; return the code to exit with."""
    options = parse(OPTIONS, words, "sidecall doctor", anywhere=True)
    if options.wants_help:
        print(help_text(USAGE, ABOUT, OPTIONS), end="")
        return 0
    if len(options.args) > 1:
        raise UsageError(f"unexpected argument {options.args[1]!r}", f"usage: {USAGE}")
    examined = dict(_examined(options.args[0] if options.args else ""))
    if options.flag("json"):
        print(json.dumps({name: [_as_dict(finding) for finding in found] for name, found in examined.items()}))
    else:
        print("\n".join(line for name, found in examined.items() for line in _lines(name, found)))
    return next((finding.code for found in examined.values() for finding in found if finding.code), 0)


def _examined(name: str) -> Iterator[tuple[str, list[Finding]]]:
    """Yield each service with its findings."""
    if name:
        yield name, examine(socket_path(name, os.environ))
        return
    directory = absolute(os.environ.get("SIDECALL_DIR") or DEFAULT_DIRECTORY)
    unreadable = examine_directory(directory)
    paths = [] if unreadable else services_in(directory)
    for path in paths or [os.path.join(directory, "NAME.sock")]:
        yield os.path.basename(path).removesuffix(".sock"), examine(path)


def _lines(name: str, found: list[Finding]) -> Iterator[str]:
    yield f"{one_line(name)}:"
    for finding in found:
        yield f"  {finding.severity:<9}{one_line(finding.text)}"
        if finding.fix:
            yield f"  {'fix:' if finding.severity == PROBLEM else 'hint:':<9}{one_line(finding.fix)}"


def _as_dict(finding: Finding) -> dict[str, object]:
    return asdict(finding)
