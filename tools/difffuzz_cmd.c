/* SPDX-License-Identifier: MIT */
/*
 * `snest difffuzz`: options, the loop over cases, what is printed around
 * differences (tools/difffuzz.h).
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "support/configs.h"
#include "tools/args.h"
#include "tools/difffuzz.h"
#include "tools/stages.h"

#define SECONDS_DEFAULT 10
#define TIMEOUT_DEFAULT 1000
#define PROGRESS_NS UINT64_C(250000000)

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

/* The command line, understood. */
struct query {
	const char *walker, *save;
	const char *keys[SN_STAGE_KEYS_MAX]; /* of sn_stage_key(); [0] is the format */
	uint64_t seed, seconds, count, first, differences, timeout_ms;
	bool seconds_given, count_given;
	bool json, verbose, quiet, help;
};

static volatile sig_atomic_t interrupted;

static void interrupt(int signal)
{
	(void)signal;
	interrupted = 1;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void help(void)
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

/* ---- The command line ------------------------------------------------------------- */

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

static int one_option(struct sn_tool *tool, struct query *q, struct sn_diff *d, int c, char *value)
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
		if (!sn_tool_set_colour(tool, value))
			return sn_tool_usage(tool, "--color %s: auto, always or never is wanted",
			                     value);
		break;
	default:
		if (c >= OPT_KEY && c < OPT_KEY + SN_STAGE_KEYS_MAX)
			q->keys[c - OPT_KEY] = value;
	}
	return 0;
}

/* The roots are the generator's. */
static bool is_root(const char *key)
{
	return !strncmp(key, "root", 4);
}

