"""One call, made and followed to its outcome on a loop of its own. `aio` does the same on asyncio's."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from sidecall.client.attempt import Attempt, Reports
from sidecall.client.signals import SignalWatch
from sidecall.client.streams import TERMINAL_PLAN, stream_plans
from sidecall.errors import DescriptorsLost
from sidecall.protocol.messages import FORWARDED_SIGNALS
from sidecall.transport.address import connect
from sidecall.transport.loop import Poller

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from sidecall.client.attempt import Request
    from sidecall.outcome import Outcome

_NO_REPORTS = Reports()


def make_call(
    request: Request,
    reports: Reports = _NO_REPORTS,
    *,
    forward_signals: bool = False,
    on_attempt: Callable[[Attempt, Poller], None] = lambda _, __: None,
) -> Outcome | bytes:
    """Make a call and wait for its outcome.

    An exception on the way, KeyboardInterrupt for one, cancels the call, and is raised once nothing of it is left; a
    second one at once.

    Args:
        request: what to call.
        reports: what to call back on the way.
        forward_signals: send this process' signals to the command instead of acting on them.
        on_attempt: called with each attempt before it starts, and with its loop.

    Returns:
        How the command ended; or the JSON description of a command that was asked for its `--help`.

    Raises:
        ConnectionLost: the exit status of the command is unknown.
        SidecallError: the call was refused; nothing was started.
    """
    plans = stream_plans(request.streams, relay=request.relay) if request.terminal is None else [TERMINAL_PLAN]
    numbers = FORWARDED_SIGNALS if request.terminal is None else FORWARDED_SIGNALS | {signal.SIGWINCH}
    for plan in plans:
        loop = Poller()
        attempt = Attempt(loop, connect(request.path, request.connect_timeout), request, plan, reports)
        try:
            on_attempt(attempt, loop)
            run_to_completion(attempt, loop, numbers if forward_signals else ())
            return attempt.result()
        except DescriptorsLost:
            if not plan.passes:
                raise
        except OSError as error:
            raise attempt.resource_error(error) from error
    raise AssertionError("a call without passed descriptors cannot lose them")


def run_to_completion(attempt: Attempt, loop: Poller, forwarded: Collection[int] = ()) -> None:
    """Run an attempt until it is done, and close it."""
    signals = None
    try:
        if forwarded:
            signals = SignalWatch(loop, forwarded, attempt.signal)
        _run(attempt, loop)
        if signals is not None:
            signals.close()  # from here on Ctrl-C ends the client, not the ended command
        while not attempt.done:
            loop.run_once()
    finally:
        if signals is not None:
            signals.close()
        attempt.close()


def _run(attempt: Attempt, loop: Poller) -> None:
    """Start an attempt, and wait for the end of its call.

    An exception can come from a handler of signals, as KeyboardInterrupt does: at any time, so also when the call has
    been sent, but `start` has not returned.
    """
    try:
        attempt.start()
        while attempt.running:
            loop.run_once()
    except BaseException:
        attempt.cancel()
        while attempt.running:  # another exception ends that at once
            loop.run_once()
        raise
