#!/bin/bash -eu
# SPDX-License-Identifier: MIT
#
# Builds the targets as OSS-Fuzz and ClusterFuzzLite ask for them. Both set
#   SRC, WORK, OUT          sources, scratch, results
#   CC, CXX, CFLAGS, CXXFLAGS, LIB_FUZZING_ENGINE, FUZZING_ENGINE, SANITIZER, ARCHITECTURE
# and run this in $SRC/snest. What lies in $OUT afterwards runs on a machine that
# has none of the packages of this one: so libraries are linked statically, and
# what is left to the C library is checked below.
#
# For each target: TARGET, TARGET_seed_corpus.zip, TARGET.options, and where it has
# one TARGET.dict.

cd "$SRC/snest"
build=$WORK/snest
rm -rf "$build"

# Instrumentation and sanitizers are those of CFLAGS. Warnings of a compiler that
# is newer than those of the project are no reason to stop.
meson setup "$build" -Dtests=enabled -Dfuzz=enabled -Djemalloc=disabled -Dusdt=disabled \
	-Dexamples=false -Dprefer_static=true -Ddefault_library=static -Db_lundef=false \
	-Db_ndebug=false -Dwerror=false
programs=$(ninja -C "$build" -t targets all |
	sed -n 's,^\(fuzz/\(fuzz\|seed\)_[a-z0-9_]*\): .*,\1,p')
ninja -C "$build" $programs

for program in $(printf '%s\n' $programs | grep '^fuzz/fuzz_'); do
	name=${program#fuzz/fuzz_}
	cp "$build/$program" "$OUT/$name"
	if ldd "$OUT/$name" | grep -qE 'urcu|cmocka|libz\.'; then
		echo "$name needs a library that the runner lacks" >&2
		exit 1
	fi

	# The seeds, and the inputs in the tree.
	seeds=$build/seeds/$name
	mkdir -p "$seeds"
	"$build/fuzz/seed_$name" "$seeds"
	for folder in corpus regress; do
		[ ! -d "fuzz/$folder/$name" ] || cp "fuzz/$folder/$name"/* "$seeds"
	done
	rm -f "$OUT/${name}_seed_corpus.zip"
	(cd "$seeds" && zip -q -r "$OUT/${name}_seed_corpus.zip" .)
	[ ! -e "fuzz/$name.dict" ] || cp "fuzz/$name.dict" "$OUT/"
	options=fuzz/$name.options
	[ -e "$options" ] || options=fuzz/default.options
	cp "$options" "$OUT/$name.options"
done
