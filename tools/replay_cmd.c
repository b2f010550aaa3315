/* SPDX-License-Identifier: MIT */
/*
 * `snest replay`: options and the loop over files.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "tools/args.h"
#include "tools/replay.h"

#define THREADS_MAX 256u

static int help(void)
{
	fputs("Usage: snest replay [OPTION]... TRACE...\n"
	      "\n"
	      "Lives the recorded life of guests again: applies their table and register\n"
	      "writes to snest's front end, repeats every DMA translation that the recording\n"
	      "VMM made, and compares the answers.\n"
	      "\n"
	      "Options:\n"
	      "  --fill WHEN    lazy: shadows fill on a miss (the default, and the only one)\n"
	      "  --mirror       keep a mirror of each device, and compare it with the guest's\n"
	      "                 tables after every completed wait (guests that announce maps)\n"
	      "  --mirror=auto  the same, but only for guests that do\n"
	      "  --threads N    let N threads translate all the time, and judge their answers\n"
	      "  --json         report in JSON\n"
	      "  --svg FILE     draw the guest's life: IOVAs against time\n"
	      "  --save-at LINE FILE\n"
	      "                 stop in front of that line and save everything to FILE\n"
	      "  --restore FILE go on from there\n"
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

static void add(struct sn_replay_counts *total, const struct sn_replay_counts *one)
{
	uint64_t table_bytes_max = total->table_bytes_max > one->table_bytes_max
	                                   ? total->table_bytes_max
	                                   : one->table_bytes_max;
	const uint64_t *from = (const uint64_t *)one;
	uint64_t *to = (uint64_t *)total;

	_Static_assert(sizeof(*total) % sizeof(*to) == 0, "counts are all uint64_t");
	for (size_t i = 0; i < sizeof(*total) / sizeof(*to); i++)
		to[i] += from[i];
	total->table_bytes_max = table_bytes_max;
}

static int replay(struct sn_tool *tool, const struct sn_replay_options *options, const char *file,
                  struct sn_json *json, struct sn_replay_counts *total)
{
	struct sn_replay *r = calloc(1, sizeof(*r));
	int ret;

	if (!r)
		return sn_tool_error(tool, "out of memory");
	r->options = options;
	r->tool = tool;
	r->file = file;
	ret = sn_replay_run(r);
	r->complete = !ret && !r->saved_line;
	if (json)
		sn_replay_json(json, r);
	else if (r->counts.checked || !ret)
		sn_replay_report(r);
	add(total, &r->counts);
	free(r);
	return ret ? SN_EXIT_USAGE : SN_EXIT_OK;
}

static void conclude(const struct sn_replay_options *options, int files,
                     const struct sn_replay_counts *total)
{
	printf("%d recorded guest%s: %" PRIu64 " translations checked, %" PRIu64 " agreed, %" PRIu64
	       " stale but legal, %" PRIu64 " wrong",
	       files, files == 1 ? "" : "s", total->checked, total->agreed, total->stale,
	       total->wrong);
	if (options->mirror)
		printf("; %" PRIu64 " mirror comparisons, %" PRIu64 " wrong", total->mirror_checks,
		       total->mirror_wrong);
	if (options->threads)
		printf("; %" PRIu64 " lookups by readers judged, %" PRIu64 " wrong",
		       total->reader_judged, total->reader_wrong);
	putchar('\n');
}

static int replay_all(struct sn_tool *tool, const struct sn_replay_options *options, char **files,
                      int count)
{
	struct sn_replay_counts total = {.checked = 0};
	struct sn_json writer, *json = options->json ? &writer : NULL;
	int status = SN_EXIT_OK;

	if (json) {
		sn_json_begin(json, stdout);
		sn_json_open(json, NULL, '{');
		sn_json_number(json, "schema", 1);
		sn_json_string(json, "snest", snest_version());
		sn_json_string(json, "rcu", snest_rcu_flavour());
		sn_json_open(json, "traces", '[');
	}
	snest_thread_register();
	for (int i = 0; i < count; i++) {
		int one = replay(tool, options, files[i], json, &total);

		status = one > status ? one : status;
	}
	snest_thread_unregister();
	if (json) {
		sn_json_close(json, ']');
		sn_replay_json_total(json, &total);
		sn_json_close(json, '}');
		sn_json_end(json);
	} else if (count > 1) {
		conclude(options, count, &total);
	}
	if (status == SN_EXIT_OK && sn_replay_wrong(&total))
		status = SN_EXIT_FAULT;
	return sn_tool_finish(tool, status);
}

static bool is(const char *argument, const char *word)
{
	return argument && !strcmp(argument, word);
}

/* --save-at takes two words. */
static int save_at(struct sn_tool *tool, struct sn_replay_options *options, char **argv, int argc)
{
	if (!sn_args_u64(optarg, &options->save_line))
		return sn_tool_usage(tool, "--save-at %s: the line is " SN_ARGS_NUMBER, optarg);
	if (optind >= argc)
		return sn_tool_usage(tool, "--save-at: LINE FILE is wanted");
	options->save = argv[optind++];
	return SN_EXIT_OK;
}

