/* SPDX-License-Identifier: MIT */
/*
 * Spaces and devices: which space one gets, what is bound to what, and what
 * happens to requests that are bound to nothing.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "support/lookup.h"

/* ---- Spaces ------------------------------------------------------------------------------ */

static void test_one_space_for_the_same_stages_and_tag(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0);
	struct snest_space *same, *other;

	(void)state;
	same = guest_space(&f->guest, (struct snest_tag){1, 2}, 0, 0);
	assert_ptr_equal(same, f->space);
	other = guest_space(&f->guest, (struct snest_tag){1, 3}, 0, 0);
	assert_ptr_not_equal(other, f->space);
	snest_space_put(other);
	other = guest_space(&f->guest, (struct snest_tag){1, 2}, SNEST_SPACE_ANNOUNCED, 0);
	assert_ptr_not_equal(other, f->space);
	snest_space_put(other);
	f->guest.list[0].flags |= SNEST_STAGE_NO_2M;
	other = guest_space(&f->guest, (struct snest_tag){1, 2}, 0, 0);
	assert_ptr_not_equal(other, f->space);
	snest_space_put(other);
	snest_space_put(same);
	snest_space_put(NULL);
	end(f);
}

static void test_space_errors(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0);
	struct snest_stage stage[SNEST_MAX_STAGES + 1];
	struct snest_space_config config = {.size = sizeof(config), .stages = stage, .count = 1};
	struct snest_space *space = (void *)1;
	struct {
		struct snest_space_config config;
		uint64_t tail;
	} longer;

	(void)state;
	for (unsigned i = 0; i <= SNEST_MAX_STAGES; i++)
		stage[i] = f->guest.list[0];
	stage[0].levels = 9;
	assert_int_equal(snest_space_get(f->guest.vm, &config, &space), -EINVAL);
	stage[0].format = 77;
	assert_int_equal(snest_space_get(f->guest.vm, &config, &space), -EOPNOTSUPP);
	stage[0] = stage[1];
	config.flags = 0x80;
	assert_int_equal(snest_space_get(f->guest.vm, &config, &space), -EOPNOTSUPP);
	config.flags = 0;
	config.count = SNEST_MAX_STAGES + 1;
	assert_int_equal(snest_space_get(f->guest.vm, &config, &space), -EINVAL);
	config.count = 1;
	config.stages = NULL;
	assert_int_equal(snest_space_get(f->guest.vm, &config, &space), -EINVAL);
	config.stages = stage;
	longer.config = config;
	longer.config.size = sizeof(longer);
	longer.tail = 1;
	assert_int_equal(snest_space_get(f->guest.vm, &longer.config, &space), -E2BIG);
	assert_ptr_equal(space, (void *)1);
	longer.tail = 0;
	assert_int_equal(snest_space_get(f->guest.vm, &longer.config, &space), 0);
	snest_space_put(space);
	end(f);
}

/* A contiguous gigabyte is one leaf, whatever the tables of the guest are made of. */
static void test_large_leaves(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0);
	uint64_t before;

	(void)state;
	assert_int_equal(snest_table_map(f->guest.table[0].table, 0x40000000, 0x7fffffff,
	                                 GUEST_DATA, RW, 0, 0),
	                 0);
	before = leaves(f);
	expect_host(f, 0x40000000, SNEST_READ, GUEST_HOST, 0x40000000, SNEST_RIGHTS);
	expect_host(f, 0x7fffffff, SNEST_READ, GUEST_HOST + 0x3fffffff, 1, SNEST_RIGHTS);
	assert_int_equal(leaves(f), before + 1);
	end(f);
}

/* ---- Devices -------------------------------------------------------------------------- */

