#!/usr/bin/env bash
# Builds the CPython that the standalone executable holds: Debian's source, with Debian's patches, as a static library
# on musl, and prints the directory that has it. Only what sidecall needs of its C modules is in it. Needs a Debian with
# its package sources; installs compilers as root. Done again only when this file changes.
#
# usage: native/standalone/cpython.sh
set -euo pipefail
cd "$(dirname "$0")/../.."

PACKAGE=python3.11
MODULES='_asyncio|_bisect|_contextvars|_datetime|_heapq|_json|_posixsubprocess|_random|_sha512|_socket|_struct'
MODULES+='|array|fcntl|grp|math|mmap|resource|select|termios'
state=$PWD/build/standalone
folder=$state/cpython
stamp=$(sha256sum native/standalone/cpython.sh)

apt_for_sources() { # apt_for_sources COMMAND ARG...: an apt that knows the machine's own Debian sites, for source packages
    "$1" -qq -o Dir::Etc::SourceList="$state/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$state/apt/lists" -o Dir::Cache="$state/apt/cache" -o APT::Sandbox::User= "${@:2}"
}

sites() { # what apt gets Debian's packages from, which is only known once it has done so
    # shellcheck disable=SC2016  # the fields are apt's
    apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
        sort -u | sed -n 's/^Debian \(.*\)/deb-src \1 main/p'
}

list_sources() {
    mkdir -p "$state/apt"/{lists,cache/archives}/partial
    [[ -n $(sites) ]] || apt-get -qq update
    sites >"$state/apt/sources.list"
    apt_for_sources apt-get update
}

download() { # the newest version whose files a site still, or already, has
    local version
    : >"$state/log"
    for version in $(apt_for_sources apt-cache showsrc --only-source "$PACKAGE" | sed -n 's/^Version: //p' | sort -urV); do
        if apt_for_sources apt-get source --download-only "$PACKAGE=$version" >"$state/log" 2>&1; then
            echo "compiling $PACKAGE $version, some two minutes on two processors"
            return
        fi
    done
    cat "$state/log"
    echo "no site of this machine's apt has the source of $PACKAGE"
    return 69
}

unpack() {
    (cd "$state/source" && download)
    dpkg-source --no-check -x "$state"/source/*.dsc "$folder" >"$state/log"
}

write_compiler() { # musl-gcc, with the kernel's headers; it lends its gcc's --print-multiarch, which configure refuses
    mkdir -p "$state/kernel"
    ln -sfn /usr/include/linux /usr/include/asm-generic "$state/kernel"
    ln -sfn "/usr/include/$(gcc -print-multiarch)/asm" "$state/kernel/asm"
    # shellcheck disable=SC2016  # the wrapper's own
    printf '#!/bin/sh\n[ "$1" = --print-multiarch ] || exec musl-gcc -idirafter "%s" "$@"\n' "$state/kernel" >"$state/cc"
    chmod +x "$state/cc"
}

compile() {
    cd "$folder" &&
        ./configure CC="$state/cc" OPT='-DNDEBUG -fwrapv -O2 -fno-pie -fstack-protector-strong' LDFLAGS='-static -no-pie' \
            PKG_CONFIG=false --disable-shared --disable-test-modules --without-ensurepip MODULE_BUILDTYPE=static &&
        { echo '*static*' && grep -E "^($MODULES) " Modules/Setup.stdlib; } >Modules/Setup.local &&
        make -j"$(nproc)" "lib$PACKAGE.a"
}

if [[ ! -e $state/stamp || $(<"$state/stamp") != "$stamp" ]]; then
    {
        tools/need.sh gcc=gcc musl-gcc=musl-tools make=make dpkg-source=dpkg-dev /usr/include/linux/random.h=linux-libc-dev
        rm -rf "$state"
        mkdir -p "$state/source"
        list_sources
        unpack
        write_compiler
        (compile) >"$state/log" 2>&1 || { tail -n 40 "$state/log" && exit 1; }
        echo "$stamp" >"$state/stamp"
    } >&2
fi
echo "$folder"
