#!/usr/bin/env bash
# Lint, format, types, shell scripts. (The import direction is a test: tests/test_architecture.py.)
set -euo pipefail
cd "$(dirname "$0")/.."

read -r python < <(tools/pythons.sh)
venv=$(tools/venv.sh "$python" dev)
tools/need.sh shellcheck=shellcheck
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/mypy"
"$venv/bin/python" -m pytest -q tests/test_architecture.py
PYTHONPATH=src "$venv/bin/python" tools/tables.py --check
git ls-files '*.sh' .ci/run | xargs shellcheck
echo "checks passed"
