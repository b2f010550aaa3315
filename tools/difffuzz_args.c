/* SPDX-License-Identifier: MIT */
/* The options of `snest difffuzz`, and its help. */
#include <getopt.h>
#include <inttypes.h>
#include <string.h>
#include "tools/args.h"
#include "tools/difffuzz_query.h"

#define SECONDS_DEFAULT 10

/* Values of long options that have no short one. */
enum {
	OPT_FORMAT = 256,
	OPT_SEED,
	OPT_SECONDS,
	OPT_COUNT,
	OPT_FIRST,
	OPT_DIFFERENCES,
	OPT_IGNORE,
	OPT_TIMEOUT,
	OPT_SAVE,
	OPT_JSON,
	OPT_COLOUR,
	OPT_KEY = 512, /* + i: parameter i of the only stage */
};

static const struct option options[] = {
	{"walker", required_argument, NULL, 'w'},
	{"seed", required_argument, NULL, OPT_SEED},
	{"seconds", required_argument, NULL, OPT_SECONDS},
	{"count", required_argument, NULL, OPT_COUNT},
	{"first", required_argument, NULL, OPT_FIRST},
	{"differences", required_argument, NULL, OPT_DIFFERENCES},
	{"ignore", required_argument, NULL, OPT_IGNORE},
	{"timeout", required_argument, NULL, OPT_TIMEOUT},
	{"save", required_argument, NULL, OPT_SAVE},
	{"json", no_argument, NULL, OPT_JSON},
	{"color", required_argument, NULL, OPT_COLOUR},
	{"colour", required_argument, NULL, OPT_COLOUR},
	{"verbose", no_argument, NULL, 'v'},
	{"quiet", no_argument, NULL, 'q'},
	{"help", no_argument, NULL, 'h'},
};

#define OPTIONS (sizeof(options) / sizeof(options[0]))

void sn_diff_help(void)
{
	fputs("Usage: snest difffuzz --walker FILE [--format F] [OPTION]...\n"
	      "\n"
	      "Generates page tables, decent and broken ones, asks another table walker and\n"
	      "snest's own what addresses mean in them, and shows where the answers differ, as\n"
	      "small as it can be made. The other walker is a plug-in: a shared object that\n"
	      "exports what snest/walker.h describes. It runs in a process of its own; a crash\n"
	      "or a hang is a difference.\n"
	      "\n"
	      "Options:\n"
	      "  -w, --walker FILE    the plug-in\n"
	      "      --format F       page-table format, if the plug-in has several\n"
	      "      --levels N ...   one stage; without any of the parameters below, all that\n"
	      "                       snest's own tests use of that format\n"
	      "      --seed N         chooses the cases, default 1\n"
	      "      --seconds N      ends after that time, default 10\n"
	      "      --count N        ends after so many cases\n"
	      "      --first N        begins with case N, default 0\n"
	      "      --differences N  ends after so many differences, each of another class;\n"
	      "                       default 1, 0: does not\n"
	      "      --ignore CLASS   does not look at such differences; repeat it\n"
	      "      --timeout MS     time for the answers of a case, default 1000\n"
	      "      --save FILE      memory of the difference as an image for `snest walk`;\n"
	      "                       of the n-th after the first: FILE.n\n"
	      "      --json           JSON, described in snest-difffuzz(1)\n"
	      "      --color WHEN     auto (default; honours NO_COLOR), always, never\n"
	      "  -v, --verbose        lists the stages, and why others are left out\n"
	      "  -q, --quiet          no progress, no speed\n"
	      "  -h, --help           this text\n"
	      "\n"
	      "A class is missed-fault, extra-fault, address, size, rights, reason, level,\n"
	      "memory, error, crash or hang; a reason may follow, as in missed-fault:write.\n"
	      "\n",
	      stdout);
	sn_stages_help();
	fputs("Roots are chosen by the generator.\n"
	      "\n"
	      "Exit status: 0 no difference, 1 a difference, 2 wrong arguments, or a plug-in\n"
	      "that cannot be used.\n"
	      "\n"
	      "Example:\n"
	      "  snest difffuzz --walker ./theirs.so --format x86-64 --seconds 60 --save d.img\n",
	      stdout);
}

