/* SPDX-License-Identifier: MIT */
/*
 * Page-table bombs (hazard 25): one page of memory whose entries lead back to
 * it at every level maps as much as the format can say. In every format, with
 * the bomb in any of the stages: lookups, invalidations and mirrors stay in
 * their budgets and return in bounded time, and nothing stale stays behind.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include "support/facts.h"
#include "support/guest.h"
#include "support/sink.h"

#define ALL UINT64_MAX
#define RAM 0x400000ull  /* memory of a bomb, at GPA 0 */
#define DATA 0x300000ull /* where the one mapped page leads */
#define HOST 0x40000000ull
#define BUDGET (256ull << 10)
#define SECONDS 10

struct bomb {
	struct snest_vm *vm;
	char *ram;
	struct snest_stage stage;
	struct snest_table *table; /* only to be given back */
};

/* Has a lower half, which bombs are built in. */
static bool usable(const struct test_config *config)
{
	return config->stage.format < SNEST_FORMAT_COUNT &&
	       (config->stage.format != SNEST_FORMAT_ARM_S1 ||
	        !(config->stage.flags & SNEST_STAGE_ARM_EPD0));
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- Building --------------------------------------------------------------- */

static uint64_t get(const struct bomb *b, uint64_t at, unsigned entry_lg2)
{
	uint64_t word = 0;

	memcpy(&word, b->ram + at, (size_t)1 << entry_lg2);
	return word;
}

static void put(struct bomb *b, uint64_t at, unsigned entry_lg2, uint64_t word)
{
	memcpy(b->ram + at, &word, (size_t)1 << entry_lg2);
}

static void *page_alloc(void *opaque, unsigned lg2)
{
	struct bomb *b = opaque;
	uint64_t size = (uint64_t)1 << lg2, at = *(uint64_t *)(void *)b->ram;

	/* The first word of the memory, where no table lies, counts what is used. */
	at = (at + size - 1) & ~(size - 1);
	if (at + size > RAM)
		return NULL;
	*(uint64_t *)(void *)b->ram = at + size;
	return b->ram + at;
}

static void page_free(void *opaque, void *page, unsigned lg2)
{
	(void)opaque, (void)page, (void)lg2;
}

/* An entry that leads to a table at `from`, made to lead to one at `to`. */
static uint64_t redirect(const struct snest_stage *stage, uint64_t entry, unsigned entry_lg2,
                         uint64_t from, uint64_t to)
{
	bool swap = stage->flags & SNEST_STAGE_BIG_ENDIAN;

	if (swap)
		entry = entry_lg2 == 3 ? __builtin_bswap64(entry)
		                       : __builtin_bswap32((uint32_t)entry);
	if (stage->format == SNEST_FORMAT_RISCV32 || stage->format == SNEST_FORMAT_RISCV64)
		entry += (to >> 2) - (from >> 2);
	else
		entry += to - from;
	if (swap)
		entry = entry_lg2 == 3 ? __builtin_bswap64(entry)
		                       : __builtin_bswap32((uint32_t)entry);
	return entry;
}

/*
 * Maps one page, then copies each entry that the way to it used over its whole
 * table: from then on everything is mapped, with one table a level. With
 * `self` the entries of the top table lead to itself, at every level.
 */
static void make(struct bomb *b, const struct test_config *config, bool self)
{
	struct snest_table_memory memory = {.size = sizeof(memory),
	                                    .alloc = page_alloc,
	                                    .free = page_free,
	                                    .opaque = b,
	                                    .delta = 0 - (uint64_t)(uintptr_t)b->ram};
	unsigned entry_lg2 = test_config_entry_lg2(&config->stage);
	unsigned granule = test_config_granule_lg2(&config->stage, 0);
	uint64_t mask = ((uint64_t)1 << granule) - 1;
	struct snest_walk_step step[16];
	struct snest_table *table;
	struct snest_walk walk;
	size_t steps = 16;

	*(uint64_t *)(void *)b->ram = 65536;
	assert_int_equal(snest_table_create(b->vm, &config->stage, &memory, &table), 0);
	assert_int_equal(snest_table_map(table, 0, mask, DATA, SNEST_READ | SNEST_WRITE,
	                                 SNEST_ATTR_USER | SNEST_ATTR_ACCESSED | SNEST_ATTR_DIRTY,
	                                 SNEST_TABLE_PAGE(granule)),
	                 0);
	b->stage = *snest_table_stage(table);
	assert_int_equal(
		snest_walk(b->vm, &b->stage, 1, 0, 0, SNEST_WALK_NO_UPDATE, &walk, step, &steps),
		0);
	assert_true(steps >= 1 && steps <= 6);
	for (unsigned i = 0; i < steps; i++) {
		uint64_t at = step[i].entry_addr & ~mask, entry = get(b, at, entry_lg2);

		if (self && i + 1 < steps)
			entry = redirect(&b->stage, entry, entry_lg2,
			                 step[i + 1].entry_addr & ~mask, at);
		for (uint64_t n = 0; n <= mask >> entry_lg2; n++)
			put(b, at + (n << entry_lg2), entry_lg2, entry);
	}
	/* What the writer thinks of it does not matter: its memory is the bomb's. */
	b->table = table;
}

static void bomb_init(struct bomb *b, const struct test_config *config, bool self,
                      uint64_t vm_budget)
{
	struct snest_vm_config vm = {.size = sizeof(vm), .table_bytes_max = vm_budget};
	struct snest_region region = {.size = sizeof(region), .last = RAM - 1, .host = HOST};

	b->ram = aligned_alloc(RAM, RAM);
	assert_non_null(b->ram);
	memset(b->ram, 0, RAM);
	region.mapping = b->ram;
	assert_int_equal(snest_vm_create(&vm, &b->vm), 0);
	assert_int_equal(snest_memory_add(b->vm, &region), 0);
	make(b, config, self);
}

static void bomb_fini(struct bomb *b)
{
	/* Empty again, so that the writer finds nothing to follow. */
	memset(b->ram + 65536, 0, RAM - 65536);
	snest_table_destroy(b->table);
	snest_vm_destroy(b->vm);
	free(b->ram);
}

static struct snest_space *space_of(struct bomb *b, const struct snest_stage *list, uint32_t count,
                                    uint64_t budget, uint64_t entries)
{
	struct snest_space_config config = {.size = sizeof(config),
	                                    .stages = list,
	                                    .count = count,
	                                    .flags = SNEST_SPACE_ANNOUNCED,
	                                    .table_bytes_max = budget,
	                                    .sync_entries_max = entries};
	struct snest_space *space;

	assert_int_equal(snest_space_get(b->vm, &config, &space), 0);
	return space;
}

static uint64_t table_bytes(struct snest_space *space)
{
	struct snest_space_stats stats = {.size = sizeof(stats)};

	assert_int_equal(snest_space_stats(space, &stats), 0);
	return stats.table_bytes;
}

/* ---- Tests -------------------------------------------------------------------- */

/* Addresses all over the place: each is found, and the shadow stays in its budget. */
static void look_around(struct snest_space *space, const struct snest_stage *stage)
{
	struct test_random random = {5};
	unsigned bits = fact_input_bits(stage, 0) - fact_signed(stage), found = 0;
	uint64_t mask = bits >= 64 ? ALL : ((uint64_t)1 << bits) - 1;

	for (unsigned i = 0; i < 5000; i++) {
		struct snest_translation t;

		snest_read_begin();
		found += !snest_space_translate(space, test_random(&random) & mask, SNEST_READ, &t,
		                                NULL);
		snest_read_end();
		if (i % 64 == 0) {
			assert_in_range(table_bytes(space), 0, BUDGET);
			assert_int_equal(snest_space_invalidate(space, test_random(&random) & mask,
			                                        ALL >> (i % 20), 0),
			                 0);
		}
	}
	/* A table entry need not be a leaf at the last level. */
	(void)found;
}

static void test_hazard_25_lookups_in_every_format(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2 * test_configs_count; i++) {
		const struct test_config *config = &test_configs[i / 2];
		struct snest_space *space;
		double begun = now();
		struct bomb b;

		if (!usable(config))
			continue;
		bomb_init(&b, config, i & 1, 0);
		space = space_of(&b, &b.stage, 1, BUDGET, 0);
		look_around(space, &b.stage);
		snest_space_put(space);
		bomb_fini(&b);
		if (now() - begun > SECONDS)
			fail_msg("%s: took %.1f s", config->name, now() - begun);
	}
}

