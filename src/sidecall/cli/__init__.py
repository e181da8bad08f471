"""The `sidecall` command: finds the subcommand, and prints errors. Each subcommand is a module of its own."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from sidecall import __version__, texts
from sidecall.cli.stderr import occupy_closed_streams, print_error, say
from sidecall.client.signals import kill_self
from sidecall.errors import SidecallError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COMMANDS = {
    "exec": "run a command of a service",
    "list": "list the services of the directory, each with its state",
    "describe": "show the commands of a service, or the usage of one",
    "ping": "check whether a service responds",
    "doctor": "find out why a service cannot be reached",
    "status": "list the calls of a service",
    "kill": "cancel calls",
    "wait": "wait for the end of a detached call, and exit as its command did",
    "attach": "follow a detached call: its output, then its end",
    "logs": "print the output of a detached call",
    "rm": "remove the records of calls that have ended",
    "serve": "serve commands, or one program per connection",
    "connect": "run a program on a connection to a bridge",
    "install": "copy this executable to a volume, for containers without Python",
    "completion": "print a script that completes command lines in bash, zsh or fish",
}

USAGE = f"""\
Run a command in another container, over a socket on a shared volume

usage: sidecall COMMAND ...

{"".join(f"  {name:<12}{summary}{chr(10)}" for name, summary in COMMANDS.items())}
`sidecall help COMMAND` prints the options of COMMAND, `sidecall --version` the version.
The sockets are in $SIDECALL_DIR, /run/sidecall by default.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the code to exit with.

    Args:
        argv: the arguments after the program's name; those of this process by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    occupy_closed_streams()
    try:
        code = _dispatch(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except SidecallError as error:
        print_error(error)
        return error.code
    except KeyboardInterrupt:
        return kill_self(signal.SIGINT)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains again while exiting
        if not isinstance(error, BrokenPipeError):
            say(texts.CANNOT_CONTINUE(error=error.strerror)[0])
        return 1


def _dispatch(arguments: list[str]) -> int:
    if len(arguments) > 1 and arguments[0] == "help":
        arguments = [arguments[1], "--help"]
    name = arguments[0] if arguments else ""
    if name in {"--help", "-h", "help"}:
        print(USAGE, end="")
        return 0
    if name in {"--version", "-V"}:
        print(f"sidecall {__version__}")
        return 0
    if not name:
        raise UsageError(*texts.SUBCOMMAND_MISSING())
    if name not in COMMANDS:
        raise UsageError(f"unknown subcommand {texts.quoted(name)}", texts.SUBCOMMAND_MISSING.hint)
    main_of: Callable[[Sequence[str]], int] = import_module(f"sidecall.cli.{name}").main
    return main_of(arguments[1:])
