#!/usr/bin/env bash
# Builds the native programs as static binaries in build/native, as the wheels have them: sidecall-PROGRAM-MACHINE.
#
# usage: native/build.sh [MACHINE...]
#   MACHINE   one of those in native/build.py; by default this one
set -euo pipefail
cd "$(dirname "$0")/.."

read -r python < <(tools/pythons.sh)
python=$(tools/venv.sh "$python" build)/bin/python
for machine in "${@:-$(uname -m)}"; do "$python" native/build.py build/native "$machine"; done
