"""What the wheel places as `sidecall`, and beside the server's Python.

The pure wheel, for every machine, places the Python command. Where SIDECALL_NATIVE names a machine (x86_64, aarch64)
the wheel is for that machine: `sidecall` is the native client, and hands what it does not do to `sidecall-python`; and
the server finds the native supervisor where sidecall.supervise.forkserver looks for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MACHINE = os.environ.get("SIDECALL_NATIVE", "")
SCRIPT = "bin/sidecall"
KEEPER = "sidecall/supervise/sidecall-keeper"


class PlacedPrograms(BuildHookInterface[Any]):
    """Decides what `sidecall` is, what keeps commands, and what the wheel is for."""

    def dependencies(self) -> list[str]:
        """Return what building needs: a C compiler, if there is something to compile."""
        return ["ziglang>=0.13"] if MACHINE else []

    def initialize(self, _version: str, build_data: dict[str, Any]) -> None:
        """Add the commands to the wheel."""
        scripts = build_data["shared_scripts"]
        if not MACHINE:
            scripts[SCRIPT] = "sidecall"
            return
        scripts[SCRIPT] = "sidecall-python"
        compiled = self._compile()
        scripts[str(compiled / f"sidecall-client-{MACHINE}")] = "sidecall"
        build_data["force_include"][str(compiled / f"sidecall-keeper-{MACHINE}")] = KEEPER
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-manylinux2014_{MACHINE}.musllinux_1_1_{MACHINE}"  # static: any libc, or none

    def _compile(self) -> Path:
        """Compile what runs on the machine; return the directory that it is in."""
        out = Path(self.root, "build", "native")
        subprocess.run([f"{self.root}/native/build.sh", out, sys.executable, MACHINE], check=True, stdout=sys.stderr)
        return out
