#!/bin/sh
# hugin.sh PTO INPUT OUTPUT: have the hugin container remap INPUT by the project PTO; runs on the builder.
#
# Ends as Hugin ended, with Hugin's own words on stderr; if the shell of the rule is killed, Hugin goes with it. Relative
# paths are relative to the directory it is called in; the images have to be on a volume that both containers mount, each
# where it likes.
[ $# -eq 3 ] || {
    echo "usage: hugin.sh PTO INPUT OUTPUT" >&2
    exit 64
}
exec sidecall exec --quiet --no-stdin --die-with-parent "${HUGIN_SERVICE:-hugin}" stitch --pto "$1" --image "$2" --output "$3"
