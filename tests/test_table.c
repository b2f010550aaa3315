/* SPDX-License-Identifier: MIT */
/*
 * Tables as objects: pages from the VM's pool, its budget, large roots, and
 * walks that run while a table changes.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "core/vm.h"
#include "support/subject.h"

#define SHARED_FIRST (1ull << 30)
#define SHARED_BYTES (8ull << 20)
#ifdef SN_TSAN
#define SHARED_ROUNDS 300
#else
#define SHARED_ROUNDS 10000
#endif

static const uint64_t shared_addr[2] = {1ull << 47, 3ull << 46};

/* A VM whose memory map shows snest's own memory at its own addresses. */
static struct snest_vm *open_vm(uint64_t table_bytes_max)
{
	struct snest_vm_config config = {
		.size = sizeof(config),
		.table_bytes_max = table_bytes_max,
	};
	struct snest_region region = {
		.size = sizeof(region),
		.first = 4096,
		.last = (1ull << 47) - 1,
		.host = 4096,
		.mapping = (void *)4096,
	};
	struct snest_vm *vm;

	assert_int_equal(snest_vm_create(&config, &vm), 0);
	assert_int_equal(snest_memory_add(vm, &region), 0);
	return vm;
}

static uint64_t table_bytes(struct snest_vm *vm)
{
	struct snest_vm_stats stats = {.size = sizeof(stats)};

	/* What a table retired while its last pages waited takes a second turn. */
	sn_reclaim_barrier(&vm->reclaim);
	sn_reclaim_barrier(&vm->reclaim);
	assert_int_equal(snest_vm_stats(vm, &stats), 0);
	return stats.table_bytes;
}

struct reader {
	struct snest_vm *vm;
	const struct snest_stage *stage;
	pthread_t thread;
	bool stop; /* atomic */
	uint64_t seed;
	uint64_t walks, wrong;
};

/* Each page leads to one of two places, always. */
static void *reader_run(void *opaque)
{
	struct reader *r = opaque;
	struct test_random random = {r->seed};
	struct snest_walk w;

	snest_thread_register();
	while (!__atomic_load_n(&r->stop, __ATOMIC_RELAXED)) {
		uint64_t offset = test_below(&random, SHARED_BYTES);

		r->walks++;
		if (snest_walk(r->vm, r->stage, 1, SHARED_FIRST + offset, SNEST_READ, 0, &w, NULL,
		               NULL) ||
		    w.outcome != SNEST_WALK_GPA ||
		    (w.gpa != shared_addr[0] + offset && w.gpa != shared_addr[1] + offset))
			r->wrong++;
		snest_thread_quiescent();
	}
	snest_thread_unregister();
	return NULL;
}

static void change_shared(struct snest_table *table, struct test_random *random)
{
	uint64_t page = snest_table_page_sizes(table) & -snest_table_page_sizes(table);
	uint64_t grain = test_below(random, 2) ? page : 2ull << 20;
	uint64_t from = test_below(random, SHARED_BYTES / grain) * grain;
	uint64_t to = from + (1 + test_below(random, SHARED_BYTES / grain)) * grain;
	uint64_t first, last;

	if (to > SHARED_BYTES)
		to = SHARED_BYTES;
	first = SHARED_FIRST + from;
	last = SHARED_FIRST + to - 1;
	switch (test_below(random, 4)) {
	case 0:
		assert_int_equal(snest_table_cut(table, first), 0);
		break;
	case 1:
		assert_int_equal(snest_table_merge(table, first, last), 0);
		break;
	default:
		assert_int_equal(
			snest_table_map(table, first, last,
		                        shared_addr[test_below(random, 2)] + from,
		                        SNEST_READ | SNEST_WRITE, SUBJECT_ATTR,
		                        test_below(random, 2)
		                                ? SNEST_TABLE_REPLACE |
		                                          SNEST_TABLE_PAGE(__builtin_ctzll(page))
		                                : SNEST_TABLE_REPLACE),
			0);
	}
}

static void walks_during_changes(const struct snest_stage *shape)
{
	struct snest_vm *vm = open_vm(0);
	struct test_random random = {7};
	struct reader reader[2];
	struct snest_table *table;

	assert_int_equal(snest_table_create(vm, shape, NULL, &table), 0);
	assert_int_equal(snest_table_map(table, SHARED_FIRST, SHARED_FIRST + SHARED_BYTES - 1,
	                                 shared_addr[0], SNEST_READ | SNEST_WRITE, SUBJECT_ATTR, 0),
	                 0);
	for (unsigned i = 0; i < 2; i++) {
		reader[i] = (struct reader){
			.vm = vm,
			.stage = snest_table_stage(table),
			.seed = i,
		};
		pthread_create(&reader[i].thread, NULL, reader_run, &reader[i]);
	}
	snest_thread_offline();
	for (unsigned i = 0; i < SHARED_ROUNDS; i++)
		change_shared(table, &random);
	snest_thread_online();
	for (unsigned i = 0; i < 2; i++) {
		__atomic_store_n(&reader[i].stop, true, __ATOMIC_RELAXED);
		pthread_join(reader[i].thread, NULL);
		assert_int_equal(reader[i].wrong, 0);
	}
	assert_int_equal(
		snest_table_unmap(table, SHARED_FIRST, SHARED_FIRST + SHARED_BYTES - 1, 0, NULL),
		0);
	assert_int_equal(table_bytes(vm), snest_table_bytes(table));
	snest_table_destroy(table);
	assert_int_equal(table_bytes(vm), 0);
	snest_vm_destroy(vm);
}

