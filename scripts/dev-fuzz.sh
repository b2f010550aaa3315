# SPDX-License-Identifier: MIT
# ./dev fuzz, ./dev coverage: fuzz targets, and what their inputs reach. Part of
# ./dev, which reads it.
# shellcheck shell=sh disable=SC2046,SC2086 # lists of words are meant to be split
# shellcheck disable=SC2154,SC2034 # variables that ./dev or another part sets, or reads

# LIB_FUZZING_ENGINE would take the place of libFuzzer, see fuzz/meson.build.
configure_fuzz()
{
	unset LIB_FUZZING_ENGINE
	with_clang configure fuzz -Dtests=enabled -Dfuzz=enabled -Djemalloc=disabled \
		-Db_lundef=false -Dbuildtype=debugoptimized -Doptimization=2 \
		-Db_sanitize=address,undefined -Dc_args=-fno-sanitize-recover=all &&
		ninja -C build/fuzz build.ninja # targets that are new in meson.build
}

build_fuzz()
{
	configure_fuzz && ninja -C build/fuzz $(fuzz_programs)
}

# The programs of one target, or of all.
fuzz_programs()
{
	ninja -C build/fuzz -t targets all |
		sed -n "s,^\(fuzz/\(fuzz\|seed\)_${fuzz_target:-[a-z0-9_]*}\): .*,\1,p"
}

# What a target asks of the engine: TARGET.options or those of all, which OSS-Fuzz
# reads too.
engine_options()
{
	options=fuzz/$1.options
	[ -e "$options" ] || options=fuzz/default.options
	sed -n 's/^\([a-z_]*\) *= */-\1=/p' "$options"
}

# What the tree has for a target beside its seeds: folders.
known_inputs()
{
	for folder in "fuzz/corpus/$1" "fuzz/regress/$1"; do
		[ ! -d "$folder" ] || echo "$folder"
	done
}

# fuzz_one TARGET SECONDS: on all cores; new inputs go to build/corpus/TARGET.
fuzz_one()
{
	kept=build/corpus/$1 log=build/logs/fuzz-$1.log finds=build/fuzz/finds
	mkdir -p "$kept" $finds build/logs
	build/fuzz/fuzz/seed_"$1" "$kept" || return 1
	known=$(known_inputs "$1")
	[ ! -e "fuzz/$1.dict" ] || known="$known -dict=fuzz/$1.dict"
	known="$known $(engine_options "$1")"
	echo "$1: $2 seconds on $(nproc) cores"
	: >"$finds/.began"
	build/fuzz/fuzz/fuzz_"$1" -fork="$(nproc)" -max_total_time="$2" -timeout=10 \
		-artifact_prefix="$finds/$1-" "$kept" $known 2>&1 |
		tee "$log" | grep -aE '^#|ERROR|SUMMARY|\.c:[0-9]+: |written to' || true
	# What counts is what lies there: slow inputs are no finds.
	found=$(find $finds -name "$1-*" ! -name '*-slow-unit-*' -newer $finds/.began)
	if [ "$found" ]; then
		echo "$1: finds, each with the command that shows it again:"
		for input in $found; do
			echo "  build/fuzz/fuzz/fuzz_$1 $input"
		done
		return 1
	fi
	# An engine that did not start has found nothing either.
	grep -aqE '^#[1-9]|^INFO: exiting: 0|^INFO: fuzzed for' "$log"
}