static int parse(struct sn_tool *tool, struct query *q, struct sn_diff *d, int argc, char **argv)
{
	struct option all[OPTIONS + SN_STAGE_KEYS_MAX + 1] = {0};
	size_t n = OPTIONS;
	int c, status;

	memcpy(all, options, sizeof(options));
	for (unsigned i = 0; sn_stage_key(i); i++) {
		if (!is_root(sn_stage_key(i)))
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

/* ---- Stages ------------------------------------------------------------------------- */

/* The format that is asked for, or the only one that the walker has. 0: a message was printed. */
static unsigned format_of(const struct sn_tool *tool, const struct query *q,
                          const struct sn_diff_walker *walker)
{
	uint32_t formats = walker->declared.formats;
	unsigned format = q->keys[0] ? snest_format_by_name(q->keys[0]) : 0, count = 0;

	if (format && (formats & SNEST_WALKER_FORMAT(format)))
		return format;
	for (unsigned f = 1; f < SNEST_FORMAT_COUNT; f++) {
		if (!(formats & SNEST_WALKER_FORMAT(f)))
			continue;
		count++;
		format = f;
	}
	if (!q->keys[0] && count == 1)
		return format;
	if (!count)
		sn_tool_error(tool, "--walker %s: it declares no format", q->walker);
	else if (q->keys[0])
		sn_tool_error(tool,
		              "--format %s: the walker has no such format; it has:", q->keys[0]);
	else
		sn_tool_error(tool, "which format? --format is missing; the walker has:");
	for (unsigned f = 1; f < SNEST_FORMAT_COUNT; f++) {
		if (formats & SNEST_WALKER_FORMAT(f))
			fprintf(stderr, "  %s\n", snest_format_name(f));
	}
	return 0;
}

static int add_stage(struct sn_diff *d, const struct query *q, const char *name,
                     const struct snest_stage *stage, const char **left_out)
{
	char text[SN_DIFF_STAGE_TEXT], other[SN_DIFF_STAGE_TEXT];
	struct sn_diff_stage *s = &d->stage[d->stages];
	const char *why = NULL;
	enum sn_diff_end ended;
	int ret;

	if (d->stages == SN_DIFF_STAGES_MAX)
		return 0;
	*s = (struct sn_diff_stage){.stage = *stage};
	snprintf(s->name, sizeof(s->name), "%s", name);
	ret = sn_diff_stage_create(d, d->stages);
	if (ret)
		return sn_tool_error(d->tool, "cannot create a VM: %s", strerror(-ret));
	ended = sn_diff_walker_open(&d->walker, d->stages, &s->stage, s->high);
	if (ended == SN_DIFF_DONE) {
		if (snest_stage_check(&s->stage, &why))
			ret = sn_tool_error(d->tool, "--walker %s: it changed the flags of %s: %s",
			                    q->walker, s->name, why ? why : "not usable");
		why = NULL; /* it is set in any case */
	} else if (ended == SN_DIFF_FAILED && d->walker.error == -EOPNOTSUPP) {
		why = d->walker.text;
	} else {
		ret = sn_tool_error(d->tool, "--walker %s: cannot open %s: %s", q->walker, s->name,
		                    d->walker.text);
	}
	sn_diff_stage_text(&s->stage, text);
	for (unsigned i = 0; !why && i < d->stages; i++) {
		if (!strcmp(sn_diff_stage_text(&d->stage[i].stage, other), text))
			why = "the walker makes the same of it as of another";
	}
	if (q->verbose && !ret && !q->json)
		printf("%s%s%s%s\n", s->name, why ? ": left out: " : "", why ? why : "",
		       !why && s->stage.flags != stage->flags ? ", with other flags" : "");
	if (!ret && !why) {
		d->stages++;
		return 0;
	}
	*left_out = why;
	snest_vm_destroy(s->vm);
	s->vm = NULL;
	return ret;
}

/* Opens the stage that the options describe, or all of the format. */
static int open_stages(struct sn_diff *d, struct query *q)
{
	unsigned format = format_of(d->tool, q, &d->walker);
	struct sn_stage_list list = {.count = 0};
	const char *left_out = NULL;
	bool one = false;
	int status = 0;

	if (!format)
		return SN_EXIT_USAGE;
	for (unsigned i = 1; i < SN_STAGE_KEYS_MAX; i++)
		one |= q->keys[i] != NULL;
	if (one) {
		/* The format and the root come first among the parameters. */
		q->keys[0] = snest_format_name(format);
		q->keys[1] = "0";
		status = sn_stages_add(d->tool, &list, q->keys);
		if (!status)
			status = sn_stages_check(d->tool, &list);
		if (!status)
			status = add_stage(d, q, q->keys[0], &list.stage[0], &left_out);
	}
	for (size_t i = 0; !one && !status && i < test_configs_count; i++) {
		if (test_configs[i].stage.format == format)
			status = add_stage(d, q, test_configs[i].name, &test_configs[i].stage,
			                   &left_out);
	}
	if (!status && !d->stages)
		return sn_tool_error(d->tool, "--walker %s: it has no stage of %s: %s", q->walker,
		                     snest_format_name(format), left_out ? left_out : "");
	return status;
}

/* ---- The loop ----------------------------------------------------------------------- */

struct run {
	struct sn_diff *d;
	const struct query *q;
	struct sn_json *json;
	uint64_t began_ns, shown_ns;
	uint64_t cases;
	unsigned differences;
};

static void progress(struct run *run, bool end)
{
	uint64_t now;

	if (run->q->quiet || !isatty(STDERR_FILENO))
		return;
	if (end) {
		fputs("\r\033[K", stderr);
		return;
	}
	now = now_ns();
	if (now - run->shown_ns < PROGRESS_NS)
		return;
	run->shown_ns = now;
	fprintf(stderr, "\r\033[K%" PRIu64 " cases, %" PRIu64 " a second, %u differences",
	        run->cases, run->cases * 1000 / ((now - run->began_ns) / 1000000 + 1),
	        run->differences);
}

/* The command that asks this case again. Owned by the caller; NULL: out of memory. */
static char *again(const struct run *run, uint64_t number)
{
	const struct query *q = run->q;
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	sn_tool_quoted(out, run->d->tool->program);
	fputs(" difffuzz --walker ", out);
	sn_tool_quoted(out, q->walker);
	for (unsigned i = 0; sn_stage_key(i); i++) {
		if (!q->keys[i] || is_root(sn_stage_key(i)))
			continue;
		fprintf(out, " --%s ", sn_stage_key(i));
		sn_tool_quoted(out, q->keys[i]);
	}
	fprintf(out, " --seed %" PRIu64 " --first %" PRIu64 " --count 1", q->seed, number);
	fclose(out);
	return text;
}

static int difference(struct run *run, struct sn_diff_case *c, struct sn_diff_found *found)
{
	struct sn_diff *d = run->d;
	struct sn_diff_report report = {
		.reduced = c,
		.entries = (unsigned)(c->bytes / RECORD_BYTES),
		.json = run->json,
	};
	char *command = again(run, c->number), *image = NULL;
	int status;

	progress(run, true);
	report.steady = sn_diff_reduce(d, c, found);
	if (found->class.kind == SN_DIFF_HANG && !report.steady) {
		/* A busy machine, not the walker. */
		fprintf(stderr,
		        "case %" PRIu64 ": no answer in %u ms, but when it was asked again\n",
		        c->number, d->walker.timeout_ms);
		free(command);
		return 0;
	}
	report.number = ++run->differences;
	report.found = *found;
	report.again = command ? command : "";
	if (run->q->save) {
		size_t size = strlen(run->q->save) + 16;

		image = malloc(size);
		if (image && report.number > 1)
			snprintf(image, size, "%s.%u", run->q->save, report.number);
		else if (image)
			snprintf(image, size, "%s", run->q->save);
	}
	report.image = image;
	d->known[d->knowns++ % SN_DIFF_CLASSES_MAX] = found->class;
	status = sn_diff_show(d, &report);
	free(image);
	free(command);
	return status;
}

static int loop(struct run *run, struct sn_diff_case *c)
{
	const struct query *q = run->q;
	struct sn_diff_found found;
	int status = 0;

	for (uint64_t n = q->first; !status && !interrupted; n++) {
		if (q->count_given && run->cases == q->count)
			break;
		if (q->seconds && now_ns() - run->began_ns >= q->seconds * 1000000000)
			break;
		snest_thread_quiescent();
		sn_diff_case_make(run->d, n, c);
		run->cases++;
		if (sn_diff_case_run(run->d, c, false, NULL, &found))
			status = difference(run, c, &found);
		if (q->differences && run->differences >= q->differences)
			break;
		progress(run, false);
	}
	progress(run, true);
	return status;
}

static void begin_json(struct run *run)
{
	const struct sn_diff *d = run->d;
	struct sn_json *json = run->json;

	sn_json_begin(json, stdout);
	sn_json_open(json, NULL, '{');
	sn_json_string(json, "version", snest_version());
	sn_json_string(json, "walker", d->walker.name);
	sn_json_hex(json, "seed", d->seed);
	sn_json_open(json, "stages", '[');
	for (unsigned i = 0; i < d->stages; i++)
		sn_json_string(json, NULL, d->stage[i].name);
	sn_json_close(json, ']');
	sn_json_open(json, "differences", '[');
}

static void end_json(struct run *run)
{
	const struct sn_diff *d = run->d;
	struct sn_json *json = run->json;

	sn_json_close(json, ']');
	sn_json_number(json, "cases", run->cases);
	sn_json_number(json, "questions", d->asked);
	sn_json_number(json, "compared", d->compared);
	sn_json_number(json, "not_looked_at", d->skipped);
	sn_json_close(json, '}');
	sn_json_end(json);
}

static void end_text(const struct run *run)
{
	const struct sn_diff *d = run->d;

	printf("%s: %u %s, %u difference%s in %" PRIu64 " cases: %" PRIu64 " questions, %" PRIu64
	       " compared",
	       d->walker.name, d->stages, d->stages == 1 ? "stage" : "stages", run->differences,
	       run->differences == 1 ? "" : "s", run->cases, d->asked, d->compared);
	if (d->skipped)
		printf(", %" PRIu64 " more differences not looked at", d->skipped);
	fputc('\n', stdout);
}

static int run_all(struct sn_diff *d, struct query *q)
{
	struct sn_diff_case *c = malloc(sizeof(*c));
	struct sigaction action = {.sa_handler = interrupt}, before;
	struct sn_json json;
	struct run run = {.d = d, .q = q, .json = q->json ? &json : NULL};
	double seconds;
	int status;

	if (!c)
		return sn_tool_error(d->tool, "out of memory");
	if (run.json)
		begin_json(&run);
	sigaction(SIGINT, &action, &before);
	run.began_ns = run.shown_ns = now_ns();
	status = loop(&run, c);
	seconds = (double)(now_ns() - run.began_ns) / 1e9;
	sigaction(SIGINT, &before, NULL);
	if (run.json)
		end_json(&run);
	else
		end_text(&run);
	fflush(stdout);
	if (!q->quiet)
		fprintf(stderr, "%.1f s: %.0f cases and %.0f questions a second\n", seconds,
		        (double)run.cases / seconds, (double)d->asked / seconds);
	free(c);
	return status ? status : run.differences ? SN_EXIT_FAULT : SN_EXIT_OK;
}

static int prepare(struct sn_diff *d, const struct query *q)
{
	void *memory;
	int status;

	d->seed = q->seed;
	d->family = UINT64_MAX;
	d->walker.file = q->walker;
	d->walker.timeout_ms = (unsigned)q->timeout_ms;
	memory =
		mmap(NULL, IMAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return sn_tool_error(d->tool, "out of memory");
	d->words = memory;
	status = sn_diff_walker_start(d->tool, &d->walker);
	if (status)
		return status;
	for (uint32_t access = 0; access < 16; access++) {
		if (d->walker.declared.accesses & SNEST_WALKER_ACCESS(access))
			d->access[d->accesses++] = access;
	}
	if (!d->accesses)
		return sn_tool_error(d->tool, "--walker %s: it declares no kind of access",
		                     q->walker);
	if (d->walker.declared.memory_bits && d->walker.declared.memory_bits < IMAGE_LG2 + 2)
		return sn_tool_error(d->tool, "--walker %s: memory_bits is less than %d", q->walker,
		                     IMAGE_LG2 + 2);
	return 0;
}

int sn_cmd_difffuzz(struct sn_tool *tool, int argc, char **argv)
{
	struct query q = {.seed = 1, .differences = 1, .timeout_ms = TIMEOUT_DEFAULT};
	struct sn_diff *d = calloc(1, sizeof(*d));
	int status;

	if (!d)
		return sn_tool_error(tool, "out of memory");
	d->tool = tool;
	status = parse(tool, &q, d, argc, argv);
	if (q.help && !status) {
		help();
	} else if (!status) {
		status = prepare(d, &q);
		if (!status)
			status = open_stages(d, &q);
		if (!status) {
			snest_thread_register();
			status = run_all(d, &q);
			snest_thread_unregister();
		}
		sn_diff_walker_stop(&d->walker);
		sn_diff_stages_destroy(d);
	}
	free(d);
	return status;
}
