/* SPDX-License-Identifier: MIT */
/*
 * snest-bench: runs families of benchmarks. See docs/performance.md.
 *
 *   snest-bench [--quick] [--json FILE] [--repetitions N] [--seconds S] [NAME...]
 *
 * NAME is a family (lookup, threads, sync, map, walk, vtd, guests, memory) or
 * the beginning of a name (lookup/random/64K, lookup/random/64K/snest).
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <snest/vm.h>
#include "bench/families.h"

void group_name(struct gb_group *group, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(group->name, sizeof(group->name), format, args);
	va_end(args);
}

const char *size_name(char buf[16], uint64_t pages)
{
	if (pages >= 1u << 20)
		snprintf(buf, 16, "%uM", (unsigned)(pages >> 20));
	else if (pages >= 1u << 10)
		snprintf(buf, 16, "%uK", (unsigned)(pages >> 10));
	else
		snprintf(buf, 16, "%u", (unsigned)pages);
	return buf;
}

const char *numbered(char buf[32], const char *format, unsigned n)
{
	snprintf(buf, 32, format, n);
	return buf;
}

static int usage(void)
{
	fputs("Usage: snest-bench [--quick] [--json FILE] [--repetitions N] [--seconds S] "
	      "[NAME...]\n",
	      stderr);
	return 2;
}

int main(int argc, char **argv)
{
	struct gb_options options = {.flavour = snest_rcu_flavour()};
	struct gb_suite *suite;
	int failed, at;

	for (at = 1; at < argc && argv[at][0] == '-'; at++) {
		const char *value = at + 1 < argc ? argv[at + 1] : NULL;

		if (!strcmp(argv[at], "--quick")) {
			options.quick = true;
			continue;
		}
		if (!value)
			return usage();
		if (!strcmp(argv[at], "--json"))
			options.json = value;
		else if (!strcmp(argv[at], "--repetitions"))
			options.repetitions = (unsigned)strtoul(value, NULL, 10);
		else if (!strcmp(argv[at], "--seconds"))
			options.seconds = strtod(value, NULL);
		else
			return usage();
		at++;
	}
	options.only = (const char *const *)(argv + at);
	options.only_count = (unsigned)(argc - at);

	snest_thread_register();
	suite = gb_create(&options);
	lookup_add(suite);
	sync_add(suite);
	threads_add(suite);
	map_add(suite);
	walk_add(suite);
	vtd_add(suite);
	guests_add(suite);
	memory_add(suite);
	failed = gb_finish(suite);
	snest_thread_unregister();
	return failed != 0;
}
