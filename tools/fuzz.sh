#!/usr/bin/env bash
# Runs every fuzz target for some seconds, two at a time, from the seeds in tests/fuzz/corpus and what was found before
# (build/fuzz). Prints what each has executed; fails, and keeps the input, if one has found something.
#
# usage: tools/fuzz.sh SECONDS
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=$1
read -r python < <(tools/pythons.sh)
fuzzer=$PWD/$(tools/venv.sh "$python" fuzz)/bin/python
found=$PWD/build/fuzz
mkdir -p "$found"

fuzz() { # fuzz TARGET
    mkdir -p "$found/$1"
    if "$fuzzer" tests/fuzz/fuzz.py "$1" "-max_total_time=$seconds" "-artifact_prefix=$found/$1-" -timeout=20 \
        "$found/$1" "tests/fuzz/corpus/$1" >"$found/$1.log" 2>&1; then
        printf '%-12s %s\n' "$1" "$(tail -n 1 "$found/$1.log")"
    else
        tail -n 40 "$found/$1.log" >&2
        return 1
    fi
}
export -f fuzz
export seconds fuzzer found

# shellcheck disable=SC2016  # the inner shell fills it in
find tests/fuzz/corpus -mindepth 1 -maxdepth 1 -type d -printf '%f\n' | sort | xargs -P 2 -I '{}' bash -c 'fuzz "$1"' fuzz '{}'
