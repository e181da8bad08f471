#!/usr/bin/env bash
# Builds the whole `sidecall` command as one static executable, for containers that have neither Python nor a C library:
# the native client and supervisor, CPython as a library, and sidecall with what it needs of the standard library, frozen.
# Prints its path. Done again only if a part has changed. For the machine that it is built on.
#
# usage: native/standalone/build.sh
set -euo pipefail
cd "$(dirname "$0")/../.."

mkdir -p build/native
exec 9>build/native/standalone.lock
flock 9

cpython=$(native/standalone/cpython.sh 9>&-)
compiler=$PWD/build/standalone/cc
binary=build/native/sidecall-$(uname -m)
parts=$PWD/build/standalone/parts
warnings=(-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror)

freeze() { # modules are found in this tree's source, and in no installed package
    "$cpython/_bootstrap_python" -S native/standalone/freeze.py "$cpython" "$PWD/src" bin/sidecall "$parts"
}

link() {
    "$compiler" -c -O2 -std=c11 -fno-pie -fstack-protector-strong "${warnings[@]}" -isystem "$cpython" \
        -isystem "$cpython/Include" -I"$parts" -Wa,-I"$parts" native/standalone/python.c -o "$parts/python.o"
    for part in client supervisor; do
        "$compiler" -r -Os -std=c11 -fno-pie "${warnings[@]}" -DSIDECALL_STANDALONE native/$part/*.c -o "$parts/$part.o"
    done
    "$compiler" -static -no-pie -s "$parts"/{client,supervisor,python}.o "$cpython"/libpython3.*.a -lm -o "$binary.new"
    if readelf -lW "$binary.new" | grep -q INTERP; then
        echo "$binary is not static" >&2
        return 1
    fi
}

notice() { # the terms of what is in it
    cat LICENSE
    printf '\nThe standalone executable holds musl, under the same terms: Copyright 2005-2020 Rich Felker, et al.\n'
    printf 'It holds CPython, under these:\n\n'
    cat "$cpython/LICENSE"
}

stamp=$({ cat build/standalone/stamp LICENSE bin/sidecall; find src native -type f ! -name '*.pyc' -exec cat {} +; } | sha256sum)
if [[ ! -e $binary || ! -e $parts/stamp || $(<"$parts/stamp") != "$stamp" ]]; then
    mkdir -p "$parts"
    freeze
    link
    notice >"$binary.LICENSE"
    mv "$binary.new" "$binary"
    echo "$stamp" >"$parts/stamp"
fi
echo "$PWD/$binary"