static int check(struct sn_tool *tool, const struct sn_replay_options *options, int files)
{
	if (files < 1)
		return sn_tool_usage(tool, "which trace?");
	if (files > 1 && (options->svg || options->save || options->restore))
		return sn_tool_usage(tool,
		                     "--svg, --save-at and --restore are for one trace at a time");
	if (options->svg && (options->save || options->restore))
		return sn_tool_usage(tool, "--svg draws a whole life: not with --save-at or "
		                           "--restore");
	return SN_EXIT_OK;
}

int sn_cmd_replay(struct sn_tool *tool, int argc, char **argv)
{
	enum {
		OPT_FILL = 256,
		OPT_MIRROR,
		OPT_THREADS,
		OPT_JSON,
		OPT_SVG,
		OPT_SAVE,
		OPT_RESTORE,
		OPT_QUIET,
	};
	static const struct option options[] = {
		{"fill", required_argument, NULL, OPT_FILL},
		{"mirror", optional_argument, NULL, OPT_MIRROR},
		{"threads", required_argument, NULL, OPT_THREADS},
		{"json", no_argument, NULL, OPT_JSON},
		{"svg", required_argument, NULL, OPT_SVG},
		{"save-at", required_argument, NULL, OPT_SAVE},
		{"restore", required_argument, NULL, OPT_RESTORE},
		{"quiet", no_argument, NULL, OPT_QUIET},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	struct sn_replay_options chosen = {.mirror = false};
	int c, status = SN_EXIT_OK;
	uint64_t threads = 0;

	while (!status && (c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (c) {
		case OPT_FILL:
			if (!is(optarg, "lazy"))
				status = sn_tool_usage(tool, "--fill %s: only lazy is known",
				                       optarg);
			break;
		case OPT_MIRROR:
			chosen.mirror = true;
			chosen.mirror_auto = optarg;
			if (chosen.mirror_auto && !is(optarg, "auto"))
				status = sn_tool_usage(tool, "--mirror=%s: only auto is known",
				                       optarg);
			break;
		case OPT_THREADS:
			if (!sn_args_max(optarg, THREADS_MAX, &threads))
				status = sn_tool_usage(tool,
				                       "--threads %s: a number up to %u is "
				                       "wanted",
				                       optarg, THREADS_MAX);
			break;
		case OPT_JSON:
			chosen.json = true;
			break;
		case OPT_SVG:
			chosen.svg = optarg;
			break;
		case OPT_SAVE:
			status = save_at(tool, &chosen, argv, argc);
			break;
		case OPT_RESTORE:
			chosen.restore = optarg;
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
	chosen.threads = (unsigned)threads;
	status = status ? status : check(tool, &chosen, argc - optind);
	return status ? status : replay_all(tool, &chosen, argv + optind, argc - optind);
}
