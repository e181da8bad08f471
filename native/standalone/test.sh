#!/usr/bin/env bash
# Tests the standalone executable: it has to pass the end-to-end tests of the Python command, as server and as caller,
# like any other Python.
#
# usage: native/standalone/test.sh [PYTEST ARGUMENT...]
set -euo pipefail
cd "$(dirname "$0")/../.."

SIDECALL_TEST_COMMAND=$(native/standalone/build.sh)
export SIDECALL_TEST_COMMAND
exec tools/python.sh -m pytest -q -m "not long" tests/cli tests/client tests/server/test_lifecycle.py "$@"
