/* SPDX-License-Identifier: MIT */
/*
 * At the limits: tables that wait for readers make room by themselves, whoever
 * needs it; a leaf that cannot be cut for lack of memory goes as a whole, so
 * that the shadow still says what the sink holds when the sink refuses, too.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "support/fail.h"
#include "support/guest.h"
#include "support/sink.h"

#define RW (SNEST_READ | SNEST_WRITE)
#define ALL UINT64_MAX
#define M2 0x200000ull
#define TABLES 5u

static struct guest guest;

static void begin(uint64_t vm_tables, const struct snest_hooks *hooks)
{
	struct guest_options o = {.config = {guest_config("vtd-ss 3 levels")},
	                          .hooks = hooks,
	                          .vm_table_bytes_max = vm_tables * 4096};

	guest_init(&guest, &o);
}

static uint64_t misses(struct snest_space *space)
{
	struct snest_space_stats stats = {.size = sizeof(stats)};

	assert_int_equal(snest_space_stats(space, &stats), 0);
	return stats.misses;
}

static bool look_misses(struct snest_space *space, uint64_t iova)
{
	uint64_t before = misses(space);
	struct snest_translation t;

	snest_read_begin();
	assert_int_equal(snest_space_translate(space, iova, SNEST_READ, &t, NULL), 0);
	snest_read_end();
	return misses(space) != before;
}

/* Nobody drains, and still a page is soon found without a walk. */
static void expect_remembered(struct snest_space *space, uint64_t iova)
{
	for (unsigned i = 0; i < 2000; i++) {
		look_misses(space, iova);
		if (!look_misses(space, iova))
			return;
		snest_thread_offline();
		usleep(1000);
		snest_thread_online();
	}
	fail_msg("no lookup of 0x%llx is remembered", (unsigned long long)iova);
}

/* Where the tables need one lowest table each. */
static void map_blocks(unsigned blocks)
{
	for (unsigned i = 0; i < blocks; i++)
		assert_int_equal(snest_table_map(guest.table[0].table, i * M2, i * M2 + 0xfff,
		                                 GUEST_DATA + i * 0x3000ull, RW, 0,
		                                 SNEST_TABLE_PAGE(12)),
		                 0);
}

/* As many tables wait for readers as the space may have: they are not waited for for ever. */
static void test_waiting_tables_of_a_space(void **state)
{
	struct snest_space *space;

	(void)state;
	begin(0, NULL);
	map_blocks(TABLES - 1);
	space = guest_space(&guest, (struct snest_tag){1, 0}, 0, TABLES * 4096);
	for (unsigned round = 0; round < 4; round++) {
		for (unsigned i = 0; i < TABLES - 1; i++)
			look_misses(space, i * M2);
		assert_int_equal(snest_space_invalidate(space, 0, ALL, 0), 0);
		expect_remembered(space, 0);
	}
	snest_space_put(space);
	guest_fini(&guest);
}

static int inside, leave;

static void *stay_inside(void *arg)
{
	(void)arg;
	snest_thread_register();
	snest_read_begin();
	__atomic_store_n(&inside, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&leave, __ATOMIC_ACQUIRE))
		usleep(1000);
	snest_read_end();
	snest_thread_unregister();
	return NULL;
}

