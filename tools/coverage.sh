#!/usr/bin/env bash
# Measures what the tests reach, the processes that they start included: branches of the Python code, with the floor that
# pyproject.toml sets, and lines of the native client and supervisor. Whether the tests pass is the matter of `make test`.
#
# usage: tools/coverage.sh [PYTEST ARGUMENT...]
set -euo pipefail
cd "$(dirname "$0")/.."

tools/need.sh gcc=gcc gcov=gcc socat=socat
read -r python < <(tools/pythons.sh)
venv=$PWD/$(tools/venv.sh "$python" dev)
out=$PWD/build/coverage
rm -rf "$out" .coverage .coverage.*
export GCOV_ERROR_FILE=/dev/null # as another user a client cannot save its counts

build() { # build PROGRAM: native/PROGRAM with counters
    local program=$1 source
    mkdir -p "$out/$program"
    gcc -std=c11 -O0 -c native/coverage.c -o "$out/coverage.o"
    for source in "native/$program"/*.c; do
        gcc -std=c11 -O0 --coverage -I native -c "$source" -o "$out/$program/$(basename "$source" .c).o"
    done
    gcc --coverage -Wl,--wrap={_exit,kill,execv,execve} "$out/$program"/*.o "$out/coverage.o" -o "$out/sidecall-$program"
}

report() { # report PROGRAM: how many lines of each file were executed
    (cd "$out/$1" && gcov -n ./*.gcda) | awk -v program="$1" '
        /^File/ { file = $2; gsub("\047|.*/", "", file) }
        /^Lines executed/ && file != "" {
            split($2, part, "[:%]"); lines = $4; reached += part[2] * lines / 100; all += lines
            printf "native/%s/%-20s %5d lines %7.1f%%\n", program, file, lines, part[2]; file = ""
        }
        END { printf "native/%s/%-20s %5d lines %7.1f%%\n\n", program, "*", all, 100 * reached / all }'
}

build client
build supervisor
export SIDECALL_SUPERVISOR=$out/sidecall-supervisor

SIDECALL_TEST_CLIENT=$out/sidecall-client "$venv/bin/python" -m pytest -q --timeout 300 -m "not long" tests/cli || true
SIDECALL_TEST_CLIENT=$venv/bin/sidecall-python "$venv/bin/python" -m coverage run -m pytest -q --timeout 300 \
    -m "not containers and not hugin and not long" "$@" || true
report client
report supervisor
"$venv/bin/python" -m coverage combine --quiet
"$venv/bin/python" -m coverage report
