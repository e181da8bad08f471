"""What a service offers, read from a TOML file. Every mistake is one sentence: the file, the key, what was expected."""

from __future__ import annotations

import difflib
import math
import os
import re
import signal
import tomllib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sidecall.errors import ConfigError, UsageError
from sidecall.protocol.messages import SIGNALS
from sidecall.server.parameters import TYPES, Parameter
from sidecall.server.template import Group, Word, parse_group

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import NoReturn, TypeGuard

SCRATCH = "scratch"
"""The name that stands in templates for the call's own folder."""

UNMAPPED_UID = 65534
"""What the kernel reports for every uid without a mapping: it never identifies anybody. Source: user_namespaces(7)."""

_SIGNALS = {signal.Signals(number).name.removeprefix("SIG"): number for number in sorted(SIGNALS)}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def default_slots() -> int:
    """Return how many calls run at once if nobody says: one for each processor this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Command:
    """One thing that may be called.

    Attributes:
        name: what the caller says.
        argv: the template of its words.
        summary: one sentence for people.
        parameters: by name, in the order of the file.
        timeout: seconds that it may run; None for no limit.
        folder: the template of its working folder; None for the server's own.
        environment: variables it gets on top of the server's.
        pass_environment: variables that a caller may set.
        pass_folder: whether a caller may choose the working folder.
        scratch: whether each call gets a folder of its own.
        grace: seconds between TERM and KILL; None for the service's.
        leaves_helpers: whether processes that outlive the command are left running.
        signals: the numbers of the signals that a caller may send it.
    """

    name: str
    argv: tuple[Group, ...]
    summary: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    timeout: float | None = None
    folder: Group | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    pass_environment: frozenset[str] = frozenset()
    pass_folder: bool = False
    scratch: bool = False
    grace: float | None = None
    leaves_helpers: bool = False
    signals: frozenset[int] = SIGNALS


@dataclass(frozen=True)
class Service:
    """One service.

    Attributes:
        name: its name, or the path of its socket.
        commands: what may be called; None for anything at all.
        slots: calls that run at once.
        queue: calls that may wait.
        grace: seconds between TERM and KILL.
        drain: seconds that running calls have to end by themselves when the service is told to stop.
        callers: the uids that may call.
    """

    name: str
    commands: Mapping[str, Command] | None
    slots: int = field(default_factory=default_slots)
    queue: int = 1000
    grace: float = 10.0
    drain: float = 5.0
    callers: frozenset[int] = field(default_factory=lambda: frozenset({os.geteuid()}))

    @property
    def mode(self) -> int:
        """The socket's permission bits: only its owner may connect, unless others may call."""
        return 0o600 if self.callers <= {os.geteuid()} else 0o666


def load(path: str) -> Service:
    """Read and check a configuration file.

    Raises:
        ConfigError: it cannot be read, is not TOML, or does not say what it should.
    """
    try:
        with open(path, "rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", "check the path") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}", "see https://toml.io for its syntax") from error
    return _service(_Table(path, "", content))


