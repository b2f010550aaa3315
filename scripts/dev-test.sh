# SPDX-License-Identifier: MIT
# ./dev test, ./dev soak: the test programs in every configuration, and programs
# compiled against an installed copy. Part of ./dev, which reads it.
# shellcheck shell=sh disable=SC2046,SC2086 # lists of words are meant to be split
# shellcheck disable=SC2154,SC2034 # variables that ./dev or another part sets, or reads

# ---- Configurations ----------------------------------------------------------

sanitizers='-Djemalloc=disabled -Db_lundef=false -Dbuildtype=debugoptimized -Doptimization=1'

configure_for()
{
	case $1 in
	release) configure release -Dtests=enabled ;;
	nojemalloc) configure nojemalloc -Dtests=enabled -Djemalloc=disabled ;;
	memb | qsbr) configure "$1" -Dtests=enabled -Drcu="$1" ;;
	asan) with_clang configure asan -Dtests=enabled $sanitizers \
		-Db_sanitize=address,undefined -Dc_args=-fno-sanitize-recover=all ;;
	tsan) with_clang configure tsan -Dtests=enabled $sanitizers -Db_sanitize=thread ;;
	esac
}

build_config()
{
	configure_for "$1" && ninja -C "build/$1" all meson-test-prereq
}

# Clang 14's ThreadSanitizer needs the address space that Linux laid out before
# it randomised more bits; where randomisation can be turned off, it is.
test_tsan()
{
	quiet_aslr=
	setarch -R true 2>/dev/null && quiet_aslr='setarch -R'
	$quiet_aslr meson test -C build/tsan --no-rebuild --print-errorlogs \
		--timeout-multiplier 4 --suite threads
}

test_tree()
{
	meson test -C "build/$1" --no-rebuild --print-errorlogs --timeout-multiplier 2
}

# test_config NAME: builds and tests one configuration, adds its tests to the sums.
test_config()
{
	if ! step "$1 build" build_config "$1"; then
		failed=$((failed + 1))
		return
	fi
	echo
	rm -f "build/$1/meson-logs/testlog.txt"
	runner="test_tree $1" ended=0
	[ "$1" != tsan ] || runner=test_tsan
	tail=100 step "$1 test" $runner || ended=1
	counts=$(awk -f tests/count.awk "build/$1/meson-logs/testlog.txt" 2>/dev/null) ||
		counts='0 0 0'
	set -- $counts
	# A run that failed without naming a test is one failure.
	[ $ended = 0 ] || [ "$2" -gt 0 ] || set -- "$1" 1 "$3"
	[ $ended = 1 ] || printf '  %d passed%s\n' "$1" "$([ "$3" = 0 ] || echo ", $3 skipped")"
	passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

# ---- An installed copy --------------------------------------------------------

install_copy()
{
	build_config release && rm -rf build/install &&
		meson install -C build/release --no-rebuild --quiet --destdir "$PWD/build/install"
}

# installed COMPILER KIND SOURCE: compiles as an embedder would, and runs. In a
# shell of its own: what pkg-config is told here is not for other builds.
installed()
(
	pc=$(find "$PWD/build/install" -name snest.pc)
	export PKG_CONFIG_SYSROOT_DIR="$PWD/build/install" PKG_CONFIG_PATH="${pc%/*}"
	program=build/install/$(basename "$3")-$2
	case $2 in
	static) $1 -o "$program" "$3" -static $(pkg-config --static --cflags --libs snest) ;;
	inline) $1 -o "$program" "$3" $(pkg-config --cflags --libs snest-inline) ;;
	*) $1 -o "$program" "$3" $(pkg-config --cflags --libs snest) ;;
	esac && LD_LIBRARY_PATH="${pc%/pkgconfig/*}" "$program"
)

test_install()
{
	if ! step "install copy" install_copy; then
		failed=$((failed + 1))
		return
	fi
	echo
	for kind in shared static; do
		check "install C $kind" installed "gcc -std=c11" $kind examples/embed_walk.c
		check "install C++ $kind" installed "g++ -std=c++11" $kind tests/test_headers.cc
	done
	check "install C inline" installed "gcc -std=gnu11 -O2" inline tests/installed_inline.c
}

# ---- Soaking ------------------------------------------------------------------

# What goes on for as long as it is told, and what does the same with every seed.
soak_threads='shadow_threads shadow_races'
soak_others='shadow_invalidate shadow_mirror shadow_track shadow_dirty shadow_notices
	shadow_failnth memory_readers'

build_soak()
{
	programs=
	for program in $soak_threads $soak_others; do
		programs="$programs tests/test_$program"
	done
	configure_for "$1" && ninja -C "build/$1" $programs
}

# soak_one CONFIG NAME SECONDS: with a seed that says how to repeat it.
soak_one()
{
	seed=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')
	quiet_aslr=
	[ "$1" != tsan ] || ! setarch -R true 2>/dev/null || quiet_aslr='setarch -R'
	step "soak $1 $2" env SNEST_TEST_SEED="$seed" SNEST_TEST_SECONDS="$3" \
		$quiet_aslr "build/$1/tests/test_$2" || {
		echo "to repeat: SNEST_TEST_SEED=$seed SNEST_TEST_SECONDS=$3 build/$1/tests/test_$2"
		exit 1
	}
	echo "  seed $seed"
	rounds=$((rounds + 1))
}

# Rounds that get longer, so that a short soak has seen everything too.
run_soak()
{
	total=${1:-600} rounds=0 slice=2
	case $total in
	*[!0-9]* | '')
		echo "soak: $total: how many seconds?"
		exit 2
		;;
	esac
	need $build_packages $sanitizer_packages $test_packages
	for config in asan tsan; do
		step "soak build $config" build_soak $config || exit 1
		echo
	done
	until=$(($(date +%s) + total))
	while [ "$(date +%s)" -lt $until ]; do
		for program in $soak_threads $soak_others; do
			for config in tsan asan; do
				[ "$(date +%s)" -lt $until ] || break
				# Without threads ThreadSanitizer has nothing to see.
				case $config:$program in
				tsan:shadow_invalidate | tsan:shadow_mirror | tsan:shadow_track) continue ;;
				tsan:shadow_failnth) continue ;;
				esac
				soak_one $config $program $slice
			done
		done
		[ $slice -ge 120 ] || slice=$((slice * 2))
	done
	echo "$rounds runs, none failed"
}

# ---- All of it ---------------------------------------------------------------

run_tests()
{
	[ $# -gt 0 ] || set -- release nojemalloc memb qsbr asan tsan install bench ossfuzz lint
	for name; do
		case $name in
		release | nojemalloc | memb | qsbr | install) ;;
		asan | tsan) build_packages="$build_packages $sanitizer_packages" ;;
		ossfuzz) build_packages="$build_packages $sanitizer_packages zip unzip" ;;
		bench) build_packages="$build_packages $bench_packages" ;;
		lint) build_packages="$build_packages $lint_packages $bench_packages" ;;
		*)
			echo "$name: no such configuration; ./dev help lists them"
			exit 2
			;;
		esac
	done
	need $build_packages $test_packages
	for name; do
		case $name in
		install) test_install ;;
		bench) test_bench ;;
		ossfuzz) test_ossfuzz ;;
		lint) lint ;;
		*) test_config "$name" ;;
		esac
	done
	summary
}
