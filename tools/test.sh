#!/usr/bin/env bash
# Runs the tests on the built wheel, on every Python found. Three runs go side by side, since most tests wait for
# processes: what is shown first is shown as it runs, the others' output once they have ended.
#
#   the oldest   all tests
#   the newest   all but those of containers and of Hugin and the long ones, which do not depend on it; then those of
#                tests/cli with the Python client in place of the native one that the wheel has
#   the others   what runs in the interpreter itself: as on the newest, without tests/cli
#
# usage: tools/test.sh [PYTEST ARGUMENT...]
set -euo pipefail
cd "$(dirname "$0")/.."

tools/need.sh socat=socat
mapfile -t pythons < <(tools/pythons.sh)
oldest=${pythons[0]}
newest=${pythons[-1]}
short="not containers and not hugin and not long"
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

# Run the tests of tests/cli with the Python client.
python_client() {
    local group=test
    [[ $newest != "$oldest" ]] || group=dev
    SIDECALL_TEST_CLIENT=$PWD/$(tools/venv.sh "$newest" "$group")/bin/sidecall-python
    export SIDECALL_TEST_CLIENT
    echo "== with the Python client"
    run "$newest" "$group" "$short" tests/cli tests/client/test_call.py
}

others() { # one after the other
    local python code=0
    for python in "${pythons[@]:1}"; do
        if [[ $python == "$newest" ]]; then
            run "$python" test "$short" "$@" || code=1
        else
            run "$python" test "$short" --ignore=tests/cli "$@" || code=1
        fi
    done
    [[ $# -gt 0 ]] || (python_client) || code=1
    return "$code"
}

status=0
others "$@" >"$logs/other-pythons.txt" 2>&1 &
tools/venv.sh "$oldest" dev >/dev/null # two runs use it: make it once
run "$oldest" dev "containers or hugin" "$@" >"$logs/containers.txt" 2>&1 &
run "$oldest" dev "not containers and not hugin" "$@" || status=1
for job in $(jobs -p); do wait "$job" || status=1; done
cat "$logs"/*.txt
exit "$status"
