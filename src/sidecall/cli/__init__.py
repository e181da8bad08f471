"""The `sidecall` command: which subcommand, and how errors reach a person. Each subcommand is a module of its own.

Only what a subcommand needs is imported: `exec` runs thousands of times in a pipeline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
import os
import sys

from sidecall.errors import SidecallError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecall.outcome import Outcome

COMMANDS = {
    "exec": "run a command of a service",
    "describe": "say what a service offers",
    "ping": "ask whether a service is there, and how busy it is",
    "doctor": "find out why a service cannot be reached",
    "status": "list the calls that a service has",
    "kill": "stop a call, whoever made it",
    "serve": "offer commands, or one app, under a name",
    "connect": "wire an app to a bridge",
    "install": "put this executable on a volume, for containers without Python",
}

USAGE = f"""\
Run a command in another container, over a socket on a shared volume.

usage: sidecall COMMAND ...

{"".join(f"  {name:<10}{summary}{chr(10)}" for name, summary in COMMANDS.items())}
`sidecall COMMAND --help` says more. `sidecall --version` prints the version.
The sockets are in $SIDECALL_DIR, by default /run/sidecall.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the code to exit with.

    Args:
        argv: the words after the program's name; those of this process by default.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    occupy_closed_streams()
    try:
        code = _dispatch(words)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except SidecallError as error:
        print_error(error)
        return error.code
    except KeyboardInterrupt:
        from sidecall.client.signals import SIGINT, kill_self

        return kill_self(SIGINT)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains again while exiting
        if not isinstance(error, BrokenPipeError):
            say(f"cannot go on: {error.strerror}")
        return 1


def _dispatch(words: list[str]) -> int:
    name = words[0] if words else ""
    if name in {"--help", "-h", "help"}:
        print(USAGE, end="")
        return 0
    if name == "--version":
        from sidecall import __version__

        print(f"sidecall {__version__}")
        return 0
    if name not in COMMANDS:
        raise UsageError(
            f"no such subcommand: {name!r}" if name else "a subcommand is missing",
            f"one of {', '.join(COMMANDS)}; see `sidecall --help`",
        )
    main_of: Callable[[Sequence[str]], int] = __import__(f"sidecall.cli.{name}", fromlist=["main"]).main
    return main_of(words[1:])


CLOSED: set[int] = set()
"""Which of stdin, stdout and stderr this process was started without."""


def occupy_closed_streams() -> None:
    """Open /dev/null in the place of a closed stdin, stdout or stderr, so that no socket of ours gets there."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
        CLOSED.add(fd)
    os.close(fd)


def print_error(error: SidecallError | Outcome) -> None:
    """Say on stderr what is wrong: one sentence, and a hint under it."""
    say(error.reason)
    if error.hint:
        _write(f"hint: {error.hint}\n")


def say(text: str) -> None:
    """Write one line of ours to stderr, in one write, so that lines of several callers do not mix."""
    _write(f"sidecall: {text}\n")


def _write(text: str) -> None:
    try:
        os.write(2, text.encode(errors="backslashreplace"))
    except OSError:
        pass  # there is nobody to tell
