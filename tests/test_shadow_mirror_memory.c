/* SPDX-License-Identifier: MIT */
/*
 * Mirrors when memory comes and goes, observers, which only want to know what
 * goes, and what a mirror costs in memory.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "support/mirror.h"

/* ---- Memory ---------------------------------------------------------------------------------- */

static void test_memory_removed_and_back(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct fixture *f = begin(configs[i & 1], kinds[i >> 1], 0);
		bool split = i & 2;

		map(f, 0, 0x10000, GUEST_DATA, RW, 12);
		map(f, M2, M2, GUEST_DATA + M2, RW, 21);
		attach(f);
		/* A page out of the middle of each. */
		sink_reset(&f->sink);
		guest_memory_remove(&f->guest, GUEST_DATA + 0x3000, GUEST_DATA + 0x3fff);
		expect_equal(f);
		assert_true(f->sink.unmapped_bytes == (split ? 0x1000 : 0x10000));
		sink_reset(&f->sink);
		guest_memory_remove(&f->guest, GUEST_DATA + M2 + 0x7000, GUEST_DATA + M2 + 0x7fff);
		expect_equal(f);
		assert_true(f->sink.unmapped_bytes == (split ? 0x1000 : M2));
		/* Back at the same host address, then replaced by other memory, then by itself. */
		sink_reset(&f->sink);
		guest_memory_add(&f->guest, GUEST_DATA + 0x3000, GUEST_DATA + 0x3fff,
		                 GUEST_HOST + 0x3000, 0);
		expect_equal(f);
		assert_int_equal(f->sink.unmaps, 0);
		assert_int_equal(f->sink.maps, 1);
		guest_memory_add(&f->guest, GUEST_DATA + 0x3000, GUEST_DATA + 0x3fff, 0x77000, 0);
		expect_equal(f);
		assert_true(sink_find(&f->sink, 0x3000)->host == 0x77000);
		/* The guest's large page is still one: naming a byte of it names all. */
		map(f, M2, M2, GUEST_DATA + 2 * M2, RW, 21);
		sync(f, M2 + 0x100000, 1);
		expect_equal(f);
		end(f);
	}
}

static void test_memory_protected(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct fixture *f = begin(configs[i & 1], kinds[i >> 1], 0);

		map(f, 0, 0x10000, GUEST_DATA, RW, 12);
		attach(f);
		guest_memory_protect(&f->guest, GUEST_DATA + 0x4000, GUEST_DATA + 0x5fff, true);
		expect_equal(f);
		assert_int_equal(sink_find(&f->sink, 0x4000)->rights, SNEST_READ);
		assert_int_equal(sink_find(&f->sink, 0x6000)->rights, RW);
		guest_memory_protect(&f->guest, GUEST_DATA, GUEST_DATA + 0xffff, false);
		expect_equal(f);
		assert_int_equal(sink_find(&f->sink, 0x4000)->rights, RW);
		end(f);
	}
}

/* In one change a page's memory goes and the same address comes back: the sink hears of it. */
static void test_memory_swapped_for_itself(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0, 0);
	struct snest_memory_op op[2] = {
		{.kind = SNEST_MEMORY_REMOVE, .first = GUEST_DATA, .last = GUEST_DATA + 0xfff},
		{.kind = SNEST_MEMORY_ADD,
	         .region = {.size = sizeof(struct snest_region),
	                    .first = GUEST_DATA,
	                    .last = GUEST_DATA + 0xfff,
	                    .host = GUEST_HOST + 0x100000}},
	};

	(void)state;
	map(f, 0, 0x2000, GUEST_DATA, RW, 12);
	map(f, 0x100000, 0x1000, GUEST_DATA + 0x100000, RW, 12);
	attach(f);
	assert_int_equal(snest_memory_update(f->guest.vm, op, 2, NULL, NULL, NULL), 0);
	expect_equal(f);
	assert_true(sink_find(&f->sink, 0)->host == GUEST_HOST + 0x100000);
	end(f);
}

/* ---- Observers ----------------------------------------------------------------------- */

struct observer {
	struct snest_sink sink;
	unsigned calls;
	uint64_t first, last;
	int ret;
};

static int observe(void *opaque, const struct snest_sink_op *ops, size_t count, size_t *done)
{
	struct observer *o = opaque;

	assert_int_equal(count, 1);
	assert_int_equal(ops[0].map, 0);
	o->calls++;
	o->first = ops[0].first;
	o->last = ops[0].last;
	*done = !o->ret;
	return o->ret;
}

static void test_observers(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0, 0);
	/* A silent guest will do: an observer wants to know what goes, not what comes. */
	struct snest_space *space = guest_space(&f->guest, (struct snest_tag){2, 0}, 0, 0);
	struct observer o = {.sink = {.size = sizeof(o.sink),
	                              .flags = SNEST_SINK_UNMAP_ONLY,
	                              .apply = observe,
	                              .opaque = &o}};
	struct snest_translation t;

	(void)state;
	map(f, 0, 0x10000, GUEST_DATA, RW, 12);
	assert_int_equal(snest_space_mirror(space, &o.sink), 0);
	assert_int_equal(snest_space_mirror(space, &o.sink), -EBUSY);
	assert_int_equal(o.calls, 0);
	snest_read_begin();
	assert_int_equal(snest_space_translate(space, 0x1000, SNEST_READ, &t, NULL), 0);
	snest_read_end();
	assert_int_equal(snest_space_invalidate(space, 0x1000, 0x2fff, 0), 0);
	assert_int_equal(o.calls, 1);
	assert_true(o.first <= 0x1000 && o.last >= 0x2fff);
	/* What nobody looked up is told all the same: the observer may have asked elsewhere. */
	assert_int_equal(snest_space_invalidate(space, 0x5000000, 0x5000fff, 0), 0);
	assert_true(o.calls == 2 && o.first <= 0x5000000 && o.last >= 0x5000fff);
	assert_int_equal(snest_space_invalidate(space, 1, 0, 0), 0);
	assert_true(o.calls == 3 && o.first == 0 && o.last == ALL);
	guest_memory_remove(&f->guest, GUEST_DATA + 0x3000, GUEST_DATA + 0x3fff);
	assert_true(o.calls >= 4 && o.first <= 0x3000 && o.last >= 0x3fff);
	o.ret = -EIO;
	assert_int_equal(snest_space_invalidate(space, 0, 0xfff, 0), -EIO);
	assert_int_equal(snest_space_unmirror(space), 0);
	snest_space_put(space);
	end(f);
}