class _Table:
    """A TOML table that is read key by key; what is left at the end is a mistake."""

    def __init__(self, file: str, path: str, content: object) -> None:
        self.file = file
        self._path = path
        if not isinstance(content, dict):
            self.fail("", "a table", content)
        self._content: dict[str, object] = dict(content)
        self._known: list[str] = []

    def fail(self, key: str, expected: str, got: object = None) -> NoReturn:
        """Raise the one sentence about a key."""
        where = ".".join(part for part in (self._path, key) if part)
        shown = "" if got is None else f", not {got!r}"
        raise ConfigError(f"{self.file}: {where}: expected {expected}{shown}")

    def text(self, key: str, default: str = "") -> str:
        """Return a string."""
        value = self._take(key, default)
        if not isinstance(value, str):
            self.fail(key, "a string", value)
        if "\0" in value:
            self.fail(key, "a string without NUL", value)
        return value

    def boolean(self, key: str) -> bool:
        """Return true or false; false if the key is missing."""
        value = self._take(key, False)
        if not isinstance(value, bool):
            self.fail(key, "true or false", value)
        return value

    def integer(self, key: str, default: int, minimum: int) -> int:
        """Return a whole number of at least `minimum`."""
        value = self._take(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            self.fail(key, f"a whole number of at least {minimum}", value)
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
        if value is not None and (not _is_number(value) or not math.isfinite(value)):
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

    def uids(self, key: str, default: frozenset[int]) -> frozenset[int]:
        """Return an array of numeric user ids."""
        value = self._take(key, None)
        if value is None:
            return default
        if not isinstance(value, list) or not all(_is_uid(item) for item in value):
            self.fail(key, f"an array of numeric user ids, none of them {UNMAPPED_UID}", value)
        return frozenset(value)

    def table(self, key: str) -> _Table:
        """Return the table under a key; an empty one if the key is missing."""
        path = ".".join(part for part in (self._path, key) if part)
        return _Table(self.file, path, self._take(key, {}))

    def tables(self) -> Iterator[tuple[str, _Table]]:
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
        """Fail on the first key that nobody asked for."""
        for key in self._content:
            near = difflib.get_close_matches(key, self._known, 1)
            self.fail(key, f"no such key (did you mean {near[0]!r}?)" if near else self._choices())

    def _choices(self) -> str:
        return f"one of {', '.join(self._known)}"

    def _take(self, key: str, default: object) -> object:
        self._known.append(key)
        return self._content.pop(key, default)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_uid(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0 and value != UNMAPPED_UID


def _service(root: _Table) -> Service:
    head = root.table("service")
    name = head.text("name")
    if not name:
        head.fail("name", 'the service\'s name, such as "hugin"')
    service = Service(name, None)
    service = replace(
        service,
        slots=head.integer("slots", service.slots, 1),
        queue=head.integer("queue", service.queue, 0),
        grace=head.seconds("grace", None) or service.grace,
        drain=head.duration("drain", service.drain),
        callers=head.uids("callers", service.callers),
    )
    head.finish()
    service = replace(service, commands=_commands(root))
    root.finish()
    return service


def _commands(root: _Table) -> dict[str, Command]:
    commands = {name: _command(name, table) for name, table in root.table("commands").tables()}
    if not commands:
        root.fail("commands", "at least one command, such as [commands.stitch]")
    return commands


def _command(name: str, table: _Table) -> Command:
    parameters = {key: _parameter(key, below) for key, below in table.table("parameters").tables()}
    argv = _template(table, "argv", table.array("argv"), parameters)
    argv = (_beside_the_file(table, argv[0]), *argv[1:])
    folder_text = table.text("cwd")
    folder = _template(table, "cwd", [folder_text], parameters)[0] if folder_text else None
    mentioned = frozenset[str]().union(*(group.names for group in (*argv, *([folder] if folder else []))))
    for unused in parameters.keys() - mentioned:
        table.fail(f"parameters.{unused}", f"a parameter that argv mentions as {{{unused}}}")
    command = Command(
        name=name,
        argv=argv,
        summary=table.text("summary"),
        parameters=parameters,
        timeout=table.seconds("timeout", None),
        folder=folder,
        environment=table.mapping("env"),
        pass_environment=table.variables("pass-env"),
        pass_folder=table.boolean("pass-cwd"),
        scratch=table.boolean("scratch") or SCRATCH in mentioned,
        grace=table.seconds("grace", None),
        leaves_helpers=table.choice("leftovers", "stop", ("stop", "leave")) == "leave",
        signals=table.signals("signals"),
    )
    table.finish()
    return command


def _template(
    table: _Table, key: str, items: Sequence[object], parameters: Mapping[str, Parameter]
) -> tuple[Group, ...]:
    groups = []
    for item in items:
        words = [item] if isinstance(item, str) else item
        if (
            not isinstance(words, list)
            or not words
            or not all(isinstance(word, str) and "\0" not in word for word in words)
        ):
            table.fail(key, "strings, or arrays of strings that stand or fall together", item)
        try:
            group = parse_group(words)
        except ValueError as error:
            table.fail(key, f"words with {{parameter}} in them: {error}")
        for name in sorted(group.names - parameters.keys() - {SCRATCH}):
            table.fail(key, f"only declared parameters, but {{{name}}} is none")
        groups.append(group)
    return tuple(groups)


def _beside_the_file(table: _Table, first: Group) -> Group:
    """Return the group of the command's first word; a relative path there starts at the configuration's folder."""
    program, *options = first.words
    if program.names:
        table.fail("argv", "a first word without parameters: a caller must not choose the program")
    path = program.fill({}).decode()
    if not path:
        table.fail("argv", "a first word that names a program", path)
    if "/" in path and not os.path.isabs(path):
        path = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(table.file)), path))
    return Group((Word(((path, None),)), *options))


def _parameter(name: str, table: _Table) -> Parameter:
    kind = table.text("type", "str")
    if kind not in TYPES:
        table.fail("type", f"one of {', '.join(TYPES)}", kind)
    is_flag, is_number = kind == "flag", kind in {"int", "float"}
    parameter = Parameter(
        name=name,
        type=kind,
        help=table.text("help"),
        repeated=table.boolean("repeated"),
        optional=not is_flag and table.boolean("optional"),
        default=None if is_flag else _default(table),
        pattern=_pattern(table) if kind == "str" else None,
        leading_dash=kind == "str" and table.boolean("leading-dash"),
        choices=table.texts("choices") if kind == "choice" else (),
        minimum=table.number("min") if is_number else None,
        maximum=table.number("max") if is_number else None,
        value=table.text("value", f"--{name}") if is_flag else "",
    )
    table.finish()
    _check_parameter(parameter, table)
    return parameter


def _default(table: _Table) -> str | None:
    value = table.scalar("default")
    return None if value is None else str(value)


def _pattern(table: _Table) -> str | None:
    pattern = table.text("pattern")
    try:
        re.compile(pattern)
    except re.error as error:
        table.fail("pattern", f"a regular expression ({error})", pattern)
    return pattern or None


def _check_parameter(parameter: Parameter, table: _Table) -> None:
    if parameter.name == SCRATCH:
        table.fail("", f"another name: {{{SCRATCH}}} is the call's own folder")
    if parameter.name == "help":
        table.fail("", "another name: --help describes the command")
    if parameter.minimum is not None and parameter.maximum is not None and parameter.minimum > parameter.maximum:
        table.fail("min", f"at most max, which is {parameter.maximum:g}", parameter.minimum)
    if parameter.type == "choice" and not parameter.choices:
        table.fail("choices", "at least one choice")
    if parameter.default is not None:
        try:
            parameter.check(parameter.default.encode(), "/")
        except UsageError as error:
            table.fail("default", f"a value that fits ({error.reason})")
