#!/usr/bin/env bash
# Ensures that commands, or files, exist: prints and installs the missing Debian packages as root, else prints what to
# install. A daemon among them is not started. Exit code: 69 if one is missing.
#
# usage: tools/need.sh COMMAND=PACKAGE... PATH=PACKAGE...
set -euo pipefail

missing=()
for pair in "$@"; do
    command -v "${pair%%=*}" >/dev/null || [[ ${pair%%=*} == /* && -e ${pair%%=*} ]] || missing+=("${pair##*=}")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0
if [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null; then
    echo "installing Debian packages with apt-get: ${missing[*]}" >&2
    export DEBIAN_FRONTEND=noninteractive
    denial=/usr/sbin/policy-rc.d # what keeps a newly installed daemon from being started: invoke-rc.d(8)
    if [[ ! -e $denial ]]; then
        trap 'rm -f "$denial"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$denial"
        chmod 755 "$denial"
    fi
    { apt-get update -qq && apt-get install -o DPkg::Lock::Timeout=300 -qqy --no-install-recommends "${missing[@]}"; } >&2 && exit 0
fi
echo "missing: ${missing[*]}" >&2
echo "hint: as root: apt-get install ${missing[*]}" >&2
exit 69
