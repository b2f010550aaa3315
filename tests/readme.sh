#!/bin/sh
# SPDX-License-Identifier: MIT
# readme.sh README EXAMPLE: the first C block of the README equals the example.
set -eu

shown=$(mktemp)
trap 'rm -f "$shown"' EXIT

awk '/^```c$/ { inside = 1; next } /^```$/ && inside { exit } inside' "$1" >"$shown"
diff -u "$2" "$shown"
