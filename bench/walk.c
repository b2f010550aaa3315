/* SPDX-License-Identifier: MIT */
/*
 * Walks of guests' tables: what a miss costs before it is published.
 *
 * Per format, alone and behind it one and two second stages of its architecture,
 * with small pages; once with large ones. Then the enumeration of a million pages.
 * The limit of a walk is as many dependent loads, from the first-level cache, as
 * it has to read entries: a table of stage k is found through all stages behind.
 */
#include <stdlib.h>
#include <string.h>
#include "bench/families.h"
#include "bench/limits.h"
#include "walkers/walk.h"

#define BLOCK 256u

enum {
	ARG_FORMAT,
	ARG_STAGES,
	ARG_LARGE,
	ARG_LEAVES
};

struct walk {
	struct guest *guest;
	struct snest_table *table[3]; /* stage 0 last: its memory lies behind the others */
	struct snest_stage stage[3];
	struct sn_stages prepared;
	unsigned stages;
	unsigned loads; /* entries that a walk reads */
	uint64_t next[512];
	uint64_t runs;
};

static void run_chase(struct gb_run *run, void *group, uint64_t arg)
{
	struct walk *w = group;
	uint64_t at = 0;

	(void)arg;
	while (gb_next(run, BLOCK)) {
		for (unsigned i = 0; i < BLOCK; i++)
			at = chase(w->next, at, w->loads);
	}
	gb_keep(at);
}

/* The engine's own entrance: stages that were checked before. */
static void run_collapse(struct gb_run *run, void *group, uint64_t arg)
{
	struct walk *w = group;
	struct sn_target target;
	struct sn_env env;
	int bad = 0;

	(void)arg;
	while (gb_next(run, BLOCK)) {
		for (unsigned i = 0; i < BLOCK; i++) {
			sn_read_begin();
			sn_env_init(&env, w->guest->vm, w->prepared.pt, w->prepared.count);
			bad |= sn_collapse(&env, 0, GIB + (i & 7) * PAGE, SNEST_READ, &target,
			                   NULL);
			sn_read_end();
		}
	}
	if (bad)
		gb_fail(run, "a walk faults");
}

static void run_public(struct gb_run *run, void *group, uint64_t arg)
{
	struct walk *w = group;
	struct snest_walk result;
	unsigned bad = 0;

	(void)arg;
	while (gb_next(run, BLOCK)) {
		for (unsigned i = 0; i < BLOCK; i++) {
			if (snest_walk(w->guest->vm, w->stage, w->stages, GIB + (i & 7) * PAGE,
			               SNEST_READ, 0, &result, NULL, NULL))
				bad++;
			bad += result.outcome == SNEST_WALK_FAULT;
		}
	}
	if (bad)
		gb_fail(run, "a walk faults");
}

static int count_run(void *opaque, const struct snest_run *run)
{
	(void)run;
	++*(uint64_t *)opaque;
	return 0;
}

static void run_enumerate(struct gb_run *run, void *group, uint64_t expected)
{
	struct walk *w = group;
	const struct guest *g = w->guest;

	while (gb_next(run, g->shape.leaves)) {
		struct snest_walk_range range = {
			.size = sizeof(range),
			.last = g->shape.leaves * PAGE - 1,
		};

		w->runs = 0;
		must(snest_walk_range(g->vm, snest_table_stage(g->table), 1, &range, count_run,
		                      &w->runs),
		     "enumeration");
	}
	if (w->runs != expected)
		gb_fail(run, "runs are missing");
}

/* ---- Groups ------------------------------------------------------------------------- */

/* The second stage of a format's architecture. */
static unsigned second_stage(unsigned format)
{
	switch (format) {
	case SNEST_FORMAT_AMD_V1:
	case SNEST_FORMAT_AMD_V2:
		return SNEST_FORMAT_AMD_V1;
	case SNEST_FORMAT_ARM_S1:
	case SNEST_FORMAT_ARM_S2:
		return SNEST_FORMAT_ARM_S2;
	case SNEST_FORMAT_RISCV32:
	case SNEST_FORMAT_RISCV64:
		return SNEST_FORMAT_RISCV64;
	default:
		return SNEST_FORMAT_VTD_SS;
	}
}

/* Each table of a stage, and what comes out of it, goes through the stages behind. */
static unsigned loads_of(unsigned levels, unsigned behind)
{
	return levels * (behind + 1) + behind;
}

