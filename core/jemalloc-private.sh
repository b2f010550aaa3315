#!/bin/sh
# SPDX-License-Identifier: MIT
# Makes one object file out of libjemalloc_pic.a in which every name is local
# but the three functions that core/arena.c calls, under names of our own. So
# neither the shared nor the static library defines malloc or anything else
# that another part of the program could bind to. Called by core/meson.build.
#
# Usage: jemalloc-private.sh LIBJEMALLOC_PIC_A OUTPUT_O
set -eu

archive=$1
output=$2
members=$output.members
parts=$output.parts

rm -rf "$members"
mkdir -p "$members"
trap 'rm -rf "$members" "$parts"' EXIT

# The C++ operators would bring in libstdc++, and nobody is to call them.
(cd "$members" && ar x "$archive" && rm -f jemalloc_cpp*.o)
ld -r -o "$parts" "$members"/*.o

objcopy \
	--redefine-sym mallocx=sn_je_mallocx \
	--redefine-sym dallocx=sn_je_dallocx \
	--redefine-sym mallctl=sn_je_mallctl \
	--keep-global-symbol sn_je_mallocx \
	--keep-global-symbol sn_je_dallocx \
	--keep-global-symbol sn_je_mallctl \
	--strip-debug "$parts" "$output"

# A jemalloc that was configured in another way must not slip through.
globals=$(nm --defined-only --extern-only "$output" | awk '{ print $3 }' | sort | tr '\n' ' ')
if [ "$globals" != "sn_je_dallocx sn_je_mallctl sn_je_mallocx " ]; then
	echo "$archive: unexpected global names after renaming: $globals" >&2
	rm -f "$output"
	exit 1
fi