#define SHAPE(...) (&(const struct snest_stage){.size = sizeof(struct snest_stage), __VA_ARGS__})
#define HW (SNEST_STAGE_HW_A | SNEST_STAGE_HW_D)

static void walks_during_changes_see_old_or_new(void **state)
{
	(void)state;
	walks_during_changes(SHAPE(.format = SNEST_FORMAT_X86_64, .levels = 4, .flags = HW));
	walks_during_changes(SHAPE(.format = SNEST_FORMAT_AMD_V1, .levels = 4, .flags = HW));
	walks_during_changes(
		SHAPE(.format = SNEST_FORMAT_ARM_S2, .ia_bits = 48, .granule_lg2 = 14));
	walks_during_changes(SHAPE(.format = SNEST_FORMAT_RISCV64, .levels = 4,
	                           .flags = HW | SNEST_STAGE_RISCV_SVNAPOT));
}

/* All pages come back, also of a table that is destroyed with pages on their way. */
static void pool_pages_come_back(void **state)
{
	struct snest_vm *vm = open_vm(0);
	struct snest_table *table;
	uint64_t empty;

	(void)state;
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(
			snest_table_create(vm, SHAPE(.format = SNEST_FORMAT_VTD_SS, .levels = 4),
		                           NULL, &table),
			0);
		empty = snest_table_bytes(table);
		assert_int_equal(empty, 4096);
		assert_int_equal(
			snest_table_map(table, 0, (1ull << 30) - 1, 4096, SNEST_READ, 0, 0), 0);
		assert_int_equal(snest_table_bytes(table), (1 + 1 + 1 + 512) * 4096);
		assert_int_equal(snest_table_map(table, 0, (1ull << 30) - 1, 1ull << 30, SNEST_READ,
		                                 0, SNEST_TABLE_REPLACE),
		                 0);
		assert_int_equal(snest_table_bytes(table), 2 * 4096);
		snest_table_destroy(table);
	}
	assert_int_equal(table_bytes(vm), 0);
	snest_vm_destroy(vm);
}

static void budget_refuses_and_changes_nothing(void **state)
{
	struct snest_vm *vm = open_vm(6 * 4096);
	struct snest_table *table;

	(void)state;
	assert_int_equal(snest_table_create(vm, SHAPE(.format = SNEST_FORMAT_VTD_SS, .levels = 4),
	                                    NULL, &table),
	                 0);
	assert_int_equal(snest_table_map(table, 0, 4095, 0, SNEST_READ, 0, 0), 0);
	assert_int_equal(table_bytes(vm), 4 * 4096);
	assert_int_equal(
		snest_table_map(table, 1ull << 39, (1ull << 39) + 4095, 0, SNEST_READ, 0, 0),
		-ENOSPC);
	assert_int_equal(table_bytes(vm), 4 * 4096);
	assert_int_equal(
		snest_table_map(table, 1ull << 30, (1ull << 30) + 4095, 0, SNEST_READ, 0, 0), 0);
	assert_int_equal(table_bytes(vm), 6 * 4096);
	snest_table_destroy(table);
	snest_vm_destroy(vm);
}

/* The root of 16 tables of 64 KiB is larger than the pool's pages. */
static void large_roots(void **state)
{
	struct snest_vm *vm = open_vm(0);
	struct snest_table *table;
	struct snest_walk w;

	(void)state;
	assert_int_equal(snest_table_create(vm,
	                                    SHAPE(.format = SNEST_FORMAT_ARM_S2, .ia_bits = 46,
	                                          .levels = 2, .granule_lg2 = 16),
	                                    NULL, &table),
	                 0);
	assert_int_equal(snest_table_bytes(table), 1 << 20);
	assert_int_equal(snest_table_stage(table)->root & ((1 << 20) - 1), 0);
	assert_int_equal(snest_table_map(table, (1ull << 46) - 65536, (1ull << 46) - 1, 1ull << 47,
	                                 SNEST_READ, SUBJECT_ATTR, 0),
	                 0);
	assert_int_equal(
		snest_walk(vm, snest_table_stage(table), 1, (1ull << 46) - 1, 0, 0, &w, NULL, NULL),
		0);
	assert_int_equal(w.gpa, (1ull << 47) + 65535);
	assert_int_equal(snest_table_bytes(table), (1 << 20) + 65536);
	snest_table_destroy(table);
	assert_int_equal(table_bytes(vm), 0);
	snest_vm_destroy(vm);
}

static void memory_that_entries_cannot_hold_is_refused(void **state)
{
	struct snest_vm *vm = open_vm(0);
	struct snest_table *table;

	(void)state;
	/* Pointers have up to 47 bits here, and these entries 34 and 39. */
	assert_int_equal(snest_table_create(vm, SHAPE(.format = SNEST_FORMAT_RISCV32, .levels = 2),
	                                    NULL, &table),
	                 -EINVAL);
	assert_int_equal(
		snest_table_create(vm,
	                           SHAPE(.format = SNEST_FORMAT_X86_64, .levels = 4, .oa_bits = 39),
	                           NULL, &table),
		-EINVAL);
	assert_int_equal(table_bytes(vm), 0);
	snest_vm_destroy(vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pool_pages_come_back),
		cmocka_unit_test(budget_refuses_and_changes_nothing),
		cmocka_unit_test(large_roots),
		cmocka_unit_test(memory_that_entries_cannot_hold_is_refused),
		cmocka_unit_test(walks_during_changes_see_old_or_new),
	};
	int failed;

	snest_thread_register();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	snest_thread_unregister();
	return failed;
}
