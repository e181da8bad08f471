"""The messages of the protocol, each as its typed field list. Nothing here encodes, decides or waits.

The annotations are the wire types of PROTOCOL.md section 2; `codec` reads them, and `native/tables.h` is generated from
them. A test compares this file with the field lists in PROTOCOL.md, so neither can change alone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, TypeVar, dataclass_transform

if TYPE_CHECKING:
    from collections.abc import Callable

    u8 = int
    u16 = int
    u32 = int
    u64 = int
    string = bytes
    text = str
    strings = tuple[bytes, ...]
    rest = bytes

VERSION = 1

TERMINAL_FEATURE = b"terminal"
"""The options `terminal` and `term` of a CALL, and RESIZE."""
FEATURES: frozenset[bytes] = frozenset({TERMINAL_FEATURE})
"""Features that this side understands, by name. All else that PROTOCOL.md describes is version 1 itself."""

STDIN, STDOUT, STDERR = 0, 1, 2

NONE = 0
PASSED = 1
RELAYED = 2
SAME_AS_STDOUT = 3
STREAM_MODES = {NONE: "none", PASSED: "passed", RELAYED: "relayed", SAME_AS_STDOUT: "same as stdout"}
IN_TERMINAL = (RELAYED, RELAYED, SAME_AS_STDOUT)
"""The modes of the streams of a call in a terminal."""

ENDED_EXITED = 0
ENDED_SIGNALED = 1
ENDED_TIMED_OUT = 2
ENDED_OUTPUT_FAILED = 3
ENDED_LOST = 4

ENDING_SIGNALS = frozenset({1, 2, 3, 9, 10, 12, 15})
"""HUP, INT, QUIT, KILL, USR1, USR2, TERM: their default is to end a process, as Linux numbers them on x86 and Arm."""

SIGNALS = ENDING_SIGNALS | {18, 20}
"""What a SIGNAL can carry: those, CONT and TSTP."""

FORWARDED_SIGNALS = SIGNALS - {9}
"""What a client that gets it can send on: no process learns that it is killed."""

NEVER_LETHAL_SIGNALS = frozenset({17, 18, 19, 20, 21, 22, 23, 28})
"""CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH: no process dies of these, so no EXIT can report them."""

MAX_DATA = 64 * 1024
"""Bytes of stream data in one frame; half of what h2 and SSH use at the most."""

INITIAL_WINDOW = 256 * 1024
"""Bytes of one stream that can be in flight unread: four full frames, four times a pipe's own buffer (pipe(7))."""

CONTROL_LIMIT = 64 * 1024
CALL_LIMIT = 2 * 1024 * 1024
"""execve(2) takes a quarter of the stack limit for arguments and environment together: 2 MiB by default."""
DESCRIPTION_LIMIT = 1024 * 1024
CALLS_LIMIT = 16 * 1024 * 1024
"""Room for 40,000 calls, more than a server has descriptors for by default."""

FIRST_IGNORABLE = 128
"""From this type on a receiver ignores a message that it does not know."""

MESSAGES: dict[int, type[Message]] = {}


@dataclass(frozen=True)
class Message:
    """Base of all messages.

    Attributes:
        number: the frame's type.
        limit: the longest payload, in bytes.
        layout: the wire type and the name of each field, in order.
    """

    number: ClassVar[int]
    limit: ClassVar[int]
    layout: ClassVar[tuple[tuple[str, str], ...]]


_M = TypeVar("_M", bound=type[Message])


@dataclass_transform(frozen_default=True)
def _message(number: int, limit: int = CONTROL_LIMIT) -> Callable[[_M], _M]:
    def register(cls: _M) -> _M:
        message = dataclass(frozen=True)(cls)
        message.number, message.limit = number, limit
        message.layout = tuple((str(field.type), field.name) for field in fields(message))
        MESSAGES[number] = message
        return message  # type: ignore[return-value]  # the class itself

    return register


