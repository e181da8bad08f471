"""Through forwarders of bytes, socat(1) and `ssh -L`, each call ends as a direct one, and no byte is missing.

FORWARDED_CALLS sets how many calls of each kind are made.
"""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from conftest import CLIENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Run, Server

CALLS = int(os.environ.get("FORWARDED_CALLS", "20"))
AT_ONCE = 4
MEGABYTE = bytes(range(256)) * 4096
SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


@contextmanager
def socat(directory: Path, target: Path) -> Iterator[Path]:
    """Forward a socket by socat; yield its path."""
    hop = directory / "socat.sock"
    words = ["socat", f"UNIX-LISTEN:{hop},fork,backlog=64", f"UNIX-CONNECT:{target}"]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as forwarder:
        try:
            yield hop
        finally:
            forwarder.terminate()


@contextmanager
def ssh(directory: Path, target: Path) -> Iterator[Path]:
    """Forward a socket by `ssh -L` through an sshd of this test; yield its path."""
    if not os.path.exists(SSHD) or shutil.which("ssh") is None:
        pytest.skip("not installed: openssh-client or openssh-server")
    if os.geteuid() == 0:  # sshd(8) changes its root there before it has authenticated a client
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    hop, key, host = directory / "ssh.sock", directory / "key", directory / "host"
    for file in (key, host):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
    authorized = directory / "key.pub"
    daemon = [SSHD, "-i", "-f", "/dev/null", "-h", str(host), "-o", f"AuthorizedKeysFile={authorized}",
              "-o", "StrictModes=no", "-o", "UsePAM=no", "-o", "PidFile=none", "-o", "LogLevel=QUIET",
              "-o", "PermitRootLogin=yes"]  # fmt: skip
    words = ["ssh", "-N", "-F", "/dev/null", "-i", str(key), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
             "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ExitOnForwardFailure=yes",
             "-o", f"ProxyCommand={' '.join(daemon)}", "-L", f"{hop}:{target}",
             f"{getpass.getuser()}@localhost"]  # fmt: skip
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as forwarder:
        try:
            yield hop
        finally:
            forwarder.terminate()
            assert forwarder.stderr is not None
            forwarder.stderr.close()


KINDS = {
    "1 MB out": (["cat"], MEGABYTE, 0, MEGABYTE),
    "1 MB in, hardly read": (["head", "-c", "1"], MEGABYTE, 0, MEGABYTE[:1]),
    "exit 3": (["sh", "-c", "exit 3"], b"", 3, b""),
    "true": (["true"], b"", 0, b""),
}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("forward", [socat, ssh])
def test_no_call_ends_wrong(
    serve: Callable[..., Server], sidecall: Run, directory: Path, forward: Callable[[Path, Path], object], kind: str
) -> None:
    """The exit code and each byte of the output are those of a direct call."""
    server = serve("--allow-any", "tool", "--slots", str(AT_ONCE), "--grace", "0.5")
    command, given, code, output = KINDS[kind]

    def call(hop: Path) -> tuple[int, bool, bytes]:
        done = subprocess.run([CLIENT, "exec", "-q", str(hop), *command], input=given, capture_output=True, check=False)
        return done.returncode, done.stdout == output, done.stderr

    with forward(directory, server.path) as hop:  # type: ignore[attr-defined]
        assert sidecall("ping", "--connect-timeout", "20", str(hop)).returncode == 0
        with ThreadPoolExecutor(AT_ONCE) as pool:
            ends = Counter(pool.map(call, [hop] * CALLS))
    assert ends == {(code, True, b""): CALLS}
