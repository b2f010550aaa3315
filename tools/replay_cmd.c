/* SPDX-License-Identifier: MIT */
/*
 * `snest replay`: options and the loop over files.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "tools/replay.h"

static int help(void)
{
	fputs("Usage: snest replay [OPTION]... TRACE...\n"
	      "\n"
	      "Lives the recorded life of guests again: applies their table and register\n"
	      "writes to snest's front end, repeats every DMA translation that the recording\n"
	      "VMM made, and compares the answers.\n"
	      "\n"
	      "Options:\n"
	      "  --mirror       keep a mirror of each device, and compare it with the guest's\n"
	      "                 tables after every completed wait (guests that announce maps)\n"
	      "  --quiet        no progress\n"
	      "  -h, --help     print this\n"
	      "\n"
	      "A trace is as docs/trace-format.md describes, plain or compressed with gzip.\n"
	      "Exit status: 0 nothing is wrong; 1 something is; 2 bad arguments or input.\n"
	      "\n"
	      "Example:\n"
	      "  snest replay --mirror tests/traces/vtd-legacy-cm.snt.gz\n",
	      stdout);
	return SN_EXIT_OK;
}

static int replay(struct sn_tool *tool, const struct sn_replay_options *options, const char *file,
                  struct sn_replay_counts *total)
{
	struct sn_replay *r = calloc(1, sizeof(*r));
	int ret;

	if (!r)
		return sn_tool_error(tool, "out of memory");
	r->options = options;
	r->tool = tool;
	r->file = file;
	ret = sn_replay_run(r);
	if (r->counts.checked || !ret)
		sn_replay_report(r);
	total->checked += r->counts.checked;
	total->agreed += r->counts.agreed;
	total->stale += r->counts.stale;
	total->wrong += r->counts.wrong;
	total->mirror_wrong += r->counts.mirror_wrong;
	total->mirror_checks += r->counts.mirror_checks;
	sn_mirrors_destroy(r->mirrors);
	free(r);
	return ret ? SN_EXIT_USAGE : SN_EXIT_OK;
}

int sn_cmd_replay(struct sn_tool *tool, int argc, char **argv)
{
	enum { OPT_MIRROR = 256, OPT_QUIET };
	static const struct option options[] = {
		{ "mirror", no_argument, NULL, OPT_MIRROR },
		{ "quiet", no_argument, NULL, OPT_QUIET },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct sn_replay_options chosen = { .mirror = false };
	struct sn_replay_counts total = { .checked = 0 };
	int c, status = SN_EXIT_OK;

	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (c) {
		case OPT_MIRROR:
			chosen.mirror = true;
			break;
		case OPT_QUIET:
			chosen.quiet = true;
			break;
		case 'h':
			return help();
		default:
			return sn_tool_bad_option(tool, c, argv);
		}
	}
	if (optind == argc)
		return sn_tool_usage(tool, "which trace?");
	for (int i = optind; i < argc; i++) {
		int one = replay(tool, &chosen, argv[i], &total);

		if (one > status)
			status = one;
	}
	if (argc - optind > 1 || status == SN_EXIT_OK) {
		printf("%d recorded guest%s: %" PRIu64 " translations checked, %" PRIu64
		       " agreed, %" PRIu64 " stale but legal, %" PRIu64 " wrong",
		       argc - optind, argc - optind == 1 ? "" : "s", total.checked, total.agreed,
		       total.stale, total.wrong);
		if (chosen.mirror)
			printf("; %" PRIu64 " mirror comparisons, %" PRIu64 " wrong",
			       total.mirror_checks, total.mirror_wrong);
		putchar('\n');
	}
	if (status == SN_EXIT_OK && (total.wrong || total.mirror_wrong))
		status = SN_EXIT_FAULT;
	return sn_tool_finish(tool, status);
}