static int add_run(void *opaque, const struct snest_run *run)
{
	*(uint64_t *)opaque += run->last - run->first + 1;
	return 0;
}

static uint64_t shadow_bytes(struct snest_space *space)
{
	uint64_t bytes = 0;

	assert_int_equal(snest_space_enumerate(space, 0, ALL, add_run, &bytes), 0);
	return bytes;
}

/* Attached to what is a bomb already: all or nothing. */
static void attach(struct snest_space *space, struct sink *sink, const char *what)
{
	double begun = now();
	int ret;

	sink_init(sink, 0);
	ret = snest_space_mirror(space, &sink->sink);
	if (now() - begun > SECONDS)
		fail_msg("%s: attaching took %.1f s", what, now() - begun);
	if (ret) {
		assert_true(ret == -ENOSPC);
		assert_int_equal(sink->count, 0);
		assert_true(sink->told > 0);
	} else {
		assert_int_equal(sink->told, 0);
		assert_int_equal(snest_space_unmirror(space), 0);
	}
}

/* A bomb that comes later: what does not fit is reported, and what is there is known. */
static void grow(struct bomb *b, struct snest_space *space, uint64_t bytes_max, struct sink *sink,
                 const char *what)
{
	static char copy[RAM];
	double begun = now();

	memcpy(copy, b->ram, RAM);
	memset(b->ram + 65536, 0, RAM - 65536);
	sink_init(sink, 0);
	if (snest_space_mirror(space, &sink->sink))
		fail_msg("%s: empty tables do not fit", what);
	assert_int_equal(sink->count, 0);
	memcpy(b->ram, copy, RAM);
	for (unsigned i = 0; i < 3; i++) {
		static const uint64_t last[] = {ALL, 0xfff, 0x3fffffff};
		int ret = snest_space_invalidate(space, 0, last[i], 0);

		assert_true(ret == 0 || (ret == -ENOSPC && sink->told));
		assert_true(shadow_bytes(space) == sink_bytes(sink));
		assert_true(table_bytes(space) <= bytes_max);
	}
	memset(b->ram + 65536, 0, RAM - 65536);
	assert_int_equal(snest_space_invalidate(space, 0, ALL, 0), 0);
	assert_int_equal(sink->count, 0);
	assert_int_equal(snest_space_unmirror(space), 0);
	if (now() - begun > SECONDS)
		fail_msg("%s: took %.1f s", what, now() - begun);
}

