"""What a service offers, read from a TOML file. Every mistake is one sentence: the file, the key, what was expected."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sidecall.errors import CallDenied
from sidecall.policy.callers import Callers
from sidecall.protocol.messages import SIGNALS
from sidecall.supervise.control import RunAs
from sidecall.transport.credentials import UNMAPPED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecall.files.volumes import Volume
    from sidecall.policy.parameters import Parameter
    from sidecall.policy.template import Group
    from sidecall.transport.credentials import Peer

SCRATCH = "scratch"
"""The name that stands in templates for the call's own directory."""


DEFAULT_SLOTS = 64
"""Calls that run at once. Most commands wait for something, and callers such as `make -j` and Snakemake bound their own
number. With one slot for each processor, calls that are joined by a pipe or that call again hold each other up."""


@dataclass(frozen=True)
class Command:
    """One thing that may be called.

    Attributes:
        name: what the caller says.
        argv: the template of its words.
        summary: one sentence for people.
        parameters: by name, in the order of the file.
        timeout: seconds that it may run; None for no limit.
        directory: the template of its working directory; None for the server's own.
        environment: variables it gets on top of the server's.
        pass_environment: variables that a caller may set.
        pass_directory: whether a caller may choose the working directory.
        scratch: whether each call gets a directory of its own.
        grace: seconds between TERM and KILL; None for the service's.
        keeps_background: whether background processes are kept when the command has exited by itself.
        signals: the numbers of the signals that a caller may send it.
        callers: who may call it; None for all whom the listener lets in.
        stdin: whether it gets its caller's stdin; an empty one if not.
        passes: whether it takes passed descriptors; its callers relay if not.
        terminal: whether it can run in a terminal.
        landlock: the paths that it can read and execute, apart from the files of the call; None for any file.
        user: the name of the user that it runs as; empty for the server's.
        home: that user's home directory; likewise.
        run_as: user, groups, limits and the like.
    """

    name: str
    argv: tuple[Group, ...]
    summary: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    timeout: float | None = None
    directory: Group | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    pass_environment: frozenset[str] = frozenset()
    pass_directory: bool = False
    scratch: bool = False
    grace: float | None = None
    keeps_background: bool = False
    signals: frozenset[int] = SIGNALS
    callers: Callers | None = None
    stdin: bool = True
    passes: bool = True
    terminal: bool = False
    landlock: tuple[str, ...] | None = None
    user: str = ""
    home: str = ""
    run_as: RunAs = field(default_factory=RunAs)

    @property
    def needs_directory(self) -> bool:
        """Tell whether each call needs a directory of its own: for its files, or for links to those that it names."""
        takes_path = any(parameter.type == "path" for parameter in self.parameters.values())
        return self.scratch or self.pass_directory or takes_path


@dataclass(frozen=True)
class Listen:
    """One socket of a service.

    Attributes:
        name: the socket's name, or its path.
        callers: who may call there.
        commands: the names of the commands that may be called there; None for all.
    """

    name: str
    callers: Callers
    commands: frozenset[str] | None = None

    @property
    def mode(self) -> int:
        """The socket's permission bits: only its owner may connect, unless others may call."""
        return 0o600 if self.callers.uids <= {os.geteuid()} and not self.callers.gids else 0o666


@dataclass(frozen=True)
class RecordRules:
    """Where calls are recorded, and how much of them is kept. All but `directory` is for one user at one listener.

    Attributes:
        directory: the path of the directory that the records are in.
        count: records of ended calls that are kept.
        age: seconds for which the record of an ended call is kept.
        bytes_per_call: bytes that one call can write to stdout and stderr.
        bytes: bytes of all records.
        attached: whether calls that are not detached are recorded, too: without their output.
        required: whether such a call is refused if it cannot be recorded; it is made without a record if not.
    """

    directory: str
    count: int = 1000
    age: float = 7 * 86400.0
    bytes_per_call: int = 1 << 30
    bytes: int = 10 << 30
    attached: bool = False
    required: bool = False


@dataclass(frozen=True)
class Service:
    """One service.

    Attributes:
        name: its name, or the path of its socket.
        commands: what may be called; None for anything at all.
        slots: calls that run at once.
        queue: calls that may wait.
        grace: seconds between TERM and KILL.
        drain: seconds that running calls have to end by themselves when the service is told to stop.
        listeners: where it listens, and who may call what there.
        volumes: whose files commands may be given.
        audit: the file that gets a line for each call; `-` for stderr, empty for none.
        audit_format: `json` or `text`.
        per_caller: connections that one user can have at one listener.
        bytes_per_caller: bytes of calls that the server holds for one user at one listener.
        records: where calls are recorded; None for nowhere: no call can be detached.
        withheld: the commands that `at` has left out, with the rule that did.
    """

    name: str
    commands: Mapping[str, Command] | None
    slots: int = DEFAULT_SLOTS
    queue: int = 1000
    grace: float = 10.0
    drain: float = 5.0
    listeners: tuple[Listen, ...] = ()
    volumes: tuple[Volume, ...] = ()
    audit: str = ""
    audit_format: str = "json"
    per_caller: int = 2000
    bytes_per_caller: int = 64 * 1024 * 1024
    records: RecordRules | None = None
    withheld: Mapping[str, str] = field(default_factory=dict)

    def at(self, listener: str, peer: Peer) -> Service:
        """Return what a caller finds at a listener: the service with only the commands that it may call there.

        The operator (root, and the user that the server runs as) can always ask, list and cancel, if not call.

        Raises:
            CallDenied: it may call nothing there.
        """
        listen = next((each for each in self.listeners if each.name == listener), None)
        if listen is None or not listen.callers.include(peer):
            if listen is not None and is_operator(peer):
                rule = f"callers of the listener {listener}"
                return replace(self, commands={}, withheld=dict.fromkeys(self.commands or (), rule))
            raise CallDenied(
                f"uid {peer.uid} is not allowed to call this service",
                f"add {peer.uid}, or a group of it, to `callers` in the service configuration",
                rule=f"callers of the listener {listener}",
            )
        if self.commands is None:
            return self
        withheld = {}
        for name, command in self.commands.items():
            if listen.commands is not None and name not in listen.commands:
                withheld[name] = f"commands of the listener {listener}"
            elif command.callers is not None and not command.callers.include(peer):
                withheld[name] = f"commands.{name}.callers"
        offered = {name: command for name, command in self.commands.items() if name not in withheld}
        return replace(self, commands=offered, withheld=withheld)


def is_operator(peer: Peer) -> bool:
    """Tell whether a peer is root or the user that the server runs as; an unmapped user is neither."""
    return peer.uid in {0, os.geteuid()} - {UNMAPPED}


def only_me() -> Callers:
    """Return the default rule: the user that the server runs as."""
    return Callers(frozenset({os.geteuid()}))