@_message(1)
class Hello(Message):
    """Either side's first message: what its sender needs of the receiver, and what it understands itself."""

    version: u16
    needs: strings
    knows: strings
    software: text


def hello(software: str, needs: strings = ()) -> Hello:
    """Return this side's HELLO: what it needs of the peer; it knows what `FEATURES` has."""
    return Hello(VERSION, needs, tuple(sorted(FEATURES)), software)


@_message(2, CALL_LIMIT)
class Call(Message):
    """Ask for one command to be run. `options` are NAME=VALUE: see `options.py`."""

    command: string
    arguments: strings
    environment: strings
    directory: string
    base: string
    directory_ids: strings
    options: strings
    stdin: u8
    stdout: u8
    stderr: u8

    @property
    def streams(self) -> tuple[int, int, int]:
        """How each of the three streams travels: one of `STREAM_MODES`."""
        return self.stdin, self.stdout, self.stderr


@_message(3)
class Queued(Message):
    """The call waits; `ahead` others start before it."""

    ahead: u32


@_message(4)
class Started(Message):
    """The command has been executed: from here on its outcome is known or lost, never refused."""

    call_id: text


@_message(5)
class Refused(Message):
    """The command has not been started and will not be."""

    code: u8
    reason: text
    hint: text


@_message(6)
class Exit(Message):
    """The call's end. `ended` is one of the ENDED numbers, `details` are NAME=VALUE: see `options.py`."""

    ended: u8
    value: u8
    details: strings


@_message(7, MAX_DATA + 1)
class Data(Message):
    """A piece of a relayed stream."""

    stream: u8
    data: rest


@_message(8)
class Eof(Message):
    """The stream has ended; nothing more of it follows."""

    stream: u8


@_message(9)
class Window(Message):
    """The receiver has consumed `credit` bytes of the stream: as many more can be sent."""

    stream: u8
    credit: u32


@_message(10)
class Stop(Message):
    """The receiver takes no more of the stream: its reader has closed it."""

    stream: u8


@_message(11)
class Signal(Message):
    """Send a signal to the command's process group; `signal` is the number on x86 and Arm Linux (signal(7))."""

    signal: u8


@_message(12)
class Pass(Message):
    """Carries the descriptors of all PASSED streams, attached to its first byte."""


@_message(13)
class Resize(Message):
    """The client's terminal has another size, in characters; 0 if it is unknown."""

    rows: u16
    columns: u16


@_message(16)
class Ping(Message):
    """Ask whether the server responds."""


@_message(17)
class Pong(Message):
    """The server's load, as NAME=VALUE: see `options.py`."""

    details: strings


@_message(18)
class Describe(Message):
    """Ask what can be called; an empty command means all."""

    command: string


@_message(19, DESCRIPTION_LIMIT)
class Description(Message):
    """The answer to DESCRIBE, and to a CALL whose only argument is `--help`: a JSON object."""

    json: string


@_message(20)
class Status(Message):
    """Ask which calls there are; `ended` is 1 for those that have ended and are recorded, too."""

    ended: u8 = 0


@_message(21, CALLS_LIMIT)
class Calls(Message):
    """The answer to STATUS, CANCEL and REMOVE: a JSON array of calls."""

    json: string


@_message(22)
class Cancel(Message):
    """Cancel a call by its id: a waiting one is dropped, a running one is terminated."""

    call_id: text


@_message(23)
class Follow(Message):
    """Follow a detached call: its recorded output and, if `wait` is 1, what it still writes, then its end."""

    call_id: text
    stdout: u8
    stderr: u8
    wait: u8
    since: u64

    @property
    def streams(self) -> tuple[int, int, int]:
        """How each stream travels, as in CALL."""
        return NONE, self.stdout, self.stderr


@_message(24)
class Remove(Message):
    """Remove the record of a call that has ended."""

    call_id: text


@_message(128)
class Notice(Message):
    """A line for a person at the client, with a hint that can be empty."""

    notice: text
    hint: text
