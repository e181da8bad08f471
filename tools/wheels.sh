#!/usr/bin/env bash
# Builds what is released into dist/: the source archive, the pure wheel, a wheel with the native programs for each
# machine, and the standalone executable of this machine. The wheels are built from the source archive.
set -euo pipefail
cd "$(dirname "$0")/.."

read -r python < <(tools/pythons.sh)
python=$PWD/$(tools/venv.sh "$python" build)/bin/python
source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT

rm -rf dist
"$python" -m build --quiet --no-isolation --sdist --outdir dist .
tar -xzf dist/*.tar.gz -C "$source" --strip-components 1
for machine in none x86_64 aarch64 armv7l i686 ppc64le riscv64 s390x; do
    SIDECALL_NATIVE=$machine "$python" -m build --quiet --no-isolation --wheel --outdir dist "$source"
done
standalone=$(native/standalone/build.sh)
version=$("$standalone" --version)
cp "$standalone" "dist/sidecall-${version#* }-linux-$(uname -m)"
cp "$standalone.LICENSE" "dist/sidecall-${version#* }-linux-$(uname -m).LICENSE"
ls -l dist
