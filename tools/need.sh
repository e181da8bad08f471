#!/usr/bin/env bash
# Sees to it that commands, or files, are there: installs the Debian packages of those that are not when it may, else
# says what to install. Exit status: 69 one is missing.
#
# usage: tools/need.sh COMMAND=PACKAGE... PATH=PACKAGE...
set -euo pipefail

missing=()
for pair in "$@"; do
    command -v "${pair%%=*}" >/dev/null || [[ ${pair%%=*} == /* && -e ${pair%%=*} ]] || missing+=("${pair##*=}")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0
if [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -q && apt-get install -qy --no-install-recommends "${missing[@]}"; } >&2 && exit 0
fi
echo "missing: ${missing[*]}" >&2
echo "hint: as root: apt-get install ${missing[*]}" >&2
exit 69
