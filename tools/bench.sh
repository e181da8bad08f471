#!/usr/bin/env bash
# Measures sidecall beside what people use today, and writes docs/benchmarks.md and its chart. Installs what it compares
# with, if it may; what is not there is left out, and the page says so.
#
# usage: tools/bench.sh [ROUNDS]     with ROUNDS a short try-out, written to build/bench/
#   SIDECALL_BENCH_SERVER   another server program to be measured beside the Python one
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/sbin # where Debian has sshd

tools/need.sh s6-sudo=s6 socat=socat ss=iproute2 ssh=openssh-client sshd=openssh-server || true

read -r python < <(tools/pythons.sh)
dev=$PWD/$(tools/venv.sh "$python" dev)/bin/python
clean=$PWD/build/bench/venv # nothing but the wheel: what a start of Python finds there is part of every call
rm -rf "$clean"
"$python" -m venv --without-pip "$clean"
"$dev" -m pip --disable-pip-version-check --python "$clean/bin/python" install --quiet --no-index --no-deps build/wheel/*.whl
native/build.sh >&2

exec "$dev" benchmarks/bench.py "$clean" "$@"
