"""Compiles the native programs, one for each directory of native/ that has a main.c, into static binaries.

The compiler is `zig cc` (PyPI's ziglang), which brings the C library musl for every machine below: the binary needs
neither a loader nor a library. Another compiler compiles for its own machine, with its own C library: linked in if that
is possible, else needed where the program runs. Run by the build hook and by native/build.sh.

usage: build.py OUT MACHINE [COMPILER]
    OUT       the directory for sidecall-PROGRAM-MACHINE, and for zig's cache
    MACHINE   the machine, as in a wheel's tag
    COMPILER  a command, such as `gcc`, in place of `zig cc`
"""

from __future__ import annotations

import os
import shlex
import struct
import subprocess
import sys
from pathlib import Path

NATIVE = Path(__file__).resolve().parent
TARGETS = {
    "x86_64": "x86_64-linux-musl",
    "aarch64": "aarch64-linux-musl",
    "armv7l": "arm-linux-musleabihf",
    "i686": "x86-linux-musl",
    "ppc64le": "powerpc64le-linux-musl",
    "riscv64": "riscv64-linux-musl",
    "s390x": "s390x-linux-musl",
}
"""What zig calls each machine that there is a wheel for."""

FLAGS = ["-std=c11", "-Os", "-s", "-ffunction-sections", "-Wl,--gc-sections", "-fno-unwind-tables"]
FLAGS += ["-fno-asynchronous-unwind-tables", "-Wall", "-Wextra"]
# No -flto: for riscv64 zig's linker then ignores the ABI that the machine needs.
STRICT = ["-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]  # only for the compiler that is pinned

PT_DYNAMIC, PT_INTERP = 2, 3


def programs() -> list[str]:
    """Return the names of the native programs."""
    return sorted(path.parent.name for path in NATIVE.glob("*/main.c"))


def is_static(binary: Path) -> bool:
    """Return whether an ELF file starts without a loader: it has neither PT_INTERP nor PT_DYNAMIC (elf(5))."""
    data = binary.read_bytes()
    order = "<" if data[5] == 1 else ">"
    if data[4] == 1:  # ELFCLASS32
        (table,) = struct.unpack_from(f"{order}I", data, 28)
        size, count = struct.unpack_from(f"{order}HH", data, 42)
    else:
        (table,) = struct.unpack_from(f"{order}Q", data, 32)
        size, count = struct.unpack_from(f"{order}HH", data, 54)
    types = {struct.unpack_from(f"{order}I", data, table + size * index)[0] for index in range(count)}
    return not types & {PT_INTERP, PT_DYNAMIC}


def compile_program(program: str, out: Path, machine: str, compiler: str) -> None:
    """Compile one program; print the command's own errors.

    Raises:
        OSError: the compiler cannot be executed.
        subprocess.CalledProcessError: the compiler failed.
    """
    binary = out / f"sidecall-{program}-{machine}"
    new = binary.with_name(f"{binary.name}.{os.getpid()}")
    sources = [str(path) for path in sorted(NATIVE.glob(f"{program}/*.c"))]
    command = [*FLAGS, "-I", str(NATIVE), *sources, "-o", str(new)]
    if compiler:
        try:
            subprocess.run([*shlex.split(compiler), "-static", *command], check=True, stderr=subprocess.DEVNULL)
        except subprocess.CalledProcessError:  # many systems have no static C library
            subprocess.run([*shlex.split(compiler), *command], check=True)
    else:
        zig = [sys.executable, "-m", "ziglang", "cc", "-target", TARGETS[machine], "-static"]
        cache = {name: str(out / "zig-cache") for name in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")}
        subprocess.run([*zig, *STRICT, *command], check=True, env={**os.environ, **cache})
        if not is_static(new):
            sys.exit(f"{new} is not static")
    new.replace(binary)
    print(f"{binary} {binary.stat().st_size} bytes")


def main(out: Path, machine: str, compiler: str = "") -> None:
    """Compile all programs for one machine."""
    if not compiler and machine not in TARGETS:
        sys.exit(f"unknown machine {machine!r}: expected one of {', '.join(TARGETS)}")
    out.mkdir(parents=True, exist_ok=True)
    for program in programs():
        try:
            compile_program(program, out, machine, compiler)
        except (OSError, subprocess.CalledProcessError) as error:
            sys.exit(f"cannot compile {program}: {error}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
