"""Reading a TOML table key by key. Every mistake is one sentence: the file, the key, what was expected."""

from __future__ import annotations

import difflib
import grp
import math
import pwd
import re
import signal
import sys
from typing import TYPE_CHECKING

from sidecall.errors import ConfigError
from sidecall.policy.callers import Callers
from sidecall.protocol.messages import SIGNALS
from sidecall.transport.credentials import UNMAPPED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import NoReturn, TypeGuard

_SIGNALS = {signal.Signals(number).name.removeprefix("SIG"): number for number in sorted(SIGNALS)}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_RENAMED = {
    "hold": "pin",
    "leading-dash": "allow-leading-dash",
    "leftovers": "background",
    "most": "max-count",
    "repeated": "repeatable",
    "replace": "atomic",
}
"""Keys of configurations that were written before the first release, and their names now."""

_MOST = 2**32 - 1
"""What a number of the protocol, or an id of the kernel, can be at most."""

_LARGEST = sys.float_info.max


class Table:
    """A TOML table that is read key by key; what is left at the end is a mistake."""

    def __init__(self, file: str, path: str, content: object) -> None:
        self.file = file
        self._path = path
        if not isinstance(content, dict):
            self.fail("", "a table", content)
        self._content: dict[str, object] = dict(content)
        self._known: list[str] = []

    def fail(self, key: str, expected: str, got: object = None) -> NoReturn:
        """Raise the error about the value of a key."""
        shown = "" if got is None else f", not {_shown(got)}"
        self.reject(key, f"expected {expected}{shown}")

    def reject(self, key: str, reason: str) -> NoReturn:
        """Raise the error about a key."""
        where = ".".join(part for part in (self._path, key) if part)
        raise ConfigError(f"{self.file}: {where}: {reason}")

    def text(self, key: str, default: str = "") -> str:
        """Return a string."""
        value = self._take(key, default)
        if not isinstance(value, str):
            self.fail(key, "a string", value)
        if "\0" in value:
            self.fail(key, "a string without NUL", value)
        return value

    def has(self, key: str) -> bool:
        """Tell whether a key is there; one that is not is known from now on."""
        self._known.append(key)
        return key in self._content

    def boolean(self, key: str, *, default: bool = False) -> bool:
        """Return true or false."""
        value = self._take(key, default)
        if not isinstance(value, bool):
            self.fail(key, "true or false", value)
        return value

    def integer(self, key: str, default: int, minimum: int, maximum: int = _MOST) -> int:
        """Return a whole number of at least `minimum`, and at most `maximum`."""
        value = self._take(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            self.fail(key, f"a whole number of at least {minimum}", value)
        if value > maximum:
            self.fail(key, f"a whole number of at most {maximum}", value)
        return value

    def seconds(self, key: str, default: float | None) -> float | None:
        """Return a positive number of seconds; the default if the key is missing."""
        value = self._take(key, default)
        if value is not None and (not _is_number(value) or not 0 < value < 1e9):
            self.fail(key, "a positive number of seconds", value)
        return value if value is None else float(value)

    def duration(self, key: str, default: float) -> float:
        """Return a number of seconds, which may be 0."""
        value = self._take(key, default)
        if not _is_number(value) or not 0 <= value < 1e9:
            self.fail(key, "a number of seconds, 0 or more", value)
        return float(value)

    def choice(self, key: str, default: str, choices: Sequence[str]) -> str:
        """Return one of some words."""
        value = self._take(key, default)
        if not isinstance(value, str) or value not in choices:
            self.fail(key, f"one of {', '.join(choices)}", value)
        return value

    def signals(self, key: str) -> frozenset[int]:
        """Return an array of signals' names as their numbers; all that can be forwarded if the key is missing."""
        names = self._take(key, list(_SIGNALS))
        if not isinstance(names, list) or any(not isinstance(name, str) or name not in _SIGNALS for name in names):
            self.fail(key, f"an array of {', '.join(_SIGNALS)}", names)
        return frozenset(_SIGNALS[name] for name in names)

    def number(self, key: str) -> float | None:
        """Return a number, None if the key is missing."""
        value = self._take(key, None)
        if value is not None and (not _is_number(value) or not abs(value) < math.inf or abs(value) > _LARGEST):
            self.fail(key, "a number", value)
        return value

    def scalar(self, key: str) -> str | float | None:
        """Return a string or a number, None if the key is missing."""
        value = self._take(key, None)
        if value is not None and not isinstance(value, str) and not _is_number(value):
            self.fail(key, "a string or a number", value)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return an array of strings; an empty one if the key is missing."""
        value = self._take(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.fail(key, "an array of strings", value)
        return tuple(value)

    def variables(self, key: str) -> frozenset[str]:
        """Return an array of names of environment variables; an empty one if the key is missing."""
        names = self.texts(key)
        for name in names:
            if not _ENVIRONMENT_NAME.fullmatch(name):
                self.fail(key, "names of environment variables", name)
        return frozenset(names)

    def array(self, key: str) -> Sequence[object]:
        """Return a non-empty array."""
        value = self._take(key, None)
        if not isinstance(value, list) or not value:
            self.fail(key, "a non-empty array", value)
        return value

    def callers(self, key: str, default: Callers) -> Callers:
        """Return an array of uids, user names, and groups as `@gid` or `@name`; the default if the key is missing."""
        value = self._take(key, None)
        if value is None:
            return default
        if not isinstance(value, list) or not all(_is_id(item) or isinstance(item, str) for item in value):
            self.fail(key, f'an array of uids, user names and "@group"s, none of them {UNMAPPED}', value)
        words = [item for item in value if isinstance(item, str)]
        uids = {item for item in value if not isinstance(item, str)}
        uids |= {self._id(key, word, _uid_of) for word in words if not word.startswith("@")}
        gids = {self._id(key, word[1:], _gid_of) for word in words if word.startswith("@")}
        return Callers(frozenset(uids), frozenset(gids))

    def _id(self, key: str, word: str, look_up: Callable[[str], int]) -> int:
        try:
            number = int(word) if word.isascii() and word.isdigit() else look_up(word)
        except KeyError:
            self.fail(key, "names that this system knows", word)
        if number > _MOST:
            self.fail(key, "numbers that an id can have", word)
        if number == UNMAPPED:
            self.fail(key, f"an identity, and {UNMAPPED} stands for every unmapped one", word)
        return number

    def optional_callers(self, key: str) -> Callers | None:
        """Return what `callers` does; None if the key is missing."""
        return self.callers(key, Callers()) if self.has(key) else None

    def array_of_tables(self, key: str) -> list[Table]:
        """Return the tables of an array; none if the key is missing."""
        value = self._take(key, [])
        if not isinstance(value, list):
            self.fail(key, f"an array of tables, [[{key}]]", value)
        return [Table(self.file, f"{key}[{index}]", item) for index, item in enumerate(value)]

    def table(self, key: str) -> Table:
        """Return the table under a key; an empty one if the key is missing."""
        path = ".".join(part for part in (self._path, key) if part)
        return Table(self.file, path, self._take(key, {}))

    def tables(self) -> Iterator[tuple[str, Table]]:
        """Yield every key that has a well-formed name, with the table under it."""
        for name in self.names():
            if not _NAME.fullmatch(name):
                self.fail(name, "a name of letters, digits, `-` and `_`")
            yield name, self.table(name)

    def mapping(self, key: str) -> dict[str, str]:
        """Return a table of environment variables."""
        table = self.table(key)
        for name in table.names():
            if not _ENVIRONMENT_NAME.fullmatch(name):
                table.fail(name, "the name of an environment variable")
        return {name: table.text(name) for name in table.names()}

    def names(self) -> tuple[str, ...]:
        """Return the keys that nobody has asked for yet."""
        return tuple(self._content)

    def finish(self) -> None:
        """Fail on the first unknown key."""
        for key in self._content:
            near = [name for name in self._known if name == _RENAMED.get(key)]
            near = near or difflib.get_close_matches(key, self._known, 1)
            if near:
                self.reject(key, f"unknown key (did you mean {near[0]!r}?)")
            self.fail(key, f"one of {', '.join(self._known)}")

    def _take(self, key: str, default: object) -> object:
        self._known.append(key)
        return self._content.pop(key, default)


def _shown(value: object) -> str:
    """Return a value as a sentence shows it; Python refuses to write out a number of thousands of digits."""
    try:
        return repr(value)
    except ValueError:
        return "a number that long"


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST and value != UNMAPPED


def _uid_of(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def _gid_of(name: str) -> int:
    return grp.getgrnam(name).gr_gid
