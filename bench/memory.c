/* SPDX-License-Identifier: MIT */
/*
 * Memory: bytes of shadow per mapped page, and hostile tables against a budget.
 *
 * What counts here is the counter beside the time: bytes_per_page, of tables in
 * use for each 4 KiB that are mapped. The time is that of one leaf. The limit is
 * a flat array: 8 bytes.
 */
#include <stdlib.h>
#include <string.h>
#include "bench/families.h"
#include "bench/limits.h"

enum shape {
	DENSE,
	SPARSE,
	CONTIGUOUS,
	LARGE, /* the guest maps pages of 2 MiB, which lie anywhere */
	SHAPES
};

struct memory {
	struct guest *guest;
	bool mirrored;
};

static double table_bytes(const struct guest *g)
{
	struct snest_space_stats stats = {.size = sizeof(stats)};

	must(snest_space_stats(g->space, &stats), "statistics");
	return (double)stats.table_bytes;
}

static void run_fill(struct gb_run *run, void *group, uint64_t mirror)
{
	struct memory *m = group;
	struct guest *g = m->guest;
	double bytes = 0;

	while (gb_next(run, g->shape.leaves)) {
		uint64_t start;

		if (m->mirrored)
			snest_space_unmirror(g->space);
		m->mirrored = g->mirrored = false;
		snest_space_invalidate(g->space, 0, UINT64_MAX, 0);
		guest_settle(g);
		start = now_ns();
		if (mirror)
			guest_mirror(g);
		else
			guest_fill(g);
		gb_manual(run, now_ns() - start);
		m->mirrored = mirror;
		bytes = table_bytes(g);
	}
	gb_counter(run, "bytes_per_page", bytes / (double)(g->shape.leaves << g->shape.lg2) * PAGE);
}

/* A table whose every entry points to itself maps 2^36 pages with one page of memory. */
#define BOMB_BUDGET (64 * MIB)
#define BOMB_ENTRIES MIB
#define BOMB_BLOCK 64u

static int sink_apply(void *opaque, const struct snest_sink_op *ops, size_t count, size_t *done)
{
	(void)opaque;
	(void)ops;
	*done = count;
	return 0;
}

struct bomb {
	struct guest *guest;
	struct snest_space *space;
	struct snest_device *device;
};

/* A sink wants all of it. The map must fail, in bounded time, and leave nothing. */
static void run_bomb_mirror(struct gb_run *run, void *group, uint64_t arg)
{
	struct snest_space_stats stats = {.size = sizeof(stats)};
	const struct snest_sink sink = {
		.size = sizeof(sink),
		.flags = SNEST_SINK_CAN_SPLIT,
		.apply = sink_apply,
	};
	struct bomb *b = group;

	(void)arg;
	while (gb_next(run, 1)) {
		if (!snest_space_mirror(b->space, &sink)) {
			snest_space_unmirror(b->space);
			gb_counter(run, "mirrored", 1);
		}
	}
	must(snest_space_stats(b->space, &stats), "statistics");
	gb_counter(run, "of_budget", (double)stats.table_bytes / (double)BOMB_BUDGET);
}

static void run_bomb(struct gb_run *run, void *group, uint64_t arg)
{
	struct snest_space_stats stats = {.size = sizeof(stats)};
	struct bomb *b = group;
	struct snest_translation t;
	uint64_t seed = 7, most = 0;

	(void)arg;
	while (gb_next(run, BOMB_BLOCK)) {
		for (unsigned i = 0; i < BOMB_BLOCK; i++) {
			snest_read_begin();
			snest_translate(b->device, random_next(&seed) << 16, SNEST_READ, &t, NULL);
			snest_read_end();
		}
		/* At the budget all is forgotten, so what is there at the end says little. */
		must(snest_space_stats(b->space, &stats), "statistics");
		most = stats.table_bytes > most ? stats.table_bytes : most;
	}
	gb_counter(run, "of_budget", (double)most / (double)BOMB_BUDGET);
}

/* ---- Groups --------------------------------------------------------------------------- */

static void *setup(const uint64_t *arg)
{
	struct guest_shape shape = {.leaves = arg[0], .lg2 = 12};
	struct memory *m = must_alloc(sizeof(*m), 64);

	memset(m, 0, sizeof(*m));
	if (arg[1] == LARGE)
		shape.lg2 = 21;
	shape.spread = arg[1] == SPARSE ? 512 : 1;
	shape.contiguous = arg[1] == CONTIGUOUS;
	m->guest = guest_create(&shape);
	return m;
}

static void teardown(void *group)
{
	struct memory *m = group;

	guest_destroy(m->guest);
	free(m);
}

static void *setup_bomb(const uint64_t *arg)
{
	const struct guest_shape shape = {.leaves = 1, .lg2 = 12};
	struct bomb *b = must_alloc(sizeof(*b), 64);
	struct snest_stage stage = guest_stage(SNEST_FORMAT_VTD_SS);
	struct snest_space_config config = {
		.size = sizeof(config),
		.stages = &stage,
		.count = 1,
		.flags = SNEST_SPACE_ANNOUNCED,
		.tag = {.domain = 2},
		.sync_entries_max = BOMB_ENTRIES,
		.table_bytes_max = BOMB_BUDGET,
	};
	uint64_t *table;

	(void)arg;
	b->guest = guest_create(&shape);
	table = b->guest->memory.alloc(b->guest->memory.opaque, 12);
	stage.root = (uint64_t)((char *)table - b->guest->ram.base);
	for (unsigned i = 0; i < 512; i++)
		table[i] = stage.root | RW;
	must(snest_space_get(b->guest->vm, &config, &b->space), "space");
	must(snest_device_create(b->guest->vm, 9, NULL, NULL, &b->device), "device");
	must(snest_device_bind(b->device, SNEST_NO_PASID, b->space), "bind");
	return b;
}

static void teardown_bomb(void *group)
{
	struct bomb *b = group;

	snest_device_destroy(b->device);
	snest_space_put(b->space);
	guest_destroy(b->guest);
	free(b);
}

static const struct gb_member members[] = {
	{"fill", .flags = GB_MANUAL, .run = run_fill, .arg = 0},
	{"mirror", .flags = GB_MANUAL, .run = run_fill, .arg = 1},
};

static const struct gb_member bomb_members[] = {
	{"lookups", .iterations = 20480, .run = run_bomb},
	{"mirror", .flags = GB_REAL_TIME, .iterations = 1, .run = run_bomb_mirror},
};

void memory_add(struct gb_suite *suite)
{
	static const char *const names[SHAPES] = {"dense", "sparse", "contiguous", "2M"};
	uint64_t leaves = gb_quick(suite) ? 256 * KIB : MIB;
	struct gb_group group = {.setup = setup, .teardown = teardown};

	group.members = members;
	group.count = 2;
	for (unsigned shape = 0; shape < SHAPES; shape++) {
		group_name(&group, "memory/%s", names[shape]);
		group.arg[0] = shape == SPARSE || shape == LARGE ? 2 * KIB : leaves;
		group.arg[1] = shape;
		gb_add(suite, &group);
	}
	group_name(&group, "memory/bomb");
	group.setup = setup_bomb;
	group.teardown = teardown_bomb;
	group.members = bomb_members;
	group.count = 2;
	gb_add(suite, &group);
}
