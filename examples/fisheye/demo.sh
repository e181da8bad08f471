#!/bin/sh
# The fisheye pipeline on this machine, server and pipeline as two local processes: what `make demo` runs.
#
# usage: demo.sh [PICTURE]   PICTURE: also write the first frame's before and after there, as README.md shows it
#
# Installs Debian's hugin-tools and imagemagick if it may, and leaves everything it makes in build/demo.
# Exit status: 0 all well, 69 something has to be installed first, else what failed.
set -eu

HERE=$(cd -- "$(dirname -- "$0")" && pwd)
REPO=$(cd -- "$HERE/../.." && pwd)
DEMO=$REPO/build/demo
FRAMES=4
# shellcheck source=examples/fisheye/common.sh
. "$HERE/common.sh"

need_tools() {
    command -v nona >/dev/null && [ -n "$(imagemagick)" ] && return
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        unavailable "Hugin and ImageMagick are missing: on Debian or Ubuntu, as root, apt-get install hugin-tools imagemagick"
    fi
    say "apt-get install hugin-tools imagemagick"
    quietly apt-get update || true # what is known already may do
    quietly env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends hugin-tools imagemagick ||
        unavailable "apt-get could not install hugin-tools and imagemagick"
}

imagemagick() { convert -version 2>/dev/null | grep ImageMagick || true; }

server=
stop_server() {
    [ -n "$server" ] || return 0
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=
}
trap stop_server EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

start_server() {
    SIDECALL_DIR=$DEMO/run
    export SIDECALL_DIR
    mkdir -p "$SIDECALL_DIR"
    say "sidecall serve --config examples/fisheye/hugin.toml --volume images=build/demo"
    sidecall serve --config "$HERE/hugin.toml" --volume "images=$DEMO" >"$DEMO/server.log" 2>&1 &
    server=$!
    sidecall ping --connect-timeout 20 hugin || {
        cat "$DEMO/server.log" >&2
        exit 69
    }
}

run_pipeline() {
    rm -rf "$DEMO/work"
    say "snakemake --cores 4"
    snakemake --quiet all --snakefile "$HERE/Snakefile" --directory "$DEMO/work" --cores 4 --keep-going \
        --config "frames=$DEMO/frames"
}

mkdir -p "$DEMO"
need_tools
make_venv
start_server
render "$DEMO" "$FRAMES"
run_pipeline
show "$DEMO/work" "$DEMO" "$DEMO/contact-sheet.png"
[ -z "${1:-}" ] ||
    "$DEMO/venv/bin/python" "$HERE/contact_sheet.py" --count 1 "$DEMO/work" "$DEMO/frames" "$1"