/* A reader keeps them all waiting: there are never more than twice the budget. */
static void test_waiting_tables_are_counted(void **state)
{
	struct snest_vm_stats stats = {.size = sizeof(stats)};
	struct snest_space *space;
	pthread_t thread;

	(void)state;
	begin(0, NULL);
	map_blocks(TABLES - 1);
	space = guest_space(&guest, (struct snest_tag){1, 0}, 0, TABLES * 4096);
	for (unsigned round = 0; round < 3; round++) {
		inside = leave = 0;
		assert_int_equal(pthread_create(&thread, NULL, stay_inside, NULL), 0);
		while (!__atomic_load_n(&inside, __ATOMIC_ACQUIRE))
			snest_thread_quiescent();
		for (unsigned i = 0; i < 50; i++) {
			for (unsigned k = 0; k < TABLES - 1; k++)
				look_misses(space, k * M2);
			assert_int_equal(snest_space_invalidate(space, 0, ALL, 0), 0);
			assert_int_equal(snest_vm_stats(guest.vm, &stats), 0);
			assert_in_range(stats.table_bytes, 0, 2 * TABLES * 4096);
		}
		__atomic_store_n(&leave, 1, __ATOMIC_RELEASE);
		snest_thread_offline();
		pthread_join(thread, NULL);
		snest_thread_online();
		assert_int_equal(snest_drain(guest.vm, 0), 0);
		expect_remembered(space, 0);
		assert_int_equal(snest_space_invalidate(space, 0, ALL, 0), 0);
		assert_int_equal(snest_drain(guest.vm, 0), 0);
		assert_int_equal(snest_vm_stats(guest.vm, &stats), 0);
		assert_int_equal(stats.table_bytes, 0);
	}
	snest_space_put(space);
	guest_fini(&guest);
}

/* The same for a whole VM: another space has the room, and has let go of it. */
static void test_waiting_tables_of_another_space(void **state)
{
	struct snest_space *one, *other;

	(void)state;
	begin(TABLES, NULL);
	map_blocks(TABLES - 1);
	one = guest_space(&guest, (struct snest_tag){1, 0}, 0, 0);
	other = guest_space(&guest, (struct snest_tag){2, 0}, 0, 0);
	for (unsigned i = 0; i < TABLES - 1; i++)
		look_misses(one, i * M2);
	assert_int_equal(snest_space_invalidate(one, 0, ALL, 0), 0);
	expect_remembered(other, 0);
	snest_space_put(one);
	snest_space_put(other);
	guest_fini(&guest);
}

/* ---- Large leaves and no memory ------------------------------------------------ */

static int add_bytes(void *opaque, const struct snest_run *run)
{
	*(uint64_t *)opaque += run->last - run->first + 1;
	return 0;
}

/* A mirrored leaf of 2 MiB, with room for its tables and for no other. */
static struct snest_space *mirror_large_leaf(struct sink *sink)
{
	struct snest_space *space;

	begin(2, NULL);
	assert_int_equal(snest_table_map(guest.table[0].table, 0, M2 - 1, GUEST_DATA, RW, 0,
	                                 SNEST_TABLE_PAGE(21)),
	                 0);
	space = guest_space(&guest, (struct snest_tag){1, 0}, SNEST_SPACE_ANNOUNCED, 0);
	sink_init(sink, SNEST_SINK_CAN_SPLIT);
	assert_int_equal(snest_space_mirror(space, &sink->sink), 0);
	return space;
}

/*
 * A part of a large leaf goes, there is no table to keep the rest in, and the
 * sink lets go of nothing. Later it does, and gets what the guest has mapped.
 */
static void refused_without_memory(bool by_memory)
{
	struct sink *sink = calloc(1, sizeof(*sink));
	struct snest_space *space;
	uint64_t bytes = 0;

	space = mirror_large_leaf(sink);
	assert_int_equal(sink->count, 1);
	sink->fail_in = sink->fail_every = 1;
	if (by_memory) {
		guest_memory_remove(&guest, GUEST_DATA + 0x5000, GUEST_DATA + 0x5fff);
	} else {
		assert_int_equal(snest_table_unmap(guest.table[0].table, 0x5000, 0x5fff, 0, NULL),
		                 0);
		assert_int_not_equal(snest_space_invalidate(space, 0x5000, 0x5fff, 0), 0);
	}
	/* The sink has all of it, and no lookup uses any of it. */
	assert_true(sink_bytes(sink) == M2);
	assert_int_equal(snest_space_enumerate(space, 0, ALL, add_bytes, &bytes), 0);
	assert_true(bytes == 0);
	sink->fail_in = sink->fail_every = 0;
	/* What the sink keeps is known: it is taken from it before anything is mapped there. */
	snest_space_invalidate(space, 0, ALL, 0);
	assert_int_equal(sink->refused_count, 0);
	bytes = 0;
	assert_int_equal(snest_space_enumerate(space, 0, ALL, add_bytes, &bytes), 0);
	assert_true(bytes == sink_bytes(sink));
	assert_null(sink_find(sink, 0x5000));
	assert_int_equal(snest_space_unmirror(space), 0);
	assert_int_equal(sink->count, 0);
	snest_space_put(space);
	guest_fini(&guest);
	free(sink);
}

