# SPDX-License-Identifier: MIT
# ./dev bench: measures, compares, reports. Part of ./dev, which reads it.
# shellcheck shell=sh disable=SC2046,SC2086 # lists of words are meant to be split
# shellcheck disable=SC2154,SC2034 # variables that ./dev or another part sets, or reads

bench_packages='g++ libbenchmark-dev libglib2.0-dev python3'
results=build/bench/results.json

# build_bench NAME TREE RCU: the benchmarks of a source tree, in build/bench/NAME.
build_bench()
{
	dir=$PWD/build/bench/$1
	[ -e "$dir/build.ninja" ] || meson setup "$dir" "$2" -Dbench=true -Dtests=disabled \
		-Dexamples=false -Drcu="$3" || return 1
	ninja -C "$dir" bench/snest-bench
}

# measure NAME FILE ARG...: runs them, results into build/bench/FILE.json.
measure()
{
	bench=build/bench/$1/bench/snest-bench file=build/bench/$2.json
	shift 2
	rm -f "$file"
	$bench $quick --json "$file" "$@"
}

# flavour_wanted RCU NAME...: is anything asked for that depends on the flavour?
flavour_wanted()
{
	flavour=$1
	shift
	[ $# -gt 0 ] || return 0
	for name; do
		for group in "lookup/flavour $flavour/" "vtd/wait $flavour/"; do
			case $group in "$name"*) return 0 ;; esac
			case $name in "$group"*) return 0 ;; esac
		done
	done
	return 1
}

# Everything in the usual flavour; what depends on the flavour also in the others.
bench_all()
{
	wrong=0 usual=''
	rm -f $results build/bench/bp.json build/bench/memb.json build/bench/qsbr.json
	[ $# -gt 0 ] || usual=1
	for name; do
		# Names that only another flavour has.
		case $name in *' memb'* | *' qsbr'*) ;; *) usual=1 ;; esac
	done
	[ ! "$usual" ] || measure bp bp "$@" || wrong=$?
	for rcu in memb qsbr; do
		if [ $wrong != 2 ] && flavour_wanted $rcu "$@"; then
			step "build $rcu" build_bench $rcu . $rcu || exit 1
			echo
			measure $rcu $rcu --by-flavour "$@" || wrong=$?
		fi
	done
	files=
	for rcu in bp memb qsbr; do
		[ ! -e build/bench/$rcu.json ] || files="$files build/bench/$rcu.json"
	done
	[ "$files" ] && [ $wrong != 2 ] || exit 2
	/usr/bin/python3 bench/results.py merge $results $files
	[ ! "$json" ] || cp $results "$json"
	bench_report $results
}

# bench_report FILE: the goals, and with --report the documents. Fails when a goal is missed.
bench_report()
{
	if [ "$report" ]; then
		/usr/bin/python3 bench/report.py "$1" docs/performance.md
		/usr/bin/python3 bench/plots.py "$1" docs/img
	fi
	echo
	/usr/bin/python3 bench/results.py goals "$1" || wrong=$?
	return "${wrong:-0}"
}

# Another revision in a tree of its own; the two run in turn, several times. Both
# are measured by the benchmarks of today, where those can be built on the other.
bench_against()
{
	tree=build/bench/tree old='' new=''
	if ! git rev-parse --quiet --verify "$against^{commit}" >/dev/null; then
		echo "bench: $against: no such revision"
		exit 2
	fi
	forget_tree
	git worktree add --quiet --detach $tree "$against" || exit 1
	trap forget_tree EXIT
	if [ ! -e $tree/bench/gbench.h ]; then
		echo "bench: $against has no such benchmarks"
		exit 2
	fi
	rm -rf $tree/bench
	cp -r bench $tree/bench
	if ! build_bench old $tree bp >build/logs/bench-old.log 2>&1; then
		echo "today's benchmarks do not fit $against; it is measured by its own"
		git -C $tree checkout --quiet --force HEAD -- . && git -C $tree clean --quiet -fd
	fi
	step "build $against" build_bench old $tree bp || exit 1
	echo
	for round in 1 2 3 4 5; do
		for side in old new; do
			echo "round $round of 5, $side"
			[ $side = old ] && program=old || program=bp
			measure $program $side$round "$@" >build/bench/$side.txt || exit $?
		done
		old=$old,build/bench/old$round.json new=$new,build/bench/new$round.json
	done
	/usr/bin/python3 bench/results.py compare "${old#,}" "${new#,}"
}

