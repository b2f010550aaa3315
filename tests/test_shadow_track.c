/* SPDX-License-Identifier: MIT */
/*
 * Write tracking: a guest that announces nothing changes its tables at random;
 * the embedder sees writes to the pages that snest asked it to protect, and to
 * no others. After the notices the sink equals a fresh walk. The protected
 * pages are exactly those that tables lie in, each protected once.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "support/guard.h"

#define STEPS 200
#define ALL UINT64_MAX

static struct guard guard;
static struct guest guest;
static struct sink sink[2];
static const char *what;

static void check(const struct sink *s)
{
	guard_check(&guest, s, what);
}

/* Tables of 4 KiB, all of one stage: each is protected, and nothing else. */
static void check_protected(struct snest_space *space)
{
	struct snest_space_stats stats = {.size = sizeof(stats)};
	uint64_t tables = 0;

	assert_int_equal(snest_space_stats(space, &stats), 0);
	assert_int_equal(stats.table_pages, guard.count);
	for (unsigned k = 0; k < guest.stages; k++)
		tables += snest_table_bytes(guest.table[k].table) / 4096;
	if (guest.stages == 1 && guard.count != tables)
		fail_msg("%s: %u pages are protected, there are %" PRIu64 " tables", what,
		         guard.count, tables);
}

/* ---- Random guests ------------------------------------------------------------- */

static void begin(const struct guest_options *o, const char *name)
{
	what = name;
	guest_init(&guest, o);
	guard_init(&guard, &guest);
	sink_init(&sink[0], o->seed & 1 ? SNEST_SINK_CAN_SPLIT : 0);
	sink_init(&sink[1], o->seed & 2 ? SNEST_SINK_CAN_SPLIT : 0);
}

static void end(void)
{
	guard_fini(&guard);
	guest_fini(&guest);
}

static void drive(const struct guest_options *o, const char *name, bool memory)
{
	struct snest_space *space;

	begin(o, name);
	space = guest_space(&guest, (struct snest_tag){7, 1}, 0, 0);
	for (unsigned i = 0; i < 20; i++)
		guest_step(&guest);
	assert_int_equal(snest_space_mirror(space, &sink[0].sink), 0);
	check(&sink[0]);
	check_protected(space);
	for (unsigned i = 0; i < STEPS; i++) {
		struct guest_change change = guest_step(&guest);

		assert_int_equal(guard_notices(&guard), 0);
		if (memory && test_below(&guest.random, 8) == 0)
			guest_memory_step(&guest);
		check(&sink[0]);
		check_protected(space);
		/* What the guest does announce, as in any mirrored space. */
		if (change.stage == 0 && test_below(&guest.random, 4) == 0) {
			assert_int_equal(
				snest_space_invalidate(space, change.first, change.last, 0), 0);
			check(&sink[0]);
			check_protected(space);
		}
	}
	assert_int_equal(snest_space_unmirror(space), 0);
	assert_int_equal(sink[0].count, 0);
	snest_space_put(space);
	end();
}

static void test_silent_formats(void **state)
{
	static const char *const names[] = {
		"x86-64 4 levels", "x86-64 5 levels", "arm-s1 4K 48", "arm-s1 4K 39, both halves",
		"riscv64 Sv39",    "riscv64 Sv48",    "riscv64 Sv57"};

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(names) / sizeof(names[0]); i++) {
		struct guest_options o = {.config = {guest_config(names[i / 2])}, .seed = i};

		drive(&o, names[i / 2], i & 1);
	}
}

/* Tables of several pages, of parts of a page, of entries of 4 bytes. */
static void test_odd_tables(void **state)
{
	static const char *const names[] = {"arm-s1 16K 36 and 25", "arm-s1 4K 32 and 16",
	                                    "arm-s1 TBI0, EPD1", "arm-s1 big-endian",
	                                    "riscv32 Sv32"};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const struct test_config *config = guest_config(names[i]);
		struct guest_options o = {.config = {config}, .seed = 100 + i};
		struct snest_space *space;

		begin(&o, names[i]);
		space = guest_space(&guest, (struct snest_tag){7, 1}, 0, 0);
		assert_int_equal(snest_space_mirror(space, &sink[0].sink), 0);
		for (unsigned n = 0; n < STEPS / 2; n++) {
			guest_step(&guest);
			assert_int_equal(guard_notices(&guard), 0);
			check(&sink[0]);
		}
		snest_space_put(space);
		assert_int_equal(sink[0].count, 0);
		end();
	}
}

