/* SPDX-License-Identifier: MIT */
/*
 * snest-bench: runs families of benchmarks. See docs/performance.md.
 *
 *   snest-bench [OPTION...] [NAME...]
 *
 * NAME is a family (lookup, threads, sync, map, walk, vtd, guests, memory) or
 * the beginning of a name (lookup/random/64K, lookup/random/64K/snest).
 * Exit status: 0; 1 when a measurement failed; 2 when nothing could be measured.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <snest/vm.h>
#include "bench/families.h"
#include "bench/setup.h"

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
	fputs("Usage: snest-bench [OPTION...] [NAME...]\n"
	      "  --quick          fewer and shorter repetitions, fewer sizes\n"
	      "  --json FILE      all repetitions, in Google Benchmark's format\n"
	      "  --repetitions N  of each measurement\n"
	      "  --seconds S      of one repetition\n"
	      "  --by-flavour     only what depends on the RCU flavour\n"
	      "  --list           print names and end\n"
	      "NAME: a family (lookup, threads, sync, map, walk, vtd, guests, memory) or the\n"
	      "beginning of a name (lookup/random/64K)\n",
	      stderr);
	return 2;
}

/* Its number, above 0 and with nothing behind it. */
static bool number(const char *text, double *value)
{
	char *end;

	*value = strtod(text, &end);
	return end != text && !*end && *value > 0 && *value <= 1e6;
}

/* What is not understood is named. Returns where the names begin, 0 if there was a mistake. */
static int options_parse(struct gb_options *options, int argc, char **argv, bool *list)
{
	int at;

	for (at = 1; at < argc && argv[at][0] == '-'; at++) {
		const char *option = argv[at], *value = at + 1 < argc ? argv[at + 1] : NULL;
		double n = 0;

		if (!strcmp(option, "--quick")) {
			options->quick = true;
			continue;
		} else if (!strcmp(option, "--by-flavour")) {
			options->by_flavour = true;
			continue;
		} else if (!strcmp(option, "--list")) {
			*list = true;
			continue;
		}
		if (strcmp(option, "--json") && strcmp(option, "--repetitions") &&
		    strcmp(option, "--seconds")) {
			fprintf(stderr, "snest-bench: %s: no such option\n", option);
			return 0;
		}
		if (!value || (strcmp(option, "--json") && !number(value, &n))) {
			fprintf(stderr, "snest-bench: %s needs a %s\n", option,
			        strcmp(option, "--json") ? "number above 0" : "file");
			return 0;
		}
		if (!strcmp(option, "--json"))
			options->json = value;
		else if (!strcmp(option, "--repetitions"))
			options->repetitions = n < 1 ? 1 : (unsigned)n;
		else
			options->seconds = n;
		at++;
	}
	return at;
}

int main(int argc, char **argv)
{
	struct gb_options options = {.flavour = snest_rcu_flavour()};
	struct gb_suite *suite;
	bool list = false;
	int failed = 0, at = options_parse(&options, argc, argv, &list);

	if (!at)
		return usage();
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
	if (!gb_groups(suite)) {
		fputs("snest-bench: no benchmark's name begins so; --list prints them\n", stderr);
		failed = -1;
	} else if (list) {
		gb_list(suite);
	} else {
		failed = gb_finish(suite);
		if (failed < 0)
			perror(options.json);
		guests_forget();
	}
	gb_destroy(suite);
	snest_thread_unregister();
	return failed < 0 ? 2 : failed != 0;
}