static void test_devices(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0);
	struct snest_device *device, *other = (void *)1;

	(void)state;
	assert_int_equal(snest_device_rid(f->device), 0x100);
	assert_int_equal(snest_device_create(f->guest.vm, 0x100, NULL, NULL, &other), -EEXIST);
	assert_ptr_equal(other, (void *)1);
	for (uint32_t i = 0; i < 3000; i++) {
		if (i != 0x100)
			assert_int_equal(snest_device_create(f->guest.vm, i, NULL, NULL, &device),
			                 0);
	}
	snest_read_begin();
	for (uint32_t i = 0; i < 3000; i++)
		assert_int_equal(snest_device_rid(snest_device_find(f->guest.vm, i)), i);
	assert_null(snest_device_find(f->guest.vm, 3000));
	assert_null(snest_device_find(f->guest.vm, UINT32_MAX));
	device = snest_device_find(f->guest.vm, 1700);
	snest_read_end();
	snest_device_destroy(device);
	snest_read_begin();
	assert_null(snest_device_find(f->guest.vm, 1700));
	snest_read_end();
	/* The number is free again. */
	assert_int_equal(snest_device_create(f->guest.vm, 1700, NULL, NULL, &device), 0);
	end(f);
}

static void test_unbound_is_blocked(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0);
	struct snest_host_range r;
	struct snest_fault fault;
	uint64_t done;

	(void)state;
	assert_int_equal(snest_device_bind(f->device, SNEST_NO_PASID, NULL), 0);
	expect_fault(f, 0x1000, SNEST_READ, SNEST_FAULT_BLOCKED);
	snest_read_begin();
	assert_null(snest_device_space(f->device, SNEST_NO_PASID));
	assert_int_equal(snest_scatter(f->device, 0x1000, 1, SNEST_READ, &r, 1, &done, &fault), 0);
	assert_int_equal(fault.reason, SNEST_FAULT_BLOCKED);
	snest_read_end();
	end(f);
}

/*
 * The guest gives a device another root, and invalidates nothing but the
 * device's configuration: the old shadow is out of its reach at once, and
 * stays with the others.
 */
static void test_hazard_15_another_root(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0);
	struct snest_stage empty = f->guest.list[0];
	struct snest_space_config config = {
		.size = sizeof(config), .stages = &empty, .count = 1, .tag = {1, 2}};
	struct snest_device *other;
	struct snest_space *space;
	struct snest_translation t;

	(void)state;
	guest_map(&f->guest, 0, 0x1000, 0x1fff, GUEST_DATA, RW, 0, 12, false);
	assert_int_equal(snest_device_create(f->guest.vm, 0x200, NULL, NULL, &other), 0);
	assert_int_equal(snest_device_bind(other, SNEST_NO_PASID, f->space), 0);
	expect_host(f, 0x1000, SNEST_READ, GUEST_HOST, 0x1000, SNEST_RIGHTS);
	/* The same tag, a page that holds nothing. */
	empty.root = (1ull << GUEST_TABLES_LG2) - 0x1000;
	assert_int_equal(snest_space_get(f->guest.vm, &config, &space), 0);
	assert_ptr_not_equal(space, f->space);
	assert_int_equal(snest_device_bind(f->device, SNEST_NO_PASID, space), 0);
	expect_fault(f, 0x1000, SNEST_READ, SNEST_FAULT_NOT_PRESENT);
	snest_read_begin();
	assert_int_equal(snest_translate(other, 0x1000, SNEST_READ, &t, NULL), 0);
	snest_read_end();
	assert_true(t.host == GUEST_HOST);
	snest_device_destroy(other);
	snest_space_put(space);
	end(f);
}

/* Stages that differ in what lies between their members are the same. */
static void test_padding(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0);
	struct snest_space *space[2];
	struct snest_stage stage;
	struct snest_space_config config = {
		.size = sizeof(config), .stages = &stage, .count = 1, .tag = {5, 6}};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		const struct snest_stage *like = &f->guest.list[0];

		memset(&stage, i ? 0xff : 0, sizeof(stage));
		stage.size = like->size;
		stage.format = like->format;
		stage.levels = like->levels;
		stage.ia_bits = like->ia_bits;
		stage.oa_bits = like->oa_bits;
		stage.rights = like->rights;
		stage.granule_lg2 = like->granule_lg2;
		stage.ia_bits_high = like->ia_bits_high;
		stage.granule_high_lg2 = like->granule_high_lg2;
		memset(stage.reserved, 0, sizeof(stage.reserved));
		stage.flags = like->flags;
		stage.root = like->root;
		stage.root_high = like->root_high;
		assert_int_equal(snest_space_get(f->guest.vm, &config, &space[i]), 0);
	}
	assert_ptr_equal(space[0], space[1]);
	snest_space_put(space[0]);
	snest_space_put(space[1]);
	end(f);
}