# speed_one TARGET SECONDS: executions per second of a core's time, from the seeds
# and the inputs in the tree. A figure, no verdict: machines differ.
speed_one()
{
	speed=build/fuzz/speed/$1 log=build/logs/speed-$1.log goal=10000
	case $1 in format_*) goal=50000 ;; esac
	rm -rf "$speed"
	mkdir -p "$speed" build/fuzz/finds build/logs
	build/fuzz/fuzz/seed_"$1" "$speed" || return 1
	for known in $(known_inputs "$1"); do
		cp "$known"/* "$speed"
	done
	spent=$(
		build/fuzz/fuzz/fuzz_"$1" -max_total_time="$2" -timeout=10 -print_final_stats=1 \
			$(engine_options "$1") -artifact_prefix=build/fuzz/finds/"$1"- "$speed" >"$log" 2>&1
		times
	)
	runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
	[ "$runs" ] || return 1
	echo "$spent" | awk -v name="$1" -v runs="$runs" -v goal="$goal" '
		{ split($1, own, "m"); split($2, kernel, "m") }
		END {
			printf "%-16s %7d executions a second (goal %d)\n", name,
				runs / (own[1] * 60 + own[2] + kernel[1] * 60 + kernel[2]), goal
		}'
}

# The targets that were built, of those asked for.
fuzz_targets()
{
	fuzz_programs | sed -n 's,^fuzz/fuzz_,,p'
}

# Keeps the smallest set of inputs that reaches what all of them reach.
minimise_one()
{
	mkdir -p build/fuzz/small build/corpus/"$1" fuzz/corpus/"$1"
	rm -rf build/fuzz/small/"$1"
	mkdir build/fuzz/small/"$1"
	options=$(engine_options "$1") cut=-max_len=4096
	case $options in *-max_len=*) cut= ;; esac
	build/fuzz/fuzz/fuzz_"$1" -merge=1 -timeout=10 $cut $options \
		build/fuzz/small/"$1" fuzz/corpus/"$1" build/corpus/"$1" \
		>"build/logs/minimise-$1.log" 2>&1 || return 1
	size=$(du -s --apparent-size -k build/fuzz/small/"$1" | cut -f1)
	if [ "$size" -gt "${corpus_max:-512}" ]; then
		echo "$1: $size KiB would be more than ${corpus_max:-512} KiB; fuzz/corpus/$1 stays"
		return 1
	fi
	rm -rf fuzz/corpus/"$1"
	mv build/fuzz/small/"$1" fuzz/corpus/"$1"
	echo "$1: $(find fuzz/corpus/"$1" -type f | wc -l) inputs, $size KiB"
}

# run_fuzz [--minimise | --speed] [TARGET] [SECONDS]
run_fuzz()
{
	fuzz_target='' seconds='' action=fuzz_one
	for word; do
		case $word in
		--minimise) action=minimise_one ;;
		--speed) action=speed_one ;;
		-*)
			echo "fuzz: $word: no such option; ./dev help lists them"
			exit 2
			;;
		*[!0-9]*) fuzz_target=$word ;;
		*) seconds=$word ;;
		esac
	done
	usual=60
	[ $action != speed_one ] || usual=10
	need $build_packages $sanitizer_packages $test_packages
	step "fuzz configure" configure_fuzz || exit 1
	echo
	if [ ! "$(fuzz_targets)" ]; then
		echo "$fuzz_target: no such target. The targets are:"
		fuzz_target=
		fuzz_targets
		exit 2
	fi
	step "fuzz build" build_fuzz || exit 1
	echo
	for target in $(fuzz_targets); do
		if $action "$target" "${seconds:-$usual}"; then
			passed=$((passed + 1))
		else
			failed=$((failed + 1))
		fi
	done
	summary
}

build_coverage()
{
	with_clang configure coverage -Dtests=enabled -Djemalloc=disabled -Db_lundef=false \
		-Dbuildtype=debug -Dc_args='-fprofile-instr-generate -fcoverage-mapping' \
		-Dc_link_args=-fprofile-instr-generate &&
		ninja -C build/coverage build.ninja &&
		ninja -C build/coverage $(coverage_programs)
}

coverage_programs()
{
	ninja -C build/coverage -t targets all |
		sed -n 's,^\(fuzz/\(replay\|seed\)_[a-z0-9_]*\): .*,\1,p'
}

# Replays, with counters, the seeds and what is in the tree; `kept`: and what
# fuzzing on this machine has kept.
replay_coverage()
{
	rm -f build/coverage/*.profraw
	for program in $(coverage_programs | grep replay_); do
		name=${program#fuzz/replay_} seeds=build/coverage/seeds/${program#fuzz/replay_}
		mkdir -p "$seeds"
		LLVM_PROFILE_FILE=/dev/null "build/coverage/fuzz/seed_$name" "$seeds" || return 1
		inputs="$seeds $(known_inputs "$name")"
		[ ! "$kept" ] || [ ! -d "build/corpus/$name" ] || inputs="$inputs build/corpus/$name"
		LLVM_PROFILE_FILE="build/coverage/$name.profraw" \
			"build/coverage/$program" $inputs || return 1
	done
	llvm-profdata merge -sparse -o build/coverage/all.profdata build/coverage/*.profraw
}

# llvm_cov COMMAND OPTION...: over all replayers and the library's own sources.
llvm_cov()
{
	objects=
	for program in $(coverage_programs | grep replay_); do
		objects="$objects -object build/coverage/$program"
	done
	action=$1
	shift
	llvm-cov "$action" $objects -instr-profile=build/coverage/all.profdata \
		-ignore-filename-regex='(tests|fuzz)/|fmt_mock' "$@"
}

# A line for each file and each folder: lines, lines missed, per cent.
coverage_table()
{
	llvm_cov export -summary-only | /usr/bin/python3 tests/coverage.py "$PWD"
}

# coverage [--kept]
coverage()
{
	kept=
	case ${1-} in
	--kept) kept=1 ;;
	'') ;;
	*)
		echo "coverage: $1: no such option; ./dev help lists them"
		exit 2
		;;
	esac
	need $build_packages $sanitizer_packages $test_packages python3
	step "coverage build" build_coverage || exit 1
	echo
	step "coverage replay" replay_coverage || exit 1
	echo
	llvm_cov show -format=html -output-dir=build/coverage/html >/dev/null
	coverage_table >build/coverage/report.txt
	cat build/coverage/report.txt
	echo "build/coverage/html/index.html, of the seeds and the inputs in fuzz/${kept:+ and build/corpus}"
}

# As the build images of OSS-Fuzz and ClusterFuzzLite do it.
test_ossfuzz()
{
	check "oss-fuzz" tests/oss-fuzz.sh "$PWD" "$PWD/build/oss-fuzz"
}
