#!/usr/bin/env bash
# Builds the native client as static binaries for x86_64 and aarch64, with the C compiler and the musl that come with
# PyPI's ziglang, and checks that they need nothing: no loader, no library.
#
# usage: native/build.sh [OUTDIR]          (build/native by default)
set -euo pipefail
cd "$(dirname "$0")/.."

out=${1:-build/native}
venv=build/zig
mkdir -p "$out"
if [[ ! -x $venv/bin/python ]] || ! "$venv/bin/python" -c 'import ziglang' 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q 'ziglang>=0.13'
fi

for machine in x86_64 aarch64; do
    binary=$out/sidecall-exec-$machine
    "$venv/bin/python" -m ziglang cc -target "$machine-linux-musl" -static -Os -s -std=c11 \
        -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror native/sidecall-exec.c -o "$binary"
    if readelf -lW "$binary" | grep -q INTERP || readelf -dW "$binary" | grep -q NEEDED; then
        echo "$binary is not static" >&2
        exit 1
    fi
    printf '%s %d bytes\n' "$binary" "$(stat -c %s "$binary")"
done
