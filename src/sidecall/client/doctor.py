"""Find what keeps a client from its service, and the line that changes it. Nothing is changed here.

Each check adds a finding, in the order of a call: files, directory, socket, connection, answer. A line for a compose
file has what this container has already, so that it can replace the old one.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from dataclasses import dataclass
from socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket

from sidecall import texts
from sidecall.client.mounts import Mount, is_containers_own, mount_of, mounts, volumes
from sidecall.client.status import ping
from sidecall.errors import (
    EXIT_CONFIG,
    EXIT_DENIED,
    EXIT_UNAVAILABLE,
    CallDenied,
    ServiceUnavailable,
    SidecallError,
)
from sidecall.transport.address import directory_denied, explain, introduce, short_form, why_insecure
from sidecall.transport.credentials import UNMAPPED

_OWNER_ALONE = 0o600
"""The mode of a socket whose service has no callers but its own user."""

OK, NOTE, WARNING, PROBLEM = "ok", "note", "warning", "problem"


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        severity: ok, note, warning or problem.
        text: what was found, one sentence.
        fix: the line to change, or the command to run; empty if there is nothing to do.
        code: the exit code that `sidecall exec` would have because of it; 0 if it would succeed.
    """

    severity: str
    text: str
    fix: str = ""
    code: int = 0


def examine(path: str) -> list[Finding]:
    """Check a service's socket and the directories on the way to it; the last finding is whether the server answers."""
    directory = os.path.dirname(path)
    found = examine_directory(directory) or [*_look_at_here(), *_look_at_volume(directory)]
    if any(finding.severity == PROBLEM for finding in found):
        return found
    return [*found, *_look_at_socket(path)]


def examine_directory(directory: str) -> list[Finding]:
    """Return why a directory cannot be listed; nothing if it can."""
    try:
        os.listdir(directory)
    except FileNotFoundError:
        text = f"the directory {directory} does not exist in this container"
        return [Finding(PROBLEM, text, _mount_line(directory), EXIT_UNAVAILABLE)]
    except NotADirectoryError:
        text = f"{directory} is not a directory"
        return [Finding(PROBLEM, text, _mount_line(directory), EXIT_UNAVAILABLE)]
    except PermissionError:
        denied = directory_denied(directory, "read")
        return [Finding(PROBLEM, denied.reason, denied.hint, EXIT_DENIED)]
    return []


def services_in(directory: str) -> list[str]:
    """Return the paths of the sockets in a directory."""
    return [os.path.join(directory, name) for name in sorted(os.listdir(directory)) if name.endswith(".sock")]


def _mount_line(directory: str) -> str:
    named = "and `volumes: {ipc: }` at the end of the compose file"
    return f"{_volumes_with(f'ipc:{directory}')}      # in both services, {named}"


def _volumes_with(added: str) -> str:
    """Return the `volumes` of this container's service in a compose file, with another one."""
    kept = [mount for mount in volumes(mounts()) if mount.point != added.partition(":")[2]]
    lines = [f"{mount.source}:{mount.point}{':ro' if mount.read_only else ''}" for mount in kept]
    return f"volumes: {json.dumps([added, *lines])}"


def _look_at_volume(directory: str) -> list[Finding]:
    """Report what the directory is, and whether it can hold sockets that can be trusted."""
    mount = mount_of(directory, mounts())
    if is_containers_own(mount):
        text = f"{directory} is in this container's own file system, which no other container has"
        found = [Finding(WARNING, text, _mount_line(directory))]
    else:
        what = f"is the volume {mount.root}" if mount.point == os.path.realpath(directory) else f"is on {mount.point}"
        access = "read-only" if mount.read_only else "writable"
        found = [Finding(OK, f"{directory} {what} ({mount.kind}, {access})")]
    if reason := why_insecure(os.path.join(directory, "x")):
        found.append(Finding(PROBLEM, reason, f"chmod o-w {directory}", EXIT_DENIED))
    return [*found, *_try_a_socket(directory, mount)]


def _try_a_socket(directory: str, mount: Mount) -> list[Finding]:
    """Make a socket in the directory and remove it again, if this user can."""
    if mount.read_only:
        return [Finding(NOTE, "clients can use a read-only volume; a server needs it writable")]
    if not os.access(directory, os.W_OK):
        return [Finding(NOTE, f"uid {os.geteuid()} lacks write permission on {directory}: it can call, but not serve")]
    path = os.path.join(directory, f".sidecall-doctor-{os.urandom(4).hex()}")
    probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    try:
        for address in short_form(path):
            probe.bind(address)
        os.unlink(path)
    except OSError as error:
        text = f"{directory} cannot hold sockets: {error.strerror} (file system {mount.kind})"
        fix = _mount_line(directory) + ", a named volume or a tmpfs instead of a shared directory of another machine"
        return [Finding(PROBLEM, text, fix, EXIT_CONFIG)]
    finally:
        probe.close()
    return []


