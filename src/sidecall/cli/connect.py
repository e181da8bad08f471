"""`sidecall connect`: become a program whose stdin and stdout are the socket of a bridge."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from sidecall import texts
from sidecall.cli.options import Option, help_text, parse
from sidecall.client.named import named_service
from sidecall.errors import UsageError
from sidecall.supervise.executable import explain_exec, find_executable
from sidecall.transport.address import connect
from sidecall.transport.credentials import peer_of

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = "sidecall connect [OPTIONS] NAME PROGRAM [ARG...]"
ABOUT = """\
Connect to bridge NAME and become PROGRAM: the socket is its stdin and stdout, it inherits stderr, and sets the exit
status of this process."""

OPTIONS = (Option("--connect-timeout", "SECONDS", "wait up to SECONDS for the service to start"),)


def main(words: Sequence[str]) -> int:
    """Run the subcommand; returns only for `--help`."""
    options = parse(OPTIONS, words, "sidecall connect")
    if options.wants_help:
        print(help_text(USAGE, ABOUT, OPTIONS), end="")
        return 0
    if len(options.args) < 2:
        raise UsageError(*(texts.PROGRAM_MISSING if options.args else texts.SERVICE_MISSING)(usage=USAGE))
    name, *argv = options.args
    with named_service(name) as path:
        program = find_executable(argv[0], os.environ)
        sock = connect(path, options.seconds("connect-timeout"), to_bridge=True)
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
        os.execve(program, argv, environ)
    except OSError as error:
        raise explain_exec(error, argv[0], None) from error


def _plug_in(sock: int) -> None:
    """Make a socket stdin and stdout; it can be one of them already, where one was closed."""
    for fd in (0, 1):
        if fd == sock:
            os.set_inheritable(fd, True)
        else:
            os.dup2(sock, fd)
    if sock > 1:
        os.close(sock)


def _restore_signals() -> None:
    """Restore SIGPIPE and SIGXFSZ, which Python ignores at its start; execve(2) would keep that."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
