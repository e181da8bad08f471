"""What a call needs before its command can start: a plan, its files, a directory of its own. All of it ends with it."""

from __future__ import annotations

import asyncio
import functools
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from sidecall.calls.threads import run_in_thread
from sidecall.files.paths import Paths
from sidecall.files.scratch import remove
from sidecall.files.volumes import VolumeMap
from sidecall.policy import plan as policy

if TYPE_CHECKING:
    from sidecall.files.scratch import Scratch
    from sidecall.policy.config import Command, Service
    from sidecall.policy.plan import Plan
    from sidecall.protocol.messages import Call
    from sidecall.protocol.options import CallOptions


_LOOK_TIME = 1.0
"""Seconds for a directory that the client names: its file system can be one that does not answer."""


class Prepared(NamedTuple):
    """What a call needs, for as long as its command runs.

    Attributes:
        plan: what it executes.
        paths: the files that it names.
        made: what was made for it.
        is_slow: whether removing that may take long: the command may have filled it.
    """

    plan: Plan
    paths: Paths
    made: ExitStack
    is_slow: bool

    async def remove(self) -> None:
        """Remove what was made."""
        if self.is_slow:
            await run_in_thread(self.made.close)
        else:
            self.made.close()


def check(service: Service, call: Call, options: CallOptions) -> Plan:
    """Work out what a call would execute, and hold nothing: what can be refused is refused before the queue.

    Raises:
        SidecallError: see `policy.plan`.
    """
    command = policy.command_of(service, call)
    owner = None if command is None else _owner(command)
    with Paths(VolumeMap(service.volumes, call.directory_ids), private=None, owner=owner) as paths:
        return policy.plan(service, call, own_environment(), paths, "/", options=options)


def prepare(
    service: Service, call: Call, options: CallOptions, call_id: str, directories: Scratch, *, name: str = ""
) -> Prepared:
    """Make what a call needs; it has to be removed.

    Args:
        service: what is offered.
        call: what is asked for.
        options: the options of that.
        call_id: what the command finds in SIDECALL_CALL.
        directories: makes the call's own directory.
        name: the name of that, if the id of another call can be the same.

    Raises:
        SidecallError: see `policy.plan`.
        OSError: there is no room for a directory or a descriptor.
    """
    command = policy.command_of(service, call)
    with ExitStack() as making:
        private = scratch = ""
        if command is not None and command.needs_directory:
            private = directories.directory(name or call_id)
            making.callback(remove, private)
            scratch = _scratch(private, command) if command.scratch else ""
        owner = None if command is None else _owner(command)
        paths = making.enter_context(
            Paths(
                VolumeMap(service.volumes, call.directory_ids),
                private or None,
                directories,
                owner,
                is_confined=command is not None and command.landlock is not None,
            )
        )
        environ = {**own_environment(), b"SIDECALL_CALL": call_id.encode()}
        plan = policy.plan(service, call, environ, paths, scratch, options=options)
        return Prepared(plan, paths, making.pop_all(), is_slow=bool(scratch or paths.has_outputs))


async def shared_directory(call: Call) -> bytes | None:
    """Return the client's working directory if it is the same one here, by device and inode; else None.

    It is empty if it is the server's own, at whatever path. To look at another one may take long: in a thread, and no
    longer than `_LOOK_TIME`.

    Raises:
        ProtocolError: the call is malformed.
    """
    found, identity = VolumeMap((), call.directory_ids).deepest_directory(call.base)
    if found != call.base or identity is None:
        return None
    if identity == _own_directory():
        return b""
    look = asyncio.ensure_future(run_in_thread(functools.partial(_is_directory, call.base, identity)))
    done, _ = await asyncio.wait([look], timeout=_LOOK_TIME)
    if not done:
        look.cancel()
    return call.base if done and look.result() else None


@functools.cache
def _own_directory() -> tuple[int, int]:
    status = os.stat(".")
    return status.st_dev, status.st_ino


def _is_directory(path: bytes, identity: tuple[int, int]) -> bool:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return False
    return (status.st_dev, status.st_ino) == identity and os.access(path, os.X_OK)


@functools.cache
def own_environment() -> dict[bytes, bytes]:
    """Return the server's own environment, as it was at the first call: `os.environb` copies it name by name."""
    return dict(os.environb)


def _owner(command: Command) -> tuple[int, int] | None:
    """Return whom the command becomes, if that is somebody else."""
    runs_as = command.run_as
    if runs_as.uid in {None, os.geteuid()}:
        return None
    return runs_as.uid, -1 if runs_as.gid is None else runs_as.gid


def _scratch(private: str, command: Command) -> str:
    """Make the directory that the command may use as it likes."""
    scratch = os.path.join(private, "scratch")
    os.mkdir(scratch, 0o700)
    if (owner := _owner(command)) is not None:
        os.chmod(private, 0o711)  # noqa: S103 to be passed through, not looked into
        os.chown(scratch, *owner)
    return scratch
