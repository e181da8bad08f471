"""Looks for the mistakes that keep a caller from its service, and says what to change. It changes nothing itself.

Each check adds a finding, in the order in which a call meets them: files, directory, socket, connection, answer.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket

from sidecall import texts
from sidecall.client.mounts import Mount, is_containers_own, mount_of, mounts
from sidecall.client.status import ping
from sidecall.errors import (
    EXIT_CONFIG,
    EXIT_DENIED,
    EXIT_UNAVAILABLE,
    CallDenied,
    ServiceUnavailable,
    SidecallError,
)
from sidecall.transport.address import explain, introduce, short_form, why_insecure

OK, NOTE, WARNING, PROBLEM = "ok", "note", "warning", "problem"

_UNMAPPED = 65534
"""The uid that stands for every one that this user namespace has no name for. Source: user_namespaces(7)."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        severity: ok, note, warning or problem.
        text: what was found, one sentence.
        fix: the line to change, or the command to run; empty if there is nothing to do.
        code: what `sidecall exec` would end with because of it; 0 if it would not.
    """

    severity: str
    text: str
    fix: str = ""
    code: int = 0


def examine(path: str) -> list[Finding]:
    """Look at a service's socket and at all that leads there; the last finding says whether the service answers."""
    directory = os.path.dirname(path)
    found = examine_directory(directory) or [*_look_at_here(), *_look_at_volume(directory)]
    if any(finding.severity == PROBLEM for finding in found):
        return found
    return [*found, *_look_at_socket(path)]


def examine_directory(directory: str) -> list[Finding]:
    """Return why a directory cannot be looked into; nothing if it can."""
    try:
        os.listdir(directory)
    except FileNotFoundError:
        text = f"the directory {directory} does not exist in this container"
        return [Finding(PROBLEM, text, _mount_line(directory), EXIT_UNAVAILABLE)]
    except NotADirectoryError:
        text = f"{directory} is not a directory"
        return [Finding(PROBLEM, text, _mount_line(directory), EXIT_UNAVAILABLE)]
    except PermissionError:
        text = f"uid {os.geteuid()} may not look into {directory}"
        return [Finding(PROBLEM, text, f"chmod a+rx {directory}      # by its owner", EXIT_DENIED)]
    return []


def services_in(directory: str) -> list[str]:
    """Return the paths of the sockets in a directory."""
    return [os.path.join(directory, name) for name in sorted(os.listdir(directory)) if name.endswith(".sock")]


def _mount_line(directory: str) -> str:
    return (
        f'volumes: ["ipc:{directory}"]      # in both services of the compose file, and `volumes: {{ipc: }}` at its end'
    )


def _look_at_volume(directory: str) -> list[Finding]:
    """Say what the directory is, and whether sockets can be there and be trusted there."""
    mount = mount_of(directory, mounts())
    if is_containers_own(mount):
        text = f"{directory} lies in this container's own file system: no other container sees it"
        found = [Finding(WARNING, text, _mount_line(directory))]
    else:
        what = f"is the volume {mount.root}" if mount.point == os.path.realpath(directory) else f"is on {mount.point}"
        access = "read-only" if mount.read_only else "writable"
        found = [Finding(OK, f"{directory} {what} ({mount.kind}, {access})")]
    if reason := why_insecure(os.path.join(directory, "x")):
        found.append(Finding(PROBLEM, reason, f"chmod o-w {directory}", EXIT_DENIED))
    return [*found, *_try_a_socket(directory, mount)]


def _try_a_socket(directory: str, mount: Mount) -> list[Finding]:
    """Make a socket in the directory and remove it again, if that is allowed."""
    if mount.read_only:
        return [Finding(NOTE, "callers can do with a read-only volume; a service needs it writable")]
    if not os.access(directory, os.W_OK):
        return [Finding(NOTE, f"uid {os.geteuid()} may not write here: it can call, but not serve")]
    path = os.path.join(directory, f".sidecall-doctor-{os.urandom(4).hex()}")
    probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    try:
        for address in short_form(path):
            probe.bind(address)
        os.unlink(path)
    except OSError as error:
        text = f"{directory} cannot carry sockets: its file system ({mount.kind}) says {error.strerror!r}"
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
        hint = (
            "an engine makes a directory where it is told to mount a file that is not there: " if is_directory else ""
        )
        return [Finding(PROBLEM, hint + text, _mount_line(directory), EXIT_UNAVAILABLE)]
    findings = []
    if os.path.realpath(path) in {mount.point for mount in mounts()}:
        text = f"{name} is mounted as a file: it is dead as soon as its service starts again"
        findings.append(Finding(WARNING, text, f'volumes: ["ipc:{directory}"]      # the directory, not {name}'))
    if found.st_uid == _UNMAPPED:
        text = f"the socket's owner has no number in this container (uid {_UNMAPPED}): the user namespaces differ"
        findings.append(Finding(WARNING, text, "userns_mode: host      # or the same mapping, in both services"))
    return [*findings, *_probe_connect(path, found)]


