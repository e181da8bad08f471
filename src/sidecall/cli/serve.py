"""`sidecall serve`: offer declared commands, any command, or one app."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sidecall.cli import say
from sidecall.cli.options import Option, Parsed, help_text, parse
from sidecall.client.signals import die_of
from sidecall.errors import UsageError
from sidecall.server.config import Service, default_slots, load
from sidecall.server.lifecycle import run
from sidecall.server.service import CallService
from sidecall.transport.address import socket_path
from sidecall.transport.listener import Listener

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

USAGE = """sidecall serve --config FILE [--check]
       sidecall serve --allow-any NAME
       sidecall serve [--max-children N] NAME APP [ARG...]"""
ABOUT = """\
Offer the commands of a configuration file, or any command (for development: whoever may connect may run anything),
or wire one app to each caller as a bridge."""

OPTIONS = (
    Option("--config", "FILE", "offer the commands that FILE (TOML) declares"),
    Option("--check", "", "only check the configuration"),
    Option("--allow-any", "NAME", "offer any command under NAME; for development"),
    Option("--slots", "N", "with --allow-any: calls that run at once; by default one for each processor"),
    Option("--queue", "N", "with --allow-any: calls that may wait; 1000 by default"),
    Option("--grace", "SECONDS", "with --allow-any: time between TERM and KILL; 10 by default"),
    Option("--drain", "SECONDS", "with --allow-any: time that running calls have after TERM; 5 by default"),
    Option("--max-children", "N", "bridge: apps that run at once; 1 by default"),
    Option("-v, --verbose", "", "log each call on stderr"),
)
_GOES_WITH = {
    "check": "config",
    "slots": "allow-any",
    "queue": "allow-any",
    "grace": "allow-any",
    "drain": "allow-any",
}


def main(words: Sequence[str]) -> int:
    """Run the subcommand; return the code to exit with."""
    options = parse(OPTIONS, words, "sidecall serve")
    if options.wants_help:
        print(help_text(USAGE, ABOUT, OPTIONS), end="")
        return 0
    _refuse_mixtures(options)
    log: Callable[[str], None] = say if options.flag("verbose") else lambda _: None
    if options.flag("config"):
        return _serve_config(options, log)
    if options.flag("allow-any"):
        return _serve_calls(_any_command(options), log)
    return _serve_bridge(options, log)


def _refuse_mixtures(options: Parsed) -> None:
    for key, needed in _GOES_WITH.items():
        if options.flag(key) and not options.flag(needed):
            raise UsageError(f"--{key} goes with --{needed}")
    modes = [f"--{key}" for key in ("config", "allow-any") if options.flag(key)]
    if len(modes) > 1:
        raise UsageError("--config and --allow-any exclude each other")
    if modes and (options.words or options.flag("max-children")):
        extra = options.words[0] if options.words else "--max-children"
        raise UsageError(f"{modes[0]} does not go with {extra!r}", "a bridge is `sidecall serve NAME APP`")


def _serve_config(options: Parsed, log: Callable[[str], None]) -> int:
    file = os.path.abspath(options.text("config"))
    service = load(file)
    if options.flag("check"):
        commands = ", ".join(service.commands or ())
        print(f"{options.text('config')}: {service.name} offers {commands}")
        return 0
    return _serve_calls(service, log, lambda: load(file))


def _any_command(options: Parsed) -> Service:
    return Service(
        name=options.text("allow-any"),
        commands=None,
        slots=options.integer("slots", default_slots(), 1),
        queue=options.integer("queue", 1000, 0),
        grace=options.seconds("grace") or 10.0,
        drain=options.seconds("drain") or 5.0,
    )


def _serve_calls(service: Service, log: Callable[[str], None], reload: Callable[[], Service] | None = None) -> int:
    offer = "any command" if service.commands is None else ", ".join(service.commands)
    path = socket_path(service.name, os.environ)
    server = CallService(service, log, reload)
    return _end(run(lambda: _listener(path, service.mode), f"{offer}; {service.slots} slots", server))


def _serve_bridge(options: Parsed, log: Callable[[str], None]) -> int:
    if len(options.words) < 2:
        raise UsageError("a name and an app are needed", "see `sidecall serve --help`")
    from sidecall.server.bridge import Bridge
    from sidecall.supervise.executable import find_executable

    name, *app = options.words
    children = options.integer("max-children", 1, 1)
    path = socket_path(name, os.environ)
    find_executable(app[0], os.environ)
    return _end(run(lambda: _listener(path, 0o600), f"bridge to {app[0]}", Bridge(app, children, path, log)))


def _listener(path: str, mode: int) -> Listener:
    return Listener.inherited(os.environ) or Listener(path, mode)


def _end(code: int) -> int:
    """Die of the signal that ended the server, if it is to be told so."""
    return code if code >= 0 else die_of(-code)
