"""`sidecall completion`: scripts for shells, and the candidates that these ask for.

The scripts decide nothing: they pass on the words up to the cursor, and offer what is printed. So all shells complete
alike, by the option tables of the subcommands, the sockets of the directory, and the description that a service gives.
Whatever goes wrong, a completion prints nothing.
"""

from __future__ import annotations

import json
import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sidecall.cli import COMMANDS
from sidecall.cli.options import HELP, Option, help_text, parse
from sidecall.errors import SidecallError, UsageError, one_line
from sidecall.transport.address import DEFAULT_DIRECTORY, socket_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

USAGE = "sidecall completion bash|zsh|fish"
ABOUT = """\
Print a script that completes subcommands, options and services, and the commands and parameters of a service:
  bash  source <(sidecall completion bash)
  zsh   source <(sidecall completion zsh), after compinit
  fish  sidecall completion fish | source"""

OPTIONS = (Option("--candidates", "", "print the candidates for the last of the arguments; the scripts use it"),)

FILES, DIRECTORIES = ":files", ":directories"
"""Printed in place of candidates: the shell completes these itself."""

_POSITIONALS = {
    "exec": ("service", "command"),
    "describe": ("service", "command"),
    "ping": ("service",),
    "doctor": ("service",),
    "status": ("service",),
    "kill": ("service", "calls"),
    "wait": ("service", "recorded calls"),
    "attach": ("service", "recorded calls"),
    "logs": ("service", "recorded calls"),
    "rm": ("service", "recorded calls"),
    "connect": ("service", "files"),
    "install": ("directories",),
    "completion": ("shell",),
}
_WAIT = 3.0
"""Seconds for a service to answer."""

