#!/usr/bin/env bash
# Runs the tests on the built wheel: everything on the first Python found, and all but the container and Hugin tests,
# which do not depend on it, and the long ones, on every other one.
#
# usage: tools/test.sh [PYTEST ARGUMENT...]
set -euo pipefail
cd "$(dirname "$0")/.."

tools/need.sh socat socat
mapfile -t pythons < <(tools/pythons.sh)
log=$PWD/build/test-logs
mkdir -p "$log"

# Run the tests on one Python.  usage: run PYTHON GROUP [PYTEST ARGUMENT...]
run() {
    local python=$1 group=$2 venv code=0
    shift 2
    venv=$PWD/$(tools/venv.sh "$python" "$group") || return 1
    echo "== $("$python" -V)"
    "$venv/bin/python" -m pytest "$@" || code=$?
    [[ $code -eq 0 || $code -eq 5 ]] # 5: no test was asked for
}

status=0
run "${pythons[0]}" test-all "$@" || status=1
others=()
for python in "${pythons[@]:1}"; do
    file=$log/$(basename "$python").txt
    run "$python" test -m "not containers and not hugin and not long" "$@" >"$file" 2>&1 &
    others+=("$!:$file")
done
for other in "${others[@]}"; do
    wait "${other%%:*}" || status=1
    cat "${other#*:}"
done
exit "$status"
