#!/usr/bin/env bash
# Sees to it that a command is there: installs its Debian package when it may, else says what to install.
#
# usage: tools/need.sh COMMAND PACKAGE
set -euo pipefail

command -v "$1" >/dev/null && exit 0
if [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null; then
    { apt-get update -q && apt-get install -qy --no-install-recommends "$2"; } >&2 && exit 0
fi
echo "the command $1 is missing" >&2
echo "hint: install the package $2" >&2
exit 69
