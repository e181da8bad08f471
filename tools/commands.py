"""Prints docs/commands.md from the help texts themselves; a test compares the two."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sidecall.cli import COMMANDS

ENVIRONMENT = """\
## Environment

| variable | meaning |
|---|---|
| `SIDECALL_DIR` | the directory of the sockets; `/run/sidecall` by default |
| `SIDECALL_SUPERVISOR` | read by `serve`: another native supervisor: [process lifecycle](how-calls-end.md) |
| `SIDECALL_CALL` | set for a command: its call's id |
| `SIDECALL_SCRATCH` | set for a command that is declared with `scratch`: its call's own directory |
| `PROTO=IPC`, `IPCREMOTEPATH`, `IPCREMOTEEUID`, `IPCREMOTEEGID` | set for a bridge's apps, as UCSPI has them |
| `IPCLOCALPATH` | set for the bridge's app on the serving side |
| `NOTIFY_SOCKET` | read by `serve`: where readiness is told, see sd_notify(3) |
| `LISTEN_PID`, `LISTEN_FDS` | read by `serve`: a socket that is passed on, see sd_listen_fds(3) |
"""


def main() -> None:
    """Print the page."""
    sidecall = str(Path(sys.executable).parent / "sidecall")
    parts = ["# Commands and options", "What `--help` prints."]
    for name in COMMANDS:
        text = subprocess.run([sidecall, name, "--help"], capture_output=True, text=True, check=True).stdout
        parts.append(f"## sidecall {name}\n\n```\n{text}```")
    print("\n\n".join([*parts, ENVIRONMENT]), end="")


if __name__ == "__main__":
    main()
