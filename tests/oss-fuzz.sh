#!/bin/bash
# SPDX-License-Identifier: MIT
# Runs fuzz/oss-fuzz/build.sh with the variables that OSS-Fuzz and ClusterFuzzLite
# set (libFuzzer, AddressSanitizer), then each target on its seeds for a moment.
# What differs: no -stdlib=libc++, because the engine of Debian's clang is not
# built with it.
#
# Usage: oss-fuzz.sh SOURCE SCRATCH
set -euo pipefail

source=$1 scratch=$2
rm -rf "$scratch"
mkdir -p "$scratch/src" "$scratch/work" "$scratch/out"
ln -s "$source" "$scratch/src/snest"

export SRC=$scratch/src WORK=$scratch/work OUT=$scratch/out
export CC=clang CXX=clang++ ARCHITECTURE=x86_64
export FUZZING_ENGINE=libfuzzer SANITIZER=address FUZZING_LANGUAGE=c
export LIB_FUZZING_ENGINE=-fsanitize=fuzzer
CFLAGS="-O1 -fno-omit-frame-pointer -gline-tables-only -Wno-error"
CFLAGS="$CFLAGS -DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION"
CFLAGS="$CFLAGS -fsanitize=address -fsanitize-address-use-after-scope -fsanitize=fuzzer-no-link"
export CFLAGS CXXFLAGS="$CFLAGS"

# run_one TARGET: the inputs, once each; then as a fuzzer, for a second. Where it
# will run, nothing but /tmp is writable, and the tree is not there.
run_one()
{
	inputs=$SCRATCH/run/$1 log=$SCRATCH/run/$1.log options=
	mkdir -p "$inputs"
	unzip -q -o "$OUT/$1_seed_corpus.zip" -d "$inputs"
	[ ! -e "$OUT/$1.dict" ] || options="-dict=$OUT/$1.dict"
	cd /
	if "$OUT/$1" -runs=0 -timeout=25 $options "$inputs" >"$log" 2>&1 &&
		"$OUT/$1" -max_total_time=1 -timeout=25 -artifact_prefix="$SCRATCH/" $options \
			"$inputs" >>"$log" 2>&1; then
		echo "$1: $(find "$inputs" -type f | wc -l) inputs, $(tail -n 1 "$log")"
	else
		tail -n 40 "$log"
		echo "$1: failed"
		return 1
	fi
}

export -f run_one
export SCRATCH=$scratch
"$source/fuzz/oss-fuzz/build.sh"
mkdir "$scratch/run"
targets=$(cd "$OUT" && ls | sed -n 's/_seed_corpus.zip$//p')
printf '%s\n' $targets | xargs -P "$(nproc)" -I{} bash -c 'run_one {}'
count=$(printf '%s\n' $targets | wc -l)
[ "$count" -ge 17 ]
echo "$count targets"
