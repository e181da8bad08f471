#!/bin/sh
# convert.sh INPUT OUTPUT OPERATION...: one ImageMagick step in the builder; OUTPUT, a PNG, is whole or not there.
#
# Neither metadata nor dates are stored: the same input gives the same bytes. Says on stdout where it ran.
set -u
input=$1 output=$2
shift 2
part=$(dirname -- "$output")/.$(basename -- "$output").$$
trap 'rm -f -- "$part"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# -regard-warnings: a damaged input is an error, not a grey area.
convert -regard-warnings "$input" "$@" -strip -define png:exclude-chunks=date,time "PNG24:$part" || exit
mv -f -- "$part" "$output" || exit
printf 'builder on %s\n' "$(uname -n)"
