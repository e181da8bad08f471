"""The library: one call, in the shape of `subprocess.run`."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from sidecall._record import Record
from sidecall.client.call import Request, make_call
from sidecall.errors import NoSuchCommand, SidecallError, UsageError
from sidecall.outcome import SIGNALED, Outcome
from sidecall.transport.address import socket_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

INHERIT = -4
"""The command gets this process' own stream. It is none of the numbers that mean something to `subprocess`."""
DEVNULL = -3
"""The command gets no stream; the number is that of `subprocess.DEVNULL`."""
STDOUT = -2
"""The command's stderr goes where its stdout goes; the number is that of `subprocess.STDOUT`."""


_LONGEST_TIME = 1e9
"""Seconds, 30 years: as on the command line."""


class CallFailed(SidecallError):
    """A command that did not return 0, where `check` was asked for.

    Attributes:
        completed: how it ended, and what it had written.
    """

    def __init__(self, completed: CompletedCall) -> None:
        outcome = completed.outcome
        super().__init__(outcome.reason or f"the command ended: {outcome.kind} {outcome.value}", outcome.hint)
        self.completed = completed


class CompletedCall(Record):
    """How a call ended, and what was captured of it (None where nothing was)."""

    outcome: Outcome
    stdout: bytes | None = None
    stderr: bytes | None = None

    @property
    def returncode(self) -> int:
        """The exit code, or minus the signal's number, as `subprocess` has it."""
        return -self.outcome.value if self.outcome.kind == SIGNALED else self.outcome.exit_code


def run(
    service: str,
    command: Sequence[str | bytes],
    *,
    input: bytes | None = None,  # noqa: A002 the name that subprocess.run has
    capture_output: bool = False,
    stdin: int = INHERIT,
    stdout: int = INHERIT,
    stderr: int = INHERIT,
    cwd: str | bytes = b"",
    env: Mapping[str, str] | None = None,
    timeout: float = 0.0,
    wait: float = 0.0,
    may_wait: bool = True,
    relay: bool = False,
    check: bool = False,
) -> CompletedCall:
    """Run a command of a service and wait for its end.

    Args:
        service: the service's name, or the path of its socket.
        command: the command's name and its arguments.
        input: bytes for its stdin.
        capture_output: return its stdout and stderr instead of passing them on.
        stdin: an open descriptor, `INHERIT` or `DEVNULL`; likewise `stdout` and `stderr`.
        stdout: see `stdin`.
        stderr: see `stdin`; or `STDOUT`.
        cwd: the working folder, if the service lets callers choose.
        env: variables for the command, if the service lets callers set them.
        timeout: seconds that the command may run; 0 for no limit of the caller's. Time in the queue does not count.
        wait: seconds to wait for the service to come up.
        may_wait: whether the call may wait in the service's queue.
        relay: relay the streams instead of passing descriptors.
        check: raise `CallFailed` unless the command returns 0.

    Raises:
        CallFailed: see `check`.
        ConnectionLost: the connection broke: whether and how the command ended is unknown.
        UsageError: an argument makes no sense; nothing was started.
        SidecallError: the call was refused; nothing was started.
    """
    for name, seconds in (("timeout", timeout), ("wait", wait)):
        if not 0 <= seconds < _LONGEST_TIME:
            raise UsageError(f"{name} takes a number of seconds, 0 or more, not {seconds}")
    words = [os.fsencode(word) for word in command]
    if not words:
        raise UsageError("a call needs a command", "pass its name and its arguments as a list")
    request = Request(
        path=socket_path(service, os.environ),
        command=words[0],
        arguments=tuple(words[1:]),
        environment=tuple(os.fsencode(f"{name}={value}") for name, value in (env or {}).items()),
        directory=os.fsencode(cwd),
        timeout=timeout,
        connect_wait=wait,
        may_wait=may_wait,
        relay=relay,
    )
    with ExitStack() as files:
        given = (stdin, stdout, stdout if stderr == STDOUT else stderr)
        ends = [_stream(number, stream) for number, stream in enumerate(given)]
        if input is not None:
            ends[0] = _memory_file(files, input)
        if capture_output:
            ends[1:] = [_memory_file(files), _memory_file(files)]
        outcome = make_call(request, (ends[0], ends[1], ends[2]))
        if isinstance(outcome, bytes):
            raise NoSuchCommand("`--help` describes a command instead of running it", "use `describe`")
        captured = [_content(end) for end in ends[1:]] if capture_output else [None, None]
    completed = CompletedCall(outcome, *captured)
    if check and not outcome.ok:
        raise CallFailed(completed)
    return completed


def _stream(number: int, given: int) -> int | None:
    if given in {DEVNULL, INHERIT}:
        return None if given == DEVNULL else number
    try:
        os.fstat(given)
    except (OSError, OverflowError):
        raise UsageError(f"{given} is no open descriptor", "for subprocess.PIPE, say `capture_output`") from None
    return given


def _memory_file(files: ExitStack, content: bytes = b"") -> int:
    """Return a file that lives in memory: the command writes it directly, and no pipe can fill up."""
    fd = os.memfd_create("sidecall")
    files.callback(os.close, fd)
    with open(fd, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _content(fd: int | None) -> bytes:
    if fd is None:
        return b""
    with open(fd, "rb", closefd=False) as file:
        file.seek(0)
        return file.read()
