#!/bin/sh
# SPDX-License-Identifier: MIT
# probes.sh LIBRARY TRACING.MD: the probes in the library's notes are exactly
# those in the document's table, with as many arguments. Prints what differs.
set -eu
export LC_ALL=C

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# Lines of "name arguments"; a probe that is in several places counts once.
sed -n 's/^| `\([a-z_]*\)` | \([^|]*\) |.*/\1 \2/p' "$2" |
	awk '{ print $1, NF - 1 }' | sort -u >"$tmp/documented"
readelf -n "$1" | awk '
	$1 == "Provider:" { ours = $2 == "snest" }
	$1 == "Name:" { name = $2 }
	$1 == "Arguments:" && ours { print name, NF - 1 }' | sort -u >"$tmp/present"

[ -s "$tmp/documented" ] || { echo "no table of probes in $2"; exit 1; }
comm -23 "$tmp/documented" "$tmp/present" | sed 's/^/documented, not there: /' >"$tmp/diff"
comm -13 "$tmp/documented" "$tmp/present" | sed 's/^/there, not documented: /' >>"$tmp/diff"
cat "$tmp/diff"
[ ! -s "$tmp/diff" ]