def _missing(path: str) -> Finding:
    directory, name = os.path.split(path)
    others = ", ".join(os.path.basename(other).removesuffix(".sock") for other in services_in(directory))
    seen = f"; there are {others}" if others else ""
    text = f"there is no socket {name} in {directory}{seen}"
    fix = (
        f"sidecall serve ...      # in the other container, with the same volume at {directory}: compare `doctor` there"
    )
    return Finding(PROBLEM, text, fix, EXIT_UNAVAILABLE)


def _probe_connect(path: str, found: os.stat_result) -> list[Finding]:
    """Connect without waiting, then ask."""
    sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    try:
        introduce(sock)
        sock.setblocking(False)
        for address in short_form(path):
            sock.connect(address)
    except BlockingIOError:
        text = "the service does not take connections: its backlog is full"
        return [Finding(PROBLEM, text, "docker compose restart SERVICE      # is it stopped or overloaded?", 69)]
    except OSError as error:
        return [_not_let_in(path, found, error)]
    finally:
        sock.close()
    return [_ask(path)]


def _not_let_in(path: str, found: os.stat_result, error: OSError) -> Finding:
    failure = explain(error, path)
    if error.errno in {errno.EACCES, errno.EPERM}:
        mode = stat.S_IMODE(found.st_mode)
        text = f"uid {os.geteuid()} may not connect: the socket belongs to uid {found.st_uid}, mode {mode:04o}"
        fix = f'user: "{found.st_uid}"      # here; or `callers = [{os.geteuid()}]` in the service\'s configuration'
        return Finding(PROBLEM, text, fix, EXIT_DENIED)
    if error.errno == errno.ECONNREFUSED:
        text = f"the socket is stale: nobody listens on {path}"
        fix = "docker compose up -d SERVICE      # `sidecall serve` replaces a stale socket"
        return Finding(PROBLEM, text, fix, EXIT_UNAVAILABLE)
    return Finding(PROBLEM, failure.reason, failure.hint, failure.code)


def _ask(path: str) -> Finding:
    try:
        presence = ping(path)
    except CallDenied as error:
        return Finding(PROBLEM, error.reason, _fix_for_denied(error), error.code)
    except ServiceUnavailable as error:
        return Finding(PROBLEM, error.reason, error.hint, error.code)
    except SidecallError as error:
        text = f"what listens on {path} does not speak the protocol: {error.reason}"
        return Finding(PROBLEM, text, "sidecall connect NAME APP      # if it is a bridge, or socat", error.code)
    load = presence.load
    if load.number(b"bridge"):
        return Finding(PROBLEM, *texts.IS_BRIDGE(), EXIT_UNAVAILABLE)
    running, slots, queued = map(load.number, (b"running", b"slots", b"queued"))
    busy = f"{running} of {slots} slots in use, {queued} waiting"
    return Finding(OK, f"{presence.software} answers in {presence.round_trip * 1000:.1f} ms, {busy}")


def _fix_for_denied(error: CallDenied) -> str:
    if f"uid {_UNMAPPED} " in error.reason:
        return "userns_mode: host      # or the same mapping, in both services: this uid has no number over there"
    if "may not call" in error.reason:
        return f"callers = [{os.geteuid()}]      # in the [service] table of the service's configuration"
    return error.hint


def _look_at_here() -> list[Finding]:
    """Say whether the service can see the files of the working directory."""
    try:
        here = os.getcwd()
    except FileNotFoundError:
        return [Finding(WARNING, "the working directory has been removed: relative paths lead nowhere", "cd /")]
    if not is_containers_own(mount_of(here, mounts())):
        return []
    text = f"the working directory {here} lies in this container's own file system: a command sees no file of it"
    return [Finding(NOTE, text, 'volumes: ["data:/data"]      # in both services, for files that commands are to see')]
