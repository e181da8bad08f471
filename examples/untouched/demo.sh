#!/usr/bin/env bash
# Two containers of stock images, one of which serves the other: what `make demo-untouched` runs, with podman or Docker.
#
# Everything made is in build/demo-untouched; the containers are removed at the end.
# Exit status: 0 all well, 69 something has to be installed first, else what failed.
set -euo pipefail

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
REPO=$(cd -- "$HERE/../.." && pwd)
DEMO=$REPO/build/demo-untouched
export UNTOUCHED=$DEMO/volume UNTOUCHED_FILES=$DEMO/files

say() { printf '\n==> %s\n' "$*"; }
compose() { $COMPOSE -f "$HERE/compose.yaml" "$@"; }
caller() { # run what a user would type, and show it
    printf '$ %s\n' "$*"
    compose exec -T caller sh -c "$*"
}

stop() {
    local status=$?
    trap - EXIT
    compose down --volumes >/dev/null 2>&1 || true
    exit "$status"
}

say "one file on a volume"
standalone=$("$REPO/native/standalone/build.sh")
exports=$("$REPO/tools/containers.sh" setup)
eval "$exports"
rm -rf "$DEMO"
mkdir -p "$UNTOUCHED_FILES/frames"
"$standalone" install "$UNTOUCHED"
seq 1000 >"$UNTOUCHED_FILES/frames/a"
seq 2000 >"$UNTOUCHED_FILES/frames/b"

say "two stock images, neither of them built"
compose down --volumes >/dev/null 2>&1 || true
trap stop EXIT
compose up -d >"$DEMO/log" 2>&1 || { cat "$DEMO/log" >&2; exit 1; }
compose exec -T caller sidecall ping --connect-timeout 30 tool

say "in the caller"
caller sidecall describe tool
caller sidecall exec tool pack --directory frames --archive /work/frames.tar.gz
caller tar -tzf frames.tar.gz
caller 'cat frames/a | sidecall exec tool checksum'
caller 'sidecall exec tool pack --directory gone --archive gone.tar.gz || echo "exit code $?"'
