# shellcheck shell=sh
# What both demos share; sourced by demo.sh and demo-containers.sh, which set HERE, REPO and DEMO.

say() { printf '\n==> %s\n' "$*"; }

unavailable() { # a sentence about what is missing, and how to get it
    printf 'demo: %s\n' "$1" >&2
    exit 69
}

quietly() { # quietly COMMAND...: show what it printed only if it fails
    "$@" >"$DEMO/log" 2>&1 || {
        status=$?
        cat -- "$DEMO/log" >&2
        return "$status"
    }
}

# A `python3` may be too old, or a shim that does not lead to one.
find_python() {
    for python in python3 python3.13 python3.12 python3.11; do
        if "$python" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$python"
            return
        fi
    done
    return 1
}

make_venv() { # once; again when what it is made from changes
    wanted=$(cat -- "$HERE/requirements.txt" "$REPO/pyproject.toml" | cksum)
    if [ "$(cat "$DEMO/venv/made-from" 2>/dev/null)" != "$wanted" ]; then
        say "installing Snakemake and sidecall into $DEMO/venv"
        python=$(find_python) || unavailable "no Python 3.11 or later is found: install python3 and python3-venv"
        rm -rf "$DEMO/venv"
        "$python" -m venv "$DEMO/venv" || unavailable "$python cannot make a venv: install python3-venv"
        quietly "$DEMO/venv/bin/pip" install -r "$HERE/requirements.txt" -e "$REPO"
        printf '%s\n' "$wanted" >"$DEMO/venv/made-from"
    fi
    PATH=$DEMO/venv/bin:$PATH
    export PATH
}

render() { # render FOLDER COUNT
    say "rendering $2 frames of 6912x3456 pixels"
    rm -rf "$1/frames" "$1/truth"
    "$DEMO/venv/bin/python" "$HERE/frames.py" "$1" --count "$2"
}

show() { # show WORK FOLDER SHEET: the table, the figures and the contact sheet; fails if a bound is not met
    say "what ran where"
    "$DEMO/venv/bin/python" "$HERE/report.py" "$1"
    say "the pictures against the room's geometry"
    "$DEMO/venv/bin/python" "$HERE/check.py" "$1/final" "$2/truth"
    say "done"
    "$DEMO/venv/bin/python" "$HERE/contact_sheet.py" "$1" "$2/frames" "$3"
}
