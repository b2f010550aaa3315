/* SPDX-License-Identifier: MIT */
/*
 * Accessed and dirty flags, as lookups through the shadow leave them in the
 * guest's tables (hazard 30), and in the dirty log: to set a flag is to write
 * guest memory, which a migration has to hear of.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "support/lookup.h"

#define TABLE_PAGES ((1u << GUEST_TABLES_LG2) / 4096)

/* A mapping as a guest makes it: neither accessed nor dirty. */
static void map_clean(struct fixture *f, unsigned k, uint64_t first, uint64_t gpa, unsigned lg2)
{
	uint64_t last = first + ((uint64_t)1 << lg2) - 1;

	assert_int_equal(snest_table_map(f->guest.table[k].table, first, last, gpa, RW, USER,
	                                 SNEST_TABLE_REPLACE | SNEST_TABLE_PAGE(lg2)),
	                 0);
}

static uint32_t flags_at(struct fixture *f, unsigned k, uint64_t in)
{
	struct snest_walk walk;

	assert_int_equal(snest_walk(f->guest.vm, f->guest.list + k, f->guest.stages - k, in, 0,
	                            SNEST_WALK_NO_UPDATE, &walk, NULL, NULL),
	                 0);
	return walk.attr & (SNEST_ATTR_ACCESSED | SNEST_ATTR_DIRTY);
}

static void look(struct fixture *f, uint64_t iova, uint32_t access)
{
	struct snest_translation t;

	snest_read_begin();
	assert_int_equal(snest_translate(f->device, iova, access, &t, NULL), 0);
	snest_read_end();
}

static const char *const configs[] = {"vtd-ss 4 levels", "x86-64 5 levels", "amd-v1 mode 4",
                                      "amd-v2 4 levels"};
#define CONFIGS (sizeof(configs) / sizeof(configs[0]))

/* A request for nothing leaves no trace; what it found must not keep a later one from leaving one. */
static void test_hazard_30_a_request_for_nothing(void **state)
{
	(void)state;
	for (unsigned i = 0; i < CONFIGS; i++) {
		struct fixture *f = begin(configs[i], 0);

		map_clean(f, 0, 0x1000, GUEST_DATA, 12);
		look(f, 0x1000, 0);
		look(f, 0x1000, SNEST_PRIVILEGED);
		assert_int_equal(flags_at(f, 0, 0x1000), 0);
		look(f, 0x1000, SNEST_READ);
		assert_int_equal(flags_at(f, 0, 0x1000), SNEST_ATTR_ACCESSED);
		look(f, 0x1000, 0);
		look(f, 0x1000, SNEST_WRITE);
		assert_int_equal(flags_at(f, 0, 0x1000), SNEST_ATTR_ACCESSED | SNEST_ATTR_DIRTY);
		end(f);
	}
}

/* Large leaves, and pages in pieces: the flag is the guest's page's, one write sets it. */
static void test_hazard_30_large_pages(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2 * CONFIGS; i++) {
		struct fixture *f = begin(configs[i / 2], i & 1 ? 0x1000 : 0);

		map_clean(f, 0, 0x200000, GUEST_DATA, 21);
		look(f, 0x205000, SNEST_READ);
		look(f, 0x205000, SNEST_READ);
		assert_int_equal(flags_at(f, 0, 0x200000), SNEST_ATTR_ACCESSED);
		look(f, 0x3ff000, SNEST_WRITE);
		assert_int_equal(flags_at(f, 0, 0x200000), SNEST_ATTR_ACCESSED | SNEST_ATTR_DIRTY);
		end(f);
	}
}

