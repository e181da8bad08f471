"""What CALL options, EXIT details and PONG details can hold: NAME=VALUE entries, so that either side can grow first.

An unknown *option* is refused by name, since it asks for something. An unknown *detail* is ignored, since it only
reports something. This module is the one list of both; PROTOCOL.md and `native/tables.h` are compared with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sidecall.errors import ProtocolError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TIMEOUT = b"timeout-ms"
"""Milliseconds that the command can run once it has started: a positive decimal number."""
QUEUE = b"queue"
"""`no`: the call must not wait for a slot."""
DETACH = b"detach"
"""The id of a call that outlives its client; empty for one that the server chooses."""

PIPES = (b"stdin-pipe", b"stdout-pipe", b"stderr-pipe")
"""DEVICE:INODE of the pipe that the client's stdin, stdout or stderr is, decimal as in stat(2)."""

TERMINAL = b"terminal"
"""ROWSxCOLUMNS: the command runs in a terminal of this size, two decimal numbers up to 65535."""
TERM = b"term"
"""The terminal's type, as TERM names it: up to 64 of the characters that terminfo names have. Source: term(7)."""

CALL_OPTIONS = (TIMEOUT, QUEUE, *PIPES, TERMINAL, TERM, DETACH)

_MAX_TERM = 64
_TERM_CHARACTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+-")
_MAX_SIZE = 0xFFFF

STOPPED_BY = ("client", "timeout", "operator", "shutdown", "limit")
"""Values of the detail `stopped`: who stopped the call. Absent if it was not stopped."""

EXIT_DETAILS = (
    b"core-dumped",
    b"stopped",
    b"terminated",
    b"reason",
    b"queued-us",
    b"run-us",
    b"user-us",
    b"system-us",
    b"max-rss",
)
PONG_DETAILS = (b"running", b"slots", b"queued", b"queue", b"ended", b"uptime-ms", b"bridge")

_LONGEST_ID = 100
_IN_AN_ID = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_MOST_DIGITS = 19
"""What fits 64 bits in any language."""

_LONGEST_PIPE = 41
"""Two numbers of 64 bits and a colon."""


class TerminalRequest(NamedTuple):
    """The terminal that a call asks for.

    Attributes:
        rows: its height in characters; 0 if it is unknown.
        columns: its width, likewise.
        term: its type; empty if it is unknown.
    """

    rows: int
    columns: int
    term: bytes = b""


def is_term(value: bytes) -> bool:
    """Tell whether a value of TERM can be the name of a terminal's type."""
    return 0 < len(value) <= _MAX_TERM and _TERM_CHARACTERS.issuperset(value)


class CallOptions:
    """The options of a CALL.

    Attributes:
        timeout: seconds that the command can run; None for no limit of the client's.
        can_queue: whether the call can wait for a slot.
        pipes: which pipe stdin, stdout and stderr each are; empty for none.
        terminal: the terminal that the command runs in; None for none.
        detach: the id of a call that outlives its client, empty for one that the server chooses; None for another call.

    Raises:
        ProtocolError: an option is unknown, repeated or malformed; the reason names it.
        UsageError: the id of a call is invalid.
    """

    def __init__(self, entries: Iterable[bytes]) -> None:
        given = _parse_options(entries)
        milliseconds = _number(TIMEOUT, given[TIMEOUT]) if TIMEOUT in given else None
        self.timeout = None if milliseconds is None else milliseconds / 1000
        if given.get(QUEUE, b"no") != b"no":
            raise _malformed(QUEUE)
        self.can_queue = QUEUE not in given
        for name in PIPES:
            if name in given and not _is_pipe(given[name]):
                raise _malformed(name)
        self.pipes = tuple([given.get(name, b"") for name in PIPES])
        self.terminal = _terminal(given)
        self.detach = _call_id(given[DETACH]) if DETACH in given else None