static void test_pasids(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0);
	struct snest_space *other = guest_space(&f->guest, (struct snest_tag){1, 3}, 0, 0);
	struct snest_translation t;
	struct snest_fault fault;
	static const uint32_t pasid[] = {0, 1, 511, 512, 0xfffff};

	(void)state;
	guest_map(&f->guest, 0, 0x1000, 0x1fff, GUEST_DATA, RW, 0, 12, false);
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(snest_device_bind(f->device, pasid[i], i & 1 ? other : f->space),
		                 0);
		snest_read_begin();
		assert_ptr_equal(snest_device_space(f->device, pasid[i]), i & 1 ? other : f->space);
		assert_int_equal(
			snest_translate_pasid(f->device, pasid[i], 0x1000, SNEST_READ, &t, NULL),
			0);
		assert_null(snest_device_space(f->device, pasid[i] + 2));
		assert_int_equal(snest_translate_pasid(f->device, pasid[i] + 2, 0x1000, SNEST_READ,
		                                       &t, &fault),
		                 -EACCES);
		assert_int_equal(fault.reason, SNEST_FAULT_BLOCKED);
		snest_read_end();
	}
	assert_int_equal(snest_device_bind(f->device, 0x100000, other), -EINVAL);
	assert_int_equal(snest_device_bind(f->device, SNEST_ANY_PASID, other), -EINVAL);
	assert_int_equal(snest_device_bind(f->device, 700, NULL), 0);
	assert_int_equal(snest_device_bind(f->device, 511, NULL), 0);
	snest_read_begin();
	assert_null(snest_device_space(f->device, 511));
	snest_read_end();
	snest_device_unbind_all(f->device, false);
	snest_read_begin();
	for (unsigned i = 0; i < 5; i++)
		assert_null(snest_device_space(f->device, pasid[i]));
	assert_ptr_equal(snest_device_space(f->device, SNEST_NO_PASID), f->space);
	snest_read_end();
	snest_device_unbind_all(f->device, true);
	snest_read_begin();
	assert_null(snest_device_space(f->device, SNEST_NO_PASID));
	snest_read_end();
	snest_space_put(other);
	end(f);
}

static void test_pasids_cost_memory_when_used(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0);
	uint64_t before = f->fail.live_bytes, used;

	(void)state;
	for (uint32_t i = 0; i < 100000; i++)
		assert_int_equal(snest_device_bind(f->device, i, f->space), 0);
	used = f->fail.live_bytes - before;
	assert_true(used < 100000 * 12);
	for (uint32_t i = 0; i < 100000; i++)
		assert_int_equal(snest_device_bind(f->device, i, NULL), 0);
	/* One used PASID: a directory and one leaf of it. */
	end(f);
	f = begin("vtd-ss 3 levels", 0);
	before = f->fail.live_bytes;
	assert_int_equal(snest_device_bind(f->device, 0xfffff, f->space), 0);
	assert_true(f->fail.live_bytes - before < 32768);
	end(f);
}

struct resolver {
	struct fixture *f;
	unsigned calls;
	int ret;
};

static int resolve(void *opaque, struct snest_device *device, uint32_t pasid, uint64_t iova,
                   uint32_t access, struct snest_fault *fault)
{
	struct resolver *r = opaque;

	r->calls++;
	assert_non_null(fault);
	assert_true(iova == 0x1000 && access == SNEST_READ);
	if (!r->ret)
		return snest_device_bind(device, pasid, r->f->space);
	if (r->ret == -EACCES)
		fault->reason = SNEST_FAULT_CONFIG;
	/* 1: claims to have found it and has not. */
	return r->ret == 1 ? 0 : r->ret;
}

