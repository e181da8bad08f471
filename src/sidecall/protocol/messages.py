"""The messages of the protocol, each as its typed field list. Nothing here encodes, decides or waits.

The annotations are the wire types of PROTOCOL.md section 2; `codec` reads them. A test compares this file with the
field lists in PROTOCOL.md, so neither can change alone.
"""

from __future__ import annotations

from sidecall._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    u8 = int
    u16 = int
    u32 = int
    u64 = int
    string = bytes
    text = str
    strings = tuple[bytes, ...]
    rest = bytes

VERSION = 1

FEATURE_PASS = b"pass"
FEATURE_RELAY = b"relay"
FEATURES = (FEATURE_PASS, FEATURE_RELAY)

STDIN, STDOUT, STDERR = 0, 1, 2

NULL = 0
PASSED = 1
RELAYED = 2

FLAG_NO_WAIT = 1
FLAGS = FLAG_NO_WAIT
"""All that there are."""

ENDED_EXITED = 0
ENDED_SIGNALED = 1
ENDED_TIMED_OUT = 2
ENDED_OUTPUT_FAILED = 3

ENDING_SIGNALS = frozenset({1, 2, 3, 10, 12, 15})
"""HUP, INT, QUIT, USR1, USR2, TERM: their default is to end a process, as Linux numbers them on x86 and Arm."""

SIGNALS = ENDING_SIGNALS | {18, 20}
"""What a SIGNAL may carry: those, CONT and TSTP."""

MAX_DATA = 64 * 1024
"""Bytes of stream data in one frame, as the design says; half of what h2 and SSH use at the most."""

INITIAL_WINDOW = 256 * 1024
"""Bytes of one stream that may be under way unread: four full frames, four times a pipe's own buffer (pipe(7))."""

CONTROL_LIMIT = 64 * 1024
CALL_LIMIT = 2 * 1024 * 1024
"""execve(2) takes a quarter of the stack limit for arguments and environment together: 2 MiB by default."""
DESCRIPTION_LIMIT = 1024 * 1024
CALLS_LIMIT = 16 * 1024 * 1024
"""Room for 40,000 calls, more than a service has descriptors for by default."""

MESSAGES: dict[int, type[Message]] = {}


class Message(Record):
    """Base of all messages. `number` is the frame's type, `limit` the longest payload in bytes."""

    number: ClassVar[int]
    limit: ClassVar[int]

    def __init_subclass__(cls, number: int = 0, limit: int = CONTROL_LIMIT) -> None:
        super().__init_subclass__()
        cls.number, cls.limit = number, limit
        MESSAGES[number] = cls


class Hello(Message, number=1):
    """Either side's first message. The caller's features are those it needs, the service's those it has."""

    version: u16
    features: strings
    software: text


class Call(Message, number=2, limit=CALL_LIMIT):
    """Ask for one command to be run; descriptors of PASSED streams travel with the same write."""

    command: string
    arguments: strings
    environment: strings
    directory: string
    base: string
    directories: strings
    timeout_ms: u64
    flags: u8
    stdin: u8
    stdout: u8
    stderr: u8

    @property
    def streams(self) -> tuple[int, int, int]:
        """How each of the three streams travels: NULL, PASSED or RELAYED."""
        return self.stdin, self.stdout, self.stderr


class Queued(Message, number=3):
    """The call waits; `ahead` others will start before it."""

    ahead: u32


class Started(Message, number=4):
    """The command has been executed: from here on its outcome is known or lost, never refused."""

    call_id: text


class Refused(Message, number=5):
    """The command has not been started and will not be."""

    code: u8
    reason: text
    hint: text


class Exit(Message, number=6):
    """The call's end. `ended` is one of the ENDED numbers; times in microseconds, memory in bytes."""

    ended: u8
    value: u8
    core_dumped: u8
    queued_us: u64
    run_us: u64
    user_us: u64
    system_us: u64
    max_rss: u64


class Data(Message, number=7, limit=MAX_DATA + 1):
    """A piece of a relayed stream."""

    stream: u8
    data: rest


class Eof(Message, number=8):
    """The stream has ended; nothing more of it follows."""

    stream: u8


class Window(Message, number=9):
    """The receiver has consumed `credit` bytes of the stream: as many more may be sent."""

    stream: u8
    credit: u32


class Stop(Message, number=10):
    """The receiver takes no more of the stream: its reader is gone."""

    stream: u8


class Signal(Message, number=11):
    """Send a signal to the command's process group; `signal` is Linux' number on x86 and Arm (signal(7))."""

    signal: u8


class Ping(Message, number=16):
    """Ask whether the service is there."""


class Pong(Message, number=17):
    """The service's load: running of slots, queued of queue; calls ended so far; uptime in milliseconds."""

    running: u32
    slots: u32
    queued: u32
    queue: u32
    ended: u64
    uptime_ms: u64


class Describe(Message, number=18):
    """Ask what may be called; an empty command means all."""

    command: string


class Description(Message, number=19, limit=DESCRIPTION_LIMIT):
    """The answer to DESCRIBE, and to a CALL whose only argument is `--help`: a JSON object."""

    json: string


class Status(Message, number=20):
    """Ask which calls there are."""


class Calls(Message, number=21, limit=CALLS_LIMIT):
    """The answer to STATUS and CANCEL: a JSON array of calls."""

    json: string


class Cancel(Message, number=22):
    """Stop a call of somebody's: a waiting one is dropped, a running one gets TERM, the grace period, KILL."""

    call_id: text
