/* SPDX-License-Identifier: MIT */
/*
 * `snest difffuzz`: the loop over cases, and what is printed around differences
 * (tools/difffuzz.h).
 */
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "tools/difffuzz_query.h"

#define TIMEOUT_DEFAULT 1000
#define PROGRESS_NS UINT64_C(250000000)

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

struct run {
	struct sn_diff *d;
	const struct sn_diff_query *q;
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
	const struct sn_diff_query *q = run->q;
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	sn_tool_quoted(out, run->d->tool->program);
	fputs(" difffuzz --walker ", out);
	sn_tool_quoted(out, q->walker);
	for (unsigned i = 0; sn_stage_key(i); i++) {
		if (!q->keys[i] || sn_diff_key_is_root(sn_stage_key(i)))
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
	const struct sn_diff_query *q = run->q;
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

static int run_all(struct sn_diff *d, struct sn_diff_query *q)
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

static int prepare(struct sn_diff *d, const struct sn_diff_query *q)
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
	struct sn_diff_query q = {.seed = 1, .differences = 1, .timeout_ms = TIMEOUT_DEFAULT};
	struct sn_diff *d = calloc(1, sizeof(*d));
	int status;

	if (!d)
		return sn_tool_error(tool, "out of memory");
	d->tool = tool;
	status = sn_diff_parse(tool, &q, d, argc, argv);
	if (q.help && !status) {
		sn_diff_help();
	} else if (!status) {
		status = prepare(d, &q);
		if (!status)
			status = sn_diff_stages_open(d, &q);
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
