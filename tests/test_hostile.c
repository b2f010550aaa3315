/* SPDX-License-Identifier: MIT */
/*
 * Hostile tables, for every format: they refer to themselves at each level,
 * are all ones, lie at the end of memory, in read-only memory, in none, or
 * around the top of the address space. Walks end, read only what is there, and
 * enumerations keep their budget.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <snest/walk.h>
#include "support/configs.h"
#include "walkers/pt.h"

#define PAGE 4096ull
#define RAM_BASE 0x10000000ull
#define RAM_SIZE (2ull << 20)

struct world {
	struct snest_vm *vm;
	unsigned char *ram;
	struct snest_stage stage;
	unsigned entry_lg2;
};

static void world_init(struct world *w, const struct test_config *config, uint32_t flags)
{
	struct snest_region region = {
		.size = sizeof(region),
		.first = RAM_BASE,
		.last = RAM_BASE + RAM_SIZE - 1,
		.flags = flags,
	};

	w->stage = config->stage;
	w->entry_lg2 = test_config_entry_lg2(&config->stage);
	w->ram = aligned_alloc(RAM_SIZE, RAM_SIZE);
	assert_non_null(w->ram);
	memset(w->ram, 0, RAM_SIZE);
	region.mapping = w->ram;
	assert_int_equal(snest_vm_create(NULL, &w->vm), 0);
	assert_int_equal(snest_memory_add(w->vm, &region), 0);
	w->stage.root = RAM_BASE;
	if (w->stage.ia_bits_high)
		w->stage.root_high = RAM_BASE;
}

static void world_fini(struct world *w)
{
	snest_vm_destroy(w->vm);
	free(w->ram);
}

/* Some of everywhere: both ends, around powers of two, and odd places. */
static uint64_t probe(unsigned i)
{
	uint64_t bit = i / 4 < 64 ? (uint64_t)1 << i / 4 : 0;

	switch (i % 4) {
	case 0:
		return bit;
	case 1:
		return bit - 1;
	case 2:
		return ~bit;
	default:
		return bit * 0x9e3779b97f4a7c15ull;
	}
}

#define PROBES 256u

/* Walks from everywhere, with every access, and all of it with a budget. */
static void survive(struct world *w)
{
	struct snest_walk_step step[SN_LEVELS_MAX];

	for (unsigned i = 0; i < PROBES; i++) {
		for (uint32_t access = 0; access < 16; access++) {
			size_t steps = SN_LEVELS_MAX;
			struct snest_walk r;

			assert_int_equal(snest_walk(w->vm, &w->stage, 1, probe(i), access, 0, &r,
			                            step, &steps),
			                 0);
			assert_in_range(steps, 0, SN_LEVELS_MAX);
			assert_in_range(r.outcome, SNEST_WALK_HOST, SNEST_WALK_FAULT);
			if (r.outcome == SNEST_WALK_FAULT)
				assert_int_not_equal(r.fault.reason, SNEST_FAULT_NONE);
		}
	}
}

static int ignore_run(void *opaque, const struct snest_run *run)
{
	uint64_t *next = opaque;

	/* Ascending, and never empty, however the tables are bent. */
	assert_true(run->first >= *next && run->last >= run->first);
	*next = run->last + 1;
	return 0;
}

/* Enumerates until the end or 64 budgets are spent; each call keeps its budget. */
static void enumerate(struct world *w)
{
	struct snest_walk_range range = {.size = sizeof(range), .last = UINT64_MAX};

	for (unsigned i = 0; i < 64; i++) {
		uint64_t next = range.first, before = range.first;
		int ret;

		range.budget = 10000;
		range.entries = 0;
		range.tables = 0;
		ret = snest_walk_range(w->vm, &w->stage, 1, &range, ignore_run, &next);
		assert_true(range.tables <= 10000 + SN_LEVELS_MAX);
		assert_true(range.entries <= 10000);
		if (!ret)
			return;
		assert_int_equal(ret, -EAGAIN);
		assert_true(range.first > before);
	}
}

static void fill(struct world *w, uint64_t entry)
{
	if (w->stage.flags & SNEST_STAGE_BIG_ENDIAN)
		entry = w->entry_lg2 == 3 ? __builtin_bswap64(entry)
		                          : __builtin_bswap32((uint32_t)entry);
	for (uint64_t at = 0; at < RAM_SIZE; at += (uint64_t)1 << w->entry_lg2)
		memcpy(w->ram + at, &entry, (size_t)1 << w->entry_lg2);
}

/* An entry of this format that points to a table at addr, whatever the level. */
static uint64_t table_entry(const struct snest_stage *stage, uint64_t addr, unsigned level)
{
	switch (stage->format) {
	case SNEST_FORMAT_VTD_SS:
		return addr | 3;
	case SNEST_FORMAT_AMD_V1:
		return addr | 1 | (uint64_t)level << 9 | 3ull << 61;
	case SNEST_FORMAT_ARM_S1:
	case SNEST_FORMAT_ARM_S2:
		return addr | 3 | 1 << 6 | 1 << 10;
	case SNEST_FORMAT_RISCV32:
	case SNEST_FORMAT_RISCV64:
		return addr >> 12 << 10 | 1;
	default:
		return addr | 7;
	}
}