static void *setup(const uint64_t *arg)
{
	struct guest_shape shape = {.leaves = 4096, .lg2 = 12};
	struct walk *w = must_alloc(sizeof(*w), 64);

	memset(w, 0, sizeof(*w));
	w->guest = guest_create(&shape);
	w->stages = (unsigned)arg[ARG_STAGES];
	for (unsigned i = 0; i < 512; i++)
		w->next[i] = (i + 1) % 8;
	/* The last stage first: those behind it map all of RAM to itself. */
	for (unsigned k = w->stages; k-- > 0;) {
		bool first = k == 0;
		struct snest_stage stage =
			guest_stage(first ? (unsigned)arg[ARG_FORMAT]
		                          : second_stage((unsigned)arg[ARG_FORMAT]));
		uint32_t page = arg[ARG_LARGE] ? 0 : SNEST_TABLE_PAGE(12);

		/* Large pages are of 1 GiB: two levels less. */
		w->loads = loads_of(stage.levels - (arg[ARG_LARGE] && !first ? 2 : 0), w->loads);
		must(snest_table_create(w->guest->vm, &stage, &w->guest->memory, &w->table[k]),
		     "table");
		if (first)
			must(snest_table_map(w->table[k], GIB, GIB + 8 * PAGE - 1, PAGE, RW,
			                     FLAGS_RW, SNEST_TABLE_PAGE(12)),
			     "map");
		else
			must(snest_table_map(w->table[k], 0, GIB - 1, 0, RW, FLAGS_RW, page),
			     "map");
		w->stage[k] = *snest_table_stage(w->table[k]);
	}
	must(sn_stages_prepare(&w->prepared, w->guest->vm, w->stage, w->stages), "stages");
	return w;
}

static void *setup_enumerate(const uint64_t *arg)
{
	struct guest_shape shape = {
		.leaves = arg[ARG_LEAVES],
		.lg2 = 12,
		.contiguous = arg[ARG_LARGE],
	};
	struct walk *w = must_alloc(sizeof(*w), 64);

	memset(w, 0, sizeof(*w));
	w->guest = guest_create(&shape);
	return w;
}

static void teardown(void *group)
{
	struct walk *w = group;

	for (unsigned i = 0; i < 3; i++)
		snest_table_destroy(w->table[i]);
	guest_destroy(w->guest);
	free(w);
}

static const struct gb_member members[] = {
	{"loads", GB_LIMIT, .run = run_chase},
	{"collapse", .run = run_collapse},
	{"snest_walk", .run = run_public},
};

static const struct gb_member scattered_members[] = {
	{"walk_range", .run = run_enumerate, .arg = MIB},
};

static const struct gb_member contiguous_members[] = {
	{"walk_range", .run = run_enumerate, .arg = 1},
};

void walk_add(struct gb_suite *suite)
{
	struct gb_group group = {
		.setup = setup,
		.teardown = teardown,
		.members = members,
		.count = 3,
	};

	for (unsigned stages = 1; stages <= 3; stages++) {
		group.arg[ARG_STAGES] = stages;
		for (unsigned format = 1; format < SNEST_FORMAT_COUNT; format++) {
			group_name(&group, "walk/%u stage%s/%s", stages, stages > 1 ? "s" : "",
			           snest_format_name(format));
			group.arg[ARG_FORMAT] = format;
			gb_add(suite, &group);
		}
	}
	group.arg[ARG_FORMAT] = SNEST_FORMAT_X86_64;
	group.arg[ARG_LARGE] = 1;
	for (unsigned stages = 2; stages <= 3; stages++) {
		group_name(&group, "walk/%u stages/x86-64 large", stages);
		group.arg[ARG_STAGES] = stages;
		gb_add(suite, &group);
	}
	group.arg[ARG_LARGE] = 0;
	group.setup = setup_enumerate;
	group.arg[ARG_LEAVES] = MIB;
	group.count = 1;
	group_name(&group, "walk/enumerate/scattered");
	group.arg[ARG_LARGE] = 0;
	group.members = scattered_members;
	gb_add(suite, &group);
	group_name(&group, "walk/enumerate/contiguous");
	group.arg[ARG_LARGE] = 1;
	group.members = contiguous_members;
	gb_add(suite, &group);
}
