#!/usr/bin/env bash
# Builds what is released into dist/: the source, the pure wheel, a wheel with the native client for each machine, and the
# standalone executable of this machine. All but that are built from the source archive, as anybody can.
set -euo pipefail
cd "$(dirname "$0")/.."

read -r python < <(tools/pythons.sh)
python=$PWD/$(tools/venv.sh "$python" dev)/bin/python
source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT

rm -rf dist
"$python" -m build --quiet --sdist --outdir dist .
tar -xzf dist/*.tar.gz -C "$source" --strip-components 1
for machine in '' x86_64 aarch64; do
    SIDECALL_NATIVE=$machine "$python" -m build --quiet --wheel --outdir dist "$source"
done
standalone=$(native/standalone/build.sh)
version=$("$standalone" --version)
cp "$standalone" "dist/sidecall-${version#* }-linux-$(uname -m)"
cp "$standalone.LICENSE" "dist/sidecall-${version#* }-linux-$(uname -m).LICENSE"
ls -l dist
