/* SPDX-License-Identifier: MIT */
/*
 * Invalidation, held against the model IOTLB: random guests in every format
 * change their tables, invalidate what they like, and look addresses up in
 * between. What was not invalidated may be old or new, what was is new, and no
 * leaf anywhere in the shadow is neither. Then the hazards, one by one.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "support/guest.h"
#include "support/model.h"

#define STEPS 250
#define ALL UINT64_MAX

struct run {
	struct guest guest;
	struct model model;
	struct snest_space *space;
	struct snest_device *device;
};

static void run_init(struct run *run, const struct guest_options *o, uint64_t table_bytes_max,
                     const char *what)
{
	guest_init(&run->guest, o);
	run->space = guest_space(&run->guest, (struct snest_tag){7, 1}, 0, table_bytes_max);
	assert_int_equal(snest_device_create(run->guest.vm, 0x100, NULL, NULL, &run->device), 0);
	assert_int_equal(snest_device_bind(run->device, SNEST_NO_PASID, run->space), 0);
	model_init(&run->model, &run->guest, what);
}

static void run_fini(struct run *run)
{
	model_fini(&run->model);
	snest_device_destroy(run->device);
	snest_space_put(run->space);
	guest_fini(&run->guest);
}

static uint32_t some_access(struct test_random *random)
{
	static const uint32_t access[] = {SNEST_READ, SNEST_WRITE, SNEST_READ | SNEST_WRITE,
	                                  SNEST_EXEC, 0,           SNEST_READ};

	return access[test_below(random, 6)] | (test_below(random, 4) ? 0 : SNEST_PRIVILEGED);
}

static void look(struct run *run, uint64_t iova, uint32_t access)
{
	struct snest_translation t;
	struct snest_fault fault;
	int ret;

	snest_read_begin();
	ret = snest_translate(run->device, iova, access, &t, &fault);
	model_check(&run->model, iova, access, ret, &t);
	snest_read_end();
}

static void look_batch(struct run *run)
{
	uint32_t access = some_access(&run->guest.random);
	struct snest_translation t[40];
	uint64_t iova[40];
	size_t count = test_below(&run->guest.random, 41), good = 0;

	for (size_t i = 0; i < count; i++)
		iova[i] = guest_iova(&run->guest);
	snest_read_begin();
	assert_int_equal(count, count);
	good = snest_translate_batch(run->device, iova, count, access, t);
	for (size_t i = 0; i < count; i++) {
		int ret = t[i].outcome == SNEST_WALK_FAULT ? -EACCES : 0;

		model_check(&run->model, iova[i], access, ret, &t[i]);
		good -= !ret;
	}
	assert_int_equal(good, 0);
	snest_read_end();
}

static void look_scatter(struct run *run)
{
	uint32_t access = some_access(&run->guest.random);
	uint64_t length = 1 + test_below(&run->guest.random, 0x10000), done, at;
	uint64_t iova = guest_iova(&run->guest);
	struct snest_host_range range[8];
	struct snest_fault fault;
	size_t n;

	at = iova;
	snest_read_begin();
	n = snest_scatter(run->device, iova, length, access, range, 8, &done, &fault);
	assert_true(n <= 8 && done <= length);
	for (size_t i = 0; i < n; i++) {
		struct snest_translation t = {.host = range[i].host,
		                              .length = range[i].length,
		                              .rights = access & SNEST_RIGHTS,
		                              .outcome = SNEST_WALK_HOST};

		assert_true(range[i].length > 0);
		assert_true(!i || range[i - 1].host + range[i - 1].length != range[i].host);
		model_check(&run->model, at, access, 0, &t);
		at += range[i].length;
	}
	assert_true(at - iova == done);
	/* A range ends where addresses do. */
	if (done < length && n < 8 && iova + done)
		assert_int_not_equal(fault.reason, SNEST_FAULT_NONE);
	snest_read_end();
}

static void look_pinned(struct run *run)
{
	uint32_t access = some_access(&run->guest.random);
	uint64_t iova = guest_iova(&run->guest);
	struct snest_pin pin;
	struct snest_fault fault;
	int ret = snest_pin(run->device, SNEST_NO_PASID, iova,
	                    1 + test_below(&run->guest.random, 9000), access, &pin, &fault);

	model_check(&run->model, iova, access, ret, &pin.translation);
	if (!ret)
		snest_unpin(&pin);
}

/* An invalidation of something, by one of its names. */
static void invalidate(struct run *run, struct guest_change change)
{
	struct test_random *random = &run->guest.random;
	uint64_t first = change.first, last = change.last;
	uint32_t flags = test_below(random, 2) ? SNEST_INVALIDATE_LEAF : 0;

	/* A change of a later stage has no range in this one. */
	if (change.stage || test_below(random, 8) == 0) {
		first = 0;
		last = ALL;
	} else if (test_below(random, 4) == 0) {
		first = guest_iova(&run->guest);
		last = first | 4095;
	} else if (test_below(random, 8) == 0) {
		/* One byte of it. */
		first = last = first + test_below(random, last - first + 1);
	} else if (test_below(random, 16) == 0) {
		uint64_t swap = first;

		first = last;
		last = swap;
		if (first == last)
			first = 0, last = ALL;
	}
	switch (test_below(random, 5)) {
	case 0:
		assert_int_equal(snest_tag_invalidate(run->guest.vm,
		                                      (struct snest_tag){7, SNEST_ANY_SPACE}, first,
		                                      last, flags),
		                 0);
		break;
	case 1:
		assert_int_equal(
			snest_device_invalidate(run->device, SNEST_ANY_PASID, first, last, flags),
			0);
		break;
	case 2:
		assert_int_equal(snest_vm_invalidate(run->guest.vm, first, last, flags), 0);
		break;
	default:
		assert_int_equal(snest_space_invalidate(run->space, first, last, flags), 0);
	}
	model_invalidate(&run->model, first, last);
	for (unsigned i = 0; i < 8 && last - first < 0x10000000; i++)
		look(run, first + test_below(random, last - first + 1), some_access(random));
}

