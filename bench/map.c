/* SPDX-License-Identifier: MIT */
/*
 * Map and unmap of one table, every format and page size.
 *
 * The shape of the kernel's page-table micro-benchmark, so that figures can be
 * laid side by side: one mapping, or 256 in one call, made and taken away again
 * in a table that stays. The limit is the same release stores to the same
 * entries, with nothing found or checked. Cold mappings need three new tables
 * (two for a large page); far ones are in another table each time.
 */
#include <stdlib.h>
#include <string.h>
#include "bench/families.h"
#include "bench/limits.h"

#define BLOCK 256u
#define COLD 64u
#define FAR 64u

struct map {
	struct guest *guest; /* for its VM and RAM; its own table is not used */
	struct snest_stage shape;
	struct snest_table *table;
	uint64_t *entry; /* one table, for the stores */
};

/* Members. arg: the size of a leaf, lg2, and how many of them one mapping has. */
#define LEAVES(lg2, count) ((lg2) | (uint64_t)(count) << 8)
#define POOL ((uint64_t)1 << 32)

static inline uint32_t page_of(uint64_t arg)
{
	return SNEST_TABLE_PAGE(arg & 0xff);
}

static inline uint64_t bytes_of(uint64_t arg)
{
	return (arg >> 8 & 0xffff) << (arg & 0xff);
}

static inline uint64_t at(uint64_t bytes, unsigned i)
{
	/* Small mappings go round in a table, large ones stay where they are. */
	return bytes == PAGE ? GIB + (i & 255) * PAGE : GIB;
}

static void run_both(struct gb_run *run, void *group, uint64_t arg)
{
	struct map *m = group;
	uint64_t bytes = bytes_of(arg);
	uint32_t page = page_of(arg);
	int bad = 0;

	while (gb_next(run, BLOCK)) {
		for (unsigned i = 0; i < BLOCK; i++) {
			uint64_t first = at(bytes, i);

			bad |= snest_table_map(m->table, first, first + bytes - 1, first, RW,
			                       FLAGS_RW, page);
			bad |= snest_table_unmap(m->table, first, first + bytes - 1, 0, NULL);
		}
	}
	if (bad)
		gb_fail(run, "map or unmap");
}

/* 256 single pages mapped, then unmapped: each call alone, the two told apart. */
static void run_apart(struct gb_run *run, void *group, uint64_t unmapping)
{
	struct map *m = group;
	int bad = 0;

	while (gb_next(run, BLOCK)) {
		uint64_t start = now_ns(), middle, end;

		for (unsigned i = 0; i < BLOCK; i++)
			bad |= snest_table_map(m->table, GIB + i * PAGE, GIB + i * PAGE + PAGE - 1,
			                       GIB + i * PAGE, RW, FLAGS_RW, SNEST_TABLE_PAGE(12));
		middle = now_ns();
		for (unsigned i = 0; i < BLOCK; i++)
			bad |= snest_table_unmap(m->table, GIB + i * PAGE,
			                         GIB + i * PAGE + PAGE - 1, 0, NULL);
		end = now_ns();
		gb_manual(run, unmapping ? end - middle : middle - start);
	}
	if (bad)
		gb_fail(run, "map or unmap");
}

/* Single pages, each in another table than the one before. */
static void run_far(struct gb_run *run, void *group, uint64_t arg)
{
	struct map *m = group;
	int bad = 0;

	(void)arg;
	while (gb_next(run, BLOCK)) {
		for (unsigned i = 0; i < BLOCK; i++) {
			uint64_t first = GIB + i % FAR * (2 * MIB);

			bad |= snest_table_map(m->table, first, first + PAGE - 1, first, RW,
			                       FLAGS_RW, SNEST_TABLE_PAGE(12));
			first = GIB + (i + FAR / 2) % FAR * (2 * MIB);
			bad |= snest_table_unmap(m->table, first, first + PAGE - 1, 0, NULL);
		}
	}
	if (bad)
		gb_fail(run, "map or unmap");
}

