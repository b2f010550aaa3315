# SPDX-License-Identifier: MIT
# ./dev lint, ./dev format: checks of the sources. Part of ./dev, which reads it.
# shellcheck shell=sh disable=SC2046,SC2086 # lists of words are meant to be split
# shellcheck disable=SC2154,SC2034 # variables that ./dev or another part sets, or reads

# sources PATTERN FOLDER...: files of that name in the folders that exist.
sources()
{
	pattern=$1
	shift
	for folder; do
		[ ! -d "$folder" ] || find "$folder" -name "$pattern"
	done | sort
}

layers='core walkers shadow viommu sinks'
all_c="include $layers tools tests examples bench fuzz"

lint_format()
{
	sources '*.[ch]' $all_c | xargs clang-format "$@" tests/test_headers.cc
}

# With rcu=bp the analyzer sees a null pointer that liburcu never leaves behind.
lint_tidy()
{
	with_clang configure lint -Drcu=memb -Dbench=true || return 1
	sources '*.c' $layers tools examples bench |
		xargs -P "$(nproc)" -n 1 clang-tidy --quiet -p build/lint
}

# The two suppressed checks judge a line without its path: they do not follow an
# out parameter into another file, or a test made further up. clang-tidy does.
lint_cppcheck()
{
	cppcheck --quiet --error-exitcode=1 --enable=warning,portability --inline-suppr \
		--suppress=missingIncludeSystem --suppress=uninitvar \
		--suppress=nullPointerRedundantCheck --library=.cppcheck.cfg \
		--std=c11 -j "$(nproc)" -I include -I . $(sources '*.c' $layers tools examples bench)
}

lint_manual()
{
	pages=$(find docs -name '*.[1-8]')
	[ ! "$pages" ] || mandoc -T lint -W warning $pages
}

lint()
{
	check "lint format" lint_format --dry-run -Werror
	check "lint clang-tidy" lint_tidy
	check "lint cppcheck" lint_cppcheck
	check "lint manual" lint_manual
}