static int set_number(const struct sn_tool *tool, const char *name, const char *value, uint64_t max,
                      uint64_t *number)
{
	if (sn_args_max(value, max, number))
		return 0;
	if (max == UINT64_MAX)
		return sn_tool_usage(tool, "--%s %s: " SN_ARGS_NUMBER " is wanted", name, value);
	return sn_tool_usage(tool, "--%s %s: a number up to %" PRIu64 " is wanted", name, value,
	                     max);
}

static int one_option(struct sn_tool *tool, struct sn_diff_query *q, struct sn_diff *d, int c,
                      char *value)
{
	switch (c) {
	case 'w':
		q->walker = value;
		break;
	case 'v':
		q->verbose = true;
		break;
	case 'q':
		q->quiet = true;
		break;
	case 'h':
		q->help = true;
		break;
	case OPT_SEED:
		return set_number(tool, "seed", value, UINT64_MAX, &q->seed);
	case OPT_SECONDS:
		q->seconds_given = true;
		return set_number(tool, "seconds", value, 1000000000, &q->seconds);
	case OPT_COUNT:
		q->count_given = true;
		return set_number(tool, "count", value, UINT64_MAX, &q->count);
	case OPT_FIRST:
		return set_number(tool, "first", value, UINT64_MAX, &q->first);
	case OPT_DIFFERENCES:
		return set_number(tool, "differences", value, UINT64_MAX, &q->differences);
	case OPT_TIMEOUT:
		return set_number(tool, "timeout", value, 1000000, &q->timeout_ms);
	case OPT_IGNORE:
		if (!sn_diff_class_known(value))
			return sn_tool_usage(tool,
			                     "--ignore %s: no such class; a class is "
			                     "missed-fault:write, for example, or missed-fault",
			                     value);
		if (d->ignores == SN_DIFF_IGNORES_MAX)
			return sn_tool_usage(tool, "--ignore %s: at most %d of them", value,
			                     SN_DIFF_IGNORES_MAX);
		d->ignore[d->ignores++] = value;
		break;
	case OPT_SAVE:
		q->save = value;
		break;
	case OPT_JSON:
		q->json = true;
		break;
	case OPT_COLOUR:
		return sn_tool_set_colour(tool, value);
	default:
		if (c >= OPT_KEY && c < OPT_KEY + SN_STAGE_KEYS_MAX)
			q->keys[c - OPT_KEY] = value;
	}
	return 0;
}

bool sn_diff_key_is_root(const char *key)
{
	return !strncmp(key, "root", 4);
}

int sn_diff_parse(struct sn_tool *tool, struct sn_diff_query *q, struct sn_diff *d, int argc,
                  char **argv)
{
	struct option all[OPTIONS + SN_STAGE_KEYS_MAX + 1] = {0};
	size_t n = OPTIONS;
	int c, status;

	memcpy(all, options, sizeof(options));
	for (unsigned i = 0; sn_stage_key(i); i++) {
		if (!sn_diff_key_is_root(sn_stage_key(i)))
			all[n++] = (struct option){sn_stage_key(i), required_argument, NULL,
			                           OPT_KEY + (int)i};
	}
	while ((c = getopt_long(argc, argv, ":w:vqh", all, NULL)) != -1) {
		if (c == '?' || c == ':')
			return sn_tool_bad_option(tool, c, argv);
		status = one_option(tool, q, d, c, optarg);
		if (status || q->help)
			return status;
	}
	if (optind < argc)
		return sn_tool_usage(tool, "%s: what is that? Options only are wanted",
		                     argv[optind]);
	if (!q->walker)
		return sn_tool_usage(tool, "which walker? --walker FILE is missing");
	if (!q->timeout_ms)
		return sn_tool_usage(tool, "--timeout 0: the walker needs some time");
	if (!q->seconds_given && !q->count_given)
		q->seconds = SECONDS_DEFAULT;
	return 0;
}
