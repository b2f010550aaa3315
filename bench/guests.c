/* SPDX-License-Identifier: MIT */
/*
 * Recorded guests, lived again: what a translation and a command cost on average
 * in a real life, misses and waits included.
 *
 * The traces are those of the tests, and the replay is the one of `snest replay`,
 * with its clock around each. So a translation carries two readings of the clock,
 * and every answer was checked as well, without being timed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "bench/families.h"
#include "bench/setup.h"
#include "tools/replay.h"

static const char *const names[] = {
	"vtd-legacy-cm",      "vtd-scalable-fs",    "vtd-legacy-lazy",
	"vtd-scalable-ss-cm", "vtd-legacy-cm-vfio",
};

struct life {
	struct sn_replay replay;
	struct sn_replay_options options;
	struct sn_tool tool;
	char path[256];
	uint64_t ns[2]; /* of the latest replay: a translation, a command */
	bool used[2];   /* that figure has been given already */
};

/* The clock, read twice. */
static void run_clock(struct gb_run *run, void *group, uint64_t arg)
{
	uint64_t sum = 0;

	(void)group;
	(void)arg;
	while (gb_next(run, 256)) {
		for (unsigned i = 0; i < 256; i++) {
			sum -= now_ns();
			sum += now_ns();
		}
	}
	gb_keep(sum);
}

static int replay(struct life *l)
{
	struct sn_replay *r = &l->replay;

	memset(r, 0, sizeof(*r));
	r->options = &l->options;
	r->tool = &l->tool;
	r->file = l->path;
	if (sn_replay_run(r) || sn_replay_wrong(&r->counts))
		return -EINVAL;
	l->ns[0] = r->counts.lookup_ns / r->counts.checked;
	l->ns[1] = r->doorbell.total / r->vtd_stats.descriptors;
	l->used[0] = l->used[1] = false;
	return 0;
}

/* A life is long: each gives one figure of either kind. */
static void run_life(struct gb_run *run, void *group, uint64_t commands)
{
	struct life *l = group;
	struct sn_replay *r = &l->replay;

	while (gb_next(run, 1)) {
		if (l->used[commands] && replay(l)) {
			gb_fail(run, "the replay went wrong");
			continue;
		}
		l->used[commands] = true;
		gb_manual(run, l->ns[commands]);
	}
	gb_counter(run, "translations", (double)r->counts.checked);
	gb_counter(run, "commands", (double)r->vtd_stats.descriptors);
}

static void *setup(const uint64_t *arg)
{
	struct life *l = must_alloc(sizeof(*l), 64);

	memset(l, 0, sizeof(*l));
	l->options.quiet = true;
	l->used[0] = l->used[1] = true;
	l->tool.program = l->tool.command = "bench";
	snprintf(l->path, sizeof(l->path), "%s/%s.snt.gz", BENCH_TRACES, names[arg[0]]);
	return l;
}

static void teardown(void *group)
{
	free(group);
}

static const struct gb_member members[] = {
	{"clock", GB_LIMIT, .run = run_clock},
	{"translation", .flags = GB_MANUAL, .iterations = 1, .run = run_life, .arg = 0},
	{"command", .flags = GB_MANUAL, .iterations = 1, .run = run_life, .arg = 1},
};

void guests_add(struct gb_suite *suite)
{
	struct gb_group group = {.setup = setup, .teardown = teardown};

	group.members = members;
	group.count = 3;
	group.repetitions = gb_quick(suite) ? 3 : 9;
	for (unsigned i = 0; i < (gb_quick(suite) ? 2 : 5); i++) {
		group_name(&group, "guests/%s", names[i]);
		group.arg[0] = i;
		gb_add(suite, &group);
	}
}
