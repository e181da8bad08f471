"""Builds the native programs into the wheel, wherever they can be built.

The wheel installs the native client as `sidecall`, the Python command as `sidecall-python`, and the native supervisor
next to the modules of `sidecall.supervise`. Where nothing can be compiled the wheel is the pure one: `sidecall` is the
Python command, without a native supervisor.

Variables:
    SIDECALL_NATIVE  `none` builds the pure wheel. The name of a machine (native/build.py lists them) builds the wheel
                     of that machine. By default the wheel is for the machine that builds it.
    SIDECALL_CC      a compiler command, such as `gcc`, for the machine that builds. By default `zig cc` from the PyPI
                     package ziglang, and `cc` if that package is not available. `zig cc` comes first because it makes
                     the same static binaries as those that are released; SIDECALL_CC saves its download and is faster.

If a variable names what to build, a failure to build it is an error.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

NATIVE = os.environ.get("SIDECALL_NATIVE", "")
COMPILER = os.environ.get("SIDECALL_CC", "")
LINUX_TAGS = [tag for tag in platform_tags() if tag.startswith("linux_")]
HOST = LINUX_TAGS[-1].removeprefix("linux_")  # of the interpreter: the kernel's can be a 64-bit one
ZIG_HOSTS = {"x86_64", "aarch64"}  # pip must find a wheel of ziglang there, or nothing can be built at all
MACHINE = NATIVE or HOST
SCRIPT = "bin/sidecall"
PACKAGE = "sidecall/supervise"


class NativePrograms(BuildHookInterface[Any]):
    """Decides what `sidecall` is, and which machine the wheel is for."""

    def dependencies(self) -> list[str]:
        """Return what building needs: ziglang, in the version that pyproject.toml pins."""
        if NATIVE == "none" or COMPILER or HOST not in ZIG_HOSTS:
            return []
        groups = tomllib.loads(Path(self.root, "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
        return [package for package in groups["build"] if package.startswith("ziglang")]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the commands and the native programs to the wheel."""
        scripts = build_data["shared_scripts"]
        scripts[SCRIPT] = "sidecall"
        if NATIVE == "none":
            return
        out = Path(self.root, "build/native") if os.access(self.root, os.W_OK) else Path(tempfile.mkdtemp())
        compiler = self._compile(out)
        if compiler is None:
            return
        scripts[SCRIPT] = "sidecall-python"
        for binary in sorted(out.glob(f"sidecall-*-{MACHINE}")):
            name = binary.name.removesuffix(f"-{MACHINE}")
            if not Path(self.root, "native", name.removeprefix("sidecall-"), "main.c").exists():
                continue  # of an earlier build
            if name == "sidecall-client":
                scripts[str(binary)] = "sidecall"
            elif version == "editable":  # the modules stay in the source tree, and so does what they look for
                place = Path(self.root, "src", PACKAGE, name)
                place.unlink(missing_ok=True)  # it can be running
                place.write_bytes(binary.read_bytes())
                place.chmod(0o755)
            else:
                build_data["force_include"][str(binary)] = f"{PACKAGE}/{name}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{MACHINE}"
        if not compiler:  # static and with musl: any C library, or none
            build_data["tag"] = f"py3-none-manylinux_2_17_{MACHINE}.musllinux_1_1_{MACHINE}"

    def _compile(self, out: Path) -> str | None:
        """Return the compiler that has compiled, empty for zig; None if there is no working one and need not be."""
        compilers = [COMPILER] if COMPILER else [""] if NATIVE else ["", "cc"]
        for compiler in compilers:
            command = [sys.executable, f"{self.root}/native/build.py", str(out), MACHINE, compiler]
            if subprocess.run(command, check=False, stdout=sys.stderr).returncode == 0:
                return compiler
        if NATIVE or COMPILER:
            raise RuntimeError(f"cannot compile the native programs for {MACHINE}")
        self.app.display_warning(
            "no C compiler works: building the pure wheel, without the native client and supervisor"
        )
        return None
