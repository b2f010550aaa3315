/* SPDX-License-Identifier: MIT */
/*
 * The hazards of invalidation, one test each, by its number: what a guest names
 * is not what it means, and what it means has to go.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "support/guest.h"

#define ALL UINT64_MAX
#define RW (SNEST_READ | SNEST_WRITE)

struct run {
	struct guest guest;
	struct snest_space *space;
	struct snest_device *device;
};

static struct run one;

static struct run *begin(const char *config, const char *second, uint64_t host_skew)
{
	struct guest_options o = {
		.config = {guest_config(config), second ? guest_config(second) : NULL},
		.host_skew = host_skew};
	struct run *run = &one;

	guest_init(&run->guest, &o);
	run->space = guest_space(&run->guest, (struct snest_tag){7, 1}, 0, 0);
	assert_int_equal(snest_device_create(run->guest.vm, 0x100, NULL, NULL, &run->device), 0);
	assert_int_equal(snest_device_bind(run->device, SNEST_NO_PASID, run->space), 0);
	return run;
}

static void end(struct run *run)
{
	snest_device_destroy(run->device);
	snest_space_put(run->space);
	guest_fini(&run->guest);
}

/* Where a read leads now; 0: it faults. */
static uint64_t host_of(struct run *run, uint64_t iova)
{
	struct snest_translation t;
	int ret;

	snest_read_begin();
	ret = snest_translate(run->device, iova, SNEST_READ, &t, NULL);
	snest_read_end();
	return ret ? 0 : t.host;
}

static void invalidate_range(struct run *run, uint64_t first, uint64_t last)
{
	assert_int_equal(snest_space_invalidate(run->space, first, last, SNEST_INVALIDATE_LEAF), 0);
}

static void map(struct run *run, uint64_t first, uint64_t last, uint64_t out, unsigned lg2)
{
	guest_map(&run->guest, 0, first, last, out, RW, SNEST_ATTR_USER, lg2, true);
}

static void test_hazard_9_the_range_is_not_the_mapping(void **state)
{
	struct run *run = begin("vtd-ss 3 levels", NULL, 0);

	(void)state;
	map(run, 0x200000, 0x3fffff, GUEST_DATA, 21);
	assert_true(host_of(run, 0x234000) == GUEST_HOST + 0x34000);
	map(run, 0x200000, 0x3fffff, GUEST_DATA + 0x400000, 21);
	/* One byte in the middle names the whole leaf. */
	invalidate_range(run, 0x2abcde, 0x2abcde);
	assert_true(host_of(run, 0x200000) == GUEST_HOST + 0x400000);
	assert_true(host_of(run, 0x3ff000) == GUEST_HOST + 0x5ff000);
	end(run);
}

/* Guest pages of 2 MiB over host memory that is aligned to 4 KiB; then over a second stage. */
static void test_hazard_10_superpage_over_small_pages(void **state)
{
	struct run *run = begin("riscv64 Sv39", NULL, 0x3000);

	(void)state;
	map(run, 0x200000, 0x3fffff, GUEST_DATA, 21);
	for (uint64_t at = 0x200000; at < 0x400000; at += 0x1000)
		assert_true(host_of(run, at) == GUEST_HOST + 0x3000 + (at - 0x200000));
	map(run, 0x200000, 0x3fffff, GUEST_DATA + 0x200000, 21);
	invalidate_range(run, 0x2ff000, 0x2fffff);
	for (uint64_t at = 0x200000; at < 0x400000; at += 0x1000)
		assert_true(host_of(run, at) == GUEST_HOST + 0x203000 + (at - 0x200000));
	end(run);

	run = begin("arm-s1 4K 48", "arm-s2 4K 48", 0);
	for (uint64_t i = 0; i < 1024; i++)
		guest_map(&run->guest, 1, GUEST_DATA + i * 0x1000, GUEST_DATA + i * 0x1000 + 0xfff,
		          GUEST_DATA + (i ^ 1) * 0x1000, RW, 0, 12, false);
	map(run, 0x200000, 0x3fffff, GUEST_DATA, 21);
	for (uint64_t i = 0; i < 512; i++)
		assert_true(host_of(run, 0x200000 + i * 0x1000) == GUEST_HOST + (i ^ 1) * 0x1000);
	map(run, 0x200000, 0x3fffff, GUEST_DATA + 0x200000, 21);
	invalidate_range(run, 0x200000, 0x200fff);
	for (uint64_t i = 0; i < 512; i++)
		assert_true(host_of(run, 0x200000 + i * 0x1000) ==
		            GUEST_HOST + 0x200000 + (i ^ 1) * 0x1000);
	end(run);
}

