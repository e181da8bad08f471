"""Options before positional arguments, from a table that also makes the help text and the native client's tables.

Short options can be bundled, with a value at the end: `-qv`, `-qe NAME=VALUE`, `-qeNAME=VALUE`. Everything after the
first positional argument belongs to another program, as with `docker exec`. argparse would parse that too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecall import texts
from sidecall.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence


@dataclass(frozen=True)
class Option:
    """One option: its names (`-v, --verbose`), the name of its value if it takes one, and what it does."""

    names: str
    value: str
    help: str

    @property
    def key(self) -> str:
        """The name that values are found under: the long one without dashes."""
        return self.names.split(", ")[-1].lstrip("-")


@dataclass(frozen=True)
class Unsupported:
    """An option that users of other programs type: its names, why it does not exist here, and what to do instead."""

    names: str
    why: str
    instead: str


class Parsed:
    """The options and arguments given.

    Attributes:
        args: the positional arguments and all that follows them.
        wants_help: whether `--help` was among the options.
    """

    def __init__(self) -> None:
        self.args: list[str] = []
        self.wants_help = False
        self._values: dict[str, list[str]] = {}

    def add(self, key: str, value: str) -> None:
        """Add a value; a flag's is empty."""
        self._values.setdefault(key, []).append(value)

    def flag(self, key: str) -> bool:
        """Return whether an option was given."""
        return key in self._values

    def all(self, key: str) -> list[str]:
        """Return every value given."""
        return self._values.get(key, [])

    def text(self, key: str, default: str = "") -> str:
        """Return the last value given."""
        return self._values.get(key, [default])[-1]

    def seconds(self, key: str) -> float:
        """Return a duration in seconds, 0 if it was not given.

        Raises:
            UsageError: it is not a positive number.
        """
        text = self.text(key)
        if not text:
            return 0.0
        try:
            seconds = float(text) if set(text) <= _NUMBER else -1.0
        except ValueError:
            seconds = -1.0
        if not 0 < seconds < _MOST_SECONDS:
            raise UsageError(*texts.SECONDS_INVALID(name=key, given=texts.quoted(text)))
        return seconds

    def integer(self, key: str, default: int, minimum: int) -> int:
        """Return a whole number of at least `minimum`.

        Raises:
            UsageError: it is not.
        """
        text = self.text(key, str(default))
        if not text.isascii() or not text.isdigit() or int(text) < minimum:
            raise UsageError(*texts.NUMBER_INVALID(name=key, given=texts.quoted(text), minimum=minimum))
        return int(text)


HELP = Option("-h, --help", "", "print this text")

_NUMBER = set("0123456789+-.eE")
_MOST_SECONDS = 1e9
"""30 years."""


def parse(
    options: Sequence[Option],
    words: Sequence[str],
    usage: str,
    *,
    unsupported: Sequence[Unsupported] = (),
    anywhere: bool = False,
) -> Parsed:
    """Read options up to the first positional argument; `--` ends them too.

    Args:
        options: what there is, besides `--help`.
        words: the arguments of the subcommand.
        usage: the command's own name, for the hint.
        unsupported: options that are refused with a sentence of their own.
        anywhere: whether options can also follow positional arguments.

    Raises:
        UsageError: an option is unknown or not supported, lacks its value or has one too many.
    """
    every: tuple[Option | Unsupported, ...] = (*options, HELP, *unsupported)
    known = {name: option for option in every for name in option.names.split(", ")}
    parsed, rest = Parsed(), list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            parsed.args += rest
            break
        if not word.startswith("-") or word == "-":
            parsed.args.append(word)
            if anywhere:
                continue
            parsed.args += rest
            break
        for name, inline in _options_in(word, known):
            option = known.get(name)
            if option is None:
                raise UsageError(*texts.UNKNOWN_OPTION(name=name, usage=usage))
            if isinstance(option, Unsupported):
                raise UsageError(*texts.UNSUPPORTED_OPTION(name=name, why=option.why, instead=option.instead))
            if option is HELP:
                parsed.wants_help = True
                return parsed
            parsed.add(option.key, _value(option, name, inline, rest, known))
    return parsed


def _options_in(word: str, known: Mapping[str, Option | Unsupported]) -> Iterator[tuple[str, str | None]]:
    """Yield the names of the options in an argument, each with the value that follows it there."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        yield name, value if equals else None
        return
    letters = word[1:]
    while letters:
        name, letters = f"-{letters[0]}", letters[1:]
        option = known.get(name)
        if letters.startswith("=") or (letters and isinstance(option, Option) and option.value):
            yield name, letters.removeprefix("=")
            return
        yield name, None


def _value(option: Option, name: str, inline: str | None, rest: list[str], known: Container[str]) -> str:
    if not option.value:
        if inline is not None:
            raise UsageError(*texts.NO_VALUE_TAKEN(name=name))
        return ""
    if inline is not None:
        return inline
    if not rest:
        raise UsageError(*texts.VALUE_MISSING(name=name, value=option.value))
    if (given := rest[0].partition("=")[0]) in known:
        raise UsageError(*texts.VALUE_IS_OPTION(name=name, value=option.value, given=given))
    return rest.pop(0)


def help_text(usage: str, about: str, options: Sequence[Option]) -> str:
    """Return the help text of a subcommand."""
    rows = [(f"{option.names} {option.value}".rstrip(), option.help) for option in (*options, HELP)]
    width = max(len(left) for left, _ in rows) + 2
    lines = "".join(f"  {left:<{width}}{right}\n" for left, right in rows)
    return f"{about}\n\nusage: {usage}\n\n{lines}"