def _look_at_socket(path: str) -> list[Finding]:
    directory, name = os.path.split(path)
    try:
        found = os.stat(path)
    except OSError:
        return [_missing(path)]
    if not stat.S_ISSOCK(found.st_mode):
        is_directory = stat.S_ISDIR(found.st_mode)
        text = f"{path} is a {'directory' if is_directory else 'file'}, not a socket"
        cause = ": the container engine makes one if the file to mount is missing" if is_directory else ""
        return [Finding(PROBLEM, text + cause, _mount_line(directory), EXIT_UNAVAILABLE)]
    findings = []
    if os.path.realpath(path) in {mount.point for mount in mounts()}:
        text = f"{name} is mounted as a file: it stops working when the server restarts"
        fix = f"{_volumes_with(f'ipc:{directory}')}      # the directory in place of {name}"
        findings.append(Finding(WARNING, text, fix))
    if found.st_uid == UNMAPPED:
        text = f"the owner of the socket is not mapped in this container (uid {UNMAPPED}): the user namespaces differ"
        findings.append(Finding(WARNING, text, "userns_mode: host      # or the same mapping, in both services"))
    return [*findings, *_probe_connect(path, found)]


def _missing(path: str) -> Finding:
    directory, name = os.path.split(path)
    others = ", ".join(os.path.basename(other).removesuffix(".sock") for other in services_in(directory))
    found = f"; found {others}" if others else ""
    text = f"socket {name} not found in {directory}{found}"
    fix = (
        f"sidecall serve ...      # in the other container, with the same volume at {directory}; run `doctor` there too"
    )
    return Finding(PROBLEM, text, fix, EXIT_UNAVAILABLE)


def _probe_connect(path: str, found: os.stat_result) -> list[Finding]:
    """Connect without waiting, then send PING."""
    sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    try:
        introduce(sock)
        sock.setblocking(False)
        for address in short_form(path):
            sock.connect(address)
    except BlockingIOError:
        text = "the server does not accept connections: its backlog is full"
        fix = "docker compose restart SERVICE      # if it is stopped or overloaded"
        return [Finding(PROBLEM, text, fix, EXIT_UNAVAILABLE)]
    except OSError as error:
        return [_explain_connect(path, found, error)]
    finally:
        sock.close()
    return [_ask(path, found.st_uid)]


def _explain_connect(path: str, found: os.stat_result, error: OSError) -> Finding:
    failure = explain(error, path)
    fix = failure.hint
    if error.errno == errno.ECONNREFUSED:
        fix = "docker compose up -d SERVICE      # `sidecall serve` replaces a stale socket"
    elif failure.code == EXIT_DENIED and stat.S_IMODE(found.st_mode) == _OWNER_ALONE:
        fix = _callers_line(found.st_uid, "in the service configuration")
    return Finding(PROBLEM, failure.reason, fix, failure.code)


def _callers_line(owner: int, where: str) -> str:
    """Return `callers` with the server's own user, who is the only one by default, and this one."""
    return f"callers = {json.dumps(sorted({owner, os.geteuid()}))}      # {where}"


def _ask(path: str, owner: int) -> Finding:
    try:
        reply = ping(path)
    except CallDenied as error:
        return Finding(PROBLEM, error.reason, _fix_for_denied(error, owner), error.code)
    except ServiceUnavailable as error:
        return Finding(PROBLEM, error.reason, error.hint, error.code)
    except SidecallError as error:
        text = f"the server on {path} does not speak the protocol: {error.reason}"
        return Finding(PROBLEM, text, "sidecall connect NAME PROGRAM      # if it is socat", error.code)
    load = reply.load
    if load.number(b"bridge"):
        return Finding(PROBLEM, *texts.IS_BRIDGE(), EXIT_UNAVAILABLE)
    running, slots, queued = map(load.number, (b"running", b"slots", b"queued"))
    busy = f"{running} of {slots} slots in use, {queued} waiting"
    return Finding(OK, f"{reply.software} answers in {reply.round_trip * 1000:.1f} ms, {busy}")


def _fix_for_denied(error: CallDenied, owner: int) -> str:
    if f"uid {UNMAPPED} " in error.reason:
        return "userns_mode: host      # or the same mapping, in both services: the server has no number for this uid"
    if "is not allowed to call" in error.reason:
        return _callers_line(owner, "in the service configuration, with the callers that are there")
    return error.hint


def _look_at_here() -> list[Finding]:
    """Report whether the server can have the files of the working directory."""
    try:
        here = os.getcwd()
    except FileNotFoundError:
        return [Finding(WARNING, "the working directory has been removed: relative paths cannot be resolved", "cd /")]
    if not is_containers_own(mount_of(here, mounts())):
        return []
    text = f"the working directory {here} is in this container's own file system: commands have none of its files"
    return [Finding(NOTE, text, f"{_volumes_with('data:/data')}      # in both services, for files that commands use")]
