/* SPDX-License-Identifier: MIT */
/*
 * Every allocation of creating and changing tables failed in turn: the call
 * says so, nothing has changed, and nothing is lost. With the VM's pool and
 * with memory of the caller.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "core/vm.h"
#include "support/configs.h"
#include "support/fail.h"
#include "support/tables.h"

#define ATTR (SNEST_ATTR_ACCESSED | SNEST_ATTR_DIRTY | SNEST_ATTR_USER)
#define RUNS_MAX 4096
#define SWEEP_MAX 2000

/* What a table maps, as the enumeration sees it, and its leaf sizes at a few places. */
struct snapshot {
	unsigned count;
	struct snest_run at[RUNS_MAX];
	uint64_t bytes;
};

static int snapshot_run(void *opaque, const struct snest_run *run)
{
	struct snapshot *s = opaque;

	assert_true(s->count < RUNS_MAX);
	s->at[s->count++] = *run;
	return 0;
}

static void snapshot(struct snest_vm *vm, struct snest_table *table, struct snapshot *s)
{
	struct snest_walk_range range = {.size = sizeof(range), .last = UINT64_MAX};

	memset(s, 0, sizeof(*s));
	s->bytes = snest_table_bytes(table);
	assert_int_equal(snest_walk_range(vm, snest_table_stage(table), 1, &range, snapshot_run, s),
	                 0);
}

static struct snapshot before, after;

static void unchanged(struct snest_vm *vm, struct snest_table *table)
{
	snapshot(vm, table, &after);
	assert_int_equal(before.bytes, after.bytes);
	assert_int_equal(before.count, after.count);
	assert_memory_equal(before.at, after.at, before.count * sizeof(before.at[0]));
}

/* One change that needs pages. It is repeated until it succeeds. */
struct change {
	const char *name;
	int (*apply)(struct snest_table *table, uint64_t page, uint64_t large);
};

static int map(struct snest_table *table, uint64_t first, uint64_t bytes, uint64_t addr,
               uint32_t flags)
{
	return snest_table_map(table, first, first + bytes - 1, addr, SNEST_READ | SNEST_WRITE,
	                       ATTR, flags);
}

static int map_small(struct snest_table *table, uint64_t page, uint64_t large)
{
	return map(table, 20 * large + page, page, 1ull << 29, 0);
}

/* Off by a page, so that nothing large fits. */
static int map_many(struct snest_table *table, uint64_t page, uint64_t large)
{
	return map(table, 20 * large, 3 * large, (1ull << 29) + page, 0);
}

static int replace_middle(struct snest_table *table, uint64_t page, uint64_t large)
{
	return map(table, large / 2, page, 1ull << 29, SNEST_TABLE_REPLACE);
}

static int replace_across(struct snest_table *table, uint64_t page, uint64_t large)
{
	return map(table, large - page, 2 * page, (1ull << 29) + page, SNEST_TABLE_REPLACE);
}

static int unmap_middle(struct snest_table *table, uint64_t page, uint64_t large)
{
	return snest_table_unmap(table, page, large - page - 1, 0, NULL);
}

static int unmap_across(struct snest_table *table, uint64_t page, uint64_t large)
{
	return snest_table_unmap(table, page, 2 * large - page - 1, 0, NULL);
}

static int cut(struct snest_table *table, uint64_t page, uint64_t large)
{
	return snest_table_cut(table, large + page);
}

static const struct change changes[] = {
	{"map a page", map_small},
	{"map many pages", map_many},
	{"replace inside a leaf", replace_middle},
	{"replace across two leaves", replace_across},
	{"unmap inside a leaf", unmap_middle},
	{"unmap across two leaves", unmap_across},
	{"cut", cut},
};

static const struct {
	const char *name;
	struct snest_stage stage;
	unsigned lg2; /* of the large leaf */
} shapes[] = {
#define SHAPE(lg2_, ...)                                                                  \
	{                                                                                 \
		.stage = {.size = sizeof(struct snest_stage), __VA_ARGS__}, .lg2 = (lg2_) \
	}
	SHAPE(21, .format = SNEST_FORMAT_X86_64, .levels = 4),
	SHAPE(30, .format = SNEST_FORMAT_X86_64, .levels = 5),
	SHAPE(30, .format = SNEST_FORMAT_VTD_SS, .levels = 4),
	SHAPE(23, .format = SNEST_FORMAT_AMD_V1, .levels = 4),
	SHAPE(16, .format = SNEST_FORMAT_AMD_V1, .levels = 3),
	SHAPE(25, .format = SNEST_FORMAT_ARM_S1, .ia_bits = 47, .granule_lg2 = 14),
	SHAPE(30, .format = SNEST_FORMAT_RISCV64, .levels = 4),
};

/* Two large leaves at the beginning; at the end everything goes, without memory. */
static void prepare(struct snest_table *table, uint64_t large)
{
	assert_int_equal(map(table, 0, 2 * large, 2ull << 30, 0), 0);
}

static uint64_t page_of(const struct snest_table *table)
{
	return snest_table_page_sizes(table) & -snest_table_page_sizes(table);
}