static void one_step(struct run *run, bool memory)
{
	struct test_random *random = &run->guest.random;
	struct guest_change change = guest_step(&run->guest);

	model_refresh(&run->model);
	if (memory && test_below(random, 8) == 0)
		guest_memory_step(&run->guest);
	for (unsigned i = 0; i < 8; i++) {
		look(run, guest_iova(&run->guest), some_access(random));
		if (change.stage == 0)
			look(run, change.first + test_below(random, change.last - change.first + 1),
			     some_access(random));
	}
	switch (test_below(random, 8)) {
	case 0:
		look_batch(run);
		break;
	case 1:
		look_scatter(run);
		break;
	case 2:
		look_pinned(run);
		break;
	default:
		invalidate(run, change);
	}
}

static void drive(const struct guest_options *o, uint64_t table_bytes_max, unsigned steps,
                  bool memory, const char *what)
{
	struct snest_space_stats stats = {.size = sizeof(stats)};
	static struct run run;

	run_init(&run, o, table_bytes_max, what);
	for (unsigned i = 0; i < steps; i++) {
		one_step(&run, memory);
		if (table_bytes_max || i % 16 == 0) {
			model_check_shadow(&run.model, run.space);
			assert_int_equal(snest_space_stats(run.space, &stats), 0);
			assert_true(!table_bytes_max || stats.table_bytes <= table_bytes_max);
		}
	}
	model_check_shadow(&run.model, run.space);
	assert_int_equal(snest_space_stats(run.space, &stats), 0);
	assert_true(!table_bytes_max || stats.evictions || stats.table_bytes <= table_bytes_max);
	run_fini(&run);
}

static void test_every_format(void **state)
{
	(void)state;
	for (size_t i = 0; i < test_configs_count; i++) {
		struct guest_options o = {.config = {&test_configs[i]}, .seed = i};

		if (test_configs[i].stage.format < SNEST_FORMAT_COUNT)
			drive(&o, 0, STEPS, i % 2, test_configs[i].name);
	}
}

/* The host's pages are smaller than the guest's, or not aligned with them. */
static void test_skewed_memory(void **state)
{
	static const char *const names[] = {"x86-64 4 levels", "vtd-ss 4 levels", "amd-v1 mode 4",
	                                    "arm-s1 16K 48 and 47", "riscv64 Sv39"};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct guest_options o = {.config = {guest_config(names[i])},
		                          .host_skew = i & 1 ? 0x1000 : 0x10000,
		                          .seed = 100 + i};

		drive(&o, 0, STEPS, true, names[i]);
	}
}

static void test_two_and_three_stages(void **state)
{
	static const char *const names[][3] = {
		{"x86-64 4 levels", "vtd-ss 4 levels"},
		{"arm-s1 4K 48", "arm-s2 4K 40, 2 tables"},
		{"riscv64 Sv39", "riscv64 Sv39x4"},
		{"amd-v2 4 levels", "amd-v1 mode 4"},
		{"arm-s1 16K 48 and 47", "vtd-ss 3 levels"},
		{"x86-64 4 levels", "arm-s2 4K 48", "vtd-ss 4 levels"},
		{"riscv32 Sv32", "x86-64 4 levels", "amd-v1 mode 4"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct guest_options o = {.seed = 200 + i};

		for (unsigned k = 0; k < 3; k++)
			o.config[k] = names[i][k] ? guest_config(names[i][k]) : NULL;
		drive(&o, 0, STEPS, true, names[i][0]);
	}
}

static void test_budgets(void **state)
{
	static const uint64_t budget[] = {4096, 8192, 20480, 32768, 65536};

	(void)state;
	for (size_t i = 0; i < sizeof(budget) / sizeof(budget[0]); i++) {
		struct guest_options o = {.config = {guest_config("x86-64 4 levels")},
		                          .seed = 300 + i};

		drive(&o, budget[i], STEPS, true, "a space's budget");
		o.vm_table_bytes_max = budget[i];
		drive(&o, 0, STEPS, true, "the VM's budget");
	}
}

/* ---- Hazards ------------------------------------------------------------------ */

static struct run one;

static struct run *begin(const char *config, const char *second, uint64_t host_skew)
{
	struct guest_options o = {
		.config = {guest_config(config), second ? guest_config(second) : NULL},
		.host_skew = host_skew};

	run_init(&one, &o, 0, config);
	return &one;
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

#define RW (SNEST_READ | SNEST_WRITE)

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
	run_fini(run);
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
	run_fini(run);

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
	run_fini(run);
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
	run_fini(run);
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
	run_fini(run);
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
	run_fini(run);
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
	run_fini(run);
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
	run_fini(run);
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
	run_fini(run);
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
	run_fini(run);
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
	run_fini(run);
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
	run_fini(run);
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
	run_fini(run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_format),
		cmocka_unit_test(test_skewed_memory),
		cmocka_unit_test(test_two_and_three_stages),
		cmocka_unit_test(test_budgets),
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
