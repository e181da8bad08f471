"""Typed parameters: what a caller may say after a command's name, and what it becomes.

A caller says `--name value` (or `--name=value`). Each value is checked against its declaration and is one piece of
one argv element from then on. Pure, apart from making relative paths absolute by text.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecall.errors import UsageError
from sidecall.files.paths import MASK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SHOWN = 200
"""Bytes of an unknown parameter's name that are shown."""

TYPES = ("str", "path", "int", "float", "choice", "flag")


@dataclass(frozen=True)
class Parameter:
    """One declared parameter.

    Attributes:
        name: what the caller says after `--`.
        type: one of `TYPES`.
        help: a sentence for the person who calls.
        optional: whether it may be missing.
        default: the value that stands in for a missing one, as text; None if there is none.
        repeatable: whether it can be given more than once.
        pattern: for str: a regular expression that must match the whole value.
        choices: for choice: the values allowed.
        minimum: for int and float: the least value allowed.
        maximum: for int and float: the greatest value allowed.
        value: for flag: the word that stands for the flag.
        allow_leading_dash: for str, int and float: whether a value can begin with `-`, and so look like an option to
            the program.
        max_count: for repeatable: how many times it can be given.
        secret: whether its value is kept out of logs and messages.
        access: for path: `read` or `write`.
        volumes: for path: the names of the volumes it may be on; empty for any.
        pin: for path: whether the command gets a name for what was checked, instead of the volume's own path.
        atomic: for path: whether what is written appears in its place only when the command has returned 0.
    """

    name: str
    type: str
    help: str = ""
    optional: bool = False
    default: str | None = None
    repeatable: bool = False
    pattern: str | None = None
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    value: str = ""
    allow_leading_dash: bool = False
    max_count: int = 1000
    secret: bool = False
    access: str = "read"
    volumes: tuple[str, ...] = ()
    pin: bool = True
    atomic: bool = False

    def check(self, given: bytes, base: str) -> bytes:
        """Return the value that the command sees for what the caller gave.

        Args:
            given: the caller's bytes.
            base: the directory that a relative path is relative to.

        Raises:
            UsageError: it is not what was declared.
        """
        violation = "has a NUL byte" if b"\0" in given else ""
        if not violation and self.type == "path":
            return self._path(given, base)
        text = given.decode(errors="surrogateescape")
        violation = violation or self._complaint(text)
        if violation:
            shown = "" if self.secret else ": " + repr(text.encode(errors="backslashreplace").decode())
            raise UsageError(f"--{self.name} {violation}{shown}", self.help)
        return given

    def _path(self, given: bytes, base: str) -> bytes:
        if not given:
            raise UsageError(f"--{self.name} must be a path, not empty", self.help)
        return os.path.join(os.fsencode(base), given)  # not normalised: `..` after a link means what the kernel says

    def _complaint(self, text: str) -> str:
        """Return what is wrong with a value, or an empty string."""
        if text.startswith("-") and self.type != "choice" and not self.allow_leading_dash:
            return "must not begin with a dash"
        if self.type == "int":
            return self._number_complaint(text, r"[+-]?[0-9]+", "a whole number")
        if self.type == "float":
            return self._number_complaint(text, r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", "a number")
        if self.type == "choice":
            return "" if text in self.choices else f"must be one of {', '.join(self.choices)}"
        if self.pattern is not None and not re.fullmatch(self.pattern, text):
            return f"must match {self.pattern}"
        return ""

    def _number_complaint(self, text: str, form: str, wanted: str) -> str:
        if not re.fullmatch(form, text) or not math.isfinite(float(text)):
            return f"must be {wanted}"
        number = int(text) if self.type == "int" else float(text)
        if self.minimum is not None and number < self.minimum:
            return f"must be at least {self.minimum:g}"
        if self.maximum is not None and number > self.maximum:
            return f"must be at most {self.maximum:g}"
        return ""


def parse(
    declared: Mapping[str, Parameter], arguments: Sequence[bytes], base: str, command: str
) -> dict[str, tuple[bytes, ...]]:
    """Read a caller's arguments; return the values of every declared parameter, an empty tuple where none is given.

    Args:
        declared: the command's parameters by name.
        arguments: what the caller said after the command's name.
        base: the caller's working directory, for relative paths.
        command: the command's name, for the messages.

    Raises:
        UsageError: the arguments are not what was declared; the reason names the first parameter that is wrong.
    """
    given = _collect(declared, arguments, base, command)
    for name, parameter in declared.items():
        values = given.setdefault(name, [])
        if len(values) > 1 and not parameter.repeatable:
            raise UsageError(f"--{name} is given {len(values)} times, expected once")
        if len(values) > parameter.max_count:
            raise UsageError(f"--{name} is given {len(values)} times, expected at most {parameter.max_count}")
        if not values and parameter.default is not None:
            values.append(parameter.check(parameter.default.encode(), base))
        if not values and not parameter.optional and parameter.type != "flag":
            raise UsageError(f"--{name} is missing", f"`{command} --help` lists its parameters")
    return {name: tuple(values) for name, values in given.items()}


def _collect(
    declared: Mapping[str, Parameter], arguments: Sequence[bytes], base: str, command: str
) -> dict[str, list[bytes]]:
    given: dict[str, list[bytes]] = {}
    words = iter(arguments)
    for word in words:
        name, equals, inline = word.partition(b"=")
        parameter = _declared_as(declared, name, command)
        if parameter.type == "flag":
            if equals:
                raise UsageError(f"--{parameter.name} is a flag and takes no value")
            value = parameter.value.encode()
        else:
            raw = inline if equals else next(words, None)
            if raw is None:
                raise UsageError(f"--{parameter.name} needs a value", parameter.help)
            value = parameter.check(raw, base)
        given.setdefault(parameter.name, []).append(value)
    return given


def _declared_as(declared: Mapping[str, Parameter], word: bytes, command: str) -> Parameter:
    text = word[:_SHOWN].decode(
        errors="backslashreplace"
    )  # a long name is not compared with others: that takes seconds
    hint = f"`{command} --help` lists its parameters"
    if not text.startswith("--"):
        is_secret = any(parameter.secret for parameter in declared.values())  # it can be a part of a value
        shown = MASK if is_secret else repr(text)
        raise UsageError(f"unexpected argument {shown}: parameters are given as --name value", hint)
    parameter = declared.get(text[2:]) if len(word) <= _SHOWN else None
    if parameter is None:
        near = difflib.get_close_matches(text[2:], declared, 1)
        raise UsageError(f"{command} has no parameter {text}", f"did you mean --{near[0]}?" if near else hint)
    return parameter


def shown(values: Mapping[str, tuple[bytes, ...]], secret: frozenset[str]) -> dict[str, list[str]]:
    """Return parameters as text, with every secret one masked."""
    return {
        name: [MASK if name in secret else value.decode(errors="backslashreplace") for value in given]
        for name, given in values.items()
        if given
    }


def shortened(parameters: Mapping[str, object], room: int = 200) -> dict[str, list[str]]:
    """Return the parameters that fit into some characters together; what is cut ends with an ellipsis."""
    kept: dict[str, list[str]] = {}
    for name, values in parameters.items():
        for value in map(str, values if isinstance(values, list) else [values]):
            kept.setdefault(name, []).append(value if len(value) <= room else f"{value[:room]}…")
            room -= len(value)
            if room <= 0:
                return kept
    return kept
