"""Calls that outlive their client: made, followed to their end, read and removed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sidecall.client import status
from sidecall.client.api import Streams, completed, request_for
from sidecall.client.attempt import Attempt, Reports, Request
from sidecall.client.call import make_call, run_to_completion
from sidecall.client.named import named_service
from sidecall.client.streams import StreamPlan, stream_mode
from sidecall.errors import NoSuchCommand
from sidecall.outcome import EXITED, LOST, Outcome
from sidecall.protocol import messages as m
from sidecall.protocol.options import Details
from sidecall.transport.address import connect
from sidecall.transport.loop import Poller

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from socket import socket

    from sidecall.client.api import CompletedCall, Text
    from sidecall.errors import SidecallError

_NO_REPORTS = Reports()


def detach(
    service: str,
    command: Sequence[Text],
    *,
    id: str = "",  # noqa: A002 what it is called everywhere
    cwd: Text | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    connect_timeout: float = 0.0,
    queue: bool = True,
) -> str:
    """Start a command of a service, and return the id of its call, which goes on without this process.

    The command has an empty stdin; the service records its output.

    Args:
        service: the service's name, or the path of its socket.
        command: the command's name and its arguments.
        id: the id that the call is to have. If there is a call with it, of the same request, no other one is started.
        cwd: see `run`.
        env: see `run`.
        timeout: see `run`.
        connect_timeout: see `run`.
        queue: see `run`.

    Raises:
        ConnectionLost: the connection broke: whether the command was started is unknown.
        UsageError: an argument makes no sense, or the id is that of a call with another request.
        SidecallError: the call was refused; nothing was started.
    """
    with named_service(service) as path:
        request = request_for(
            path,
            command,
            (None, None, None),
            cwd=cwd,
            env=env,
            timeout=timeout,
            connect_timeout=connect_timeout,
            queue=queue,
            relay=False,
            detach=os.fsencode(id),
        )
        end = make_call(request)
    if isinstance(end, bytes):
        raise NoSuchCommand("`--help` describes a command instead of running it", "use `sidecall describe`")
    return end.call_id


def wait(service: str, id: str, *, capture_output: bool = False, check: bool = False) -> CompletedCall:  # noqa: A002
    """Wait for the end of a detached call.

    Args:
        service: see `detach`.
        id: the call's id.
        capture_output: return its stdout and stderr, from its start.
        check: raise `CallFailed` unless the command returns 0.

    Raises:
        CallFailed: see `check`.
        ConnectionLost: the connection broke; the call goes on.
        UsageError: there is no record of such a call.
        SidecallError: no server is listening.
    """
    with named_service(service) as path, Streams() as streams:
        _, stdout, stderr = streams.open(-3, *((-1, -1) if capture_output else (-3, -3)), None, capture_output=False)
        end = follow(path, id, stdout, stderr)
        return completed(end, streams, check=check)


def logs(service: str, id: str, *, since: float = 0.0) -> tuple[bytes, bytes]:  # noqa: A002
    """Return what a detached call has written to stdout and stderr by now.

    Args:
        service: see `detach`.
        id: the call's id.
        since: leave out what was written before this time, in seconds since the epoch, to the second.

    Raises:
        UsageError: there is no record of such a call.
        SidecallError: no server is listening, or the connection broke.
    """
    with named_service(service) as path, Streams() as streams:
        _, stdout, stderr = streams.open(-3, -1, -1, None, capture_output=False)
        follow(path, id, stdout, stderr, to_end=False, since=since)
        return streams.captured(1) or b"", streams.captured(2) or b""


def remove(service: str, id: str) -> None:  # noqa: A002
    """Remove the record of a call that has ended; its id can be used again then.

    Raises:
        UsageError: there is no record of such a call, or it has not ended.
        SidecallError: no server is listening.
    """
    with named_service(service) as path:
        status.remove(path, id)


def follow(
    path: str,
    call_id: str,
    stdout: int | None,
    stderr: int | None,
    reports: Reports = _NO_REPORTS,
    *,
    to_end: bool = True,
    needs_outcome: bool = True,
    since: float = 0.0,
    connect_timeout: float = 0.0,
) -> Outcome:
    """Write the output of a detached call to descriptors, and wait for its end.

    An exception on the way, KeyboardInterrupt for one, ends the following, not the call.

    Args:
        path: the service's socket.
        call_id: the call's id.
        stdout: where to write its stdout; None for nowhere.
        stderr: likewise.
        reports: what to call back on the way.
        to_end: whether to wait for the end of the call; what it has written by now is enough if not.
        needs_outcome: whether to go on if nobody reads the output any more.
        since: leave out what was written before this time, in seconds since the epoch; 0 for nothing.
        connect_timeout: seconds to wait for the service to start.

    Returns:
        How the command ended; that it exited with 0 if that is not waited for.

    Raises:
        ConnectionLost: the connection broke.
        UsageError: there is no record of such a call.
        SidecallError: no server is listening.
    """
    modes = (m.NONE, stream_mode(stdout, relay=True), stream_mode(stderr, relay=True))
    message = m.Follow(call_id, modes[1], modes[2], int(to_end), int(since * 1000))
    request = Request(path, b"", connect_timeout=connect_timeout, streams=(None, stdout, stderr))
    loop = Poller()
    sock = connect(path, connect_timeout)
    following = _Following(
        loop, sock, request, StreamPlan(modes), reports, message, needs_outcome=to_end and needs_outcome
    )
    try:
        run_to_completion(following, loop)
    except OSError as error:
        raise following.resource_error(error) from error
    end = following.result()
    assert isinstance(end, Outcome)  # noqa: S101 nothing was asked to be described
    return end


class _Following(Attempt):
    """An attempt that follows a call in place of making one.

    Args:
        loop: see `Attempt`.
        sock: see `Attempt`.
        request: see `Attempt`.
        plan: see `Attempt`.
        reports: see `Attempt`.
        message: what is sent.
        needs_outcome: whether the end of the output is not the end.
    """

    def __init__(  # noqa: PLR0917 see `Attempt`
        self,
        loop: Poller,
        sock: socket,
        request: Request,
        plan: StreamPlan,
        reports: Reports,
        message: m.Follow,
        *,
        needs_outcome: bool,
    ) -> None:
        super().__init__(loop, sock, request, plan, reports)
        self._message = message
        self._needs_outcome = needs_outcome
        self._unended = {stream for stream, mode in enumerate(plan.modes) if mode == m.RELAYED}

    def _first_request(self) -> m.Message:
        return self._message

    def _on_message(self, message: m.Message) -> None:
        if isinstance(message, m.Eof):
            self._unended.discard(message.stream)
        if isinstance(message, m.Exit) and not self._needs_outcome:
            self._finish_with(self._success())
        elif isinstance(message, m.Exit) and message.ended == m.ENDED_LOST:
            reason = Details(message.details).text(b"reason")
            hint = "see the service log, and the output so far with `sidecall logs`"
            self._finish_with(Outcome(LOST, reason=f"the call is lost: {reason}", hint=hint, call_id=self._call_id))
        else:
            super()._on_message(message)

    def _on_end(self, error: SidecallError | None) -> None:
        stopped = self._relay.errors.keys() if self._relay else set()  # nobody reads them any more
        if error is None and not self._needs_outcome and self._call_id and self._unended <= stopped:
            self._finish_with(self._success())
        else:
            super()._on_end(error)

    def _tell(self) -> None:
        """End early if nobody reads the output any more."""
        if self._call_id and self.running and not self._needs_outcome and not (self._relay and self._relay.writing):
            self._finish_with(self._success())
        super()._tell()

    def _success(self) -> Outcome:
        return Outcome(EXITED, call_id=self._call_id)