static void test_two_stages(void **state)
{
	static const char *const names[][3] = {
		{"arm-s1 4K 48", "arm-s2 4K 48"},
		{"riscv64 Sv39", "riscv64 Sv48x4"},
		{"x86-64 4 levels", "vtd-ss 4 levels"},
		{"x86-64 4 levels", "arm-s2 4K 48", "vtd-ss 4 levels"},
	};

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(names) / sizeof(names[0]); i++) {
		struct guest_options o = {.seed = 200 + i};

		for (unsigned k = 0; k < 3; k++)
			o.config[k] = names[i / 2][k] ? guest_config(names[i / 2][k]) : NULL;
		drive(&o, names[i / 2][0], i & 1);
	}
}

/* Two spaces share all tables: pages are protected once, and freed with the last. */
static void test_two_spaces(void **state)
{
	struct guest_options o = {.config = {guest_config("arm-s1 4K 48")}, .seed = 300};
	struct snest_space *space[2];
	unsigned before;

	(void)state;
	begin(&o, "two spaces");
	for (unsigned i = 0; i < 2; i++) {
		space[i] = guest_space(&guest, (struct snest_tag){7, i}, 0, 0);
		assert_int_equal(snest_space_mirror(space[i], &sink[i].sink), 0);
	}
	for (unsigned i = 0; i < STEPS; i++) {
		guest_step(&guest);
		assert_int_equal(guard_notices(&guard), 0);
		check(&sink[0]);
		check(&sink[1]);
		check_protected(space[i & 1]);
	}
	before = guard.count;
	snest_space_put(space[0]);
	assert_int_equal(sink[0].count, 0);
	assert_int_equal(guard.count, before);
	snest_space_put(space[1]);
	assert_int_equal(sink[1].count, 0);
	end();
}

/* A sink that only counts. */
static int count_bytes(void *opaque, const struct snest_sink_op *ops, size_t count, size_t *done)
{
	uint64_t *bytes = opaque;

	for (*done = 0; *done < count; (*done)++) {
		uint64_t length = ops[*done].last - ops[*done].first + 1;

		*bytes += ops[*done].map ? length : 0 - length;
	}
	return 0;
}

/* More spaces than one notice takes references of at once. */
static void test_many_spaces(void **state)
{
	struct guest_options o = {.config = {guest_config("riscv64 Sv39")}, .seed = 301};
	struct snest_space *space[40];
	uint64_t bytes[40] = {0};

	(void)state;
	begin(&o, "many spaces");
	for (unsigned i = 0; i < 40; i++) {
		struct snest_sink counter = {
			.size = sizeof(counter), .opaque = &bytes[i], .apply = count_bytes};

		space[i] = guest_space(&guest, (struct snest_tag){7, i}, 0, 0);
		assert_int_equal(snest_space_mirror(space[i], i ? &counter : &sink[0].sink), 0);
	}
	for (unsigned n = 0; n < 60; n++) {
		guest_step(&guest);
		assert_int_equal(guard_notices(&guard), 0);
		check(&sink[0]);
		for (unsigned i = 1; i < 40; i++)
			assert_true(bytes[i] == sink_bytes(&sink[0]));
	}
	for (unsigned i = 0; i < 40; i++) {
		snest_space_put(space[i]);
		assert_int_equal(bytes[i], 0);
	}
	end();
}

static int register_thread(void **state)
{
	(void)state;
	snest_thread_register();
	return 0;
}

static int unregister_thread(void **state)
{
	(void)state;
	snest_thread_unregister();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_silent_formats), cmocka_unit_test(test_odd_tables),
		cmocka_unit_test(test_two_stages),     cmocka_unit_test(test_two_spaces),
		cmocka_unit_test(test_many_spaces),
	};

	return cmocka_run_group_tests(tests, register_thread, unregister_thread);
}