def call_options(
    timeout: float,
    *,
    can_queue: bool,
    pipes: Iterable[bytes] = (),
    terminal: TerminalRequest | None = None,
    detach: bytes | None = None,
) -> tuple[bytes, ...]:
    """Return the options of a CALL.

    Args:
        timeout: seconds that the command can run; 0 for no limit.
        can_queue: whether the call can wait for a slot.
        pipes: DEVICE:INODE of the pipe that stdin, stdout and stderr each are; empty for none.
        terminal: the terminal that the command runs in; None for none.
        detach: the id of a call that outlives its client, empty for one that the server chooses; None for another call.
    """
    options = []
    if timeout:
        options.append(TIMEOUT + b"=%d" % max(1, round(timeout * 1000)))
    if not can_queue:
        options.append(QUEUE + b"=no")
    options += [b"%b=%b" % (name, pipe) for name, pipe in zip(PIPES, pipes, strict=False) if pipe]
    if terminal is not None:
        options.append(TERMINAL + b"=%dx%d" % (terminal.rows, terminal.columns))
        if is_term(terminal.term):
            options.append(TERM + b"=" + terminal.term)
    if detach is not None:
        options.append(DETACH + b"=" + detach)
    return tuple(options)


def details(values: Mapping[str, int | str]) -> tuple[bytes, ...]:
    """Return NAME=VALUE entries for details; an underscore of a name becomes a dash."""
    return tuple([f"{name.replace('_', '-')}={value}".encode() for name, value in values.items()])


class Details:
    """Received details. What is missing or malformed counts as absent: a detail only reports something."""

    def __init__(self, entries: Iterable[bytes]) -> None:
        self._values = dict(entry.partition(b"=")[::2] for entry in entries)

    def number(self, name: bytes) -> int:
        """Return a decimal number; 0 if it is absent."""
        value = self._values.get(name, b"")
        return int(value) if value.isdigit() and len(value) <= _MOST_DIGITS else 0

    def text(self, name: bytes) -> str:
        """Return a text; empty if it is absent."""
        return self._values.get(name, b"").decode(errors="backslashreplace")

    def choice(self, name: bytes, choices: Iterable[str]) -> str:
        """Return one of some words; an empty text if it is absent or another word."""
        value = self._values.get(name, b"").decode(errors="replace")
        return value if value in choices else ""


def _parse_options(entries: Iterable[bytes]) -> dict[bytes, bytes]:
    given: dict[bytes, bytes] = {}
    for entry in entries:
        name, equals, value = entry.partition(b"=")
        if name not in CALL_OPTIONS:
            raise ProtocolError(
                f"unknown call option {_text(name)!r}", "use the same release of sidecall on both sides"
            )
        if not equals:
            raise _malformed(name)
        if name in given:
            raise ProtocolError(f"repeated call option {_text(name)!r}")
        given[name] = value
    return given


def _call_id(value: bytes) -> str:
    if len(value) > _LONGEST_ID or not set(value) <= _IN_AN_ID or value.startswith(b"."):
        raise UsageError(
            f"invalid call id {_text(value)!r}",
            "use up to 100 letters, digits, `.`, `_` and `-`, and do not begin with `.`",
        )
    return value.decode()


def _number(name: bytes, value: bytes) -> int:
    if not value.isdigit() or len(value) > _MOST_DIGITS or not int(value):
        raise _malformed(name)
    return int(value)


def _is_pipe(value: bytes) -> bool:
    device, _, inode = value.partition(b":")
    return device.isdigit() and inode.isdigit() and len(value) <= _LONGEST_PIPE


def _terminal(given: Mapping[bytes, bytes]) -> TerminalRequest | None:
    term = given.get(TERM, b"")
    if TERM in given and (TERMINAL not in given or not is_term(term)):
        raise _malformed(TERM)
    if TERMINAL not in given:
        return None
    rows, _, columns = given[TERMINAL].partition(b"x")
    return TerminalRequest(_size(rows), _size(columns), term)


def _size(value: bytes) -> int:
    if not value.isdigit() or len(value) > _MOST_DIGITS or int(value) > _MAX_SIZE:
        raise _malformed(TERMINAL)
    return int(value)


def _malformed(name: bytes) -> ProtocolError:
    return ProtocolError(f"malformed call option {_text(name)!r}")


def _text(name: bytes) -> str:
    return name[:100].decode(errors="backslashreplace")