/* A superpage of the guest over small pages: the observer is told of all of it. */
static void test_observers_hear_of_whole_pages(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0, 0x1000);
	struct snest_space *space = guest_space(&f->guest, (struct snest_tag){2, 0}, 0, 0);
	struct observer o = {.sink = {.size = sizeof(o.sink),
	                              .flags = SNEST_SINK_UNMAP_ONLY,
	                              .apply = observe,
	                              .opaque = &o}};
	struct snest_translation t;

	(void)state;
	map(f, M2, M2, GUEST_DATA, RW, 21);
	assert_int_equal(snest_space_mirror(space, &o.sink), 0);
	snest_read_begin();
	assert_int_equal(snest_space_translate(space, M2, SNEST_READ, &t, NULL), 0);
	assert_int_equal(snest_space_translate(space, 2 * M2 - 1, SNEST_READ, &t, NULL), 0);
	snest_read_end();
	assert_int_equal(snest_space_invalidate(space, M2 + 0x5000, M2 + 0x5fff, 0), 0);
	assert_true(o.first <= M2 && o.last >= 2 * M2 - 1);
	snest_space_put(space);
	end(f);
}

/* The shadow had no room to remember what the observer was given: it is told of all it may have. */
static void test_observers_hear_of_what_was_not_remembered(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0, 0x1000);
	struct snest_space *space = guest_space(&f->guest, (struct snest_tag){2, 0}, 0, 4096);
	struct observer o = {.sink = {.size = sizeof(o.sink),
	                              .flags = SNEST_SINK_UNMAP_ONLY,
	                              .apply = observe,
	                              .opaque = &o}};
	const uint64_t at = 0x40000000;
	struct snest_translation t;

	(void)state;
	map(f, at, M2, GUEST_DATA, RW, 21);
	assert_int_equal(snest_space_mirror(space, &o.sink), 0);
	for (unsigned i = 0; i < 2; i++) {
		snest_read_begin();
		assert_int_equal(snest_space_translate(space, at, SNEST_READ, &t, NULL), 0);
		snest_read_end();
		/* The first time it refuses, and still has it. */
		o.ret = i ? 0 : -EIO;
		o.first = ALL;
		o.last = 0;
		assert_int_equal(snest_space_invalidate(space, at + 0x5000, at + 0x5000, 0), o.ret);
		assert_true(o.first <= at && o.last >= at + M2 - 1);
	}
	snest_space_put(space);
	end(f);
}

/* ---- Memory of the shadow --------------------------------------------------------------- */

static uint64_t table_bytes(struct fixture *f)
{
	struct snest_space_stats stats = {.size = sizeof(stats)};

	assert_int_equal(snest_space_stats(f->space, &stats), 0);
	return stats.table_bytes;
}

static void test_tables_do_not_pile_up(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0, 0);

	(void)state;
	attach(f);
	for (uint64_t i = 0; i < 20000; i++) {
		map(f, i * M2, 0x1000, GUEST_DATA, RW, 12);
		sync(f, i * M2, 0x1000);
		assert_int_equal(f->sink.count, 1);
		assert_int_equal(snest_table_unmap(f->table, i * M2, i * M2 + 0xfff, 0, NULL), 0);
		sync(f, i * M2, 0x1000);
		assert_true(table_bytes(f) <= 256 * 4096);
	}
	end(f);
}

/* Enough memory for eight bytes a page, and no more. */
static void test_memory_a_page(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0, 0);

	(void)state;
	/* Scattered; then contiguous. */
	for (uint64_t p = 0; p < 16384; p++)
		map(f, p * 0x1000, 0x1000, GUEST_DATA + (p ^ 1) * 0x1000, RW, 12);
	attach(f);
	assert_true(table_bytes(f) <= 16384 * 8 + 3 * 4096);
	map(f, 0, 16384 * 0x1000, GUEST_DATA, RW, 12);
	sync_all(f);
	assert_int_equal(snest_space_unmirror(f->space), 0);
	attach(f);
	assert_int_equal(f->sink.count, 1);
	assert_true(table_bytes(f) <= 3 * 4096);
	end(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory_removed_and_back),
		cmocka_unit_test(test_memory_protected),
		cmocka_unit_test(test_memory_swapped_for_itself),
		cmocka_unit_test(test_observers),
		cmocka_unit_test(test_observers_hear_of_whole_pages),
		cmocka_unit_test(test_observers_hear_of_what_was_not_remembered),
		cmocka_unit_test(test_tables_do_not_pile_up),
		cmocka_unit_test(test_memory_a_page),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