/* The stores of as many 4 KiB leaves: an entry is as large for any leaf. */
static void run_stores(struct gb_run *run, void *group, uint64_t arg)
{
	uint64_t bytes = bytes_of(arg);
	struct map *m = group;
	int bad = 0;

	while (gb_next(run, BLOCK)) {
		for (unsigned i = 0; i < BLOCK; i++) {
			uint64_t first = at(bytes, i);

			bad |= stores_map(m->entry, first, first + bytes - 1, first, RW, FLAGS_RW,
			                  0);
			bad |= stores_unmap(m->entry, first, first + bytes - 1, 0, NULL);
		}
	}
	gb_keep(bad);
}

/* Pages 512 GiB apart, each of which needs all tables below the root. They go untimed. */
static void run_cold(struct gb_run *run, void *group, uint64_t arg)
{
	uint64_t bytes = bytes_of(arg);
	bool pool = arg & POOL;
	struct map *m = group;
	int bad = 0;

	while (gb_next(run, COLD)) {
		struct snest_table *table;
		uint64_t start;

		must(snest_table_create(m->guest->vm, &m->shape, pool ? NULL : &m->guest->memory,
		                        &table),
		     "table");
		start = now_ns();
		for (uint64_t i = 1; i <= COLD; i++)
			bad |= snest_table_map(table, i << 39, (i << 39) + bytes - 1, GIB, RW,
			                       FLAGS_RW, page_of(arg));
		gb_manual(run, now_ns() - start);
		snest_table_destroy(table);
		if (pool)
			snest_drain(m->guest->vm, 0);
	}
	if (bad)
		gb_fail(run, "map");
}

/* ---- Groups --------------------------------------------------------------------------- */

static void *setup(const uint64_t *arg)
{
	const struct guest_shape shape = {.leaves = 1, .lg2 = 12};
	struct map *m = must_alloc(sizeof(*m), 64);

	memset(m, 0, sizeof(*m));
	m->guest = guest_create(&shape);
	m->shape = guest_stage((unsigned)arg[0]);
	must(snest_table_create(m->guest->vm, &m->shape, &m->guest->memory, &m->table), "table");
	/* Neighbours, so that tables are neither made nor freed by what is measured. */
	must(snest_table_map(m->table, GIB + 511 * PAGE, GIB + 512 * PAGE - 1, GIB, RW, FLAGS_RW,
	                     SNEST_TABLE_PAGE(12)),
	     "map");
	m->entry = must_map(PAGE);
	return m;
}

/* Large leaves take the place of tables, so these have a table of their own. */
static void *setup_large(const uint64_t *arg)
{
	struct map *m = setup(arg);

	must(snest_table_unmap(m->table, GIB + 511 * PAGE, GIB + 512 * PAGE - 1, 0, NULL), "unmap");
	must(snest_table_map(m->table, 2 * GIB - 2 * MIB, 2 * GIB - 1, 0, RW, FLAGS_RW, 0), "map");
	return m;
}

static void *setup_giant(const uint64_t *arg)
{
	struct map *m = setup(arg);

	must(snest_table_unmap(m->table, GIB + 511 * PAGE, GIB + 512 * PAGE - 1, 0, NULL), "unmap");
	must(snest_table_map(m->table, 510 * GIB, 511 * GIB - 1, 0, RW, FLAGS_RW, 0), "map");
	return m;
}

/* Neighbours in every table; half of the pages that come and go are there. */
static void *setup_far(const uint64_t *arg)
{
	struct map *m = setup(arg);

	for (unsigned i = 0; i < FAR; i++) {
		uint64_t first = GIB + i * (2 * MIB);

		if (i)
			must(snest_table_map(m->table, first + 511 * PAGE, first + 512 * PAGE - 1,
			                     GIB, RW, FLAGS_RW, SNEST_TABLE_PAGE(12)),
			     "map");
		if (i >= FAR / 2)
			must(snest_table_map(m->table, first, first + PAGE - 1, GIB, RW, FLAGS_RW,
			                     SNEST_TABLE_PAGE(12)),
			     "map");
	}
	return m;
}