static void fail_callers_memory(const struct change *change, const struct snest_stage *stage,
                                uint64_t large)
{
	struct snest_table *table;
	struct test_tables tt;
	uint64_t live, failures = 0;
	int ret;

	test_tables_init(&tt, NULL);
	tt.fail_in = 1;
	assert_int_equal(snest_table_create(tt.vm, stage, &tt.memory, &table), -ENOMEM);
	assert_int_equal(tt.live_pages, 0);
	assert_int_equal(snest_table_create(tt.vm, stage, &tt.memory, &table), 0);
	prepare(table, large);
	snapshot(tt.vm, table, &before);
	live = tt.live_pages;
	for (uint64_t nth = 1; nth < SWEEP_MAX; nth++) {
		uint64_t failed = tt.failed;

		tt.fail_in = nth;
		ret = change->apply(table, page_of(table), large);
		tt.fail_in = 0;
		if (tt.failed == failed)
			break;
		failures++;
		assert_int_equal(ret, -ENOMEM);
		assert_int_equal(tt.live_pages, live);
		unchanged(tt.vm, table);
	}
	assert_int_equal(ret, 0);
	/* It needed exactly what it kept, and what it kept it needed. */
	assert_true(tt.live_pages <= live + failures);
	assert_int_equal(tt.live_bytes, snest_table_bytes(table));

	tt.fail_in = 1;
	assert_int_equal(snest_table_merge(table, 0, 32 * large - 1), 0);
	assert_int_equal(snest_table_unmap(table, 0, 32 * large - 1, 0, NULL), 0);
	assert_int_equal(tt.failed, failures + 1);
	tt.fail_in = 0;
	snest_table_destroy(table);
	test_tables_fini(&tt);
}

/* The pool asks the hook for memory in large steps, so it is the budget that stops each page. */
static void fail_pool(const struct change *change, const struct snest_stage *stage, uint64_t large)
{
	struct snest_region region = {
		.size = sizeof(region),
		.first = 4096,
		.last = (1ull << 47) - 1,
		.host = 4096,
		.mapping = (void *)4096,
	};
	struct snest_vm_config config = {.size = sizeof(config)};
	struct snest_vm_stats stats = {.size = sizeof(stats)};
	struct snest_table *table;
	struct test_fail fail;
	struct snest_vm *vm;
	uint64_t budget;
	int ret;

	test_fail_init(&fail);
	config.hooks = &fail.hooks;
	config.table_bytes_max = 1ull << 40;
	assert_int_equal(snest_vm_create(&config, &vm), 0);
	assert_int_equal(snest_memory_add(vm, &region), 0);
	for (uint64_t nth = 1;; nth++) {
		test_fail_arm(&fail, nth);
		ret = snest_table_create(vm, stage, NULL, &table);
		if (!test_fail_disarm(&fail))
			break;
		assert_int_equal(ret, -ENOMEM);
	}
	assert_int_equal(ret, 0);
	prepare(table, large);
	snapshot(vm, table, &before);
	/* The budget stops each page in turn. */
	for (budget = before.bytes;; budget += 1ull << 12) {
		vm->pool.bytes_max = budget;
		ret = change->apply(table, page_of(table), large);
		if (ret == 0)
			break;
		assert_int_equal(ret, -ENOSPC);
		assert_int_equal(snest_vm_stats(vm, &stats), 0);
		assert_int_equal(stats.table_bytes, before.bytes);
		unchanged(vm, table);
	}
	vm->pool.bytes_max = before.bytes;
	assert_int_equal(snest_table_merge(table, 0, 32 * large - 1), 0);
	assert_int_equal(snest_table_unmap(table, 0, 32 * large - 1, 0, NULL), 0);
	snest_table_destroy(table);
	snest_vm_destroy(vm);
	assert_int_equal(fail.live_objects, 0);
	assert_int_equal(fail.live_bytes, 0);
}

/* The steps in which the pool asks for memory, each of which fails once. */
static void chunks_may_fail(void **state)
{
	struct snest_region region = {
		.size = sizeof(region),
		.first = 4096,
		.last = (1ull << 47) - 1,
		.host = 4096,
		.mapping = (void *)4096,
	};
	struct snest_vm_config config = {.size = sizeof(config)};
	struct snest_table *table;
	struct test_fail fail;
	struct snest_vm *vm;
	unsigned failures = 0;

	(void)state;
	test_fail_init(&fail);
	config.hooks = &fail.hooks;
	assert_int_equal(snest_vm_create(&config, &vm), 0);
	assert_int_equal(snest_memory_add(vm, &region), 0);
	assert_int_equal(snest_table_create(vm, &shapes[0].stage, NULL, &table), 0);
	for (uint64_t i = 0; i < 1000; i++) {
		uint64_t first = i << 30;
		int ret;

		snapshot(vm, table, &before);
		test_fail_arm(&fail, 1);
		ret = map(table, first, 4096, 1ull << 47, 0);
		if (!test_fail_disarm(&fail)) {
			assert_int_equal(ret, 0);
			continue;
		}
		failures++;
		assert_int_equal(ret, -ENOMEM);
		unchanged(vm, table);
		assert_int_equal(map(table, first, 4096, 1ull << 47, 0), 0);
	}
	assert_true(failures >= 3);
	snest_table_destroy(table);
	snest_vm_destroy(vm);
	assert_int_equal(fail.live_objects, 0);
}

static void sweep(void (*test)(const struct change *change, const struct snest_stage *stage,
                               uint64_t large))
{
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		for (size_t k = 0; k < sizeof(changes) / sizeof(changes[0]); k++) {
			/* A great many pages are a great many steps, and no different ones. */
			if (changes[k].apply == map_many && shapes[i].lg2 > 25)
				continue;
			test(&changes[k], &shapes[i].stage, 1ull << shapes[i].lg2);
		}
	}
}

static void callers_memory_may_fail(void **state)
{
	(void)state;
	sweep(fail_callers_memory);
}

static void pool_and_budget_may_fail(void **state)
{
	(void)state;
	sweep(fail_pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(callers_memory_may_fail),
		cmocka_unit_test(pool_and_budget_may_fail),
		cmocka_unit_test(chunks_may_fail),
	};
	int failed;

	snest_thread_register();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	snest_thread_unregister();
	return failed;
}
