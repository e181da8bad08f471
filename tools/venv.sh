#!/usr/bin/env bash
# Makes the virtual environment of one Python under build/venvs/, with the built wheel and a dependency group in it,
# and prints its path. Done again only when the wheel, the project file or the interpreter changed.
#
# usage: tools/venv.sh PYTHON GROUP
set -euo pipefail
cd "$(dirname "$0")/.."

python=$1 group=$2
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
venv=build/venvs/$group-$version

requirements() { # the packages of a dependency group, one a line; pip reads groups itself only since 25.1
    "$python" - "$group" <<'END'
import sys, tomllib
groups = tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]
def show(name):
    for entry in groups[name]:
        print(entry) if isinstance(entry, str) else show(entry["include-group"])
show(sys.argv[1])
END
}

stamp=$({ "$python" -VV; cat pyproject.toml README.md; find src bin -type f ! -name '*.pyc' -exec cat {} +; } | sha256sum)
if [[ ! -e $venv/stamp || $(<"$venv/stamp") != "$stamp" ]]; then
    {
        [[ -x $venv/bin/python ]] || "$python" -m venv "$venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check build -r <(requirements)
        rm -rf "$venv/dist"
        "$venv/bin/python" -m build --quiet --wheel --outdir "$venv/dist" .
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall "$venv"/dist/*.whl
        echo "$stamp" >"$venv/stamp"
    } >&2
fi
echo "$venv"
