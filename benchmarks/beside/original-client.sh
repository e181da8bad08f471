#!/usr/bin/env bash
# The original's client script: see whether somebody listens, connect, run the app.  usage: original-client.sh SOCKET
ss -lx | grep -qF "$1" || exit 1
socat "UNIX-CONNECT:$1" "EXEC:$(dirname "$0")/original-app.sh"
