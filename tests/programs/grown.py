"""The `sidecall` command of a later release: one more feature, option, detail, ignorable message and kind of end.

Protocol 1 grows by rows in its tables, which this program adds before the rest is imported. What the later release does
with them is decided by variables: GROWN_OPTION has its client send the option, GROWN_NEEDS has either side need the
feature.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sidecall.protocol import messages as m
from sidecall.protocol import options, states

if TYPE_CHECKING:
    from sidecall.calls.outcome import End
    from sidecall.server.service import CallService

    u8 = int

FEATURE = b"colour"
OPTION = b"colour=yes"
DETAIL = b"colour=red"
FROZEN, AS_FROZEN = 9, 44
"""The new kind of end, and the exit code of a command that the later server reports as it."""


@m._message(129)
class Progress(m.Message):
    """How much of its work the sender has done."""

    percent: u8


m.FEATURES |= {FEATURE}
vars(options)["CALL_OPTIONS"] = (*options.CALL_OPTIONS, b"colour")
for _table in states.TRANSITIONS.values():
    for _state, _moves in _table.items():
        if _state in {states.READY, states.WAITING, states.RUNNING}:
            _moves[Progress] = _state  # type: ignore[index]

from sidecall.calls.outcome import End  # noqa: E402  the tables come first
from sidecall.cli import main  # noqa: E402
from sidecall.client import attempt, outcome  # noqa: E402
from sidecall.server.service import CallService  # noqa: E402
from sidecall.transport.channel import Channel  # noqa: E402

outcome._KINDS[FROZEN] = "exited"
_send, _message, _load, _call_options = Channel.send, End.message, CallService.load, options.call_options


def send(channel: Channel, *messages: m.Message, **descriptors: Any) -> None:
    """Send messages; PROGRESS follows HELLO and STARTED."""
    given: list[m.Message] = []
    for message in messages:
        if isinstance(message, m.Hello):
            needs = (FEATURE,) if os.environ.get("GROWN_NEEDS") else ()
            message = replace(message, needs=needs)  # noqa: PLW2901
        given.append(message)
        if isinstance(message, (m.Hello, m.Started)):
            given.append(Progress(50))
    _send(channel, *given, **descriptors)


def exit_message(end: End) -> m.Exit:
    """Return EXIT with one more detail; of one more kind for one exit code."""
    message = _message(end)
    is_frozen = (message.ended, message.value) == (m.ENDED_EXITED, AS_FROZEN)
    return replace(message, ended=FROZEN if is_frozen else message.ended, details=(DETAIL, *message.details))


def load(service: CallService) -> m.Pong:
    """Return PONG with one more detail."""
    return m.Pong((DETAIL, *_load(service).details))


def call_options(*given: Any, **named: Any) -> tuple[bytes, ...]:
    """Return the options of a CALL, one more if that is asked for."""
    more = (OPTION,) if os.environ.get("GROWN_OPTION") else ()
    return (*more, *_call_options(*given, **named))


Channel.send = send  # type: ignore[method-assign, assignment]
End.message = exit_message  # type: ignore[method-assign, assignment]
CallService.load = load  # type: ignore[method-assign, assignment]
vars(attempt)["call_options"] = call_options

if __name__ == "__main__":
    sys.exit(main())
