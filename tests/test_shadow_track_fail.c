/* SPDX-License-Identifier: MIT */
/*
 * Write tracking when something goes wrong: notices are lost, pages cannot be
 * protected, memory or a budget is used up, an embedder errs. What cannot be
 * tracked is not mirrored, the sink is told, nothing stale stays, and reading
 * everything again repairs it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>
#include "support/fail.h"
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

/* Lost notices show: else the tests above would prove nothing. */
static void test_lost_notices_show(void **state)
{
	struct guest_options o = {.config = {guest_config("riscv64 Sv48")}, .seed = 400};
	struct snest_space *space;
	unsigned shown = 0;

	(void)state;
	begin(&o, "lost notices");
	space = guest_space(&guest, (struct snest_tag){7, 1}, 0, 0);
	assert_int_equal(snest_space_mirror(space, &sink[0].sink), 0);
	for (unsigned i = 0; i < STEPS; i++) {
		guard.deaf = i & 1;
		guest_step(&guest);
		assert_int_equal(guard_notices(&guard), 0);
		if (!guard.deaf) {
			check(&sink[0]);
			continue;
		}
		shown += !guard_equal(&guest, &sink[0]);
		/* Re-reading everything repairs it. */
		assert_int_equal(snest_space_invalidate(space, 0, ALL, 0), 0);
		check(&sink[0]);
	}
	guard.deaf = false;
	assert_true(shown > STEPS / 8);
	snest_space_put(space);
	end();
}

static void test_refusals(void **state)
{
	struct guest_options o = {.config = {guest_config("arm-s1 4K 48")}, .seed = 500};
	struct snest_tracker half = {.size = sizeof(half), .protect = guard.tracker.protect};
	struct snest_space *space;

	(void)state;
	begin(&o, "refusals");
	space = guest_space(&guest, (struct snest_tag){7, 1}, 0, 0);
	assert_int_equal(snest_vm_track(guest.vm, &half), -EINVAL);
	assert_int_equal(snest_table_written(guest.vm, 0, 0), -EINVAL);
	assert_int_equal(snest_table_written(guest.vm, ALL, 2), -EINVAL);
	assert_int_equal(snest_table_written(guest.vm, ALL, 1), 0);
	assert_int_equal(snest_vm_track(guest.vm, NULL), 0);
	assert_int_equal(snest_space_mirror(space, &sink[0].sink), -EOPNOTSUPP);
	assert_int_equal(snest_vm_track(guest.vm, &guard.tracker), 0);
	assert_int_equal(snest_space_mirror(space, &sink[0].sink), 0);
	assert_int_equal(snest_space_mirror(space, &sink[1].sink), -EBUSY);
	assert_int_equal(snest_vm_track(guest.vm, NULL), -EBUSY);
	assert_int_equal(snest_vm_track(guest.vm, &guard.tracker), -EBUSY);
	/* A notice of everything. */
	assert_int_equal(snest_table_written(guest.vm, 0, ALL), 0);
	check(&sink[0]);
	snest_space_put(space);
	end();
}

/* A page that cannot be protected is not mirrored, the sink is told, and a re-read repairs. */
static void test_protect_fails(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= 24; n++) {
		struct guest_options o = {
			.config = {guest_config(n & 1 ? "riscv64 Sv39" : "x86-64 4 levels")},
			.seed = 600 + n};
		struct snest_space *space;
		bool failed = false;

		if (n % 4 == 0)
			o.config[1] = guest_config("arm-s2 4K 48");
		begin(&o, "protect fails");
		for (unsigned i = 0; i < 20; i++)
			guest_step(&guest);
		space = guest_space(&guest, (struct snest_tag){7, 1}, 0, 0);
		guard.fail_in = n;
		if (snest_space_mirror(space, &sink[0].sink)) {
			/* Nothing is left behind. */
			assert_int_equal(sink[0].count, 0);
			assert_int_equal(guard.count, 0);
			assert_int_equal(snest_space_mirror(space, &sink[0].sink), 0);
			guard.fail_in = n;
		}
		for (unsigned i = 0; i < 40; i++) {
			uint64_t told = sink[0].told;

			guest_step(&guest);
			if (guard_notices(&guard)) {
				failed = true;
				assert_true(sink[0].told > told);
			}
			assert_true(failed ? guard_nothing_stale(&guest, &sink[0])
			                   : guard_equal(&guest, &sink[0]));
		}
		guard.fail_in = 0;
		assert_int_equal(snest_space_invalidate(space, 0, ALL, 0), 0);
		check(&sink[0]);
		snest_space_put(space);
		end();
	}
}

/* Guests with more tables than the budget has room for. */
static void test_budget(void **state)
{
	struct guest_options o = {.config = {guest_config("riscv64 Sv39")}, .seed = 700};
	struct snest_space_stats stats = {.size = sizeof(stats)};
	struct snest_space *space;

	(void)state;
	begin(&o, "budget");
	/* One page of shadow tables is as much as 21 tables that are tracked. */
	space = guest_space(&guest, (struct snest_tag){7, 1}, 0, 4096);
	assert_int_equal(snest_space_mirror(space, &sink[0].sink), 0);
	for (unsigned i = 0; i < 100; i++) {
		guest_step(&guest);
		guard_notices(&guard);
		assert_true(guard_nothing_stale(&guest, &sink[0]));
		assert_int_equal(snest_space_stats(space, &stats), 0);
		assert_true(stats.table_pages <= 21);
	}
	snest_space_put(space);
	end();
}

/* Memory fails at the n-th allocation of a scenario, for every n. */
static void test_every_allocation(void **state)
{
	static struct test_fail fail;
	bool fired = true;

	(void)state;
	for (uint64_t n = 1; fired; n++) {
		struct guest_options o = {
			.config = {guest_config("arm-s1 4K 48"), guest_config("arm-s2 4K 48")},
			.seed = 800};
		struct snest_space *space;
		uint64_t told;

		test_fail_init(&fail);
		o.hooks = &fail.hooks;
		begin(&o, "failed allocation");
		for (unsigned i = 0; i < 10; i++)
			guest_step(&guest);
		space = guest_space(&guest, (struct snest_tag){7, 1}, 0, 0);
		test_fail_arm(&fail, n);
		if (snest_space_mirror(space, &sink[0].sink)) {
			assert_int_equal(sink[0].count, 0);
			assert_int_equal(guard.count, 0);
			fired = test_fail_disarm(&fail);
			assert_true(fired);
			assert_int_equal(snest_space_mirror(space, &sink[0].sink), 0);
		}
		for (unsigned i = 0; i < 10; i++) {
			guest_step(&guest);
			told = sink[0].told;
			if (guard_notices(&guard))
				assert_true(sink[0].told > told);
			assert_true(sink[0].told ? guard_nothing_stale(&guest, &sink[0])
			                         : guard_equal(&guest, &sink[0]));
		}
		fired = test_fail_disarm(&fail) || n == 1;
		assert_int_equal(snest_space_invalidate(space, 0, ALL, 0), 0);
		check(&sink[0]);
		snest_space_put(space);
		end();
		assert_int_equal(fail.live_objects, 0);
	}
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
		cmocka_unit_test(test_lost_notices_show), cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_protect_fails),     cmocka_unit_test(test_budget),
		cmocka_unit_test(test_every_allocation),
	};

	return cmocka_run_group_tests(tests, register_thread, unregister_thread);
}