/* The same with a page of 1 GiB, of which a few addresses far apart were used. */
static void test_hazard_10_gigabyte_over_small_pages(void **state)
{
	struct run *run = begin("vtd-ss 3 levels", NULL, 0x1000);
	struct snest_table *table = run->guest.table[0].table;

	(void)state;
	assert_int_equal(snest_table_map(table, 0x40000000, 0x7fffffff, GUEST_DATA, RW, 0,
	                                 SNEST_TABLE_PAGE(30)),
	                 0);
	assert_true(host_of(run, 0x40000000) == GUEST_HOST + 0x1000);
	assert_true(host_of(run, 0x7ffff000 - 0x1000) == GUEST_HOST + 0x3ffff000);
	assert_true(host_of(run, 0x50000000) == GUEST_HOST + 0x10001000);
	assert_int_equal(snest_table_unmap(table, 0x40000000, 0x7fffffff, 0, NULL), 0);
	invalidate_range(run, 0x60000000, 0x60000fff);
	assert_true(host_of(run, 0x40000000) == 0);
	assert_true(host_of(run, 0x7fffe000) == 0);
	assert_true(host_of(run, 0x50000000) == 0);
	end(run);
}

static void test_hazard_11_wrapped_ranges_mean_all(void **state)
{
	static const uint64_t range[][2] = {
		{UINT64_MAX, 0}, {1, 0}, {0x5000, 0x4fff}, {0, UINT64_MAX}};
	struct run *run = begin("amd-v1 mode 6", NULL, 0);

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		uint64_t to = GUEST_DATA + (i + 1) * 0x100000ull, top = 0 - 0x1000ull;

		map(run, 0, 0xfff, to, 12);
		map(run, top, UINT64_MAX, to + 0x1000, 12);
		invalidate_range(run, range[i][0], range[i][1]);
		assert_true(host_of(run, 0) == to - GUEST_DATA + GUEST_HOST);
		assert_true(host_of(run, top) == to - GUEST_DATA + GUEST_HOST + 0x1000);
	}
	/* The last page alone, and the last byte. */
	for (unsigned i = 0; i < 2; i++) {
		map(run, 0 - 0x1000ull, UINT64_MAX, GUEST_DATA + (i + 7) * 0x100000ull, 12);
		invalidate_range(run, i ? UINT64_MAX : 0 - 0x1000ull, UINT64_MAX);
		assert_true(host_of(run, 0 - 0x1000ull) == GUEST_HOST + (i + 7) * 0x100000ull);
		assert_true(host_of(run, 0) != 0);
	}
	end(run);
}

/* 2 GiB named for two pages, and a shadow that holds just these. */
static void test_hazard_12_wide_ranges(void **state)
{
	struct run *run = begin("vtd-ss 3 levels", NULL, 0);
	struct snest_space_stats before = {.size = sizeof(before)}, after = before;

	(void)state;
	map(run, 0x3ffff000, 0x40000fff, GUEST_DATA, 12);
	map(run, 0x0, 0xfff, GUEST_DATA + 0x5000, 12);
	assert_true(host_of(run, 0x3ffff000) == GUEST_HOST);
	assert_true(host_of(run, 0x40000000) == GUEST_HOST + 0x1000);
	assert_true(host_of(run, 0x0) == GUEST_HOST + 0x5000);
	guest_unmap(&run->guest, 0, 0x3ffff000, 0x3fffffff, false);
	guest_unmap(&run->guest, 0, 0x40000000, 0x40000fff, false);
	assert_int_equal(snest_space_stats(run->space, &before), 0);
	/* A million of them: each looks at two leaves at most, or this takes hours. */
	for (unsigned i = 0; i < 1000000; i++)
		invalidate_range(run, 0x1000, 0x7fffffff);
	assert_int_equal(snest_space_stats(run->space, &after), 0);
	assert_true(after.leaves_dropped - before.leaves_dropped <= 2);
	assert_true(host_of(run, 0x3ffff000) == 0 && host_of(run, 0x40000000) == 0);
	assert_true(host_of(run, 0x0) == GUEST_HOST + 0x5000);
	end(run);
}

