"""One line for each call: who asked for what, on which files, and how it ended. Nothing secret is in it."""

from __future__ import annotations

import errno
import json
import os
import time
from typing import TYPE_CHECKING

from sidecall.calls.events import ENDED, FINAL
from sidecall.calls.log import key_value_pairs, log, write_now
from sidecall.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecall.calls.call import Call, Owner
    from sidecall.errors import SidecallError

_APPENDING = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
"""Without O_NONBLOCK the opening of a FIFO waits for a reader. Source: fifo(7)."""


class Audit:
    """Appends lines to a file, or writes them to stderr.

    Each line is one write(2) to a file that is opened for appending, so lines of several servers do not mix.

    Args:
        target: the file's path, `-` for stderr, empty for none.
        form: one of `policy.loading.FORMATS`.

    Raises:
        ConfigError: the file cannot be opened; a FIFO that nobody reads cannot.
    """

    def __init__(self, target: str, form: str) -> None:
        self._render = _as_json if form == "json" else key_value_pairs
        self._fd = -1
        self._is_torn = False  # whether the last line is incomplete: the next one begins a new line
        if target == "-":
            self._fd = os.dup(2)
        elif target:
            try:
                self._fd = os.open(target, _APPENDING | os.O_CREAT, 0o600)
            except OSError as error:
                raise ConfigError(f"cannot open audit log {target!r}: {error.strerror}") from error

    @property
    def is_kept(self) -> bool:
        """Tell whether there is anywhere to write to."""
        return self._fd >= 0

    def __call__(self, event: str, call: Call, fields: dict[str, object]) -> None:
        """Write the line of a call that has ended; log one that cannot be written immediately."""
        if event not in FINAL:
            return
        head = {"time": _now(), "call": call.id} | _whose(call.owner)
        outcome = {} if event == ENDED else {"outcome": event}
        asked = {"command": call.command, "environment": call.environment_names(), "parameters": call.parameters}
        self._write(head | outcome | fields | asked)

    def record_refusal(self, owner: Owner, error: SidecallError) -> None:
        """Write the line of a connection that is refused before it has sent a call."""
        if self.is_kept:
            refusal = {"outcome": "refused", "code": error.code, "reason": error.reason, "rule": error.rule}
            self._write({"time": _now()} | _whose(owner) | refusal)

    def _write(self, fields: Mapping[str, object]) -> None:
        line = self._render(fields).encode(errors="backslashreplace") + b"\n"
        try:
            write_now(self._fd, b"\n" + line if self._is_torn else line)
            self._is_torn = False
        except OSError as error:
            self._is_torn = self._is_torn or error.errno != errno.EAGAIN
            log(f"cannot write audit log: {error.strerror}")

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _whose(owner: Owner) -> dict[str, object]:
    return {"listener": owner.listener, "uid": owner.peer.uid, "gid": owner.peer.gid}


def _as_json(fields: Mapping[str, object]) -> str:
    return json.dumps(fields, default=str, ensure_ascii=False)


def _now() -> str:
    """Return the time in UTC, as RFC 3339 has it, to the millisecond."""
    seconds = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds * 1000) % 1000:03d}Z"
