/* SPDX-License-Identifier: MIT */
/*
 * Invalidation, held against the model IOTLB: random guests in every format
 * change their tables, invalidate what they like, and look addresses up in
 * between. What was not invalidated may be old or new, what was is new, and no
 * leaf anywhere in the shadow is neither.
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
	bool logging;
};

static void run_init(struct run *run, const struct guest_options *o, uint64_t table_bytes_max,
                     const char *what)
{
	guest_init(&run->guest, o);
	run->space = guest_space(&run->guest, (struct snest_tag){7, 1}, 0, table_bytes_max);
	assert_int_equal(snest_device_create(run->guest.vm, 0x100, NULL, NULL, &run->device), 0);
	assert_int_equal(snest_device_bind(run->device, SNEST_NO_PASID, run->space), 0);
	model_init(&run->model, &run->guest, what);
	run->logging = false;
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

/* The dirty log is turned on, off, and fetched: rights are withheld, and come back. */
static void log_step(struct run *run)
{
	static uint64_t bitmap[(GUEST_READONLY - GUEST_DATA) / 4096 / 64];
	struct snest_vm *vm = run->guest.vm;

	switch (run->logging ? test_below(&run->guest.random, 4) : 0) {
	case 0:
		assert_int_equal(run->logging ? snest_dirty_stop(vm) : snest_dirty_start(vm), 0);
		run->logging = !run->logging;
		break;
	case 1:
		assert_int_equal(
			snest_vm_dirty(vm, GUEST_DATA, GUEST_READONLY - 1, 0, bitmap, NULL), 0);
		break;
	default:
		assert_int_equal(snest_space_dirty(run->space, 0, 0x3fffffff, 0, bitmap, NULL), 0);
	}
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
	if (test_below(random, 8) == 0)
		log_step(run);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_format),
		cmocka_unit_test(test_skewed_memory),
		cmocka_unit_test(test_two_and_three_stages),
		cmocka_unit_test(test_budgets),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
