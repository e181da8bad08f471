"""How a job becomes a process: the leader of a session of its own, with its streams and nothing else open.

posix_spawn(3) does it in one call for a job that wants no more than that, the usual case; `subprocess` takes ten times
as many steps, and can do the rest. A supervisor has closed what it did not open itself; what it opens is not inheritable.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from functools import partial
from typing import TYPE_CHECKING

from sidecall.errors import SidecallError
from sidecall.supervise.executable import find_executable
from sidecall.supervise.control import Job

if TYPE_CHECKING:
    from collections.abc import Sequence

_PYTHONS_OWN = (signal.SIGPIPE, signal.SIGXFSZ)
"""What the interpreter ignores at its start; a command gets the defaults back, as `subprocess` does it."""


def execute(job: Job, streams: Sequence[int]) -> int:
    """Start a job's command; return its pid.

    Args:
        job: what to run.
        streams: the descriptors that become its stdin, stdout and stderr; they stay open here.

    Raises:
        OSError: executing it failed; `filename` is the working directory if that was the reason.
        subprocess.SubprocessError: a limit or a priority could not be set.
    """
    path = _found(job) if _is_plain(job) and min(streams) > 2 else None
    return _with_subprocess(job, streams) if path is None else _spawn(path, job, streams)


def _is_plain(job: Job) -> bool:
    """Tell whether the command runs as the supervisor does, and where the supervisor is."""
    return job == Job(job.argv, job.environ, None, job.grace, job.leave)


def _spawn(path: str, job: Job, streams: Sequence[int]) -> int:
    return os.posix_spawn(
        path,
        job.argv,
        job.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, fd, stream) for stream, fd in enumerate(streams)],
        setsid=True,
        setsigdef=_PYTHONS_OWN,
    )


def _found(job: Job) -> str | None:
    """Return the file that executing a job's program would run; None for none, which `subprocess` explains."""
    path = os.fsdecode(job.environ.get(b"PATH", os.defpath.encode()))
    try:
        return find_executable(os.fsdecode(job.argv[0]), {"PATH": path})
    except SidecallError:
        return None


def _with_subprocess(job: Job, streams: Sequence[int]) -> int:
    child = subprocess.Popen(
        job.argv,
        stdin=streams[0],
        stdout=streams[1],
        stderr=streams[2],
        env=job.environ,
        cwd=job.directory,
        start_new_session=True,
        user=job.uid,
        group=job.gid,
        extra_groups=job.groups,
        umask=job.umask,
        preexec_fn=partial(_restrict, job) if job.limits or job.nice else None,  # noqa: PLW1509 a supervisor has one thread
    )
    child.returncode = 0  # it is reaped by who keeps it, not by its object
    return child.pid


def _restrict(job: Job) -> None:
    """Take on what can only be taken on in the new process, right before the command."""
    for which, most in job.limits:
        resource.setrlimit(which, (most, most))
    if job.nice:
        os.nice(job.nice)
