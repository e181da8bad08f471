"""`sidecall connect`: become an app whose stdin and stdout are the socket of a bridge."""

from __future__ import annotations

from typing import TYPE_CHECKING
import os

from sidecall.cli.options import Option, help_text, parse
from sidecall.errors import UsageError
from sidecall.supervise.executable import explain_exec, find_executable
from sidecall.transport.address import connect, socket_path
from sidecall.transport.credentials import peer_of

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = "sidecall connect [OPTIONS] NAME APP [ARG...]"
ABOUT = """\
Connect to the bridge NAME and become APP: the socket is its stdin and stdout, its stderr stays yours, and its exit
status is this command's."""

OPTIONS = (Option("--connect-timeout", "SECONDS", "wait up to SECONDS for the service to start"),)


def main(words: Sequence[str]) -> int:
    """Run the subcommand; returns only for `--help`."""
    options = parse(OPTIONS, words, "sidecall connect")
    if options.wants_help:
        print(help_text(USAGE, ABOUT, OPTIONS), end="")
        return 0
    if len(options.args) < 2:
        raise UsageError("a service and an app are needed", f"usage: {USAGE}")
    name, *app = options.args
    path = socket_path(name, os.environ)
    program = find_executable(app[0], os.environ)
    sock = connect(path, options.seconds("connect-timeout"))
    peer = peer_of(sock)
    environ = {
        **os.environ,
        "PROTO": "IPC",
        "IPCREMOTEPATH": path,
        "IPCREMOTEEUID": str(peer.uid),
        "IPCREMOTEEGID": str(peer.gid),
    }
    _plug_in(sock.detach())
    _restore_signals()
    try:
        os.execve(program, app, environ)
    except OSError as error:
        raise explain_exec(error, app[0], None) from error


def _plug_in(sock: int) -> None:
    """Make a socket stdin and stdout; it may be there already, where one was closed."""
    for fd in (0, 1):
        if fd == sock:
            os.set_inheritable(fd, True)
        else:
            os.dup2(sock, fd)
    if sock > 1:
        os.close(sock)


def _restore_signals() -> None:
    """Undo what Python ignores at its start and exec would keep: PIPE and XFSZ. Source: execve(2)."""
    from signal import SIG_DFL, SIGPIPE, SIGXFSZ, signal

    for number in (SIGPIPE, SIGXFSZ):
        signal(number, SIG_DFL)
