"""Sentences that both clients print, each with its hint; the native client has them from `native/tables.h`.

A `{name}` is replaced by text, a `{name:.1f}` by a number; `tools/tables.py` turns both into printf(3) conversions, in
the order in which they stand. Pure: no imports from the rest.
"""

from __future__ import annotations

from typing import NamedTuple


class Text(NamedTuple):
    """A reason and what can be done about it; the hint can be empty."""

    reason: str
    hint: str = ""

    def __call__(self, **values: object) -> tuple[str, str]:
        """Return both with their values put in: the arguments of an exception."""
        return self.reason.format(**values), self.hint.format(**values)


def quoted(text: str) -> str:
    """Return a value as it stands in a sentence; what is not printable is escaped with the sentence."""
    return f"'{text}'"


NAME_INVALID = Text("invalid service name {name}", "use a name such as `hugin`, or a path")
PATH_NOT_ABSOLUTE = Text("{path} is relative, but the working directory has been removed", "use an absolute path")
PATH_TOO_LONG = Text("path too long: {path}")

SOCKET_DENIED = Text(
    "uid {uid:d} lacks write permission on the socket {path} of uid {owner:d}, mode {mode}",
    "add {uid:d} to `callers` in the service configuration, or run the client as uid {owner:d}",
)
SOCKET_DENIED_BY_POLICY = Text(
    "uid {uid:d} has write permission on the socket {path}, but the system denies the connection",
    "compare the SELinux or AppArmor labels of both containers",
)
DIRECTORY_DENIED = Text(
    "uid {uid:d} lacks {permission} permission on the directory {directory} of uid {owner:d}, mode {mode}",
    "run `chmod a+rx {directory}` as uid {owner:d}",
)
DIRECTORY_MISSING = Text(
    "the socket is missing, and so is its directory {directory}", "mount the shared volume there, or set SIDECALL_DIR"
)
SOCKETS_MISSING = Text(
    "the directory {directory} of the sockets is missing", "mount the shared volume there, or set SIDECALL_DIR"
)
SOCKET_MISSING = Text(
    "the socket is missing: {path}",
    "start the service with `sidecall serve`, or wait for it with `--connect-timeout SECONDS`",
)
NOT_A_SOCKET = Text("{path} is not a socket", "give the name of a service, or the path of its socket")
SOCKET_STALE = Text(
    "no server is listening on {path} (stale socket)",
    "start the service again with `sidecall serve`; it replaces a stale socket",
)
CANNOT_CONNECT = Text("cannot connect to {path}: {error}")
DIRECTORY_OPEN_TO_ALL = Text(
    "any user can replace the sockets in {directory}", "run `chmod o-w {directory}` as its owner"
)
SERVED_BY_ANOTHER = Text(
    "uid {uid:d} serves {path}, and is neither root, nor you, nor the owner of its directory",
    "if you trust that server, make it the owner with `chown {uid:d} {directory}`",
)
SERVER_UNIDENTIFIED = Text(
    "uid {uid:d} serves {path}, and every unmapped user has that uid",
    "run the server as a user that is mapped in this container, or use one user namespace for both",
)
NO_ANSWER = Text("the server does not answer", "check whether it is stopped, or not a sidecall server")
CONNECTION_CLOSED = Text(
    "the server on {path} closed the connection without an answer", "check whether it is a bridge, or socat"
)
IS_BRIDGE = Text("the server is a bridge, which takes no calls", "connect to it with `sidecall connect NAME PROGRAM`")

