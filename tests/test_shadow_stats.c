/* SPDX-License-Identifier: MIT */
/*
 * Statistics: each number grows by what happened, and by nothing else; those
 * of spaces that are gone stay in the VM's totals; "now" comes down again.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "support/fail.h"
#include "support/guest.h"
#include "support/sink.h"

#define ALL UINT64_MAX

struct fixture {
	struct test_fail fail;
	struct guest guest;
	struct snest_space *space;
	struct snest_device *device;
};

static struct fixture f;
static struct sink sink;

/* IOVA 0 .. 16 pages, read-write; the next page read-only. */
static int setup(void **state)
{
	struct guest_options o = {.config = {guest_config("x86-64 4 levels")}, .seed = 1};

	(void)state;
	memset(&f, 0, sizeof(f));
	test_fail_init(&f.fail);
	o.hooks = &f.fail.hooks;
	guest_init(&f.guest, &o);
	guest_map(&f.guest, 0, 0, 0xffff, GUEST_DATA, SNEST_READ | SNEST_WRITE, SNEST_ATTR_USER, 12,
	          false);
	guest_map(&f.guest, 0, 0x10000, 0x10fff, GUEST_DATA, SNEST_READ, SNEST_ATTR_USER, 12,
	          false);
	f.space = guest_space(&f.guest, (struct snest_tag){7, 1}, SNEST_SPACE_ANNOUNCED, 0);
	assert_int_equal(snest_device_create(f.guest.vm, 0x100, NULL, NULL, &f.device), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	snest_device_destroy(f.device);
	snest_space_put(f.space);
	guest_fini(&f.guest);
	assert_int_equal(f.fail.live_objects, 0);
	return 0;
}

static struct snest_space_stats of_space(void)
{
	struct snest_space_stats s = {.size = sizeof(s)};

	assert_int_equal(snest_space_stats(f.space, &s), 0);
	return s;
}

static struct snest_device_stats of_device(void)
{
	struct snest_device_stats s = {.size = sizeof(s)};

	assert_int_equal(snest_device_stats(f.device, &s), 0);
	return s;
}

static struct snest_shadow_stats of_vm(void)
{
	struct snest_shadow_stats s = {.size = sizeof(s)};

	assert_int_equal(snest_shadow_stats(f.guest.vm, &s), 0);
	return s;
}

static int look(uint64_t iova, uint32_t access)
{
	struct snest_translation t;
	int ret;

	snest_read_begin();
	ret = snest_translate(f.device, iova, access, &t, NULL);
	snest_read_end();
	return ret;
}

static void test_requests(void **state)
{
	struct snest_translation t[3];
	uint64_t iovas[3] = {0x4000, 0x5000, 0x200000};

	(void)state;
	assert_int_equal(look(0x1000, SNEST_READ), -EACCES);
	assert_int_equal(of_device().unbound, 1);
	assert_int_equal(of_device().faults, 1);
	assert_int_equal(of_device().misses, 0);

	assert_int_equal(snest_device_bind(f.device, SNEST_NO_PASID, f.space), 0);
	assert_int_equal(snest_device_bind(f.device, 5, f.space), 0);
	assert_int_equal(snest_device_bind(f.device, 5, f.space), 0);
	assert_int_equal(of_device().binds, 2);
	assert_int_equal(of_device().bound, 2);

	/* One miss, then hits. */
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(look(0x1000, SNEST_READ), 0);
	assert_int_equal(of_device().misses, 1);
	assert_int_equal(of_space().misses, 1);
	assert_int_equal(of_space().fills, 1);
	/* Refused for lack of a right, and for lack of a page. */
	assert_int_equal(look(0x10000, SNEST_WRITE), -EACCES);
	assert_int_equal(look(0x400000, SNEST_READ), -EACCES);
	assert_int_equal(of_device().misses, 3);
	assert_int_equal(of_device().faults, 3);
	assert_int_equal(of_space().faults, 2);

	snest_read_begin();
	assert_int_equal(snest_translate_batch(f.device, iovas, 3, SNEST_READ, t), 2);
	snest_read_end();
	assert_int_equal(of_device().misses, 6);
	assert_int_equal(of_device().faults, 4);
	assert_int_equal(of_space().fills, 3);

	snest_device_unbind_all(f.device, false);
	assert_int_equal(of_device().unbinds, 1);
	assert_int_equal(of_device().bound, 1);
	snest_device_unbind_all(f.device, true);
	assert_int_equal(of_device().unbinds, 2);
	assert_int_equal(of_device().bound, 0);
}

static void test_invalidations(void **state)
{
	(void)state;
	assert_int_equal(snest_device_bind(f.device, SNEST_NO_PASID, f.space), 0);
	for (uint64_t at = 0; at < 0x10000; at += 4096)
		assert_int_equal(look(at, SNEST_READ), 0);
	assert_int_equal(of_space().leaves_published, 16);
	assert_int_equal(of_space().leaves, 16);
	assert_true(of_space().table_bytes > 0);

	assert_int_equal(snest_space_invalidate(f.space, 0x1000, 0x2fff, 0), 0);
	assert_int_equal(of_space().invalidations, 1);
	assert_int_equal(of_space().invalidations_all, 0);
	assert_int_equal(of_space().leaves_dropped, 2);
	assert_int_equal(of_space().leaves, 14);
	assert_int_equal(of_vm().sum.leaves, 14);
	assert_int_equal(of_space().over_invalidated, 0);
	assert_int_equal(snest_space_invalidate(f.space, 1, 0, 0), 0);
	assert_int_equal(of_space().invalidations, 2);
	assert_int_equal(of_space().invalidations_all, 1);
	assert_int_equal(of_space().leaves, 0);
	assert_int_equal(of_space().evictions, 0);
}

/* Leaves that go because they came from the same page of the guest. */
static void test_over_invalidation(void **state)
{
	struct guest_options o = {
		.config = {guest_config("x86-64 4 levels")}, .host_skew = 0x1000, .seed = 2};
	struct snest_space_stats s = {.size = sizeof(s)};
	struct snest_translation t;
	struct snest_space *space;
	struct guest *g = calloc(1, sizeof(*g));

	(void)state;
	assert_non_null(g);
	guest_init(g, &o);
	guest_map(g, 0, 0, 0x1fffff, GUEST_DATA, SNEST_READ, SNEST_ATTR_USER, 21, false);
	space = guest_space(g, (struct snest_tag){7, 1}, 0, 0);
	snest_read_begin();
	for (uint64_t at = 0; at < 0x8000; at += 4096)
		assert_int_equal(snest_space_translate(space, at, SNEST_READ, &t, NULL), 0);
	snest_read_end();
	assert_int_equal(snest_space_invalidate(space, 0x3000, 0x3fff, 0), 0);
	assert_int_equal(snest_space_stats(space, &s), 0);
	assert_int_equal(s.leaves_dropped, 1);
	/* The seven others, leaf by leaf or as whole tables. */
	assert_true(s.over_invalidated >= 1 && s.over_invalidated <= 7);
	snest_space_put(space);
	guest_fini(g);
	free(g);
}

static void nothing(void *opaque)
{
	(void)opaque;
}

static void test_pins_and_drains(void **state)
{
	struct snest_drain drain;
	struct snest_pin pin[2];

	(void)state;
	assert_int_equal(snest_device_bind(f.device, 9, f.space), 0);
	for (unsigned i = 0; i < 2; i++) {
		__atomic_store_n(&f.fail.now_ns, 1000 * (i + 1), __ATOMIC_RELAXED);
		assert_int_equal(snest_pin(f.device, 9, 0x1000, 4096, SNEST_READ, &pin[i], NULL),
		                 0);
	}
	assert_int_equal(of_device().pins, 2);
	assert_int_equal(of_vm().pins_held, 2);
	__atomic_store_n(&f.fail.now_ns, 5000, __ATOMIC_RELAXED);
	assert_int_equal(of_vm().pin_oldest_ns, 4000);
	snest_unpin(&pin[0]);
	assert_int_equal(of_vm().pins_held, 1);
	assert_int_equal(of_vm().pin_oldest_ns, 3000);

	snest_drain_async(f.guest.vm, &drain, nothing, NULL);
	while (!of_vm().drains_waiting)
		snest_thread_quiescent();
	assert_int_equal(of_vm().drains, 1);
	snest_unpin(&pin[1]);
	assert_int_equal(snest_drain(f.guest.vm, 0), 0);
	assert_int_equal(of_vm().drains_waiting, 0);
	assert_int_equal(of_vm().drains, 2);
	assert_int_equal(of_vm().pins_held, 0);
	assert_int_equal(of_vm().pin_oldest_ns, 0);
	assert_int_equal(of_device().pins, 2);
}

static void test_mirror(void **state)
{
	(void)state;
	sink_init(&sink, 0);
	assert_int_equal(snest_space_mirror(f.space, &sink.sink), 0);
	assert_int_equal(of_vm().mirrors, 1);
	assert_int_equal(of_space().sink_maps, sink.maps);
	assert_int_equal(of_space().sink_pages, 17);
	assert_int_equal(snest_space_unmirror(f.space), 0);
	assert_int_equal(of_space().sink_unmaps, sink.unmaps);
	assert_true(of_space().sink_batches >= 2);
	assert_int_equal(of_space().sink_errors, 0);
	assert_int_equal(of_vm().mirrors, 0);
}

/* What a space counted outlives it. */
static void test_totals(void **state)
{
	struct snest_translation t;

	(void)state;
	assert_int_equal(of_vm().spaces, 1);
	assert_int_equal(of_vm().devices, 1);
	for (uint32_t i = 0; i < 3; i++) {
		struct snest_space *space = guest_space(&f.guest, (struct snest_tag){8, i}, 0, 0);

		snest_read_begin();
		assert_int_equal(snest_space_translate(space, 0x1000, SNEST_READ, &t, NULL), 0);
		assert_int_equal(snest_space_translate(space, 1ull << 30, SNEST_READ, &t, NULL),
		                 -EACCES);
		snest_read_end();
		assert_int_equal(snest_space_invalidate(space, 0, ALL, 0), 0);
		assert_int_equal(of_vm().spaces, 2);
		snest_space_put(space);
	}
	assert_int_equal(of_vm().spaces, 1);
	assert_int_equal(of_vm().sum.misses, 6);
	assert_int_equal(of_vm().sum.faults, 3);
	assert_int_equal(of_vm().sum.fills, 3);
	assert_int_equal(of_vm().sum.invalidations_all, 3);
	assert_int_equal(of_vm().sum.table_bytes, 0);
}

/* Callers that know less, or more, than this library. */
static void test_sizes(void **state)
{
	struct {
		struct snest_shadow_stats s;
		uint64_t newer;
	} more = {.s = {.size = sizeof(more)}, .newer = 0};
	struct snest_device_stats less = {.size = offsetof(struct snest_device_stats, unbound),
	                                  .unbound = 77};
	struct snest_space_stats bad = {.size = 4};

	(void)state;
	assert_int_equal(look(0x1000, SNEST_READ), -EACCES);
	assert_int_equal(snest_shadow_stats(f.guest.vm, &more.s), 0);
	assert_int_equal(snest_device_stats(f.device, &less), 0);
	assert_int_equal(less.faults, 1);
	assert_int_equal(less.unbound, 77);
	assert_int_equal(snest_space_stats(f.space, &bad), -EINVAL);
	more.newer = 1;
	assert_int_equal(snest_shadow_stats(f.guest.vm, &more.s), -E2BIG);
}

/* A VM that has nothing yet. */
static void test_empty(void **state)
{
	struct snest_shadow_stats s = {.size = sizeof(s), .spaces = 5};
	struct snest_vm *vm;

	(void)state;
	assert_int_equal(snest_vm_create(NULL, &vm), 0);
	assert_int_equal(snest_shadow_stats(vm, &s), 0);
	assert_int_equal(s.spaces, 0);
	snest_vm_destroy(vm);
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
		cmocka_unit_test_setup_teardown(test_requests, setup, teardown),
		cmocka_unit_test_setup_teardown(test_invalidations, setup, teardown),
		cmocka_unit_test(test_over_invalidation),
		cmocka_unit_test_setup_teardown(test_pins_and_drains, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mirror, setup, teardown),
		cmocka_unit_test_setup_teardown(test_totals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sizes, setup, teardown),
		cmocka_unit_test(test_empty),
	};

	return cmocka_run_group_tests(tests, register_thread, unregister_thread);
}
