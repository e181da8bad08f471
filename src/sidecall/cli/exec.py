"""`sidecall exec`: run a command of a service, and end as it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING
import os

from sidecall.cli import CLOSED, print_error, say
from sidecall.cli.options import Option, help_text, parse
from sidecall.client.call import Request, make_call
from sidecall.client.signals import kill_self
from sidecall.errors import ServiceUnavailable, SidecallError, UsageError, one_line
from sidecall.outcome import EXITED, SIGNALED, Outcome, from_error
from sidecall.transport.address import absolute, socket_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecall.cli.options import Parsed

_SIGKILL = 9

USAGE = "sidecall exec [OPTIONS] NAME COMMAND [ARG...]"
ABOUT = """\
Run COMMAND of the service NAME as if it were local: its stdin, stdout and stderr are yours, signals reach it, and
this process ends as it ended, with the same exit code or by the same signal. Everything after COMMAND is its own."""

OPTIONS = (
    Option("--cwd", "DIR", "the command's working directory; a relative one is relative to yours"),
    Option("--env", "NAME[=VALUE]", "set a variable for the command, or pass yours on; repeatable"),
    Option("--timeout", "SECONDS", "stop the command after that time and end with 124"),
    Option("--connect-timeout", "SECONDS", "wait up to SECONDS for the service to start"),
    Option("--no-queue", "", "exit with 75 instead of waiting for a slot"),
    Option("--no-stdin", "", "give the command an empty stdin"),
    Option("--relay", "", "relay the streams instead of passing their descriptors"),
    Option("--die-with-parent", "", "end, and so cancel the call, when the process that started this one ends"),
    Option("--outcome-fd", "N", "write how the call ended to descriptor N, as one line of JSON"),
    Option("-q, --quiet", "", "do not say that the call waits"),
    Option("-v, --verbose", "", "say each step on stderr"),
)


def main(words: Sequence[str]) -> int:
    """Run the subcommand; return the code to exit with. Does not return for a command that died of a signal."""
    options = parse(OPTIONS, words, "sidecall exec")
    if options.wants_help:
        print(help_text(USAGE, ABOUT, OPTIONS), end="")
        return 0
    if options.flag("die-with-parent"):
        _die_with_parent()
    outcome_fd = _outcome_fd(options)
    try:
        result = _call(options)
    except SidecallError as error:
        result = from_error(error)
    if isinstance(result, bytes):
        from sidecall.cli.describe import render

        print(render(result), end="")
        return 0
    if outcome_fd >= 0:
        _write_outcome(result, outcome_fd, options)
    return _end_as(result, verbose=options.flag("verbose"))


def _call(options: Parsed) -> Outcome | bytes:
    request = _request(options)
    verbose = options.flag("verbose")

    def on_queued(ahead: int) -> None:
        if not options.flag("quiet"):
            say(one_line(f"waiting for a slot of {options.args[0]}, {ahead} ahead"))

    def on_started(call_id: str) -> None:
        if verbose:
            say(f"started as call {one_line(call_id)}")
        _let_go_of_streams()

    return make_call(request, on_queued, on_started, forward_signals=True)


def _request(options: Parsed) -> Request:
    if len(options.args) < 2:
        missing = "a service and a command are" if not options.args else "a command is"
        raise UsageError(f"{missing} missing", f"usage: {USAGE}")
    name, command, *arguments = options.args
    return Request(
        path=socket_path(name, os.environ),
        command=os.fsencode(command),
        arguments=tuple(map(os.fsencode, arguments)),
        environment=tuple(_variable(given) for given in options.all("env")),
        directory=os.fsencode(absolute(options.text("cwd"))) if options.flag("cwd") else b"",
        timeout=options.seconds("timeout"),
        connect_timeout=options.seconds("connect-timeout"),
        queue=not options.flag("no-queue"),
        relay=options.flag("relay"),
        streams=(None if options.flag("no-stdin") else 0, 1, 2),
    )


def _variable(given: str) -> bytes:
    name, equals, _ = given.partition("=")
    if not name:
        raise UsageError(f"--env takes NAME or NAME=VALUE, not {given!r}")
    if equals:
        return os.fsencode(given)
    if name not in os.environ:
        raise UsageError(f"--env {name}: there is no such variable here", f"set it, or say --env {name}=VALUE")
    return os.fsencode(f"{name}={os.environ[name]}")


def _outcome_fd(options: Parsed) -> int:
    if not options.flag("outcome-fd"):
        return -1
    import fcntl

    fd = options.integer("outcome-fd", -1, 0)
    not_open = UsageError(f"--outcome-fd {fd}: this descriptor is not open", f"open it with `{fd}>FILE`")
    if fd in CLOSED:
        raise not_open
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)  # stdout itself is left to the command
    except (OSError, OverflowError):
        raise not_open from None


def _write_outcome(outcome: Outcome, fd: int, options: Parsed) -> None:
    import json

    line = json.dumps(outcome.as_dict()).encode() + b"\n"
    try:
        while line:
            line = line[os.write(fd, line) :]
    except OSError as error:
        given = options.text("outcome-fd")
        say(one_line(f"the outcome could not be written to descriptor {given}: {error.strerror}"))


def _die_with_parent() -> None:
    """Be killed when the parent ends; if it has ended by now, end at once.

    A parent that ended before this process could ask has left it to another one: to one of another session, unless a
    process of this session collects orphans. A session's leader has a parent in another one from the start.
    """
    from sidecall.supervise.kernel import die_with_parent

    parent = os.getppid()
    die_with_parent(_SIGKILL)
    is_orphan = parent != 0 and os.getsid(0) not in {os.getpid(), _session_of(parent)}
    if is_orphan or os.getppid() != parent:
        raise ServiceUnavailable("the parent has ended before the call was made", "nothing was started")


def _session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def _let_go_of_streams() -> None:
    """Leave stdin and stdout to the command: when it closes one, the other end has to see it."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)


def _end_as(outcome: Outcome, *, verbose: bool) -> int:
    if verbose:
        usage = outcome.usage
        times = f", ran {usage.run:.3f} s after {usage.queued:.3f} s in the queue" if usage else ""
        say(f"{outcome.kind} {outcome.value}{times}")
    if outcome.kind not in {EXITED, SIGNALED}:
        print_error(outcome)
    code = kill_self(outcome.value) if outcome.kind == SIGNALED else outcome.exit_code
    if outcome.kind == EXITED:
        os._exit(code)  # nothing is left to clean up, and a normal exit takes milliseconds
    return code