/* Every entry of memory points back to the root, so every level is the same table. */
static void self_reference(void **state)
{
	(void)state;
	for (size_t i = 0; i < test_configs_count; i++) {
		for (unsigned level = 0; level < 7; level++) {
			struct world w;

			world_init(&w, &test_configs[i], 0);
			fill(&w, table_entry(&w.stage, RAM_BASE, level));
			survive(&w);
			enumerate(&w);
			world_fini(&w);
			if (w.stage.format != SNEST_FORMAT_AMD_V1)
				break;
		}
	}
}

static void all_ones_and_other_patterns(void **state)
{
	static const uint64_t pattern[] = {
		UINT64_MAX,         0x5555555555555555, 0xaaaaaaaaaaaaaaaa, 0x8000000000000001,
		0x7fffffffffffffff, 0x000ffffffffff001, 0x000ffffffffff003, 0x000fffffffffff87,
		0x6fffffffffffffff, 0x00000000ffffffff, 0xffffffff00000003,
	};

	(void)state;
	for (size_t i = 0; i < test_configs_count; i++) {
		struct world w;

		world_init(&w, &test_configs[i], 0);
		for (size_t p = 0; p < sizeof(pattern) / sizeof(pattern[0]); p++) {
			fill(&w, pattern[p]);
			survive(&w);
			enumerate(&w);
		}
		world_fini(&w);
	}
}

/* The root is the last page of memory, behind it, in front of it, or nowhere. */
static void roots_at_the_edges(void **state)
{
	static const uint64_t root[] = {
		RAM_BASE + RAM_SIZE - PAGE, RAM_BASE + RAM_SIZE, RAM_BASE - PAGE, 0,
		0x000ffffffffff000,         0x0000fffffffff000,  UINT64_MAX,      1ull << 63,
	};

	(void)state;
	for (size_t i = 0; i < test_configs_count; i++) {
		struct world w;

		world_init(&w, &test_configs[i], 0);
		/* From the last page on, tables point to the end of memory and beyond. */
		fill(&w, table_entry(&w.stage, RAM_BASE + RAM_SIZE - PAGE, 1));
		for (size_t r = 0; r < sizeof(root) / sizeof(root[0]); r++) {
			w.stage.root = root[r];
			w.stage.root_high = w.stage.ia_bits_high ? root[r] : 0;
			if (snest_stage_check(&w.stage, NULL))
				continue;
			survive(&w);
			enumerate(&w);
		}
		fill(&w,
		     table_entry(&w.stage,
		                 0x000ffffffffff000 &
		                         (((uint64_t)1 << test_config_output_bits(&w.stage)) - 1),
		                 1));
		w.stage.root = RAM_BASE;
		survive(&w);
		enumerate(&w);
		world_fini(&w);
	}
}

/* Tables in read-only memory: flags cannot be updated, and nothing is written. */
static void read_only_tables(void **state)
{
	(void)state;
	for (size_t i = 0; i < test_configs_count; i++) {
		unsigned char *before = malloc(RAM_SIZE);
		struct world w;

		assert_non_null(before);
		world_init(&w, &test_configs[i], SNEST_REGION_READONLY);
		fill(&w, table_entry(&w.stage, RAM_BASE, 1));
		memcpy(before, w.ram, RAM_SIZE);
		survive(&w);
		assert_memory_equal(w.ram, before, RAM_SIZE);
		world_fini(&w);
		free(before);
	}
}

/* Memory that snest must not read tables from counts as none. */
static void memory_without_tables(void **state)
{
	(void)state;
	for (size_t i = 0; i < test_configs_count; i++) {
		struct snest_walk r;
		struct world w;

		world_init(&w, &test_configs[i], SNEST_REGION_NO_TABLES);
		fill(&w, table_entry(&w.stage, RAM_BASE, 1));
		survive(&w);
		assert_int_equal(snest_walk(w.vm, &w.stage, 1, 0, SNEST_READ, 0, &r, NULL, NULL),
		                 0);
		assert_int_equal(r.outcome, SNEST_WALK_FAULT);
		if (!(w.stage.flags & SNEST_STAGE_ARM_EPD0) &&
		    (!w.stage.rights || (w.stage.rights & SNEST_READ)))
			assert_int_equal(r.fault.reason, SNEST_FAULT_TABLE_ACCESS);
		world_fini(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(self_reference),
		cmocka_unit_test(all_ones_and_other_patterns),
		cmocka_unit_test(roots_at_the_edges),
		cmocka_unit_test(read_only_tables),
		cmocka_unit_test(memory_without_tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
