"""The one exception tree and the one table of exit codes.

Every way in which a call can end without the command's own status has a class here, and its number beside it.
Code below raises them where the reason is known; the command line prints them once. Any *other* exception that
reaches a user is a bug.

The numbers follow sysexits(3) where it has one, and GNU timeout(1), env(1) and the POSIX shell for 124 to 127.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import ClassVar

EXIT_USAGE = 64
EXIT_UNAVAILABLE = 69
EXIT_BUG = 70
EXIT_OUTPUT_FAILED = 73
EXIT_BUSY = 75
EXIT_PROTOCOL = 76
EXIT_DENIED = 77
EXIT_CONFIG = 78
EXIT_TIMED_OUT = 124
EXIT_LOST = 125
EXIT_CANNOT_EXECUTE = 126
EXIT_NO_SUCH_COMMAND = 127


_LONGEST = 1000
"""Characters of a reason or hint: what a caller sent may be in it, and it has to fit a REFUSED message."""


def one_line(text: str) -> str:
    """Return a text as one printable line: it may go to a terminal or a log, and hold what a stranger said."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]}…{text[-_LONGEST // 2 :]}"
    return printable(text)


def printable(text: str) -> str:
    """Return a text with an escape for each character that is not printable, a line's end among them."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class SidecallError(Exception):
    """A call, or a service, that ended for a reason of its own.

    Args:
        reason: one clause that says what is wrong, without a final stop.
        hint: what the person who reads it can do; empty if there is nothing to say.
        rule: for the service's audit log alone: the key of the configuration that refused.
    """

    code: ClassVar[int] = EXIT_BUG

    def __init__(self, reason: str, hint: str = "", rule: str = "") -> None:
        self.reason = one_line(reason)
        self.hint = one_line(hint)
        self.rule = rule
        super().__init__(self.reason)


class UsageError(SidecallError):
    """The request makes no sense: an unknown option, a parameter that does not fit."""

    code = EXIT_USAGE


class ServiceUnavailable(SidecallError):
    """No such service, or nobody listens on its socket."""

    code = EXIT_UNAVAILABLE


class CannotCreateOutput(SidecallError):
    """A file cannot be put into its place."""

    code = EXIT_OUTPUT_FAILED


class ServiceBusy(SidecallError):
    """The queue is full, the caller did not want to wait, or the service is shutting down."""

    code = EXIT_BUSY


class ProtocolError(SidecallError):
    """The peer breaks the protocol; see also `LocalProtocolError`."""

    code = EXIT_PROTOCOL


class LocalProtocolError(Exception):
    """This side was about to break the protocol: a bug in the code that called `Connection.send`."""


class DescriptorsLost(ProtocolError):
    """The announced descriptors did not arrive: something between the two sides forwards only bytes."""


class CallDenied(SidecallError):
    """The caller may not do this."""

    code = EXIT_DENIED


class ConfigError(SidecallError):
    """A configuration that cannot be served."""

    code = EXIT_CONFIG


class ConnectionLost(SidecallError):
    """The connection broke after the call was sent: whether and how it ended is unknown."""

    code = EXIT_LOST


class CannotExecute(SidecallError):
    """The command exists but cannot be executed."""

    code = EXIT_CANNOT_EXECUTE


class NoSuchCommand(SidecallError):
    """There is no such command."""

    code = EXIT_NO_SUCH_COMMAND


REFUSALS: tuple[type[SidecallError], ...] = (
    UsageError,
    ServiceUnavailable,
    ServiceBusy,
    ProtocolError,
    CallDenied,
    CannotExecute,
    NoSuchCommand,
)
"""What a service may answer instead of starting a command; the codes are those of the REFUSED message."""


DESCRIPTORS_LOST = 1
"""The REFUSED code that asks the caller to come again with relayed streams; never an exit code."""


def refusal_code(error: SidecallError) -> int:
    """Return the code of the REFUSED message for an exception; see `refusal`."""
    return DESCRIPTORS_LOST if isinstance(error, DescriptorsLost) else error.code


def refusal(code: int, reason: str, hint: str) -> SidecallError:
    """Return the exception for a REFUSED message; a code that is not in the table is a `ProtocolError`."""
    if code == DESCRIPTORS_LOST:
        return DescriptorsLost(reason, hint)
    for error in REFUSALS:
        if error.code == code:
            return error(reason, hint)
    return ProtocolError(f"the service refused with an unknown code {code}: {reason}", hint)