/* Three budgets: of tables of the space, of tables of the VM, and of work alone. */
static void in_budgets(const struct test_config *config, bool self, unsigned stages,
                       struct sink *sink)
{
	for (unsigned kind = 0; kind < 3; kind++) {
		struct snest_stage list[SNEST_MAX_STAGES];
		struct snest_space *space;
		struct bomb b;

		bomb_init(&b, config, self, kind == 1 ? BUDGET : 0);
		for (unsigned k = 0; k < stages; k++)
			list[k] = b.stage;
		space = space_of(&b, list, stages, kind == 0 ? BUDGET : 0,
		                 kind == 2 ? 150000 : 300000);
		attach(space, sink, config->name);
		grow(&b, space, kind == 2 ? ALL : BUDGET, sink, config->name);
		snest_space_put(space);
		bomb_fini(&b);
	}
}

static void test_hazard_25_mirrors_in_every_format(void **state)
{
	struct sink *sink = calloc(1, sizeof(*sink));

	(void)state;
	for (size_t i = 0; i < 2 * test_configs_count; i++) {
		const struct test_config *config = &test_configs[i / 2];

		/* Ignored top bytes make even an empty table 256 times as much to read. */
		if (usable(config) && !config->stage.rights &&
		    !(config->stage.format == SNEST_FORMAT_ARM_S1 &&
		      (config->stage.flags & (SNEST_STAGE_ARM_TBI0 | SNEST_STAGE_ARM_TBI1))))
			in_budgets(config, i & 1, 1, sink);
	}
	free(sink);
}

/* The same tables as first and second stage: each of 2^36 pages is looked up in 2^36. */
static void test_hazard_25_bombs_behind_bombs(void **state)
{
	static const char *const names[] = {"x86-64 4 levels", "vtd-ss 4 levels", "amd-v1 mode 4"};
	struct sink *sink = calloc(1, sizeof(*sink));

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		in_budgets(guest_config(names[i]), true, 2, sink);
		in_budgets(guest_config(names[i]), true, 3, sink);
	}
	free(sink);
}

/* Nobody set a budget of work: the default bounds it, and a sink that is full says so. */
static void test_hazard_25_full_sink(void **state)
{
	struct sink *sink = calloc(1, sizeof(*sink));
	struct snest_space *space;
	double begun = now();
	struct bomb b;

	(void)state;
	bomb_init(&b, guest_config("vtd-ss 3 levels"), false, 0);
	space = space_of(&b, &b.stage, 1, 0, 3000000);
	sink_init(sink, 0);
	sink->limit = 1000;
	assert_int_equal(snest_space_mirror(space, &sink->sink), -ENOSPC);
	assert_int_equal(sink->count, 0);
	/* What touches is one report. */
	assert_in_range(sink->told, 1, 10);
	snest_space_put(space);
	bomb_fini(&b);
	free(sink);
	assert_true(now() - begun < SECONDS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hazard_25_lookups_in_every_format),
		cmocka_unit_test(test_hazard_25_mirrors_in_every_format),
		cmocka_unit_test(test_hazard_25_bombs_behind_bombs),
		cmocka_unit_test(test_hazard_25_full_sink),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
