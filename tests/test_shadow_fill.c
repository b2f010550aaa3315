/* SPDX-License-Identifier: MIT */
/*
 * Fills that something overtakes: an invalidation, a change of the memory map,
 * a table that becomes data. The walk is stopped and another thread does it, so
 * each race happens, every time.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "support/stopped.h"

static void remap_and_invalidate(struct stopped *w)
{
	map(w, 0x5000, 0x1000, DATA + 0x9000);
	snest_space_invalidate(w->space[0], 0x5000, 0x5fff, 0);
}

/* The walk reads entries of three levels; whichever is the last before the guest's command. */
static void test_hazard_1_invalidation_overtakes_a_fill(void **state)
{
	(void)state;
	for (unsigned level = 1; level <= 3; level++) {
		struct stopped *w = begin("vtd-ss 3 levels");
		uint64_t host;

		map(w, 0x5000, 0x1000, DATA + 0x1000);
		w->action = remap_and_invalidate;
		w->reads_left = level;
		/* It began before the command: old or new. */
		host = host_of(w, 0x5000);
		assert_int_equal(w->reads_left, 0);
		assert_true(host == HOST + 0x1000 || host == HOST + 0x9000);
		/* This one did not. */
		assert_true(host_of(w, 0x5000) == HOST + 0x9000);
		assert_true(host_of(w, 0x5000) == HOST + 0x9000);
		end(w);
	}
}

static void invalidate_all(struct stopped *w)
{
	map(w, 0x5000, 0x1000, DATA + 0x9000);
	snest_vm_invalidate(w->vm, 0, ALL, 0);
}

static void invalidate_many(struct stopped *w)
{
	map(w, 0x5000, 0x1000, DATA + 0x9000);
	snest_space_invalidate(w->space[0], 0x5000, 0x5fff, 0);
	/* More than the space keeps a record of. */
	for (uint64_t i = 0; i < 100; i++)
		snest_space_invalidate(w->space[0], i << 30, (i << 30) + 0xfff, 0);
}

static void test_hazard_1_other_invalidations(void **state)
{
	void (*const action[])(struct stopped *) = {invalidate_all, invalidate_many};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct stopped *w = begin("vtd-ss 3 levels");

		map(w, 0x5000, 0x1000, DATA + 0x1000);
		w->action = action[i];
		w->reads_left = 3;
		assert_true(host_of(w, 0x5000) == HOST + 0x1000);
		assert_true(host_of(w, 0x5000) == HOST + 0x9000);
		end(w);
	}
}

/* A superpage, of which a part that nobody is looking at is named. */
static void split_superpage(struct stopped *w)
{
	assert_int_equal(snest_table_unmap(w->table, 0x200000, 0x3fffff, 0, NULL), 0);
	snest_space_invalidate(w->space[0], 0x3ff000, 0x3fffff, 0);
}

static void test_hazard_1_part_of_a_superpage(void **state)
{
	struct stopped *w = begin("vtd-ss 3 levels");

	(void)state;
	map(w, 0x200000, 0x200000, DATA + 0x200000);
	w->action = split_superpage;
	w->reads_left = 2;
	assert_true(host_of(w, 0x200000) == HOST + 0x200000);
	assert_true(host_of(w, 0x200000) == 0);
	end(w);
}

static void invalidate_elsewhere(struct stopped *w)
{
	snest_space_invalidate(w->space[0], 0x6000, 0x6fff, 0);
	snest_space_invalidate(w->space[1], 0, ALL, 0);
}

/* What has nothing to do with the page does not cost the fill. */
static void test_unrelated_invalidation_spares_a_fill(void **state)
{
	struct stopped *w = begin("vtd-ss 3 levels");

	(void)state;
	map(w, 0x5000, 0x2000, DATA);
	w->action = invalidate_elsewhere;
	w->reads_left = 3;
	assert_true(host_of(w, 0x5000) == HOST);
	assert_int_equal(misses(w), 1);
	assert_true(host_of(w, 0x5000) == HOST);
	assert_int_equal(misses(w), 1);
	end(w);
}

/* The table that is being read is freed and becomes data: any bytes are taken, nothing is kept. */
static void free_the_table(struct stopped *w)
{
	assert_int_equal(snest_table_unmap(w->table, 0, 0x3fffffff, 0, NULL), 0);
	snest_space_invalidate(w->space[0], 0, ALL, 0);
	/* The guest's wait: whatever the walk still writes, it writes before this completes. */
	w->done = 0;
	snest_drain_async(w->vm, &w->drain, count_done, &w->done);
	usleep(2000);
	assert_int_equal(__atomic_load_n(&w->done, __ATOMIC_ACQUIRE), 0);
}

/* A flag is set in the entry that was read, or nowhere: data stays as it is. */
static void expect_data(const struct stopped *w)
{
	uint64_t root = w->stage.root / 4096;

	for (uint64_t page = 1; page < w->cut / 4096; page++) {
		for (uint64_t i = 0; i < 4096; i++) {
			unsigned char byte = (unsigned char)w->ram[page * 4096 + i];

			assert_int_equal(byte, page == root ? 0 : w->junk);
		}
	}
}

