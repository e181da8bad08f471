"""`sidecall serve`: serve declared commands, any command, or one program per connection."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]  # asyncio does without: 4 MB, and 10 ms of the start

from sidecall import texts
from sidecall.calls.log import log
from sidecall.cli.options import Option, Parsed, help_text, parse
from sidecall.client.signals import kill_self
from sidecall.errors import ConfigError, UsageError
from sidecall.policy.config import DEFAULT_SLOTS, Listen, RecordRules, Service, only_me
from sidecall.policy.loading import load
from sidecall.policy.table import Table
from sidecall.server.checks import check_machine, problems
from sidecall.server.lifecycle import ListenerSpec, run
from sidecall.server.service import CallService
from sidecall.transport.address import absolute, socket_path
from sidecall.transport.listener import Listener

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecall.policy.callers import Callers

USAGE = """sidecall serve --config FILE [--check] [--volume NAME=PATH]... [--records DIR]
       sidecall serve --allow-any NAME [--callers CALLER,...] [--records DIR]
       sidecall serve [--max-children N] NAME PROGRAM [ARG...]"""
ABOUT = """\
Serve the commands of a configuration file, or any command (for development: every caller that the socket admits can run
anything), or run one program per connection (bridge mode). Any command runs in the working directory of its client if
that is the same directory here, by device and inode; else in that of the server, and the client prints which."""

OPTIONS = (
    Option("--config", "FILE", "serve the commands that FILE (TOML) declares"),
    Option("--check", "", "check the configuration and exit"),
    Option("--volume", "NAME=PATH", "with --config: mount point of a declared volume in this container; repeatable"),
    Option("--allow-any", "NAME", "serve any command as NAME; for development"),
    Option("--callers", "CALLER,...", "with --allow-any: uids, user names and @groups that can call [default: you]"),
    Option("--records", "DIR", "with --config or --allow-any: record detached calls in DIR"),
    Option("--slots", "N", "with --allow-any: calls that run at once [default: 64]"),
    Option("--queue", "N", "with --allow-any: calls that can wait [default: 1000]"),
    Option("--grace", "SECONDS", "with --allow-any: time between SIGTERM and SIGKILL [default: 10]"),
    Option("--drain", "SECONDS", "with --allow-any: time for running calls after SIGTERM [default: 5]"),
    Option("--max-children", "N", "bridge: programs that run at once [default: 1]"),
    Option("-v, --verbose", "", "log each call to stderr"),
)
_GOES_WITH = {
    "check": "config",
    "volume": "config",
    "callers": "allow-any",
    "slots": "allow-any",
    "queue": "allow-any",
    "grace": "allow-any",
    "drain": "allow-any",
}
_MODES = {"config": "sidecall serve --config FILE", "allow-any": "sidecall serve --allow-any NAME"}


def main(words: Sequence[str]) -> int:
    """Run the subcommand; return the code to exit with."""
    options = parse(OPTIONS, words, "sidecall serve")
    if options.wants_help:
        print(help_text(USAGE, ABOUT, OPTIONS), end="")
        return 0
    _refuse_mixtures(options)
    if options.flag("config"):
        return _serve_config(options)
    if options.flag("allow-any"):
        return _serve_calls(options, _any_command(options))
    return _serve_bridge(options)


def _refuse_mixtures(options: Parsed) -> None:
    mode = next((key for key in ("config", "allow-any") if options.flag(key)), "")
    for key, needed in _GOES_WITH.items():
        if options.flag(key) and mode != needed:
            in_file = mode == "config" and key != "callers"
            hint = f"set `{key}` in the configuration file" if in_file else f"use `{_MODES[needed]} --{key}`"
            raise UsageError(f"--{key} goes with --{needed}", hint)
    if options.flag("records") and not mode:
        raise UsageError("--records goes with --config or --allow-any", f"use `{_MODES['allow-any']} --records DIR`")
    if options.flag("config") and options.flag("allow-any"):
        raise UsageError("--config and --allow-any exclude each other", "leave one of them out")
    if mode and options.flag("max-children"):
        raise UsageError(f"--max-children does not go with --{mode}", "set the number of `slots`")
    if mode and options.args:
        raise UsageError(
            f"unexpected argument {options.args[0]!r} after --{mode} {options.text(mode)}",
            "leave it out; for a bridge, use `sidecall serve NAME PROGRAM`",
        )


def _check_bridge(options: Parsed) -> None:
    """Refuse arguments that are not NAME and PROGRAM, and print what they look like instead."""
    name, program = options.args[0] if options.args else "", options.args[1:]
    if name.endswith(".toml"):
        raise UsageError("missing --config", f"use `{_MODES['config'].replace('FILE', name)}`")
    if not program:
        reason = "missing program" if name else "missing service"
        raise UsageError(reason, f"use `{_MODES['config']}`, `{_MODES['allow-any']}` or `sidecall serve NAME PROGRAM`")
    if program[0].startswith("-"):
        raise UsageError(*texts.OPTION_AFTER_SERVICE(name=program[0], usage=USAGE.splitlines()[-1].strip()))


def _serve_config(options: Parsed) -> int:
    file = absolute(options.text("config"))
    mounts = dict(_volume(given) for given in options.all("volume"))
    records = options.text("records")

    def read() -> Service:
        service = _recorded(load(file, mounts), records)
        check_machine(service)
        return service

    service = read()
    if options.flag("check"):
        if found := list(problems(service)):
            raise ConfigError(f"{options.text('config')}: {'; '.join(found)}")
        commands = ", ".join(service.commands or ())
        print(f"{options.text('config')}: {service.name} offers {commands}")
        return 0
    return _serve_calls(options, service, read)


def _recorded(service: Service, directory: str) -> Service:
    """Return the service with another directory of records, if there is to be one."""
    if not directory:
        return service
    rules = service.records or RecordRules("")
    return replace(service, records=replace(rules, directory=absolute(directory)))


def _volume(given: str) -> tuple[str, str]:
    name, equals, path = given.partition("=")
    if not name or not equals or not path:
        raise UsageError(f"--volume takes NAME=PATH, not {given!r}")
    return name, absolute(path)


def _any_command(options: Parsed) -> Service:
    name = options.text("allow-any")
    service = Service(
        name=name,
        commands=None,
        slots=options.integer("slots", DEFAULT_SLOTS, 1),
        queue=options.integer("queue", 1000, 0),
        grace=options.seconds("grace") or 10.0,
        drain=options.seconds("drain") or 5.0,
        listeners=(Listen(name, _callers(options)),),
    )
    check_machine(service)
    return _recorded(service, options.text("records"))


def _callers(options: Parsed) -> Callers:
    words = [word.strip() for given in options.all("callers") for word in given.split(",")]
    return Table("--allow-any", "", {"--callers": words} if words else {}).callers("--callers", only_me())


def _serve_calls(options: Parsed, service: Service, reload: Callable[[], Service] | None = None) -> int:
    for problem in problems(service):
        log(problem)
    specs = {listen.name: _spec(service, listen) for listen in service.listeners}
    with contextlib.closing(CallService(service, reload, is_verbose=options.flag("verbose"))) as calls:
        code = run(specs, calls)
    return _end(code)


def _spec(service: Service, listen: Listen) -> ListenerSpec:
    names = service.commands if listen.commands is None else sorted(listen.commands)
    commands = "any command" if names is None else ", ".join(names)
    return ListenerSpec(_listener(listen.name, listen.mode), f"{commands}; {service.slots} slots")


def _serve_bridge(options: Parsed) -> int:
    _check_bridge(options)
    from sidecall.server.bridge import Bridge
    from sidecall.supervise.executable import find_executable

    name, *argv = options.args
    children = options.integer("max-children", 1, 1)
    find_executable(argv[0], os.environ)
    bridge = Bridge(argv, children, socket_path(name, os.environ), is_verbose=options.flag("verbose"))
    return _end(run({name: ListenerSpec(_listener(name, 0o600), f"bridge to {argv[0]}")}, bridge))


def _listener(name: str, mode: int) -> Callable[[], Listener]:
    """Return what opens a listener, or takes the one that a service manager has passed on."""
    path = socket_path(name, os.environ)
    return lambda: Listener.inherited(os.environ) or Listener(path, mode)


def _end(code: int) -> int:
    """Die of the signal that ended the server, if it is to be told so."""
    return code if code >= 0 else kill_self(-code)
