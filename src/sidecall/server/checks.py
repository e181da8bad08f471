"""What keeps a server from taking calls, found at its start instead of at each call."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

from sidecall._kernel import landlock_version
from sidecall.errors import ConfigError, SidecallError
from sidecall.files.scratch import writable_directory
from sidecall.supervise.executable import find_executable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecall.policy.config import Command, Service

MIN_LANDLOCK = 3
"""As in `native/supervisor/confine.c`."""

MIN_DESCRIPTORS = 64
"""Descriptors that a server needs for itself and a few calls."""


def check_machine(service: Service) -> None:
    """Check what every call needs.

    Raises:
        ConfigError: it is missing.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < MIN_DESCRIPTORS:
        raise ConfigError(
            f"the limit of open files is {hard}, and the server needs at least {MIN_DESCRIPTORS}",
            "raise it: `ulimit -n`, or `ulimits: nofile` in a compose file",
        )
    if not os.path.isdir("/proc/self/fd"):
        raise ConfigError("/proc is not mounted", "mount it: the server finds the processes of a call there")
    if any(command.needs_directory for command in (service.commands or {}).values()):
        try:
            writable_directory()
        except SidecallError as error:
            raise ConfigError(error.reason, error.hint) from None
    confined = [name for name, command in (service.commands or {}).items() if command.landlock is not None]
    if confined and landlock_version() < MIN_LANDLOCK:
        raise ConfigError(
            f"commands.{confined[0]}.landlock: the kernel cannot confine commands: it has no Landlock, or an old one, "
            "or a filter refuses it",
            "use Linux 6.2 or later with `landlock` in its `lsm=` parameter, or remove the key",
        )


def problems(service: Service) -> Iterator[str]:
    """Yield what keeps single commands from being called, one sentence each."""
    for volume in service.volumes:
        if not os.path.isdir(volume.path):
            yield f"volumes.{volume.name}: {volume.path} is not a directory here"
    for name, command in (service.commands or {}).items():
        program = os.fsdecode(command.argv[0].words[0].fill({}))
        try:
            path = find_executable(program, {**os.environ, **command.environment})
        except SidecallError as error:
            yield f"commands.{name}: {error.reason}"
        else:
            yield from _problems_of_landlock(command, path)


def _problems_of_landlock(command: Command, program: str) -> Iterator[str]:
    """Yield which paths are missing, here or in the configuration, so that a confined command cannot be executed."""
    if command.landlock is None:
        return
    for path in command.landlock:
        if not os.path.exists(path):
            yield f"commands.{command.name}.landlock: {path} does not exist here"
    real = os.path.realpath(program)
    if not any(os.path.commonpath([real, root]) == root for root in map(os.path.realpath, command.landlock)):
        yield f"commands.{command.name}.landlock: expected to include the program, {real}"