static void table_becomes_data(const char *name, unsigned level, unsigned char junk)
{
	struct stopped *w = begin(name);
	struct snest_translation t;

	w->junk = junk;
	map(w, 0x5000, 0x1000, DATA);
	w->action = free_the_table;
	w->reads_left = level;
	/* Whatever this finds; where there are flags, the write would set them. */
	look(w->space[0], 0x5000, SNEST_WRITE, &t);
	if (!w->reads_left) {
		/* Bytes that say nothing is present are written to by nobody. */
		if (!(junk & 1))
			expect_data(w);
		assert_true(host_of(w, 0x5000) == 0);
		assert_int_equal(snest_drain(w->vm, 0), 0);
		assert_int_equal(__atomic_load_n(&w->done, __ATOMIC_ACQUIRE), 1);
	}
	w->reads_left = 0;
	end(w);
}

static void test_hazard_3_table_becomes_data(void **state)
{
	(void)state;
	for (unsigned level = 1; level <= 5; level++) {
		table_becomes_data("vtd-ss 3 levels", level, 0xa7);
		table_becomes_data("vtd-ss 4 levels", level, 0x58);
		table_becomes_data("x86-64 5 levels", level, 0xa7);
		table_becomes_data("x86-64 5 levels", level, 0x5a);
	}
}

/* Tables behind functions get their flags through these. */
static void test_hazard_30_flags_through_accessors(void **state)
{
	static const char *const names[] = {"vtd-ss 4 levels", "x86-64 5 levels"};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct stopped *w = begin(names[i]);
		struct snest_translation t;
		struct snest_walk walk;

		map(w, 0x5000, 0x1000, DATA);
		for (unsigned k = 0; k < 2; k++) {
			uint32_t want = SNEST_ATTR_ACCESSED | (k ? SNEST_ATTR_DIRTY : 0);

			assert_int_equal(
				look(w->space[0], 0x5000, k ? SNEST_WRITE : SNEST_READ, &t), 0);
			assert_int_equal(snest_walk(w->vm, &w->stage, 1, 0x5000, 0,
			                            SNEST_WALK_NO_UPDATE, &walk, NULL, NULL),
			                 0);
			assert_int_equal(walk.attr & (SNEST_ATTR_ACCESSED | SNEST_ATTR_DIRTY),
			                 want);
		}
		end(w);
	}
}

/* The same entry comes back meanwhile, and leads elsewhere: equal values prove nothing. */
static void swap_memory(struct stopped *w)
{
	struct snest_region region = data_region(DATA, 0x1000, 0x123000);
	struct snest_memory_op op = {.kind = SNEST_MEMORY_REPLACE, .region = region};

	assert_int_equal(snest_table_unmap(w->table, 0x5000, 0x5fff, 0, NULL), 0);
	map(w, 0x5000, 0x1000, DATA);
	/* The reader's section is open: this may not wait for it. */
	assert_int_equal(snest_memory_update(w->vm, &op, 1, NULL, count_done, &w->done), 0);
}

static void test_hazard_4_the_same_entry_again(void **state)
{
	(void)state;
	for (unsigned level = 1; level <= 3; level++) {
		struct stopped *w = begin("vtd-ss 3 levels");
		uint64_t host;

		/* The other page keeps the table where it is. */
		map(w, 0x5000, 0x2000, DATA);
		w->action = swap_memory;
		w->reads_left = level;
		host = host_of(w, 0x5000);
		assert_true(host == HOST || host == 0x123000);
		assert_true(host_of(w, 0x5000) == 0x123000);
		end(w);
	}
}

static void take_memory_away(struct stopped *w)
{
	struct snest_memory_op op = {
		.kind = SNEST_MEMORY_REMOVE, .first = DATA, .last = DATA + 0xfff};

	assert_int_equal(snest_memory_update(w->vm, &op, 1, NULL, count_done, &w->done), 0);
}

static void test_hazard_8_memory_goes_during_a_fill(void **state)
{
	(void)state;
	for (unsigned level = 1; level <= 3; level++) {
		struct stopped *w = begin("vtd-ss 3 levels");

		map(w, 0x5000, 0x1000, DATA);
		w->action = take_memory_away;
		w->reads_left = level;
		snest_read_begin();
		host_of(w, 0x5000);
		/* Not before this reader has gone. */
		assert_int_equal(__atomic_load_n(&w->done, __ATOMIC_ACQUIRE), 0);
		snest_read_end();
		assert_true(host_of(w, 0x5000) == 1);
		assert_int_equal(snest_drain(w->vm, 0), 0);
		assert_int_equal(__atomic_load_n(&w->done, __ATOMIC_ACQUIRE), 1);
		end(w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hazard_1_invalidation_overtakes_a_fill),
		cmocka_unit_test(test_hazard_1_other_invalidations),
		cmocka_unit_test(test_hazard_1_part_of_a_superpage),
		cmocka_unit_test(test_unrelated_invalidation_spares_a_fill),
		cmocka_unit_test(test_hazard_3_table_becomes_data),
		cmocka_unit_test(test_hazard_30_flags_through_accessors),
		cmocka_unit_test(test_hazard_4_the_same_entry_again),
		cmocka_unit_test(test_hazard_8_memory_goes_during_a_fill),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
