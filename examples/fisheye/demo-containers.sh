#!/usr/bin/env bash
# The fisheye pipeline in two real containers, with podman or Docker: what `make demo-containers` runs.
#
# Runs the pipeline with four cores and with one, and compares the pictures byte for byte. Everything made is in
# build/demo-containers; the containers are removed at the end. FISHEYE_COUNT says how many frames (default: 4).
# Exit status: 0 all well, 69 something has to be installed first, else what failed.
set -euo pipefail

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
REPO=$(cd -- "$HERE/../.." && pwd)
DEMO=$REPO/build/demo-containers
IMAGES=$DEMO/images
FRAMES=${FISHEYE_COUNT:-4}
# shellcheck source=examples/fisheye/common.sh
. "$HERE/common.sh"

compose() { FISHEYE_IMAGES=$IMAGES $COMPOSE -f "$HERE/compose.yaml" "$@"; }
in_builder() { compose exec -T builder "$@"; }

choose_engine() { # what it prints are the settings for this machine
    local exports
    exports=$("$REPO/tools/containers.sh" setup)
    eval "$exports"
}

make_context() {
    rm -rf "$DEMO/context"
    mkdir -p "$DEMO/context"
    quietly "$DEMO/venv/bin/pip" wheel --no-deps --wheel-dir "$DEMO/context" "$REPO"
    cp -- "$HERE"/*.Dockerfile "$DEMO/context/"
}

build() { # build NAME
    say "$ENGINE build $1"
    # shellcheck disable=SC2086  # the flags are several words
    quietly "$ENGINE" build $BUILD_FLAGS -t "localhost/fisheye-$1" -f "$DEMO/context/$1.Dockerfile" "$DEMO/context"
}

stop() {
    local status=$?
    trap - EXIT
    compose down --volumes >/dev/null 2>&1 || true
    exit "$status"
}

start() {
    compose down --volumes >/dev/null 2>&1 || true
    trap stop EXIT
    say "$ENGINE: two containers, hugin and builder, without any network"
    quietly compose up -d
    in_builder sidecall ping --connect-timeout 30 hugin
}

run_pipeline() { # run_pipeline CORES WORK
    say "builder: snakemake --cores $1"
    in_builder rm -rf "/data/$2" # the container's user owns it
    in_builder snakemake --quiet all --snakefile /pipeline/Snakefile --directory "/data/$2" \
        --cores "$1" --keep-going --config frames=/data/frames
}

compare() { # compare WORK OTHER-WORK
    local picture count=0
    for picture in "$IMAGES/$1"/final/*.png; do
        cmp -- "$picture" "$IMAGES/$2/final/${picture##*/}"
        count=$((count + 1))
    done
    say "--cores 4 and --cores 1 made the same $count pictures, byte for byte"
}

mkdir -p "$IMAGES"
make_venv
choose_engine
make_context
build hugin
build builder
render "$IMAGES" "$FRAMES"
start
run_pipeline 4 work
run_pipeline 1 work-one-core
show "$IMAGES/work" "$IMAGES" "$DEMO/contact-sheet.png"
compare work work-one-core
