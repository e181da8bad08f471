#!/usr/bin/env bash
# Builds the native client and the native keeper as static binaries, with the C compiler and the musl that come with
# PyPI's ziglang, and checks that they need nothing: no loader, no library.
#
# usage: native/build.sh [OUTDIR [PYTHON [MACHINE...]]]
#   OUTDIR    build/native by default
#   PYTHON    an interpreter that has ziglang; by default one is made under build/
#   MACHINE   x86_64 or aarch64; both by default
set -euo pipefail
cd "$(dirname "$0")/.."

out=${1:-build/native}
python=${2:-build/zig/bin/python}
machines=("${@:3}")
[[ $# -ge 3 ]] || machines=(x86_64 aarch64)
tools/need.sh readelf=binutils
mkdir -p "$out"
if [[ $# -lt 2 ]] && ! "$python" -c 'import ziglang' 2>/dev/null; then
    python3 -m venv build/zig
    build/zig/bin/pip install -q 'ziglang>=0.13'
fi

for machine in "${machines[@]}"; do
    for program in client keeper; do
        binary=$out/sidecall-$program-$machine
        "$python" -m ziglang cc -target "$machine-linux-musl" -static -Os -s -flto -fno-unwind-tables \
            -fno-asynchronous-unwind-tables -std=c11 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror \
            native/"$program"/*.c -o "$binary"
        if readelf -lW "$binary" | grep -q INTERP || readelf -dW "$binary" | grep -q NEEDED; then
            echo "$binary is not static" >&2
            exit 1
        fi
        printf '%s %d bytes\n' "$binary" "$(stat -c %s "$binary")"
    done
done