/* The sink lets go of it: what the guest still has there cannot be kept, and is said to be missing. */
static void test_split_without_memory(void **state)
{
	struct sink *sink = calloc(1, sizeof(*sink));
	struct snest_space *space;

	(void)state;
	space = mirror_large_leaf(sink);
	assert_int_equal(snest_table_unmap(guest.table[0].table, 0x5000, 0x5fff, 0, NULL), 0);
	assert_int_equal(snest_space_invalidate(space, 0x5000, 0x5fff, 0), -ENOSPC);
	assert_true(sink->told > 0);
	assert_int_equal(sink->count, 0);
	assert_int_equal(snest_space_unmirror(space), 0);
	snest_space_put(space);
	guest_fini(&guest);
	free(sink);
}

static void test_hazard_24_refused_without_memory(void **state)
{
	(void)state;
	refused_without_memory(false);
}

static void test_hazard_24_memory_gone_refused_without_memory(void **state)
{
	(void)state;
	refused_without_memory(true);
}

/* ---- The last address ------------------------------------------------------------ */

/* A copy that runs past 2^64 ends there: the bus does not begin again at 0. */
static void test_copies_end_where_addresses_do(void **state)
{
	struct guest_options o = {.config = {guest_config("amd-v1 mode 6")}};
	const uint64_t top = 0 - 0x1000ull;
	struct snest_device *device;
	struct snest_space *space;
	struct snest_fault fault;
	char buf[0x2000] = {0};
	size_t done;

	(void)state;
	guest_init(&guest, &o);
	/* Below the tables lies memory that nobody uses. */
	guest_map(&guest, 0, top, UINT64_MAX, 0x1000, RW, 0, 12, false);
	guest_map(&guest, 0, 0, 0xfff, 0x2000, RW, 0, 12, false);
	memset(guest.ram + 0x1000, 0x11, 0x2000);
	space = guest_space(&guest, (struct snest_tag){1, 0}, 0, 0);
	assert_int_equal(snest_device_create(guest.vm, 1, NULL, NULL, &device), 0);
	assert_int_equal(snest_device_bind(device, SNEST_NO_PASID, space), 0);
	assert_int_equal(
		snest_dma_read(device, SNEST_NO_PASID, top + 0x800, buf, 0x1000, &done, &fault),
		-EACCES);
	assert_int_equal(done, 0x800);
	assert_int_equal(fault.reason, SNEST_FAULT_INPUT_RANGE);
	assert_int_equal(buf[0x7ff], 0x11);
	assert_int_equal(buf[0x800], 0);
	assert_int_equal(snest_dma_write(device, SNEST_NO_PASID, top, buf, 0x1001, &done, NULL),
	                 -EACCES);
	assert_int_equal(done, 0x1000);
	assert_int_equal(guest.ram[0x2000], 0x11);
	assert_int_equal(snest_dma_read(device, SNEST_NO_PASID, top, buf, 0x1000, &done, &fault),
	                 0);
	assert_int_equal(done, 0x1000);
	snest_device_destroy(device);
	snest_space_put(space);
	guest_fini(&guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_waiting_tables_of_a_space),
		cmocka_unit_test(test_waiting_tables_are_counted),
		cmocka_unit_test(test_waiting_tables_of_another_space),
		cmocka_unit_test(test_split_without_memory),
		cmocka_unit_test(test_hazard_24_refused_without_memory),
		cmocka_unit_test(test_hazard_24_memory_gone_refused_without_memory),
		cmocka_unit_test(test_copies_end_where_addresses_do),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
