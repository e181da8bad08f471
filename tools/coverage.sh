#!/usr/bin/env bash
# Prints the branch coverage of the tests, the processes that they start included.
set -euo pipefail
cd "$(dirname "$0")/.."

read -r python < <(tools/pythons.sh)
venv=$(tools/venv.sh "$python" dev)
rm -f .coverage .coverage.*
"$venv/bin/python" -m coverage run -m pytest -q --timeout 300 -m "not containers and not hugin" "$@"
"$venv/bin/python" -m coverage combine --quiet
"$venv/bin/python" -m coverage report
