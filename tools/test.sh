#!/usr/bin/env bash
# Runs the tests on the built wheel. On the first Python found: all; on every other one: all but those of containers
# and of Hugin, which do not depend on it, and the long ones. Three runs go side by side, since most tests wait for
# processes: what is shown first is shown as it runs, the others' output once they have ended.
#
# usage: tools/test.sh [PYTEST ARGUMENT...]
set -euo pipefail
cd "$(dirname "$0")/.."

tools/need.sh socat=socat
mapfile -t pythons < <(tools/pythons.sh)
first=${pythons[0]}
logs=$PWD/build/test-logs
mkdir -p "$logs"

# Run the tests on one Python.  usage: run PYTHON GROUP MARKERS [PYTEST ARGUMENT...]
run() {
    local python=$1 group=$2 markers=$3 venv code=0
    shift 3
    venv=$PWD/$(tools/venv.sh "$python" "$group") || return 1
    echo "== $("$python" -V), tests marked: $markers"
    "$venv/bin/python" -m pytest -m "$markers" "$@" || code=$?
    [[ $code -eq 0 || $code -eq 5 ]] # 5: no test was asked for
}

others() { # one after the other
    local python code=0
    for python in "${pythons[@]:1}"; do
        run "$python" test "not containers and not hugin and not long" "$@" || code=1
    done
    return "$code"
}

status=0
others "$@" >"$logs/other-pythons.txt" 2>&1 &
tools/venv.sh "$first" dev >/dev/null # two runs use it: make it once
run "$first" dev "containers or hugin" "$@" >"$logs/containers.txt" 2>&1 &
run "$first" dev "not containers and not hugin" "$@" || status=1
for job in $(jobs -p); do wait "$job" || status=1; done
cat "$logs"/*.txt
exit "$status"