forget_tree()
{
	git worktree remove --force build/bench/tree 2>/dev/null || true
	rm -rf build/bench/tree build/bench/old
}

run_bench()
{
	quick='' json='' against='' report='' from='' list='' left=$#
	while [ $left -gt 0 ]; do
		case $1 in
		--quick) quick=--quick ;;
		--list) list=--list ;;
		--report) report=1 bench_packages="$bench_packages python3-matplotlib" ;;
		--json | --against | --from)
			if [ $left -lt 2 ]; then
				echo "bench: $1 what?"
				exit 2
			fi
			case $1 in
			--json) json=$2 ;;
			--against) against=$2 ;;
			*) from=$2 ;;
			esac
			shift
			left=$((left - 1))
			;;
		-*)
			echo "bench: $1: no such option; ./dev help lists them"
			exit 2
			;;
		*) set -- "$@" "$1" ;;
		esac
		shift
		left=$((left - 1))
	done
	if [ "$against" ] && [ "$json$report$from" ] || [ "$from" ] && [ "$json$quick" ]; then
		echo "bench: options that exclude each other; ./dev help tells"
		exit 2
	fi
	if [ "$json" ] && ! : >>"$json"; then
		exit 2
	fi
	if [ "$from" ]; then
		need python3 ${report:+python3-matplotlib}
		bench_report "$from"
		return
	fi
	need $build_packages $bench_packages
	mkdir -p build/bench
	step "build benchmarks" build_bench bp . bp || exit 1
	echo
	if [ "$list" ]; then
		build/bench/bp/bench/snest-bench --list $quick "$@"
	elif [ "$against" ]; then
		bench_against "$@"
	else
		bench_all "$@"
	fi
}

# The benchmarks themselves: each family runs, what it writes can be read, the goals
# name what there is. Not what they measure: a verdict either way is good here.
smoke_bench()
{
	folder=build/bench/smoke bench=build/bench/bp/bench/snest-bench
	tiny='--quick --repetitions 2 --seconds 0.0005'
	rm -rf $folder
	mkdir -p $folder
	# The other flavours have the same under another name.
	$bench --list >$folder/bp &&
		sed 's,^\(lookup/flavour\|vtd/wait\) bp/,\1 qsbr/,' $folder/bp |
		cat $folder/bp - >$folder/names &&
		$bench $tiny --json $folder/some.json lookup/random/1K lookup/batch/64K threads \
			'sync/1 page/1K' 'sync/unmirrored space/64K' map/vtd-ss 'walk/2 stages' \
			vtd memory/2M &&
		$bench $tiny --json $folder/flavour.json --by-flavour vtd &&
		/usr/bin/python3 bench/results.py merge $folder/all.json $folder/some.json \
			$folder/flavour.json &&
		/usr/bin/python3 bench/results.py names $folder/names $folder/all.json &&
		/usr/bin/python3 bench/results.py compare $folder/some.json $folder/all.json ||
		return 1
	/usr/bin/python3 bench/results.py goals $folder/all.json >$folder/goals || [ $? = 1 ] ||
		return 1
	cat $folder/goals
	grep -q '^lookup, 1K pages random.*\(reached\|MISSED\)$' $folder/goals &&
		grep -q '^lookup, 1M pages random.*not measured$' $folder/goals &&
		cp docs/performance.md $folder/page.md &&
		/usr/bin/python3 bench/report.py $folder/all.json $folder/page.md &&
		grep -q '^| 1 page, 1K mapped | [0-9]' $folder/page.md || return 1
	# Without matplotlib the pictures can only be read.
	/usr/bin/python3 -c 'import ast; ast.parse(open("bench/plots.py").read())' || return 1
	# What there is not is an error.
	status=0
	$bench no/such/name 2>/dev/null || status=$?
	[ $status = 2 ]
}

test_bench()
{
	if ! step "bench build" build_bench bp . bp; then
		failed=$((failed + 1))
		return
	fi
	echo
	check "bench smoke" smoke_bench
}
