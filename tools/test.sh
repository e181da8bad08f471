#!/usr/bin/env bash
# Runs the tests on the built wheel: everything on the first Python found, and all but the container and Hugin tests,
# which do not depend on it, and the long ones, on every other one.
#
# usage: tools/test.sh [PYTEST ARGUMENT...]
set -euo pipefail
cd "$(dirname "$0")/.."

tools/need.sh socat socat
mapfile -t pythons < <(tools/pythons.sh)
mkdir -p build
log=$PWD/build/other-pythons.txt

# Run the tests on one Python.  usage: run PYTHON GROUP [PYTEST ARGUMENT...]
run() {
    local python=$1 group=$2 venv code=0
    shift 2
    venv=$PWD/$(tools/venv.sh "$python" "$group") || return 1
    echo "== $("$python" -V)"
    "$venv/bin/python" -m pytest "$@" || code=$?
    [[ $code -eq 0 || $code -eq 5 ]] # 5: no test was asked for
}

others() { # one after the other, beside the first one, which waits a lot
    local python code=0
    for python in "${pythons[@]:1}"; do
        run "$python" test -m "not containers and not hugin and not long" "$@" || code=1
    done
    return "$code"
}

status=0
others "$@" >"$log" 2>&1 &
run "${pythons[0]}" test-all "$@" || status=1
wait "$!" || status=1
cat "$log"
exit "$status"
