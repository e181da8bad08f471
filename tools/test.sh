#!/usr/bin/env bash
# Runs the tests on the built wheel, on every Python found: three runs at once, since most tests wait for processes. The
# output of each is printed once it has ended.
#
#   the oldest   all tests, in three runs
#   the newest   tests/cli with the Python client in place of the native one that the wheel has; what the others run
#   the others   what runs in the interpreter itself: all but tests/cli, those of containers and of Hugin, and the long ones
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
rm -rf "$logs"
mkdir -p "$logs"

# Run the tests on one Python; print the output, and note a failure.
# usage: run NAME PYTHON GROUP MARKERS [PYTEST ARGUMENT...]
run() {
    local name=$1 python=$2 group=$3 markers=$4 venv code=0
    shift 4
    {
        echo "== $name: $("$python" -V), tests marked: $markers"
        venv=$PWD/$(tools/venv.sh "$python" "$group") || code=1
        if [[ $name == python-client ]]; then export SIDECALL_TEST_CLIENT=$venv/bin/sidecall-python; fi
        [[ $code -ne 0 ]] || "$venv/bin/python" -m pytest -m "$markers" "$@" || code=$?
    } >"$logs/$name.txt" 2>&1 </dev/null
    [[ $code -eq 0 || $code -eq 5 ]] || touch "$logs/$name.failed" # 5: no test was asked for
    flock "$logs" cat "$logs/$name.txt"
}

started=0
start() { # start a run once there are less than three; see run
    [[ $started -lt 3 ]] || wait -n || true
    started=$((started + 1))
    run "$@" &
}

tools/venv.sh "$oldest" dev >/dev/null # three runs use it: make it once
start long "$oldest" dev "long and not containers and not hugin" "$@"
start containers "$oldest" dev "containers or hugin" "$@"
start oldest "$oldest" dev "$short" "$@"
group=$([[ $newest == "$oldest" ]] && echo dev || echo test)
if [[ $# -eq 0 ]]; then start python-client "$newest" "$group" "$short" tests/cli tests/client/test_call.py; fi
for python in "${pythons[@]:1}"; do
    start "$(basename "$python")" "$python" test "$short" --ignore=tests/cli "$@"
done
wait
if compgen -G "$logs/*.failed" >&2; then exit 1; fi
