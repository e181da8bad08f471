"""What people use today: how each is served and called. One table, so that every module measures the same."""

from __future__ import annotations

import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from beside.place import wait_until
from beside.results import CaseFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from beside.place import Place
    from beside.results import Results

HERE = Path(__file__).parent
SSH_CONFIG = """
Host bench
HostName 127.0.0.1
Port {port}
IdentityFile {directory}/key
IdentitiesOnly yes
BatchMode yes
StrictHostKeyChecking accept-new
UserKnownHostsFile {directory}/known
LogLevel ERROR
"""
SSHD_CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {directory}/hostkey
AuthorizedKeysFile {directory}/key.pub
PidFile {directory}/sshd.pid
StrictModes no
UsePAM no
SetEnv SHLVL=2
MaxSessions 1000
MaxStartups 1000
"""
"""SHLVL keeps bash from reading this user's ~/.bashrc, as Debian's does when sshd starts it; it may do anything."""


@dataclass(frozen=True)
class Peer:
    """One way of having a command run elsewhere.

    Args:
        name: what the tables call it.
        needs: the programs that have to be installed.
        start: starts its server for a command at a place, and returns the words that call it.
        streams: whether it carries stdin and stdout to their ends as they are.
    """

    name: str
    needs: tuple[str, ...]
    start: Callable[[Place, str], list[str]]
    streams: bool = True


def s6(place: Place, command: str) -> list[str]:
    """Serve by s6-ipcserver and s6-sudod, call by s6-sudo: the nearest relative, in C."""
    path = place.directory / f"s6-{command}.sock"
    place.serve("s6-ipcserver", "-c", "1000", "-b", "1000", str(path), "s6-sudod", command)
    wait_until(path.exists, str(path))
    return ["s6-sudo", str(path)]


def socat(place: Place, command: str) -> list[str]:
    """Serve and call by socat alone."""
    path = place.directory / f"socat-{command}.sock"
    place.serve("socat", f"UNIX-LISTEN:{path},fork,backlog=1000", f"EXEC:{command}")
    wait_until(path.exists, str(path))
    return ["socat", "-t5", "-", f"UNIX-CONNECT:{path}"]


def original(place: Place, _command: str) -> list[str]:
    """Serve and call by bash around socat, an app on each side, START and SUCCESS between them."""
    path = place.directory / "original.sock"
    place.serve("socat", f"UNIX-LISTEN:{path},fork,backlog=1000", f"EXEC:{HERE}/original-server.sh")
    wait_until(path.exists, str(path))
    return [f"{HERE}/original-client.sh", str(path)]


def ssh(place: Place, command: str) -> list[str]:
    """Serve by an sshd of our own on the loopback, with keys of our own; a connection for each call."""
    if not (place.directory / "sshd.pid").exists():
        start_sshd(place)
    return ["ssh", "-n" if command == "true" else "-T", "-F", f"{place.directory}/ssh_config", "bench", command]


def start_sshd(place: Place) -> None:
    """Make the keys and the configuration in the place's directory, and start sshd."""
    directory = place.directory
    for key in ("key", "hostkey"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / key], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for name, text in (("ssh_config", SSH_CONFIG), ("sshd_config", SSHD_CONFIG)):
        (directory / name).write_text(text.format(port=port, directory=directory))
    daemon = f'[ -w /run ] && mkdir -p -m 755 /run/sshd; exec "$1" -D -f "{directory}/sshd_config"'
    place.serve("sh", "-c", daemon, "sh", str(shutil.which("sshd")))  # it insists on its whole path
    wait_until((directory / "sshd.pid").exists, "sshd")


def shared_ssh(place: Place, command: str) -> list[str]:
    """Call over one connection of ssh that stays open (ControlMaster in ssh_config(5))."""
    words, path = ssh(place, command), place.directory / "shared"
    if not path.exists():
        place.open(*words[:4], "-N", "-M", "-S", str(path), "bench")
        wait_until(path.exists, "ssh's shared connection")
    return [*words[:4], "-S", str(path), *words[4:]]


PEERS = (
    Peer("s6-sudo", ("s6-sudo", "s6-ipcserver", "s6-sudod"), s6),
    Peer("socat", ("socat",), socat),
    Peer("original scripts", ("bash", "socat", "ss"), original, streams=False),
    Peer("ssh, shared connection", ("ssh", "sshd", "ssh-keygen"), shared_ssh),
    Peer("ssh", ("ssh", "sshd", "ssh-keygen"), ssh),
)


def start_peers(results: Results, place: Place, command: str) -> dict[str, list[str]]:
    """Start each peer that is installed; return the words that call it, by its name."""
    calls = {}
    for peer in PEERS:
        missing = [program for program in peer.needs if shutil.which(program) is None]
        if missing:
            results.leave_out(f"{peer.name}, {place.name}", f"{', '.join(missing)} not installed")
        elif peer.streams or command == "true":
            try:
                calls[peer.name] = peer.start(place, command)
            except (CaseFailed, subprocess.CalledProcessError) as failed:
                results.fail(f"start, {place.name}", peer.name, str(failed))
    return calls