/* The guest takes the flags back, and invalidates: the next access sets them again. */
static void test_hazard_30_flags_taken_back(void **state)
{
	(void)state;
	for (unsigned i = 0; i < CONFIGS; i++) {
		struct fixture *f = begin(configs[i], 0);

		for (unsigned round = 0; round < 3; round++) {
			map_clean(f, 0, 0x1000, GUEST_DATA, 12);
			assert_int_equal(snest_space_invalidate(f->space, 0x1000, 0x1fff, 0), 0);
			look(f, 0x1000, SNEST_READ);
			look(f, 0x1000, SNEST_READ);
			assert_int_equal(flags_at(f, 0, 0x1000), SNEST_ATTR_ACCESSED);
			look(f, 0x1000, RW);
			assert_int_equal(flags_at(f, 0, 0x1000),
			                 SNEST_ATTR_ACCESSED | SNEST_ATTR_DIRTY);
		}
		end(f);
	}
}

/* ---- The dirty log ------------------------------------------------------------------ */

/* The pages of guest memory below 64 MiB, where the tables lie, that the log names. */
static uint64_t tables_written(struct fixture *f)
{
	static uint64_t bitmap[TABLE_PAGES / 64];
	uint64_t pages;

	memset(bitmap, 0, sizeof(bitmap));
	assert_int_equal(
		snest_vm_dirty(f->guest.vm, 0, TABLE_PAGES * 4096ull - 1, 0, bitmap, &pages), 0);
	return pages;
}

static void test_flags_are_logged(void **state)
{
	(void)state;
	for (unsigned i = 0; i < CONFIGS; i++) {
		struct fixture *f = begin(configs[i], 0);

		map_clean(f, 0, 0x1000, GUEST_DATA, 12);
		assert_int_equal(snest_dirty_start(f->guest.vm), 0);
		assert_int_equal(tables_written(f), 0);
		look(f, 0x1000, SNEST_READ);
		/* One table or all on the way, as the format has it. */
		assert_in_range(tables_written(f), 1, 5);
		look(f, 0x1000, SNEST_WRITE);
		assert_int_equal(tables_written(f), 1);
		/* Set already: nothing is written. */
		look(f, 0x1000, RW);
		assert_int_equal(snest_space_invalidate(f->space, 0, UINT64_MAX, 0), 0);
		look(f, 0x1000, RW);
		assert_int_equal(tables_written(f), 0);
		assert_int_equal(snest_dirty_stop(f->guest.vm), 0);
		end(f);
	}
}

/* So is what snest writes on somebody's behalf: a status, a record, a copy. */
static void test_own_writes_are_logged(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0);
	uint64_t word = 1;

	(void)state;
	assert_int_equal(snest_dirty_start(f->guest.vm), 0);
	assert_int_equal(snest_guest_read(f->guest.vm, 0x5000, &word, sizeof(word)), 0);
	assert_int_equal(tables_written(f), 0);
	assert_int_equal(snest_guest_write(f->guest.vm, 0x5ffc, &word, sizeof(word)), 0);
	assert_int_equal(tables_written(f), 2);
	assert_int_equal(snest_dirty_stop(f->guest.vm), 0);
	end(f);
}

/* A large page that is read and written in turn costs a miss a page, not one a lookup. */
static void test_a_large_page_while_logging(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0);
	uint64_t before;

	(void)state;
	guest_map(&f->guest, 0, 0x200000, 0x3fffff, GUEST_DATA, RW, 0, 21, false);
	look(f, 0x200000, SNEST_READ);
	assert_int_equal(snest_dirty_start(f->guest.vm), 0);
	before = misses(f);
	for (unsigned i = 0; i < 100; i++)
		look(f, 0x200000 + i * 0x1000, SNEST_READ);
	/* Reading costs what it always does. */
	assert_int_equal(misses(f), before);
	for (unsigned i = 0; i < 100; i++) {
		look(f, 0x200000, SNEST_WRITE);
		look(f, 0x201000, SNEST_READ);
	}
	assert_in_range(misses(f) - before, 1, 4);
	assert_int_equal(snest_dirty_stop(f->guest.vm), 0);
	end(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hazard_30_a_request_for_nothing),
		cmocka_unit_test(test_hazard_30_large_pages),
		cmocka_unit_test(test_hazard_30_flags_taken_back),
		cmocka_unit_test(test_flags_are_logged),
		cmocka_unit_test(test_own_writes_are_logged),
		cmocka_unit_test(test_a_large_page_while_logging),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
