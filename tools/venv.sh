#!/usr/bin/env bash
# Makes the virtual environment of one Python under build/venvs/ and prints its path. It has a dependency group and the
# built wheel: the one that `pip install .` builds, with the native client, built once for all Pythons. The group `build`
# has the pinned build tools only. Done again only if the sources, the project file or the interpreter changed.
#
# usage: tools/venv.sh PYTHON GROUP
set -euo pipefail
cd "$(dirname "$0")/.."

python=$1 group=$2
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
venv=build/venvs/$group-$version

requirements() { # the packages of a dependency group, one a line; pip reads groups itself only since 25.1
    "$python" - "$group" <<'END_OF_PYTHON'
import sys, tomllib
groups = tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]
def show(name):
    for entry in groups[name]:
        print(entry) if isinstance(entry, str) else show(entry["include-group"])
show(sys.argv[1])
END_OF_PYTHON
}

built_wheel() { # print the path of the wheel; build it if the sources have changed
    local first tools stamp out=build/wheel
    mkdir -p "$out"
    read -r first < <(tools/pythons.sh)
    tools=$(tools/venv.sh "$first" build)
    exec 8>"$out/lock"
    flock 8
    stamp=$({
        cat pyproject.toml README.md
        find src bin native -type f ! -name '*.pyc' ! -name sidecall-supervisor -print0 | sort -z | xargs -0 cat
    } | sha256sum)
    if [[ ! -e $out/stamp || $(<"$out/stamp") != "$stamp" ]]; then
        echo "building the wheel; the first time zig compiles its C library, half a minute" >&2
        rm -f "$out"/*.whl
        SIDECALL_NATIVE=$(uname -m) "$tools/bin/python" -m build --quiet --no-isolation --wheel --outdir "$out" . >&2 8>&-
        echo "$stamp" >"$out/stamp"
    fi
    exec 8>&-
    echo "$out"/*.whl
}

mkdir -p build/venvs
exec 9>"$venv.lock" # two runs can want it at once
flock 9
[[ $group == build ]] && wheel='' || wheel=$(built_wheel)
stamp=$({ "$python" -VV; cat pyproject.toml; [[ -z $wheel ]] || cat "$wheel"; } | sha256sum)
if [[ ! -e $venv/stamp || $(<"$venv/stamp") != "$stamp" ]]; then
    {
        echo "installing the packages of group '$group' with pip into $venv"
        [[ -x $venv/bin/python ]] || "$python" -m venv "$venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r <(requirements)
        [[ -z $wheel ]] ||
            "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall "$wheel"
        echo "$stamp" >"$venv/stamp"
    } >&2 9>&-
fi
echo "$venv"
