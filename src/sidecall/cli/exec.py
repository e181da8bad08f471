"""`sidecall exec`: run a command of a service, and end as it ended."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
from dataclasses import replace
from socket import SO_LINGER, SOL_SOCKET, socket
from typing import TYPE_CHECKING

from sidecall import texts
from sidecall.cli.options import HELP, Option, Unsupported, help_text, parse
from sidecall.cli.stderr import CLOSED, end_lines_for, print_error, print_notice, say
from sidecall.cli.variables import variables
from sidecall.client.attempt import Reports, Request
from sidecall.client.call import make_call
from sidecall.client.named import named_service
from sidecall.client.signals import kill_self
from sidecall.errors import ServiceUnavailable, SidecallError, UsageError
from sidecall.outcome import DETACHED, EXITED, SIGNALED, Outcome, from_error
from sidecall.supervise.kernel import die_with_parent
from sidecall.transport.address import absolute

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecall.cli.options import Parsed
    from sidecall.client.terminal import Terminal

USAGE = "sidecall exec [OPTIONS] NAME COMMAND [ARG...]"
ABOUT = """\
Run COMMAND of service NAME as if it were local: it inherits stdin, stdout and stderr, receives the signals sent to this
process, and sets its exit status. Everything after COMMAND is passed to it."""

OPTIONS = (
    Option("-i, --interactive", "", "connect stdin; accepted, since it always is"),
    Option("-t, --tty", "", "run COMMAND in a terminal of its own, such as an interactive shell"),
    Option("-w, --workdir, --cwd", "DIR", "run COMMAND in DIR, relative to the current working directory"),
    Option("-e, --env", "NAME[=VALUE]", "set a variable, or pass on the current value if it is set; repeatable"),
    Option("--env-file", "FILE", "set the variables in the lines NAME[=VALUE] of FILE; repeatable"),
    Option("--timeout", "SECONDS", "terminate COMMAND after SECONDS and exit with 124"),
    Option("--connect-timeout", "SECONDS", "wait up to SECONDS for the service to start"),
    Option("--no-queue", "", "exit with 75 instead of waiting for a slot"),
    Option("--no-stdin", "", "give COMMAND an empty stdin"),
    Option("--relay", "", "relay the streams instead of passing their descriptors"),
    Option("--die-with-parent", "", "cancel the call when the parent process exits"),
    Option("--outcome-fd", "N", "write the outcome to descriptor N, as one line of JSON"),
    Option("-d, --detach", "", "print the call's id once COMMAND has started, and exit; see `sidecall wait`"),
    Option("--id", "ID", "with -d: the call's id; COMMAND is started at most once by it"),
    Option("-q, --quiet", "", "print neither waiting calls nor notices of the server"),
    Option("-v, --verbose", "", "print each step to stderr"),
)

UNSUPPORTED = (
    Unsupported(
        "--detach-keys",
        "only a call made with `-d` goes on without its client",
        "run the client in `tmux` or `screen`, or use `-d` and `sidecall attach`",
    ),
    Unsupported(
        "-u, --user",
        "the service decides as which user a command runs",
        "set `user` of the command in the service configuration, or call a service of that user",
    ),
    Unsupported(
        "--privileged",
        "a command has the privileges of its server",
        "give them to the container of the service, and declare only commands that need them",
    ),
    Unsupported("-l, --latest", "a service has a name", "run `sidecall list`, and give a NAME that it prints"),
    Unsupported("--cidfile", "a service has a name", "run `sidecall list`, and give a NAME that it prints"),
    Unsupported(
        "--preserve-fd, --preserve-fds",
        "only stdin, stdout and stderr cross",
        "give the command a file on a shared volume",
    ),
    Unsupported("--no-session", "a call has no session to skip", "leave it out"),
    Unsupported("--wait", "the option has another name", "use `--connect-timeout SECONDS`"),
    Unsupported("--pod-running-timeout", "the option has another name", "use `--connect-timeout SECONDS`"),
    Unsupported("--stdin", "stdin is always connected", "leave it out"),
    Unsupported("-c, --container", "a service is one container's", "give the service of that container as NAME"),
    Unsupported("-f, --filename", "a service has a name", "run `sidecall list`, and give a NAME that it prints"),
    Unsupported("-n, --namespace", "services are sockets in a directory", "set SIDECALL_DIR to that directory"),
)
"""What `docker exec`, `podman exec` and `kubectl exec` have: docs/from-docker-exec.md is the whole list."""


def main(words: Sequence[str]) -> int:
    """Run the subcommand; return the code to exit with. Does not return for a command that died of a signal."""
    options = parse(OPTIONS, words, "sidecall exec", unsupported=UNSUPPORTED)
    if options.wants_help or _asks_for_help(options.args):
        print(help_text(USAGE, ABOUT, OPTIONS), end="")
        return 0
    if options.flag("die-with-parent"):
        _die_with_parent()
    outcome_fd = _outcome_fd(options)
    result = _call(options)
    if isinstance(result, bytes):
        from sidecall.cli.describe import render

        print(render(result), end="")
        return 0
    if outcome_fd >= 0:
        _write_outcome(result, outcome_fd, options)
    if result.kind == DETACHED:
        print(result.call_id, flush=True)
    return end_as(result, verbose=options.flag("verbose"))


def _asks_for_help(arguments: list[str]) -> bool:
    """Tell whether `--help` follows the service; leave out a `--` there, as in `kubectl exec NAME -- COMMAND`.

    Raises:
        UsageError: another option follows it.
    """
    following = arguments[1] if len(arguments) > 1 else ""
    if following == "--":
        del arguments[1]
    elif following in HELP.names.split(", "):
        return True
    elif following.startswith("-"):
        raise UsageError(*texts.OPTION_AFTER_SERVICE(name=following, usage=USAGE))
    return False


def _call(options: Parsed) -> Outcome | bytes:
    quiet, verbose = options.flag("quiet"), options.flag("verbose")
    call_id = ""

    def on_queued(ahead: int) -> None:
        if not quiet:
            say(texts.WAITING_FOR_SLOT(name=options.args[0], ahead=ahead)[0])

    def on_started(started: str) -> None:
        nonlocal call_id
        call_id = started
        if verbose:
            say(f"started as call {call_id}")
        _let_go_of_streams()

    def on_notice(notice: str, hint: str) -> None:
        if not quiet:
            print_notice(notice, hint)

    reports = Reports(on_queued, on_started, on_notice, on_lost_bytes=say)
    terminal = None
    try:
        if len(options.args) < 2:
            raise UsageError(*(texts.COMMAND_MISSING if options.args else texts.SERVICE_MISSING)(usage=USAGE))
        with named_service(options.args[0]) as path:
            request = _request(options, path)
            terminal = request.terminal
            result = make_call(request, reports, forward_signals=True)
    except SidecallError as error:
        result = replace(from_error(error), call_id=call_id)
    if terminal is not None and isinstance(result, Outcome) and (result.kind != EXITED or result.stopped):
        terminal.reset()
    return result


def _request(options: Parsed, path: str) -> Request:
    name, command, *arguments = options.args
    detaches = options.flag("detach")
    if options.flag("id") and not detaches:
        raise UsageError(*texts.ID_WITHOUT_DETACH(name=name))
    if detaches and options.flag("tty"):
        raise UsageError(*texts.TERMINAL_DETACHED())
    return Request(
        path=path,
        command=os.fsencode(command),
        arguments=tuple(map(os.fsencode, arguments)),
        environment=variables(options.all("env-file"), options.all("env")),
        directory=os.fsencode(absolute(options.text("cwd"))) if options.flag("cwd") else b"",
        timeout=options.seconds("timeout"),
        connect_timeout=options.seconds("connect-timeout"),
        queue=not options.flag("no-queue"),
        relay=options.flag("relay"),
        terminal=_terminal(options) if options.flag("tty") else None,
        detach=os.fsencode(options.text("id")) if detaches else None,
        streams=(None, None, None) if detaches else (None if options.flag("no-stdin") else 0, 1, 2),
    )


def _terminal(options: Parsed) -> Terminal:
    if options.flag("no-stdin") or 0 in CLOSED or not os.isatty(0):
        raise UsageError(*texts.TERMINAL_MISSING())
    from sidecall.client.terminal import Terminal

    try:
        terminal = Terminal(0)
    except OSError as error:
        raise ServiceUnavailable(*texts.NOTHING_STARTED(error=error.strerror)) from error
    end_lines_for(terminal)
    return terminal


def _outcome_fd(options: Parsed) -> int:
    if not options.flag("outcome-fd"):
        return -1
    fd = options.integer("outcome-fd", -1, 0)
    not_open = UsageError(*texts.OUTCOME_FD_CLOSED(fd=fd))
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
        say(texts.OUTCOME_NOT_WRITTEN(fd=options.text("outcome-fd"), error=error.strerror)[0])


def _die_with_parent() -> None:
    """Be killed when the parent ends; if it has ended by now, end at once.

    A parent that ended before this process could ask has left it to another one: to one of another session, unless a
    process of this session collects orphans. A session's leader has a parent in another one from the start.
    """
    parent = os.getppid()
    die_with_parent(signal.SIGKILL)
    is_orphan = parent != 0 and os.getsid(0) not in {os.getpid(), _session_of(parent)}
    if is_orphan or os.getppid() != parent:
        raise ServiceUnavailable(*texts.PARENT_ENDED())


def _session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def _let_go_of_streams() -> None:
    """Leave stdin and stdout to the command: when it closes one, the other end has to find that."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in (0, 1):
        if not _lingers(fd):
            os.dup2(null, fd)
    os.close(null)


def _lingers(fd: int) -> bool:
    """Tell whether closing a descriptor can block, in contrast to exiting with it. Source: socket(7), SO_LINGER."""
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return False
    with socket(fileno=os.dup(fd)) as sock:
        return bool(sock.getsockopt(SOL_SOCKET, SO_LINGER))


def end_as(outcome: Outcome, *, verbose: bool = False) -> int:
    """Print what is to be printed of an outcome, and end as the command did; return the code to exit with."""
    if verbose:
        usage = outcome.usage
        times = f", ran {usage.run:.3f} s after {usage.queued:.3f} s in the queue" if usage else ""
        say(f"{outcome.kind} {outcome.value}{times}")
    if outcome.kind not in {EXITED, SIGNALED, DETACHED}:
        print_error(outcome)
    code = kill_self(outcome.value) if outcome.kind == SIGNALED else outcome.exit_code
    if outcome.kind == EXITED:
        os._exit(code)  # nothing is left to clean up
    return code
