"""The library: a call to work with while it runs, in the shape of `subprocess.Popen`.

Theory of operation. A thread makes the call, on a loop of its own, and moves what is relayed. Other threads wake that
loop by a pipe to send a signal. The thread sets `_started` when the command has been executed, or will not be, and
`_ended` when all is over and every descriptor of the call is closed; `_outcome` is read only then. The command's ends
of pipes are closed here once it has started, so that their readers find the end.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import selectors
import signal
import subprocess
import time
from collections import deque
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import IO, TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from sidecall.client.api import DEVNULL, PIPE, STDOUT, CompletedCall, descriptor, request_for
from sidecall.client.attempt import Reports
from sidecall.client.call import make_call
from sidecall.client.named import named_service
from sidecall.errors import CannotExecute, ConnectionLost, NoSuchCommand, SidecallError, UsageError
from sidecall.outcome import from_error
from sidecall.protocol.messages import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from sidecall.client.api import Stream, Text
    from sidecall.client.attempt import Attempt, Request
    from sidecall.client.streams import Fds
    from sidecall.outcome import Outcome
    from sidecall.transport.loop import Poller

AnyStr = TypeVar("AnyStr", str, bytes)

_CHUNK = 65536
"""Bytes to read at once: what a pipe holds. Source: pipe(7)."""


class _NoSuchCommand(NoSuchCommand, FileNotFoundError):
    pass


class _Missing(CannotExecute, FileNotFoundError):
    pass


class _Denied(CannotExecute, PermissionError):
    pass


class _NoDirectory(CannotExecute, NotADirectoryError):
    pass


class _Other(CannotExecute, OSError):
    pass


_KINDS: dict[int, type[CannotExecute]] = {
    errno.ENOENT: _Missing,
    errno.EACCES: _Denied,
    errno.EPERM: _Denied,
    errno.ENOTDIR: _NoDirectory,
}


class Popen(Generic[AnyStr]):
    """A command of a service that runs.

    It returns once the command has been executed, so a missing command raises here. The call ends with this process: if
    that exits, the service terminates the command.

    Args:
        service: the service's name, or the path of its socket.
        command: the command's name and its arguments.
        stdin: a descriptor, a file with one, `PIPE`, `DEVNULL`, or None for this process' own.
        stdout: likewise.
        stderr: likewise; or `STDOUT`, for where stdout goes.
        cwd: the working directory, if the service lets callers choose; a relative one is relative to this process'.
        env: variables for the command, if the service lets callers set them.
        text: make the pipes text, in the locale's encoding unless `encoding` is another one; so do the next two.
        encoding: the encoding of the pipes.
        errors: what to do about what cannot be decoded or encoded: see `open`.
        bufsize: bytes of the buffer of each pipe; 0 for none, -1 for the default, 1 for lines if `text`.
        timeout: seconds that the command may run; the service terminates it then. Time in the queue does not count.
        connect_timeout: seconds to wait for the service to start.
        queue: whether the call can wait in the service's queue; this waits with it.
        relay: relay the streams instead of passing descriptors.

    Raises:
        NoSuchCommand: there is no such command. It is a FileNotFoundError, too.
        CannotExecute: the command, or its working directory, cannot be used. It is a FileNotFoundError, a
            PermissionError, a NotADirectoryError or another OSError, too.
        ConnectionLost: the connection broke before the start was known: whether it runs is unknown.
        UsageError: an argument makes no sense.
        SidecallError: the call was refused.

    Attributes:
        args: the command.
        call_id: the call's id, for `sidecall kill` and the logs of the service.
        stdin: the writable end of its pipe; None without.
        stdout: the readable end of its pipe; None without.
        stderr: likewise.
        returncode: None while the command runs, as far as `poll` or `wait` have found; then its exit code, or minus the
            number of the signal. It is 125 if the connection broke: the exit status of the command is unknown.
    """

    stdin: IO[AnyStr] | None
    stdout: IO[AnyStr] | None
    stderr: IO[AnyStr] | None

    @overload
    def __init__(
        self: Popen[bytes], service: str, command: Sequence[Text], *, stdin: Stream = ..., stdout: Stream = ...,
        stderr: Stream = ..., cwd: Text | None = ..., env: Mapping[str, str] | None = ..., text: Literal[False] = ...,
        encoding: None = ..., errors: None = ..., bufsize: int = ..., timeout: float | None = ...,
        connect_timeout: float = ..., queue: bool = ..., relay: bool = ...,
    ) -> None: ...  # fmt: skip

    @overload
    def __init__(
        self: Popen[str], service: str, command: Sequence[Text], *, stdin: Stream = ..., stdout: Stream = ...,
        stderr: Stream = ..., cwd: Text | None = ..., env: Mapping[str, str] | None = ..., text: bool = ...,
        encoding: str | None = ..., errors: str | None = ..., bufsize: int = ..., timeout: float | None = ...,
        connect_timeout: float = ..., queue: bool = ..., relay: bool = ...,
    ) -> None: ...  # fmt: skip

    def __init__(
        self,
        service: str,
        command: Sequence[Text],
        *,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        cwd: Text | None = None,
        env: Mapping[str, str] | None = None,
        text: bool = False,
        encoding: str | None = None,
        errors: str | None = None,
        bufsize: int = -1,
        timeout: float | None = None,
        connect_timeout: float = 0.0,
        queue: bool = True,
        relay: bool = False,
    ) -> None:
        self.args = command
        self.call_id = ""
        self.returncode: int | None = None
        self.stdin = self.stdout = self.stderr = None
        self._outcome: Outcome | None = None
        self._error: BaseException | None = None
        self._started, self._ended, self._lock = Event(), Event(), Lock()
        self._tasks: deque[Callable[[Attempt], None]] = deque()
        self._attempt: Attempt | None = None
        self._wake_fds: tuple[int, int] | None = None
        self._is_begun = self._is_abandoned = False
        is_text = bool(text or encoding or errors)
        self._is_text, self._encoding, self._errors = is_text, encoding, errors
        _check_text(encoding, errors)
        self._read: dict[object, bytearray] = {}
        self._unwritten: memoryview | None = None
        pipes = _Pipes()
        try:
            with named_service(service) as path:
                request = request_for(
                    path,
                    command,
                    pipes.open(stdin, stdout, stderr),
                    cwd=cwd,
                    env=env,
                    timeout=timeout,
                    connect_timeout=connect_timeout,
                    queue=queue,
                    relay=relay,
                )
                self._start(request)
            pipes.close_theirs()
            self.stdin, self.stdout, self.stderr = (
                None if fd is None else _file(fd, "rb" if stream else "wb", bufsize, is_text, encoding, errors)
                for stream, fd in enumerate(pipes.take_ours())
            )
        except BaseException:
            self._abandon()
            pipes.close_all()
            raise

    @property
    def outcome(self) -> Outcome | None:
        """How the command ended, with reason, usage and who stopped it; None as long as `returncode` is."""
        return self._outcome if self.returncode is not None else None

    def poll(self) -> int | None:
        """Return `returncode` if the command has ended; None if it runs."""
        if self.returncode is None and self._ended.is_set():
            assert self._outcome is not None  # noqa: S101 it is set before
            self.returncode = CompletedCall(self._outcome).returncode
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the command has ended; return `returncode`.

        Raises:
            subprocess.TimeoutExpired: it still runs after `timeout` seconds.
        """
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        code = self.poll()
        assert code is not None  # noqa: S101 it has ended
        return code

    def communicate(
        self,
        input: AnyStr | None = None,  # noqa: A002 the name that subprocess has
        timeout: float | None = None,
    ) -> tuple[AnyStr | None, AnyStr | None]:
        """Write `input` to the command's stdin and close that, read its output to the end, and wait for it.

        Returns:
            stdout and stderr; None for what is not a pipe.

        Raises:
            subprocess.TimeoutExpired: it still runs after `timeout` seconds. The exception has the output so far, as
                bytes. Nothing is lost: call again.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        if self._unwritten is None:
            self._unwritten = memoryview(self._encoded(input))
        if not self._exchange(deadline) or not self._ended.wait(None if deadline is None else _left(deadline)):
            out, err = (bytes(self._read.get(file, b"")) or None for file in (self.stdout, self.stderr))
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0, out, err)
        self.poll()
        return self._content(self.stdout), self._content(self.stderr)

    def send_signal(self, sig: int) -> None:
        """Send a signal to the command; nothing happens if it has ended, or its service takes none of clients.

        SIGKILL kills all processes of the call. SIGSTOP is sent as SIGTSTP.

        Raises:
            UsageError: it cannot be sent to another container.
        """
        number = int(signal.SIGTSTP if sig == signal.SIGSTOP else sig)
        if self.poll() is not None:
            return
        if number not in SIGNALS:
            names = ", ".join(signal.Signals(each).name for each in sorted(SIGNALS))
            raise UsageError(f"signal {number} cannot be sent to a command", f"these can: {names}")
        self._do(lambda attempt: attempt.send_signal(number))

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL, to all processes of the call."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the pipes and wait; a KeyboardInterrupt is sent on, as a terminal sends it to a local process."""
        for file in (self.stdout, self.stderr):
            if file is not None:
                file.close()
        try:
            if self.stdin is not None:
                self.stdin.close()
        finally:
            if kind is not None and issubclass(kind, KeyboardInterrupt):
                self.send_signal(signal.SIGINT)
            self.wait()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: returncode: {self.returncode} args: {list(self.args)!r}>"

    def _start(self, request: Request) -> None:
        """Have a thread make the call, and wait until the command has been executed."""
        self._wake_fds = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        Thread(target=self._run, args=(request,), name="sidecall-popen", daemon=True).start()
        self._started.wait()
        if not self.call_id and self._error is not None:
            raise _as_os_error(self._error, self.args[0], request.directory)

    def _abandon(self) -> None:
        """Leave nothing of a call that nobody can have: the constructor raises, be it in the middle of Thread.start."""
        with self._lock:
            self._is_abandoned = True
        if self._is_begun:
            self._do(lambda attempt: attempt.cancel())
            self._ended.wait()
        else:
            self._close_wake()

    def _run(self, request: Request) -> None:
        with self._lock:
            if self._is_abandoned:
                return
            self._is_begun = True
        reports = Reports(on_started=self._on_started)
        try:
            end = make_call(request, reports, on_attempt=self._on_attempt)
            if isinstance(end, bytes):
                raise NoSuchCommand("`--help` describes a command instead of running it", "use `sidecall describe`")
            self._outcome = end
        except SidecallError as error:
            self._outcome, self._error = from_error(error), error
        except BaseException as error:  # a bug, which must not hold whoever waits
            self._outcome, self._error = from_error(ConnectionLost(f"cannot continue: {error!r}")), error
        finally:
            self._close_wake()
            self._ended.set()
            self._started.set()

    def _on_attempt(self, attempt: Attempt, loop: Poller) -> None:
        assert self._wake_fds is not None  # noqa: S101 it is closed last
        self._attempt = attempt
        loop.add_reader(self._wake_fds[0], self._on_wake)

    def _on_started(self, call_id: str) -> None:
        self.call_id = call_id
        self._started.set()

    def _on_wake(self) -> None:
        if self._wake_fds is not None:
            os.read(self._wake_fds[0], 4096)
        while self._tasks and self._attempt is not None:
            self._tasks.popleft()(self._attempt)

    def _do(self, task: Callable[[Attempt], None]) -> None:
        """Do something on the loop of the call, unless that has ended."""
        with self._lock:
            if self._wake_fds is None:
                return
            self._tasks.append(task)
            with suppress(BlockingIOError):  # it is awake
                os.write(self._wake_fds[1], b"\0")

    def _close_wake(self) -> None:
        with self._lock:
            fds, self._wake_fds = self._wake_fds, None
        for fd in fds or ():
            os.close(fd)

    def _exchange(self, deadline: float | None) -> bool:
        """Write and read until all pipes are at their end; return False if the deadline passes before."""
        with selectors.DefaultSelector() as selector:
            if self.stdin is not None and not self.stdin.closed:
                _flush(self.stdin)
                if self._unwritten:
                    selector.register(self.stdin, selectors.EVENT_WRITE)
                else:
                    _close(self.stdin)
            for file in (self.stdout, self.stderr):
                if file is not None and not file.closed:
                    selector.register(file, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(None if deadline is None else _left(deadline))
                if not ready and deadline is not None and _left(deadline) == 0:
                    return False
                for key, _ in ready:
                    is_done = self._write(key.fd) if key.fileobj is self.stdin else self._fill(key.fileobj, key.fd)
                    if is_done:
                        selector.unregister(key.fileobj)
                        _close(key.fileobj)
        return True

    def _write(self, fd: int) -> bool:
        assert self._unwritten is not None  # noqa: S101 see `communicate`
        try:
            self._unwritten = self._unwritten[os.write(fd, self._unwritten[: select.PIPE_BUF]) :]
        except BrokenPipeError:
            self._unwritten = self._unwritten[:0]
        return not self._unwritten

    def _fill(self, file: object, fd: int) -> bool:
        data = os.read(fd, _CHUNK)
        self._read.setdefault(file, bytearray()).extend(data)
        return not data

    def _encoded(self, given: str | bytes | None) -> bytes:
        if isinstance(given, str):
            buffer = io.BytesIO()
            wrapper = io.TextIOWrapper(buffer, self._encoding, self._errors, write_through=True)
            wrapper.write(given)
            return buffer.getvalue()
        return given or b""

    def _content(self, file: IO[AnyStr] | None) -> Any:
        if file is None:
            return None
        content = bytes(self._read.get(file, b""))
        if not self._is_text:
            return content
        return io.TextIOWrapper(io.BytesIO(content), self._encoding, self._errors).read()


class _Pipes:
    """The descriptors of one call: the command's ends, and those of pipes that are this process'."""

    def __init__(self) -> None:
        self.ours: list[int | None] = [None, None, None]
        self._theirs: list[int] = []

    def open(self, stdin: Stream, stdout: Stream, stderr: Stream) -> Fds:
        first, second = self._end(0, stdin), self._end(1, stdout)
        return first, second, second if stderr == STDOUT else self._end(2, stderr)

    def close_theirs(self) -> None:
        for fd in self._theirs:
            os.close(fd)
        self._theirs = []

    def take_ours(self) -> list[int | None]:
        """Return this process' ends by stream; from now on they are the caller's to close."""
        ours, self.ours = self.ours, [None, None, None]
        return ours

    def close_all(self) -> None:
        self.close_theirs()
        for fd in self.ours:
            if fd is not None:
                os.close(fd)

    def _end(self, stream: int, given: Stream) -> int | None:
        if given is None:
            return stream
        if given == DEVNULL:
            return None
        if given != PIPE:
            return descriptor(given)
        readable, writable = os.pipe2(os.O_CLOEXEC)
        ours, theirs = (readable, writable) if stream else (writable, readable)
        self.ours[stream] = ours
        self._theirs.append(theirs)
        return theirs


def _file(fd: int, mode: str, bufsize: int, is_text: bool, encoding: str | None, errors: str | None) -> Any:  # noqa: PLR0917
    is_by_line = is_text and bufsize == 1
    file = open(fd, mode, -1 if is_by_line else bufsize)  # noqa: SIM115 it is what is returned
    if not is_text:
        return file
    return io.TextIOWrapper(
        file, encoding, errors, line_buffering=is_by_line, write_through=mode == "wb" and bufsize == 0
    )


def _check_text(encoding: str | None, errors: str | None) -> None:
    """Raise the LookupError of an unknown encoding before the command starts."""
    if encoding is not None:
        codecs.lookup(encoding)
    if errors is not None:
        codecs.lookup_error(errors)


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _flush(file: IO[Any]) -> None:
    with suppress(BrokenPipeError):
        file.flush()


def _close(file: Any) -> None:
    with suppress(BrokenPipeError):
        file.close()


def _as_os_error(error: BaseException, command: Text, directory: bytes) -> BaseException:
    """Return an error as what `subprocess.Popen` raises too, if the command or its directory cannot be used."""
    raised: NoSuchCommand | CannotExecute
    if isinstance(error, NoSuchCommand):
        number = errno.ENOENT
        raised = _NoSuchCommand(error.reason, error.hint)
    elif isinstance(error, CannotExecute):
        number = _errno_of(error.reason)
        raised = _KINDS.get(number, _Other)(error.reason, error.hint)
    else:
        return error
    is_directory = error.reason.startswith("cannot enter the working directory")
    assert isinstance(raised, OSError)  # noqa: S101 each is
    raised.errno, raised.strerror = number, os.strerror(number)
    raised.filename = os.fsdecode(directory if is_directory else command)
    return raised


def _errno_of(reason: str) -> int:
    """Return the error number that a reason ends with as text: see `supervise.executable.explain_exec`."""
    ends = {os.strerror(number): number for number in errno.errorcode}
    ends |= {"does not exist": errno.ENOENT, "is not executable": errno.EACCES, "too long for the system": errno.E2BIG}
    return next((number for end, number in ends.items() if reason.endswith(end)), errno.ENOEXEC)