TIMED_OUT = Text(
    "the command timed out and was terminated", "raise `--timeout`, or `timeout` in the service configuration"
)
OUTPUT_FAILED = Text(
    "the command exited with 0, but its output file could not be created",
    "check that the command writes the file it was given; see the service log",
)
END_UNKNOWN = Text(
    "the server reports an end of a kind unknown to this client: the exit status of the command is unknown",
    "use the same release of sidecall on both sides",
)
CONNECTION_LOST = Text(
    "the connection to the server was lost: the exit status of the command is unknown",
    "see the service log before you call again",
)
NOT_STOPPED = Text(
    "interrupted repeatedly, but the server does not stop the command: its exit status is unknown",
    "check whether the server is stopped",
)
TIMEOUT_IGNORED = Text(
    "the timeout has passed, but the server does not report an end: the exit status of the command is unknown",
    "check whether the server is stopped",
)
END_IMPOSSIBLE = Text("the server reports an impossible end {ended:d}, {value:d}")
VERSION_UNKNOWN = Text(
    "the server uses version {version:d} of the protocol, this client version {own:d}",
    "use the same release of sidecall on both sides",
)
NEED_UNKNOWN = Text(
    "the server needs the feature {name}, which this client does not have",
    "use the same release of sidecall on both sides",
)
NOT_ASKED_TO_DESCRIBE = Text("the server described the command instead of running it")
CALL_TOO_LONG = Text(
    "the call is too long: Call of {size:d} bytes exceeds its limit of {limit:d}",
    "send large data on stdin, or as a file",
)
CANNOT_READ = Text("cannot read {stream}: {error}", "the input of the command is incomplete")
CANNOT_WRITE = Text("cannot write {stream}: {error}", "the output of the command is incomplete")
OUTPUT_DROPPED = Text("the reader of {stream} takes no output: the rest was dropped")
CANNOT_CONTINUE = Text("cannot continue: {error}")
NOTHING_STARTED = Text("cannot continue: {error}; nothing was started")

WAITING_FOR_SLOT = Text("waiting for a slot of {name}, {ahead:d} ahead")
PARENT_ENDED = Text("the parent process has ended before the call", "nothing was started")
ID_WITHOUT_DETACH = Text("--id goes with -d", "to follow a call that was made, use `sidecall attach {name} ID`")
TERMINAL_DETACHED = Text("-t does not go with -d", "leave `-t` out: the output of a detached call is recorded")
OUTCOME_FD_CLOSED = Text("--outcome-fd {fd}: this descriptor is not open", "open it with `{fd}>FILE`")
OUTCOME_NOT_WRITTEN = Text("cannot write the outcome to descriptor {fd}: {error}")
VARIABLE_INVALID = Text("invalid --env {given}: expected NAME or NAME=VALUE")
ENV_FILE_UNREADABLE = Text("cannot read --env-file {file}: {error}")
ENV_FILE_TOO_LONG = Text("--env-file {file} is too long: the limit is {limit:d} bytes")
ENV_FILE_INVALID = Text(
    "invalid line {line:d} of --env-file {file}: expected NAME=VALUE, NAME, or a comment after #",
    "a NAME has no spaces, and a VALUE no NUL bytes",
)
UNKNOWN_OPTION = Text("unknown option {name}", "see `{usage} --help`")
UNSUPPORTED_OPTION = Text("{name} is not supported: {why}", "{instead}")
OPTION_AFTER_SERVICE = Text("the option {name} follows the service", "put options before NAME: {usage}")
NO_VALUE_TAKEN = Text("{name} takes no value")
VALUE_MISSING = Text("{name} needs a value: {value}")
TERMINAL_MISSING = Text("-t needs a terminal as stdin", "call without `-t`, or from a terminal")
VALUE_IS_OPTION = Text(
    "{name} needs a value: {value}, and the option {given} follows", "if that is the value, use `{name}={given}`"
)
DOCTOR = Text("for more, run `sidecall doctor {name}`")
SECONDS_INVALID = Text("invalid --{name} {given}: expected a positive number of seconds")
NUMBER_INVALID = Text("invalid --{name} {given}: expected a whole number of at least {minimum:d}")
SUBCOMMAND_MISSING = Text("missing subcommand", "see `sidecall --help`")
NO_PYTHON_COMMAND = Text(
    "this client has no subcommand {name}, and the Python command that might have it was not found",
    "install sidecall for Python, or set SIDECALL_PYTHON_COMMAND to its path",
)
PROGRAM_MISSING = Text("missing program", "usage: {usage}")
SERVICE_MISSING = Text("missing service", "usage: {usage}")
CALL_MISSING = Text("missing call", "usage: {usage}")
COMMAND_MISSING = Text("missing command", "usage: {usage}")

ANSWER_UNEXPECTED = Text("the server answered {request} with {answer}")
PING_REPLY = Text(
    "{name}: {software}, round trip {milliseconds:.1f} ms, {running:d} of {slots:d} slots in use, "
    "{queued:d} of {queue:d} waiting, {ended:d} connections ended, up {uptime:.0f} s"
)