/* One domain names several spaces; a device may have several; an invalidation reaches them all. */
static void test_hazard_13_tags_name_several_spaces(void **state)
{
	struct run *run = begin("vtd-ss 3 levels", NULL, 0);
	struct snest_device *device[4];
	struct snest_space *space[4];

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		space[i] =
			guest_space(&run->guest, (struct snest_tag){i < 3 ? 7 : 8, 10 + i}, 0, 0);
		assert_int_equal(snest_device_create(run->guest.vm, i, NULL, NULL, &device[i]), 0);
		assert_int_equal(snest_device_bind(device[i], i, space[i]), 0);
	}
	for (unsigned round = 0; round < 4; round++) {
		uint64_t old = GUEST_HOST + round * 0x1000, new = old + 0x1000;

		map(run, 0x1000, 0x1fff, old - GUEST_HOST + GUEST_DATA, 12);
		assert_int_equal(snest_vm_invalidate(run->guest.vm, 0, ALL, 0), 0);
		for (unsigned i = 0; i < 4; i++) {
			struct snest_translation t;

			snest_read_begin();
			assert_int_equal(
				snest_space_translate(space[i], 0x1000, SNEST_READ, &t, NULL), 0);
			snest_read_end();
			assert_true(t.host == old);
		}
		map(run, 0x1000, 0x1fff, new - GUEST_HOST + GUEST_DATA, 12);
		switch (round) {
		case 0:
			assert_int_equal(
				snest_tag_invalidate(run->guest.vm,
			                             (struct snest_tag){7, SNEST_ANY_SPACE}, 0x1000,
			                             0x1fff, 0),
				0);
			break;
		case 1:
			assert_int_equal(snest_tag_invalidate(run->guest.vm,
			                                      (struct snest_tag){7, 11}, 0x1000,
			                                      0x1fff, 0),
			                 0);
			break;
		case 2:
			assert_int_equal(snest_device_bind(device[0], 0x77, space[2]), 0);
			assert_int_equal(snest_device_invalidate(device[0], SNEST_ANY_PASID, 0x1000,
			                                         0x1fff, 0),
			                 0);
			break;
		default:
			assert_int_equal(snest_device_invalidate(device[3], 3, 0x1000, 0x1fff, 0),
			                 0);
			assert_int_equal(snest_device_invalidate(device[3], 9, 0x1000, 0x1fff, 0),
			                 0);
		}
		for (unsigned i = 0; i < 4; i++) {
			static const unsigned reached[4] = {0x7, 0x2, 0x5, 0x8};
			struct snest_translation t;

			snest_read_begin();
			assert_int_equal(
				snest_space_translate(space[i], 0x1000, SNEST_READ, &t, NULL), 0);
			snest_read_end();
			assert_true(t.host == (reached[round] >> i & 1 ? new : old));
		}
	}
	for (unsigned i = 0; i < 4; i++) {
		snest_device_destroy(device[i]);
		snest_space_put(space[i]);
	}
	end(run);
}

/* A hint that only leaves changed is not believed: an upper entry did. */
static void test_hazard_14_upper_entries(void **state)
{
	struct run *run = begin("vtd-ss 3 levels", NULL, 0);
	struct snest_table *table = run->guest.table[0].table;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		map(run, 0x200000, 0x201fff, GUEST_DATA, 12);
		invalidate_range(run, 0x200000, 0x3fffff);
		assert_true(host_of(run, 0x200000) == GUEST_HOST);
		/* The whole table goes; the hint says leaf. */
		assert_int_equal(snest_table_unmap(table, 0, 0x3fffffff, 0, NULL), 0);
		map(run, 0x200000, 0x200fff, GUEST_DATA + 0x7000, 12);
		invalidate_range(run, 0x200000, 0x200fff);
		assert_true(host_of(run, 0x200000) == GUEST_HOST + 0x7000);
		assert_true(host_of(run, 0x201000) == 0);
	}
	end(run);
}

static void test_hazard_17_absence_is_not_remembered(void **state)
{
	struct run *run = begin("x86-64 WP NX", NULL, 0);
	struct snest_translation t;

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		assert_true(host_of(run, 0x1000) == 0);
	/* Nothing announces this. */
	guest_map(&run->guest, 0, 0x1000, 0x1fff, GUEST_DATA, SNEST_READ, SNEST_ATTR_USER, 12,
	          false);
	assert_true(host_of(run, 0x1000) == GUEST_HOST);
	/* Nor this: more rights. */
	snest_read_begin();
	assert_int_equal(snest_translate(run->device, 0x1000, SNEST_WRITE, &t, NULL), -EACCES);
	snest_read_end();
	guest_map(&run->guest, 0, 0x1000, 0x1fff, GUEST_DATA, RW, SNEST_ATTR_USER, 12, true);
	snest_read_begin();
	assert_int_equal(snest_translate(run->device, 0x1000, SNEST_WRITE, &t, NULL), 0);
	snest_read_end();
	end(run);
}

