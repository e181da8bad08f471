#!/usr/bin/env bash
# Runs the tests on the built wheel: everything on the first Python found, and all but the container and Hugin tests,
# which do not depend on it, on every other one.
#
# usage: tools/test.sh [PYTEST ARGUMENT...]
set -euo pipefail
cd "$(dirname "$0")/.."

tools/need.sh socat socat
mapfile -t pythons < <(tools/pythons.sh)
status=0
for python in "${pythons[@]}"; do
    group=test-all only=()
    if [[ $python != "${pythons[0]}" ]]; then
        group=test only=(-m "not containers and not hugin")
    fi
    venv=$PWD/$(tools/venv.sh "$python" "$group")
    echo "== $("$python" -V)"
    "$venv/bin/python" -m pytest "${only[@]}" "$@" || { code=$?; [[ $code -eq 5 ]] || status=$code; }
done
exit "$status"
