#!/usr/bin/env bash
# Runs CPython's own tests of subprocess on each CPython found here that has them, with the installed command in between.
set -euo pipefail
cd "$(dirname "$0")/.."

read -r first < <(tools/pythons.sh)
sidecall=$PWD/$(tools/venv.sh "$first" dev)/bin/sidecall
status=0
for python in $(tools/pythons.sh); do
    "$python" -c 'import test.test_subprocess, test.test_asyncio' 2>/dev/null || continue
    echo "== $("$python" -V)"
    "$python" tests/compat/cpython.py "$sidecall" || status=1
    "$python" tests/compat/cpython.py "$sidecall" --library || status=1
done
exit "$status"
