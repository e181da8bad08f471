#!/usr/bin/env bash
# Tests the native client and the native supervisor, built with gcc's sanitizers. The client's parser is fuzzed, and the
# client has to pass the end-to-end tests and to agree with the Python client call by call. (The client as it is shipped
# is the one of the wheel, which tools/test.sh tests.) Needs gcc, and a Python that has sidecall and the test tools.
#
# usage: native/test.sh [PYTHON [PYTEST ARGUMENT...]]
#   PYTHON        the interpreter of an environment with sidecall and pytest; tools/venv.sh makes one by default
#   FUZZ_ROUNDS   answers to fuzz with (environment); 200000 by default
set -euo pipefail
cd "$(dirname "$0")/.."

tools/need.sh gcc=gcc
out=$PWD/build/native
mkdir -p "$out"
flags=(-std=c11 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror)
sanitizers=(-O1 -g '-fsanitize=address,undefined' -fno-sanitize-recover=all -fno-omit-frame-pointer)

shopt -s extglob
gcc "${flags[@]}" "${sanitizers[@]}" -I native native/client/*.c -o "$out/sidecall-sanitized"
gcc "${flags[@]}" "${sanitizers[@]}" -I native native/supervisor/*.c -o "$out/supervisor-sanitized"
gcc "${flags[@]}" "${sanitizers[@]}" -I native native/fuzz_reply.c native/client/!(main|exec|connect|ping|handover).c -o "$out/fuzz_reply"
"$out/fuzz_reply" "${FUZZ_ROUNDS:-200000}" "$RANDOM"

if [[ $# -gt 0 ]]; then
    python=$1
    shift
else
    read -r python < <(tools/pythons.sh)
    python=$(tools/venv.sh "$python" dev)/bin/python
fi
unset PYTHONPATH
SIDECALL_TEST_CLIENT=$out/sidecall-sanitized "$python" -m pytest -q tests/cli/test_exec.py \
    tests/cli/test_connect.py tests/cli/test_policy.py tests/cli/test_clients.py tests/cli/test_relay.py \
    tests/cli/test_terminal.py tests/cli/test_detached.py "$@"
SIDECALL_SUPERVISOR=$out/supervisor-sanitized "$python" -m pytest -q \
    tests/supervise tests/server/test_lifecycle.py tests/server/test_session.py "$@"
