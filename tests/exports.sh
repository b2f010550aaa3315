#!/bin/sh
# SPDX-License-Identifier: MIT
# exports.sh LIBRARY HEADER...: the shared library exports exactly the functions
# that the headers declare with SNEST_API. Prints what differs.
set -eu
export LC_ALL=C

library=$1
shift
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# A declaration may put its name on the next line: join lines, cut at each ';'.
cat "$@" | tr '\n\t' '  ' | tr ';' '\n' |
	sed -n 's/.*SNEST_API [^(]*\(snest_[a-z0-9_]*\)(.*/\1/p' | sort -u >"$tmp/declared"
nm -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
	sort -u >"$tmp/exported"

[ -s "$tmp/declared" ] || { echo "no SNEST_API declaration found in: $*"; exit 1; }
comm -23 "$tmp/declared" "$tmp/exported" | sed 's/^/declared, not exported: /' >"$tmp/diff"
comm -13 "$tmp/declared" "$tmp/exported" | sed 's/^/exported, not declared: /' >>"$tmp/diff"
cat "$tmp/diff"
[ ! -s "$tmp/diff" ]
