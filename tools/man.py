"""Prints docs/sidecall.1, the manual page, from the tables of the commands; a test compares the two. Source: man(7)."""

from __future__ import annotations

import re
from importlib import import_module

from commands import ENVIRONMENT

from sidecall import __version__, errors
from sidecall.cli import COMMANDS
from sidecall.cli.options import HELP

EXIT_CODES = {
    errors.EXIT_USAGE: "usage error, or no such call",
    errors.EXIT_UNAVAILABLE: "the service cannot be reached",
    errors.EXIT_BUG: "internal error of the server",
    errors.EXIT_OUTPUT_FAILED: "an output file could not be created",
    errors.EXIT_BUSY: "the service is busy, or shuts down",
    errors.EXIT_PROTOCOL: "the other side does not follow the protocol",
    errors.EXIT_DENIED: "the caller is not allowed to do this",
    errors.EXIT_CONFIG: "the configuration of the service is invalid",
    errors.EXIT_TIMED_OUT: "the timeout has passed, and the command was terminated",
    errors.EXIT_LOST: "the exit status of the command is unknown",
    errors.EXIT_CANNOT_EXECUTE: "the command cannot be executed",
    errors.EXIT_NO_SUCH_COMMAND: "no such command",
}

SEE_ALSO = "docker-exec(1), podman-exec(1), unix(7)"


def main() -> None:
    """Print the page."""
    print(f'.TH SIDECALL 1 "" "sidecall {__version__}" "User Commands"')
    print(".SH NAME\nsidecall \\- run a command in another container, over a socket on a shared volume")
    print(".ad l\n.nh\n.SH SYNOPSIS")
    for name in COMMANDS:
        for usage in import_module(f"sidecall.cli.{name}").USAGE.splitlines():
            print(f".br\n{_usage(usage)}")
    print(".SH COMMANDS")
    for name in COMMANDS:
        module = import_module(f"sidecall.cli.{name}")
        print(f".SS sidecall {name}\n{_escaped(module.ABOUT)}")
        for option in (*module.OPTIONS, HELP):
            names = ", ".join(rf"\fB{_escaped(each)}\fR" for each in option.names.split(", "))
            value = rf" \fI{_escaped(option.value)}\fR" if option.value else ""
            print(f".TP\n{names}{value}\n{_sentence(option.help)}")
    print(".SH EXIT STATUS\n\\fBsidecall exec\\fR and \\fBsidecall wait\\fR exit as the command did. Else:")
    for code, meaning in sorted(EXIT_CODES.items()):
        print(f".TP\n.B {code}\n{_sentence(meaning)}")
    print(".SH ENVIRONMENT")
    for names, meaning in re.findall(r"^\| (`.*?) \| (.*) \|$", ENVIRONMENT, re.MULTILINE):
        print(f".TP\n.B {_escaped(names.replace('`', ''))}\n{_sentence(_plain(meaning))}")
    print(f".SH SEE ALSO\n{_escaped(SEE_ALSO)}")


def _usage(usage: str) -> str:
    return " ".join(rf"\fB{_escaped(word)}\fR" if word.islower() else _escaped(word) for word in usage.split())


def _plain(markdown: str) -> str:
    return re.sub(r"\[(.*?)\]\(.*?\)", r"\1", markdown).replace("`", "")


def _sentence(text: str) -> str:
    return _escaped(f"{text[0].upper()}{text[1:].rstrip('.')}.")


def _escaped(text: str) -> str:
    r"""Return text that groff prints as it is: no macro at the start of a line, and `-` as in a command."""
    lines = [f"\\&{line}" if line.startswith((".", "'")) else line for line in text.replace("\\", "\\e").split("\n")]
    return "\n".join(lines).replace("-", "\\-").replace("`", "\\(ga")


if __name__ == "__main__":
    main()
