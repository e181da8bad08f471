#!/usr/bin/env bash
# The original's server app: do the work at START, answer SUCCESS or FAIL.
IFS= read -r word
if [ "$word" = START ] && true; then echo "SUCCESS: done"; else echo "FAIL: $word"; fi
