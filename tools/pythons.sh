#!/usr/bin/env bash
# Prints one working interpreter for each CPython version from 3.11 on found on this machine: on PATH, or kept by pyenv.
# A PATH shim that does not run is skipped.
set -euo pipefail

candidates() {
    local minor
    for minor in 11 12 13 14; do
        type -ap "python3.$minor" || true
        compgen -G "${PYENV_ROOT:-$HOME/.pyenv}/versions/3.$minor.*/bin/python3.$minor" || true
    done
    type -ap python3 || true
}

declare -A seen=()
while read -r python; do
    version=$("$python" -c 'import sys, venv, ensurepip; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    [[ ${version#3.} -ge 11 && -z ${seen[$version]:-} ]] || continue
    seen[$version]=$python
    echo "$python"
done < <(candidates)

if [[ ${#seen[@]} -eq 0 ]]; then
    echo "no Python from 3.11 on with venv was found; install python3 and python3-venv" >&2
    exit 69
fi
