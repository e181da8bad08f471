#!/usr/bin/env bash
# Runs a script with the first suitable Python found, in an environment that has the built wheel and the test tools.
#
# usage: tools/python.sh SCRIPT [ARG...]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
read -r python < <("$root/tools/pythons.sh")
venv=$("$root/tools/venv.sh" "$python" dev)
exec "$root/$venv/bin/python" "$@"
