"""The library: make one call, with the interface of `subprocess.run`. `aio` has the same for asyncio."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecall.client.attempt import Request
from sidecall.client.call import make_call
from sidecall.client.named import named_service
from sidecall.errors import NoSuchCommand, SidecallError, UsageError
from sidecall.outcome import SIGNALED, Outcome
from sidecall.transport.address import absolute

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Protocol, Self

    from sidecall.client.streams import Fds

    class HasFileno(Protocol):
        """An open file, a pipe's end, a socket: anything with a descriptor."""

        def fileno(self) -> int:
            """Return the descriptor."""
            ...

    Text = str | bytes | os.PathLike[str]
    Stream = int | HasFileno | None

PIPE = -1
"""Capture the stream; with the number that `subprocess.PIPE` has, as the next two."""
STDOUT = -2
"""Send stderr where stdout goes."""
DEVNULL = -3
"""The command gets no such stream."""

_LONGEST_TIME = 1e9
"""Seconds: 30 years, as on the command line."""


class CallFailed(SidecallError):
    """Raised with `check=True` if the command did not exit with 0.

    Attributes:
        completed: how the call ended, with the captured output.
    """

    def __init__(self, completed: CompletedCall) -> None:
        outcome = completed.outcome
        super().__init__(outcome.reason or f"the command ended: {outcome.kind} {outcome.value}", outcome.hint)
        self.completed = completed


@dataclass(frozen=True)
class CompletedCall:
    """How a call ended, and the captured output of each stream; None if it was not captured."""

    outcome: Outcome
    stdout: bytes | None = None
    stderr: bytes | None = None

    @property
    def returncode(self) -> int:
        """The exit code, or the negative number of the signal, as in `subprocess`."""
        return -self.outcome.value if self.outcome.kind == SIGNALED else self.outcome.exit_code


def run(
    service: str,
    command: Sequence[Text],
    *,
    input: bytes | None = None,  # noqa: A002 the name that subprocess.run has
    capture_output: bool = False,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    cwd: Text | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    connect_timeout: float = 0.0,
    queue: bool = True,
    relay: bool = False,
    check: bool = False,
) -> CompletedCall:
    """Run a command of a service and wait for its end.

    An exception meanwhile, such as KeyboardInterrupt, cancels the call. It is raised when all processes of the call
    have been terminated; a second exception is raised at once.

    Args:
        service: the service's name, or the path of its socket.
        command: the command's name and its arguments.
        input: bytes for its stdin.
        capture_output: return its stdout and stderr.
        stdin: a descriptor, a file with one, `DEVNULL`, or None for this process' own.
        stdout: likewise; or `PIPE`, to return it.
        stderr: likewise; or `STDOUT`, for where stdout goes.
        cwd: the working directory, relative to this process'; the command's configuration must allow it.
        env: variables for the command; its configuration must allow them.
        timeout: seconds that the command can run; time in the queue does not count.
        connect_timeout: seconds to wait for the service to start.
        queue: whether the call can wait in the service's queue.
        relay: relay the streams instead of passing descriptors.
        check: raise `CallFailed` unless the command exits with 0.

    Raises:
        CallFailed: see `check`.
        ConnectionLost: the connection was lost: the exit status of the command is unknown.
        UsageError: an argument is invalid; nothing was started.
        SidecallError: the call was refused; nothing was started.
    """
    with named_service(service) as path, Streams() as streams:
        fds = streams.open(stdin, stdout, stderr, input, capture_output=capture_output)
        request = request_for(
            path,
            command,
            fds,
            cwd=cwd,
            env=env,
            timeout=timeout,
            connect_timeout=connect_timeout,
            queue=queue,
            relay=relay,
        )
        return completed(make_call(request), streams, check=check)