/* The second stage changes what the leaf, and what the first stage's table, is built from. */
static void test_hazard_18_second_stage_changes(void **state)
{
	struct run *run = begin("x86-64 4 levels", "vtd-ss 4 levels", 0);
	uint64_t root = run->guest.list[0].root, entry;

	(void)state;
	guest_map(&run->guest, 1, GUEST_DATA, GUEST_DATA + 0xfff, GUEST_DATA + 0x5000, RW, 0, 12,
	          false);
	map(run, 0x1000, 0x1fff, GUEST_DATA, 12);
	assert_true(host_of(run, 0x1000) == GUEST_HOST + 0x5000);
	guest_map(&run->guest, 1, GUEST_DATA, GUEST_DATA + 0xfff, GUEST_DATA + 0x6000, RW, 0, 12,
	          true);
	invalidate_range(run, 0, ALL);
	assert_true(host_of(run, 0x1000) == GUEST_HOST + 0x6000);
	/* The first stage's top table moves: the same IPA leads to an empty page now. */
	memcpy(&entry, run->guest.ram + root - GUEST_TABLES_AT, sizeof(entry));
	assert_true(entry != 0);
	assert_int_equal(snest_table_map(run->guest.table[1].table, root, root + 0xfff,
	                                 (1ull << GUEST_TABLES_LG2) - 0x1000, RW, 0,
	                                 SNEST_TABLE_REPLACE),
	                 0);
	invalidate_range(run, 0, ALL);
	assert_true(host_of(run, 0x1000) == 0);
	end(run);
}

/* Old or new before the invalidation; and what was looked up again is not old for ever. */
static void test_hazard_20_legal_staleness(void **state)
{
	struct run *run = begin("vtd-ss 3 levels", NULL, 0);

	(void)state;
	for (uint64_t i = 0; i < 100; i++) {
		uint64_t old = host_of(run, 0x1000), host;

		map(run, 0x1000, 0x1fff, GUEST_DATA + i * 0x1000, 12);
		host = host_of(run, 0x1000);
		assert_true((old && host == old) || host == GUEST_HOST + i * 0x1000);
		if (i % 3 == 0) {
			invalidate_range(run, 0x1000, 0x1fff);
			assert_true(host_of(run, 0x1000) == GUEST_HOST + i * 0x1000);
		}
	}
	end(run);
}

/* Arm ignores the top byte of an address: no invalidation will name it. */
static void test_tagged_addresses_are_not_stale(void **state)
{
	struct run *run = begin("arm-s1 TBI0, EPD1", NULL, 0);
	uint64_t tagged = 0x5a00000000001000;

	(void)state;
	map(run, 0x1000, 0x1fff, GUEST_DATA, 12);
	assert_true(host_of(run, tagged) == GUEST_HOST);
	assert_true(host_of(run, 0x1000) == GUEST_HOST);
	map(run, 0x1000, 0x1fff, GUEST_DATA + 0x8000, 12);
	invalidate_range(run, 0x1000, 0x1fff);
	assert_true(host_of(run, 0x1000) == GUEST_HOST + 0x8000);
	assert_true(host_of(run, tagged) == GUEST_HOST + 0x8000);
	end(run);
}

/* IOVAs that are used once do not leave tables behind for ever. */
static void test_tables_do_not_pile_up(void **state)
{
	struct run *run = begin("vtd-ss 3 levels", NULL, 0);
	struct snest_table *table = run->guest.table[0].table;
	struct snest_space_stats stats = {.size = sizeof(stats)};

	(void)state;
	for (uint64_t i = 0; i < 20000; i++) {
		uint64_t iova = i << 21;

		assert_int_equal(snest_table_map(table, iova, iova + 0xfff, GUEST_DATA, RW, 0, 0),
		                 0);
		assert_true(host_of(run, iova) == GUEST_HOST);
		assert_int_equal(snest_table_unmap(table, iova, iova + 0xfff, 0, NULL), 0);
		invalidate_range(run, iova, iova + 0xfff);
		if (i % 1000 == 0) {
			assert_int_equal(snest_space_stats(run->space, &stats), 0);
			assert_true(stats.table_bytes <= 256 * 4096);
		}
	}
	end(run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hazard_9_the_range_is_not_the_mapping),
		cmocka_unit_test(test_hazard_10_superpage_over_small_pages),
		cmocka_unit_test(test_hazard_10_gigabyte_over_small_pages),
		cmocka_unit_test(test_hazard_11_wrapped_ranges_mean_all),
		cmocka_unit_test(test_hazard_12_wide_ranges),
		cmocka_unit_test(test_hazard_13_tags_name_several_spaces),
		cmocka_unit_test(test_hazard_14_upper_entries),
		cmocka_unit_test(test_hazard_17_absence_is_not_remembered),
		cmocka_unit_test(test_hazard_18_second_stage_changes),
		cmocka_unit_test(test_hazard_20_legal_staleness),
		cmocka_unit_test(test_tagged_addresses_are_not_stale),
		cmocka_unit_test(test_tables_do_not_pile_up),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
