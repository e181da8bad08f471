"""The programs of ours that are measured, and what they are measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from beside.place import REPO

FIRST = "Python server"
"""The server that is always measured."""


@dataclass(frozen=True)
class Programs:
    """Where our programs are.

    Args:
        python: the interpreter of an environment that has nothing but this machine's wheel.
        servers: by the name that the tables use, the words that a server's command line begins with.
    """

    python: str
    servers: dict[str, tuple[str, ...]]

    @property
    def native(self) -> str:
        """The native client."""
        return str(Path(self.python).with_name("sidecall"))

    @property
    def command(self) -> str:
        """The Python command."""
        return str(Path(self.python).with_name("sidecall-python"))

    @property
    def directories(self) -> list[Path]:
        """What a container needs to see of this host."""
        return [Path(words[0]).resolve().parent for words in self.servers.values()]


def find_programs(venv: Path, other_server: str) -> Programs:
    """Return the programs, and a second server if one is named: a program that takes `serve` as ours does."""
    python = str(venv / "bin/python")
    servers: dict[str, tuple[str, ...]] = {FIRST: (str(venv / "bin/sidecall-python"),)}
    if other_server:
        servers[Path(other_server).name] = (str(Path(other_server).resolve()),)
    return Programs(python, servers)


def native_sizes() -> dict[str, float]:
    """Return the bytes of each native program that is built."""
    names = {f"{part}, {machine}" for part in ("client", "supervisor") for machine in ("x86_64", "aarch64")}
    programs = {name: REPO / "build/native" / f"sidecall-{name.replace(', ', '-')}" for name in sorted(names)}
    return {name: path.stat().st_size for name, path in programs.items() if path.exists()}


def machine() -> dict[str, str]:
    """Return what a reader has to know of this machine."""
    return {
        "processors": f"{len(os.sched_getaffinity(0))} ({processor()})",
        "kernel": f"Linux {platform.release()}, {platform.machine()}",
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "Python": platform.python_version(),
        "sidecall": commit(),
        "load before": "{:.1f}, {:.1f}, {:.1f} (of the last 1, 5 and 15 minutes)".format(*os.getloadavg()),
    }


def processor() -> str:
    """Return the processor's name as the kernel has it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unnamed")


def commit() -> str:
    """Return which state of the sources was measured."""
    words = ["git", "-C", str(REPO), "describe", "--always", "--dirty"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "no repository"
