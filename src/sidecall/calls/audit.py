"""One line for each call: who asked for what, on which files, and how it ended. Nothing secret is in it."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

from sidecall.errors import ConfigError
from sidecall.server.notify import say, write_at_once

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecall.transport.credentials import Peer

MASK = "***"

FORMATS = ("json", "text")
"""An object a line, or `key=value` pairs with JSON values for those that have spaces in them."""


_APPENDING = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
"""Without O_NONBLOCK the opening of a FIFO waits for a reader. Source: fifo(7)."""


class Audit:
    """Appends lines to a file, or writes them to stderr.

    Each line is one write(2) to a file that is opened for appending, so lines of several servers do not mix.

    Args:
        target: the file's path, `-` for stderr, empty for none.
        form: one of `FORMATS`.

    Raises:
        ConfigError: the file cannot be opened; a FIFO that nobody reads cannot.
    """

    def __init__(self, target: str, form: str) -> None:
        self._render = _as_json if form == "json" else _as_text
        self._fd = -1
        if target == "-":
            self._fd = os.dup(2)
        elif target:
            try:
                self._fd = os.open(target, _APPENDING | os.O_CREAT, 0o600)
            except OSError as error:
                raise ConfigError(f"cannot open the audit log {target}: {error.strerror}") from error

    @property
    def is_kept(self) -> bool:
        """Tell whether there is anywhere to write to."""
        return self._fd >= 0

    def record(self, call_id: str, listener: str, peer: Peer, **fields: object) -> None:
        """Write one line; if that cannot be done at once the line is lost, not the call, and it is said on stderr."""
        if not self.is_kept:
            return
        head = {"time": _now(), "call": call_id, "listener": listener, "uid": peer.uid, "gid": peer.gid}
        line = self._render(head | fields).encode() + b"\n"
        try:
            write_at_once(self._fd, line)
        except OSError as error:
            say(f"the audit log cannot be written: {error.strerror}")

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def why_not_writable(target: str) -> str:
    """Return why a file cannot be appended to, as far as can be told without making or opening it; else nothing."""
    if os.path.isdir(target):
        return "it is a directory"
    if os.path.exists(target):
        return "" if os.access(target, os.W_OK) else "it may not be written"
    above = os.path.dirname(target)
    if not os.path.isdir(above):
        return "its directory is not there"
    return "" if os.access(above, os.W_OK | os.X_OK) else "its directory may not be written"


def _as_json(fields: Mapping[str, object]) -> str:
    return json.dumps(fields)


def _as_text(fields: Mapping[str, object]) -> str:
    return " ".join(f"{name}={_word(value)}" for name, value in fields.items() if value not in ("", [], {}))


def _word(value: object) -> str:
    is_plain = isinstance(value, str) and value.isprintable() and not set(value) & set(' "=')
    return str(value) if is_plain else json.dumps(value)


def shown(values: Mapping[str, tuple[bytes, ...]], secret: frozenset[str]) -> dict[str, list[str]]:
    """Return parameters as text, with every secret one masked."""
    return {
        name: [MASK if name in secret else value.decode(errors="backslashreplace") for value in given]
        for name, given in values.items()
        if given
    }


def _now() -> str:
    """Return the time in UTC, as RFC 3339 has it, to the millisecond."""
    seconds = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds * 1000) % 1000:03d}Z"