def request_for(
    path: str,
    command: Sequence[Text],
    streams: Fds,
    *,
    cwd: Text | None,
    env: Mapping[str, str] | None,
    timeout: float | None,
    connect_timeout: float,
    queue: bool,
    relay: bool,
    detach: bytes | None = None,
) -> Request:
    """Return the request for a call at the socket `path`; see `run` for the other arguments.

    Raises:
        UsageError: the command is missing or not a list, or a time is invalid.
    """
    for name, seconds in (("timeout", timeout), ("connect_timeout", connect_timeout)):
        if seconds is not None and not 0 <= seconds < _LONGEST_TIME:
            raise UsageError(f"{name} takes a number of seconds, 0 or more, not {seconds}")
    if not command or isinstance(command, str | bytes):
        raise UsageError("a call needs a command and its arguments as a list", 'for example ["ls", "-l"]')
    words = [os.fsencode(word) for word in command]
    return Request(
        path=path,
        command=words[0],
        arguments=tuple(words[1:]),
        environment=tuple([os.fsencode(f"{name}={value}") for name, value in (env or {}).items()]),
        directory=os.fsencode(absolute(os.fsdecode(cwd))) if cwd else b"",
        timeout=timeout or 0.0,
        connect_timeout=connect_timeout,
        queue=queue,
        relay=relay,
        detach=detach,
        streams=streams,
    )


def completed(end: Outcome | bytes, streams: Streams, *, check: bool) -> CompletedCall:
    """Return what `run` returns.

    Raises:
        CallFailed: see `run`.
    """
    if isinstance(end, bytes):
        raise NoSuchCommand("`--help` describes a command instead of running it", "use `sidecall describe`")
    done = CompletedCall(end, streams.captured(1), streams.captured(2))
    if check and not end.ok:
        raise CallFailed(done)
    return done


def descriptor(given: int | HasFileno) -> int:
    """Return an open descriptor, or that of a file.

    Raises:
        UsageError: it is not open.
    """
    fd = given if isinstance(given, int) else given.fileno()
    try:
        os.fstat(fd)
    except (OSError, OverflowError):
        raise UsageError(f"{given} is no open descriptor", "a command's stdin can be `input`, but no PIPE") from None
    return fd


class Streams:
    """The streams of one call. Input and captured output are files in memory (memfd_create(2)).

    The command reads and writes these directly, so no pipe can fill up while it runs.
    """

    def __init__(self) -> None:
        self._memory: dict[int, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for fd in self._memory.values():
            os.close(fd)

    def open(self, stdin: Stream, stdout: Stream, stderr: Stream, input: bytes | None, *, capture_output: bool) -> Fds:  # noqa: A002
        """Return the descriptors for the command; see `run` for the arguments.

        Raises:
            UsageError: two arguments exclude each other, or a descriptor is not open.
            OSError: this process has no descriptor left.
        """
        if input is not None and stdin is not None:
            raise UsageError("`input` is the command's stdin: there cannot be another")
        if capture_output and not stdout is stderr is None:
            raise UsageError("`capture_output` captures stdout and stderr: they cannot go elsewhere")
        if capture_output:
            stdout = stderr = PIPE
        first = self._end(0, stdin) if input is None else self._hold(0, input)
        second = self._end(1, stdout)
        return first, second, second if stderr == STDOUT else self._end(2, stderr)

    def captured(self, stream: int) -> bytes | None:
        """Return the captured output of a stream; None if it was not captured."""
        fd = self._memory.get(stream)
        if fd is None:
            return None
        with open(fd, "rb", closefd=False) as file:
            file.seek(0)
            return file.read()

    def _end(self, stream: int, given: Stream) -> int | None:
        if given is None:
            return stream
        if given == DEVNULL:
            return None
        if given == PIPE and stream:
            return self._hold(stream)
        return descriptor(given)

    def _hold(self, stream: int, content: bytes = b"") -> int:
        fd = self._memory[stream] = os.memfd_create("sidecall")
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(fd, 0, os.SEEK_SET)
        return fd