static void test_resolve(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0);
	struct resolver r = {.f = f, .ret = -EACCES};
	struct snest_translation t;
	struct snest_device *device;
	struct snest_fault fault;

	(void)state;
	guest_map(&f->guest, 0, 0x1000, 0x1fff, GUEST_DATA, RW, 0, 12, false);
	assert_int_equal(snest_device_create(f->guest.vm, 0x200, resolve, &r, &device), 0);
	snest_read_begin();
	assert_int_equal(snest_translate(device, 0x1000, SNEST_READ, &t, &fault), -EACCES);
	assert_int_equal(fault.reason, SNEST_FAULT_CONFIG);
	assert_int_equal(t.outcome, SNEST_WALK_FAULT);
	assert_int_equal(snest_translate(device, 0x1000, SNEST_READ, &t, NULL), -EACCES);
	assert_int_equal(r.calls, 2);
	/* One that never binds is asked a bounded number of times. */
	r.ret = 1;
	assert_int_equal(snest_translate(device, 0x1000, SNEST_READ, &t, &fault), -EACCES);
	assert_in_range(r.calls, 3, 100);
	r.ret = 0;
	r.calls = 0;
	assert_int_equal(snest_translate(device, 0x1000, SNEST_READ, &t, &fault), 0);
	assert_int_equal(snest_translate_pasid(device, 77, 0x1000, SNEST_READ, &t, &fault), 0);
	assert_true(t.host == GUEST_HOST);
	assert_int_equal(snest_translate(device, 0x1000, SNEST_READ, &t, &fault), 0);
	assert_int_equal(r.calls, 2);
	snest_read_end();
	snest_device_destroy(device);
	end(f);
}

/* The last reference goes while a reader is in the space, and the reader fills. */
static void test_fills_of_a_space_on_its_way_out(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0);
	struct snest_vm_stats stats = {.size = sizeof(stats)};
	struct snest_translation t;
	struct snest_space *space;

	(void)state;
	guest_map(&f->guest, 0, 0x1000, 0x1fff, GUEST_DATA, RW, 0, 12, false);
	snest_space_put(f->space);
	snest_read_begin();
	space = snest_device_space(f->device, SNEST_NO_PASID);
	assert_int_equal(snest_device_bind(f->device, SNEST_NO_PASID, NULL), 0);
	assert_int_equal(snest_space_translate(space, 0x1000, SNEST_READ, &t, NULL), 0);
	snest_read_end();
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(snest_drain(f->guest.vm, 0), 0);
	assert_int_equal(snest_vm_stats(f->guest.vm, &stats), 0);
	assert_int_equal(stats.table_bytes, 0);
	f->space = NULL;
	end(f);
}

static void test_spaces_of_another_vm_are_refused(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0), *g = begin("vtd-ss 3 levels", 0);

	(void)state;
	assert_int_equal(snest_device_bind(f->device, SNEST_NO_PASID, g->space), -EINVAL);
	snest_read_begin();
	assert_ptr_equal(snest_device_space(f->device, SNEST_NO_PASID), f->space);
	snest_read_end();
	end(f);
	end(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_space_for_the_same_stages_and_tag),
		cmocka_unit_test(test_space_errors),
		cmocka_unit_test(test_large_leaves),
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_unbound_is_blocked),
		cmocka_unit_test(test_hazard_15_another_root),
		cmocka_unit_test(test_padding),
		cmocka_unit_test(test_pasids),
		cmocka_unit_test(test_pasids_cost_memory_when_used),
		cmocka_unit_test(test_resolve),
		cmocka_unit_test(test_fills_of_a_space_on_its_way_out),
		cmocka_unit_test(test_spaces_of_another_vm_are_refused),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