static void teardown(void *group)
{
	struct map *m = group;

	snest_table_destroy(m->table);
	unmap(m->entry, PAGE);
	guest_destroy(m->guest);
	free(m);
}

static const struct gb_member small_members[] = {
	{"stores", GB_LIMIT, .run = run_stores, .arg = LEAVES(12, 1)},
	{"map and unmap", .run = run_both, .arg = LEAVES(12, 1)},
	{"map", .flags = GB_MANUAL, .run = run_apart, .arg = 0},
	{"unmap", .flags = GB_MANUAL, .run = run_apart, .arg = 1},
};

static const struct gb_member many_members[] = {
	{"stores", GB_LIMIT, .run = run_stores, .arg = LEAVES(12, 256)},
	{"map and unmap", .run = run_both, .arg = LEAVES(12, 256)},
};

static const struct gb_member large_members[] = {
	{"stores", GB_LIMIT, .run = run_stores, .arg = LEAVES(12, 1)},
	{"map and unmap", .run = run_both, .arg = LEAVES(21, 1)},
};

static const struct gb_member large_many_members[] = {
	{"stores", GB_LIMIT, .run = run_stores, .arg = LEAVES(12, 256)},
	{"map and unmap", .run = run_both, .arg = LEAVES(21, 256)},
};

static const struct gb_member giant_members[] = {
	{"stores", GB_LIMIT, .run = run_stores, .arg = LEAVES(12, 1)},
	{"map and unmap", .run = run_both, .arg = LEAVES(30, 1)},
};

static const struct gb_member giant_many_members[] = {
	{"stores", GB_LIMIT, .run = run_stores, .arg = LEAVES(12, 256)},
	{"map and unmap", .run = run_both, .arg = LEAVES(30, 256)},
};

static const struct gb_member far_members[] = {
	{"stores", GB_LIMIT, .run = run_stores, .arg = LEAVES(12, 1)},
	{"map and unmap", .run = run_far},
};

static const struct gb_member cold_members[] = {
	{"caller's memory", .flags = GB_MANUAL, .run = run_cold, .arg = LEAVES(12, 1)},
	{"pool", .flags = GB_MANUAL, .run = run_cold, .arg = LEAVES(12, 1) | POOL},
	{"pool, 256x4K", .flags = GB_MANUAL, .run = run_cold, .arg = LEAVES(12, 256) | POOL},
	{"pool, 2M", .flags = GB_MANUAL, .run = run_cold, .arg = LEAVES(21, 1) | POOL},
};

static void add(struct gb_suite *suite, unsigned format, const char *what,
                void *(*own)(const uint64_t *), const struct gb_member *members, unsigned count)
{
	struct gb_group group = {
		.setup = own,
		.teardown = teardown,
		.arg = {format},
		.members = members,
		.count = count,
	};

	group_name(&group, "map/%s/%s", snest_format_name(format), what);
	gb_add(suite, &group);
}

void map_add(struct gb_suite *suite)
{
	for (unsigned format = 1; format < SNEST_FORMAT_COUNT; format++) {
		bool wide = format != SNEST_FORMAT_RISCV32;

		add(suite, format, "4K", setup, small_members, 4);
		add(suite, format, "256x4K", setup, many_members, 2);
		add(suite, format, "far", setup_far, far_members, 2);
		if (!wide)
			continue;
		add(suite, format, "2M", setup_large, large_members, 2);
		add(suite, format, "256x2M", setup_large, large_many_members, 2);
		add(suite, format, "1G", setup_giant, giant_members, 2);
		add(suite, format, "256x1G", setup_giant, giant_many_members, 2);
		if (format != SNEST_FORMAT_ARM_S2)
			add(suite, format, "cold", setup, cold_members, 4);
	}
}