_BASH = """\
_sidecall() {
    local word line joined words=()
    for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do  # readline has split words at each `=`
        if [[ ${#words[@]} -gt 0 && ( $word == "=" || ${words[-1]} == --*= ) ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
    done
    joined=${words[-1]}
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            :files) compopt -o default ;;
            :directories) compopt -o plusdirs ;;
            *)
                line=${line%%$'\\t'*}
                [[ $joined == --*=* ]] && line=${line#*=}
                printf -v line %q "$line"
                COMPREPLY+=("$line")
                ;;
        esac
    done < <(sidecall completion --candidates -- "${words[@]}" 2>/dev/null)
}
complete -F _sidecall sidecall
"""
_ZSH = """\
#compdef sidecall
_sidecall() {
    local line name
    local -a candidates
    for line in "${(@f)$(sidecall completion --candidates -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)}"; do
        case $line in
            '') ;;
            :files) compset -P '--*='; _files ;;
            :directories) compset -P '--*='; _files -/ ;;
            *)
                name=${line%%$'\\t'*}
                candidates+=("${name//:/\\\\:}:${line#*$'\\t'}")
                ;;
        esac
    done
    (( $#candidates )) && _describe sidecall candidates
}
if [[ $funcstack[1] == _sidecall ]]; then
    _sidecall "$@"
else
    compdef _sidecall sidecall
fi
"""
_FISH = """\
function __sidecall_candidates
    set -l words (commandline -opc) (commandline -ct)
    for line in (sidecall completion --candidates -- $words[2..-1] 2>/dev/null)
        switch $line
            case :files
                __fish_complete_path (commandline -ct)
            case :directories
                __fish_complete_directories (commandline -ct)
            case '*'
                echo $line
        end
    end
end
complete -c sidecall -f -a '(__sidecall_candidates)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def main(words: Sequence[str]) -> int:
    """Run the subcommand; return the code to exit with."""
    options = parse(OPTIONS, words, "sidecall completion")
    if options.wants_help:
        print(help_text(USAGE, ABOUT, OPTIONS), end="")
        return 0
    if options.flag("candidates"):
        for word, summary in candidates(options.args or [""]):
            print(f"{word}\t{one_line(summary)}" if summary else word)
        return 0
    if len(options.args) != 1 or options.args[0] not in SCRIPTS:
        raise UsageError("expected the name of a shell: bash, zsh or fish", f"usage: {USAGE}")
    print(SCRIPTS[options.args[0]], end="")
    return 0


def candidates(words: Sequence[str]) -> list[tuple[str, str]]:
    """Return what can stand in place of the last word, each with a summary that can be empty.

    Args:
        words: the arguments of `sidecall` up to the cursor.
    """
    *before, word = words
    try:
        found = list(_candidates(before, word))
    except (SidecallError, OSError, ValueError, LookupError, TypeError):
        return []  # a service that does not answer, or not as one does
    return [
        each
        for each in found
        if each[0].isprintable() and (each[0].startswith(word) or each[0] in {FILES, DIRECTORIES})
    ]


def _candidates(before: Sequence[str], word: str) -> Iterator[tuple[str, str]]:
    if not before:
        yield from COMMANDS.items()
        yield "help", "print the options of a subcommand"
        return
    name, *rest = before
    if name == "help" and not rest:
        yield from COMMANDS.items()
    if name not in COMMANDS:
        return
    options: tuple[Option, ...] = (*import_module(f"sidecall.cli.{name}").OPTIONS, HELP)
    given, needing = _read(rest, options, is_prefix=name in {"exec", "connect", "serve"})
    if name == "exec" and len(given) > 1:
        yield from _of_call(given, word)
    elif needing is not None:
        yield from _values(needing)
    elif word.startswith("--") and "=" in word:
        spelling = word.partition("=")[0]
        for value, summary in _values(_by_name(options)[spelling]):
            yield value if value in {FILES, DIRECTORIES} else f"{spelling}={value}", summary
    elif word.startswith("-"):
        yield from ((spelling, option.help) for option in options for spelling in option.names.split(", "))
    else:
        yield from _positionals(name, given)


def _read(words: Sequence[str], options: Sequence[Option], *, is_prefix: bool) -> tuple[list[str], Option | None]:
    """Return the positional arguments, and the option whose value comes next."""
    given: list[str] = []
    known, rest = _by_name(options), list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*given, *rest], None
        if word == "-" or not word.startswith("-"):
            given.append(word)
            if is_prefix:
                return [*given, *rest], None
            continue
        option = known.get(word if word.startswith("--") else f"-{word[-1]}")
        if option is not None and option.value:
            if not rest:
                return given, option
            rest.pop(0)
    return given, None


def _by_name(options: Sequence[Option]) -> dict[str, Option]:
    return {spelling: option for option in options for spelling in option.names.split(", ")}


def _values(option: Option) -> Iterator[tuple[str, str]]:
    if option.value == "DIR":
        yield DIRECTORIES, ""
    elif option.value == "FILE":
        yield FILES, ""
    elif option.value.startswith("NAME["):
        yield from ((name, "") for name in sorted(os.environ))


def _positionals(name: str, given: Sequence[str]) -> Iterator[tuple[str, str]]:
    kinds = _POSITIONALS.get(name, ())
    kind = kinds[min(len(given), len(kinds) - 1)] if kinds else ""
    is_last = len(given) >= len(kinds)
    if kind == "service" and not is_last:
        yield from ((service, "") for service in _services())
    elif kind == "command" and not is_last:
        yield from _commands(given[0])
    elif kind in {"calls", "recorded calls"}:
        yield from _calls(given[0], with_ended=kind != "calls")
    elif kind == "files":
        yield FILES, ""
    elif kind == "directories" and not is_last:
        yield DIRECTORIES, ""
    elif kind == "shell" and not is_last:
        yield from ((shell, "") for shell in SCRIPTS)


def _services() -> Iterable[str]:
    names = os.listdir(os.environ.get("SIDECALL_DIR") or DEFAULT_DIRECTORY)
    return sorted(name.removesuffix(".sock") for name in names if name.endswith(".sock"))


def _commands(service: str) -> Iterator[tuple[str, str]]:
    described = _describe(service)
    if not described["any_command"]:
        yield from ((command["name"], command["summary"]) for command in described["commands"])


def _calls(service: str, *, with_ended: bool) -> Iterator[tuple[str, str]]:
    from sidecall.client.status import calls

    for call in json.loads(calls(socket_path(service, os.environ), timeout=_WAIT, with_ended=with_ended)):
        yield call["call"], f"{call['command']}, {call['state']}"


def _of_call(given: Sequence[str], word: str) -> Iterator[tuple[str, str]]:
    """Yield the parameters of a declared command, or the values of one."""
    service, command, *arguments = [each for index, each in enumerate(given) if index != 1 or each != "--"]
    described = _describe(service, command)
    if described["any_command"]:
        yield FILES, ""
        return
    parameters = {f"--{each['name']}": each for each in described["commands"][0]["parameters"]}
    spelling, equals, _ = word.partition("=")
    before = arguments[-1] if arguments else ""
    if equals and spelling in parameters:
        yield from _parameter_values(parameters[spelling], f"{spelling}=")
    elif before in parameters and parameters[before]["type"] != "flag":
        yield from _parameter_values(parameters[before], "")
    else:
        yield from ((name, each.get("help", "")) for name, each in parameters.items())


def _parameter_values(parameter: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    yield from ((f"{prefix}{choice}", "") for choice in parameter.get("choices", ()))
    if parameter["type"] == "path":
        yield FILES, ""


def _describe(service: str, command: str = "") -> dict[str, Any]:
    from sidecall.client.status import describe

    described: dict[str, Any] = json.loads(
        describe(socket_path(service, os.environ), os.fsencode(command), timeout=_WAIT)
    )
    return described
