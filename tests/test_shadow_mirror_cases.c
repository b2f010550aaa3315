/* SPDX-License-Identifier: MIT */
/*
 * Mirrors, one case at a time: what a sink is told when the guest's tables
 * break, when nothing changes, when sizes change in place, when the sink is
 * full or refuses.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "support/mirror.h"
/* ---- Attaching ------------------------------------------------------------------ */

static void test_attach_and_detach(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0, 0);
	struct snest_sink bad = f->sink.sink;

	(void)state;
	assert_int_equal(snest_space_unmirror(f->space), -ENOENT);
	bad.apply = NULL;
	assert_int_equal(snest_space_mirror(f->space, &bad), -EINVAL);
	bad = f->sink.sink;
	bad.flags = 0x80;
	assert_int_equal(snest_space_mirror(f->space, &bad), -EINVAL);
	bad = f->sink.sink;
	bad.reserved = 1;
	assert_int_equal(snest_space_mirror(f->space, &bad), -EINVAL);
	map(f, 0, 0x10000, GUEST_DATA, RW, 12);
	for (unsigned i = 0; i < 3; i++) {
		attach(f);
		expect_equal(f);
		assert_int_equal(snest_space_mirror(f->space, &f->sink.sink), -EBUSY);
		assert_int_equal(snest_space_unmirror(f->space), 0);
		assert_int_equal(f->sink.count, 0);
	}
	attach(f);
	end(f);
}

/* A guest that does not announce maps: nobody would tell the mirror of them. */
static void test_silent_guests_are_refused(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0, 0);
	struct snest_space *silent = guest_space(&f->guest, (struct snest_tag){2, 0}, 0, 0);

	(void)state;
	assert_int_equal(snest_space_mirror(silent, &f->sink.sink), -EOPNOTSUPP);
	snest_space_put(silent);
	end(f);
}

static void test_lookups_in_a_mirrored_space(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0, 0);
	struct snest_translation t;

	(void)state;
	map(f, 0, 0x10000, GUEST_DATA, RW, 12);
	attach(f);
	sink_reset(&f->sink);
	snest_read_begin();
	assert_int_equal(snest_space_translate(f->space, 0x1000, RW, &t, NULL), 0);
	assert_true(t.host == GUEST_HOST + 0x1000);
	assert_int_equal(snest_space_translate(f->space, 0x20000, SNEST_READ, &t, NULL), -EACCES);
	/* Mapped, and not yet announced: found, and left out of the shadow. */
	map(f, 0x20000, 0x1000, GUEST_DATA, RW, 12);
	assert_int_equal(snest_space_translate(f->space, 0x20000, SNEST_READ, &t, NULL), 0);
	snest_read_end();
	assert_int_equal(f->sink.calls, 0);
	sync_all(f);
	assert_int_equal(f->sink.maps, 1);
	expect_equal(f);
	end(f);
}

/* ---- What a guest's mistakes do --------------------------------------------------- */

static void test_hazard_16_a_broken_entry_unmaps(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		struct fixture *f = begin(configs[i & 1], kinds[i >> 1 & 1], 0);
		uint64_t *root = (uint64_t *)(void *)(f->guest.ram + f->guest.list[0].root), good;

		map(f, 0, 0x200000, GUEST_DATA + 0x1000, RW, 12);
		map(f, 0x40000000, 0x3000, GUEST_DATA, RW, 12);
		attach(f);
		expect_equal(f);
		good = root[0];
		/* The entry above everything below 1 GiB (512 GiB): gone, or reserved. */
		root[0] = i & 4 ? 0 : good | 1ull << 58 | 1ull << 52;
		sync_all(f);
		expect_equal(f);
		if (f->guest.list[0].format == SNEST_FORMAT_VTD_SS && (i & 4))
			assert_int_equal(f->sink.count, 1);
		if (i & 4)
			assert_null(sink_find(&f->sink, 0x1000));
		root[0] = good;
		sync_all(f);
		expect_equal(f);
		assert_non_null(sink_find(&f->sink, 0x1000));
		/* The root itself lies where no memory is. */
		assert_int_equal(snest_memory_remove(f->guest.vm, f->guest.list[0].root,
		                                     f->guest.list[0].root + 0xfff),
		                 0);
		assert_int_equal(f->sink.count, 0);
		end(f);
	}
}

/* ---- Nothing more than the difference ------------------------------------------------ */

static void test_hazard_21_no_change_no_operation(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct fixture *f = begin(configs[i & 1], kinds[i >> 1], 0x1000);

		map(f, 0, 0x400000, GUEST_DATA, RW, 12);
		map(f, 0x40000000, M2, GUEST_DATA, SNEST_READ, 21);
		map(f, 0x800000, 0x3000, GUEST_DATA + 0x5000, RW, 12);
		attach(f);
		expect_equal(f);
		sync_all(f);
		sync(f, 0x1000, 0x1000);
		assert_int_equal(f->sink.calls, 0);
		sync(f, 0, 0x80000000);
		assert_int_equal(f->sink.calls, 0);
		sync(f, 0x40123000, 1);
		assert_int_equal(f->sink.calls, 0);
		expect_equal(f);
		end(f);
	}
}

/* One page of a thousand: a sink that can split hears of that page, any other of its unit. */
static void test_hazard_21_one_page_of_many(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		struct fixture *f = begin(configs[i & 1], kinds[i >> 1 & 1], i & 4 ? 0x1000 : 0);

		map(f, 0, 0x400000, GUEST_DATA, RW, 12);
		attach(f);
		assert_int_equal(f->sink.count, 1);
		map(f, 0x123000, 0x1000, GUEST_DATA + 0x900000, RW, 12);
		sync(f, 0x123000, 0x1000);
		expect_equal(f);
		if (i & 2) {
			assert_true(f->sink.unmapped_bytes == 0x1000);
			assert_int_equal(f->sink.maps, 1);
		} else {
			/* The whole map, and the three pieces that take its place. */
			assert_int_equal(f->sink.unmaps, 1);
			assert_int_equal(f->sink.maps, 3);
		}
		/* The next change meets smaller maps. */
		map(f, 0x124000, 0x1000, GUEST_DATA + 0x902000, SNEST_READ, 12);
		sync(f, 0x124000, 0x1000);
		expect_equal(f);
		end(f);
	}
}

/* Taking a page out and putting it back leaves one unit less than there is to see, not more. */
static void test_right_to_execute_is_no_change(void **state)
{
	struct fixture *f = begin("x86-64 WP NX", 0, 0);

	(void)state;
	map(f, 0, 0x10000, GUEST_DATA, RW, 12);
	attach(f);
	map(f, 0x3000, 0x1000, GUEST_DATA + 0x3000, SNEST_RIGHTS, 12);
	sync_all(f);
	assert_int_equal(f->sink.calls, 0);
	expect_equal(f);
	end(f);
}

/* ---- Sizes ------------------------------------------------------------------------------ */

static void test_hazard_22_sizes_change_in_place(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		struct fixture *f = begin(configs[i & 1], kinds[i >> 1 & 1], i & 4 ? 0x3000 : 0);

		map(f, M2, M2, GUEST_DATA, RW, 21);
		attach(f);
		assert_int_equal(f->sink.count, 1);
		for (unsigned again = 0; again < 2; again++) {
			/* 2 MiB to 512 pages and back: the translations are the same. */
			map(f, M2, M2, GUEST_DATA, RW, 12);
			sync(f, M2, M2);
			assert_int_equal(f->sink.calls, 0);
			/* A page less; a sink that cannot split has to hear of all of them. */
			assert_int_equal(
				snest_table_unmap(f->table, M2 + 0x5000, M2 + 0x5fff, 0, NULL), 0);
			sync(f, M2 + 0x5000, 0x1000);
			expect_equal(f);
			assert_true(f->sink.unmapped_bytes == (i & 2 ? 0x1000 : M2));
			map(f, M2, M2, GUEST_DATA, RW, 21);
			sync(f, M2, M2);
			expect_equal(f);
			assert_true(f->sink.unmapped_bytes == 0);
			assert_int_equal(f->sink.maps, 1);
			/* Elsewhere as one page, and back as one. */
			map(f, M2, M2, GUEST_DATA + M2, RW, 21);
			sync(f, M2 + 0x7000, 0x1000);
			expect_equal(f);
			assert_true(f->sink.unmapped_bytes == M2);
			map(f, M2, M2, GUEST_DATA, RW, 21);
			sync(f, M2, M2);
			expect_equal(f);
		}
		end(f);
	}
}

/*
 * The guest's large page becomes small ones, one of which leads elsewhere. An
 * invalidation of any byte of it means all of it, as it does for an IOTLB.
 */
static void test_hazard_9_part_of_a_large_page(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 16; i++) {
		struct fixture *f = begin(configs[i & 1], kinds[i >> 1 & 1], i & 4 ? 0x3000 : 0);

		map(f, M2, M2, GUEST_DATA, RW, 21);
		attach(f);
		if (i & 8) {
			/* Cut before, by memory that went. */
			guest_memory_remove(&f->guest, GUEST_DATA + 0x40000, GUEST_DATA + 0x40fff);
			expect_equal(f);
		}
		map(f, M2 + 0x7000, 0x1000, GUEST_DATA + 0x900000, RW, 12);
		sync(f, M2 + 0x100000, 0x1000);
		expect_equal(f);
		end(f);
	}
}

/*
 * Small pages become a large one, and nothing else changes. The guest names a
 * page of it, and when it unmaps the large page, another: both go.
 */
static void test_hazard_10_a_page_that_grows(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		struct fixture *f = begin(configs[i & 1], kinds[i >> 1 & 1], i & 4 ? 0x1000 : 0);

		map(f, M2, M2, GUEST_DATA, RW, 12);
		attach(f);
		map(f, M2, M2, GUEST_DATA, RW, 21);
		sync(f, M2 + 0x5000, 1);
		assert_int_equal(f->sink.maps + f->sink.unmaps, 0);
		assert_int_equal(snest_table_unmap(f->table, M2, 2 * M2 - 1, 0, NULL), 0);
		sync(f, M2 + 0x7000, 1);
		assert_null(sink_find(&f->sink, M2 + 0x5000));
		assert_null(sink_find(&f->sink, M2 + 0x7000));
		end(f);
	}
}

static void test_hazard_22_a_gigabyte(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct fixture *f = begin("vtd-ss 3 levels", kinds[i], 0);

		map(f, 0x40000000, 0x40000000, GUEST_DATA, RW, 30);
		attach(f);
		assert_int_equal(f->sink.count, 1);
		assert_int_equal(snest_table_cut(f->table, 0x40001000), 0);
		sync_all(f);
		assert_int_equal(f->sink.calls, 0);
		assert_int_equal(snest_table_unmap(f->table, 0x50000000, 0x50000fff, 0, NULL), 0);
		sync(f, 0x50000000, 0x1000);
		expect_equal(f);
		assert_int_equal(f->sink.count, 2);
		assert_true(f->sink.unmapped_bytes == (i ? 0x1000 : 0x40000000));
		end(f);
	}
}

/* ---- Limits ------------------------------------------------------------------------------- */

static void test_hazard_23_contiguous_pages_are_one_map(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct fixture *f = begin(configs[i & 1], 0, i & 2 ? 0x5000 : 0);

		map(f, 0x1000, 0x7ff000, GUEST_DATA + 0x1000, RW, 12);
		attach(f);
		assert_int_equal(f->sink.count, 1);
		/* It comes bit by bit: as many maps as commands. */
		map(f, 0x40000000, 0x4000, GUEST_DATA, RW, 12);
		for (unsigned page = 0; page < 4; page++)
			sync(f, 0x40000000 + page * 0x1000ull, 0x1000);
		expect_equal(f);
		assert_in_range(f->sink.count, 2, 5);
		end(f);
	}
}

/* What goes is one unmap too, however it was mapped and however it is kept. */
static void test_hazard_23_contiguous_pages_are_one_unmap(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		/* Host memory that is skewed keeps large leaves from being made. */
		struct fixture *f = begin(configs[i & 1], kinds[i >> 1 & 1], i & 4 ? 0x1000 : 0);
		unsigned step = i & 4 ? M2 : 0x8000;

		attach(f);
		/* Mapped piece by piece. */
		for (uint64_t at = 0; at < M2; at += step) {
			map(f, at, step, GUEST_DATA + at, RW, i & 4 ? 21 : 12);
			sync(f, at, step);
		}
		assert_int_equal(snest_table_unmap(f->table, 0, M2 - 1, 0, NULL), 0);
		sync(f, 0, M2);
		assert_int_equal(f->sink.unmaps, 1);
		assert_int_equal(f->sink.count, 0);
		end(f);
	}
}

static void test_hazard_23_a_full_sink_says_so(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct fixture *f = begin(configs[i & 1], kinds[i >> 1], 0);

		attach(f);
		f->sink.limit = 10;
		/* 32 scattered pages. */
		for (uint64_t p = 0; p < 32; p++)
			map(f, p * 0x1000, 0x1000, GUEST_DATA + p * 0x3000, RW, 12);
		sink_reset(&f->sink);
		assert_int_equal(snest_space_invalidate(f->space, 0, 0x1ffff, 0), -ENOSPC);
		assert_int_equal(f->sink.count, 10);
		assert_int_equal(f->sink.told, 1);
		/* The guest gives some back, and what was missing comes. */
		assert_int_equal(snest_table_unmap(f->table, 0, 0x15fff, 0, NULL), 0);
		sync(f, 0, 0x20000);
		assert_int_equal(f->sink.told, 0);
		assert_int_equal(f->sink.count, 10);
		expect_equal(f);
		end(f);
	}
}

static int claim_more(void *opaque, const struct snest_sink_op *ops, size_t count, size_t *done)
{
	struct sink *sink = opaque;
	int ret = sink->sink.apply(sink, ops, count, done);

	*done += 7;
	return ret;
}

/* A sink that says it has done more than it was given is taken to have done all of it. */
static void test_a_sink_that_claims_too_much(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0, 0);
	struct snest_space_stats stats = {.size = sizeof(stats)};
	struct snest_sink sink = f->sink.sink;

	(void)state;
	sink.apply = claim_more;
	sink.opaque = &f->sink;
	map(f, 0, 0x2000, GUEST_DATA, RW, 12);
	map(f, 0x10000, 0x1000, GUEST_DATA, RW, 12);
	assert_int_equal(snest_space_mirror(f->space, &sink), 0);
	expect_equal(f);
	assert_int_equal(snest_space_stats(f->space, &stats), 0);
	assert_int_equal(stats.sink_maps, f->sink.maps);
	assert_int_equal(stats.sink_unmaps, f->sink.unmaps);
	end(f);
}

static void test_hazard_24_nothing_left_when_attaching_fails(void **state)
{
	(void)state;
	for (uint64_t n = 1; n <= 9; n++) {
		struct fixture *f = begin("vtd-ss 3 levels", 0, 0);

		for (uint64_t p = 0; p < 8; p++)
			map(f, p * 0x1000, 0x1000, GUEST_DATA + p * 0x3000, RW, 12);
		f->sink.fail_in = n;
		if (n == 9)
			f->sink.fail_in = 0;
		if (n <= 8) {
			assert_int_equal(snest_space_mirror(f->space, &f->sink.sink), -EIO);
			assert_int_equal(f->sink.count, 0);
			assert_int_equal(snest_space_unmirror(f->space), -ENOENT);
			f->sink.fail_in = 0;
		}
		attach(f);
		expect_equal(f);
		end(f);
	}
}

/* What a sink will not let go of is not used by lookups, and asked for again. */
static void test_hazard_24_a_refused_unmap(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct fixture *f = begin(configs[i & 1], kinds[i >> 1], 0);
		struct snest_translation t;

		map(f, 0, 0x10000, GUEST_DATA, RW, 12);
		attach(f);
		assert_int_equal(snest_table_unmap(f->table, 0, 0xffff, 0, NULL), 0);
		f->sink.fail_in = f->sink.fail_every = 1;
		assert_int_equal(snest_space_invalidate(f->space, 0, 0xffff, 0), -EIO);
		assert_int_equal(f->sink.count, 1);
		snest_read_begin();
		assert_int_equal(snest_space_translate(f->space, 0x3000, SNEST_READ, &t, NULL),
		                 -EACCES);
		snest_read_end();
		/* Mapped again meanwhile, elsewhere. */
		map(f, 0x2000, 0x1000, GUEST_DATA + 0x40000, RW, 12);
		assert_int_equal(snest_space_invalidate(f->space, 0x2000, 0x2fff, 0), -EIO);
		f->sink.fail_in = f->sink.fail_every = 0;
		sync(f, 0x2000, 0x1000);
		sync_all(f);
		expect_equal(f);
		assert_int_equal(f->sink.count, 1);
		end(f);
	}
}

/* Nor is its place taken by what the guest maps there now. */
static void test_hazard_24_a_refused_unmap_of_what_is_replaced(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		struct fixture *f = begin(configs[i & 1], kinds[i >> 1 & 1], 0);
		const struct sink_map *held;
		struct snest_translation t;

		for (uint64_t at = 0; at < 0x10000; at += 0x1000)
			map(f, at, 0x1000, GUEST_DATA + 2 * at, RW, 12);
		attach(f);
		for (uint64_t at = 0x2000; at < 0xc000; at += 0x1000)
			map(f, at, 0x1000, GUEST_DATA + 0x40000 + 2 * at, RW, 12);
		f->sink.fail_in = 1;
		f->sink.fail_every = i >> 2;
		assert_int_equal(snest_space_invalidate(f->space, 0, 0xffff, 0), -EIO);
		f->sink.fail_in = f->sink.fail_every = 0;
		snest_read_begin();
		assert_int_equal(snest_space_translate(f->space, 0x2000, SNEST_READ, &t, NULL), 0);
		snest_read_end();
		/* A lookup walks. Where only the first attempt failed, there may have been another. */
		held = sink_find(&f->sink, 0x2000);
		assert_non_null(held);
		assert_true(f->sink.failures == 1 || held->host != t.host);
		sync(f, 0x2000, 0x1000);
		sync_all(f);
		expect_equal(f);
		assert_int_equal(f->sink.count, 16);
		end(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_attach_and_detach),
		cmocka_unit_test(test_silent_guests_are_refused),
		cmocka_unit_test(test_lookups_in_a_mirrored_space),
		cmocka_unit_test(test_hazard_16_a_broken_entry_unmaps),
		cmocka_unit_test(test_hazard_21_no_change_no_operation),
		cmocka_unit_test(test_hazard_21_one_page_of_many),
		cmocka_unit_test(test_right_to_execute_is_no_change),
		cmocka_unit_test(test_hazard_22_sizes_change_in_place),
		cmocka_unit_test(test_hazard_9_part_of_a_large_page),
		cmocka_unit_test(test_hazard_10_a_page_that_grows),
		cmocka_unit_test(test_hazard_22_a_gigabyte),
		cmocka_unit_test(test_hazard_23_contiguous_pages_are_one_map),
		cmocka_unit_test(test_hazard_23_contiguous_pages_are_one_unmap),
		cmocka_unit_test(test_hazard_23_a_full_sink_says_so),
		cmocka_unit_test(test_a_sink_that_claims_too_much),
		cmocka_unit_test(test_hazard_24_nothing_left_when_attaching_fails),
		cmocka_unit_test(test_hazard_24_a_refused_unmap),
		cmocka_unit_test(test_hazard_24_a_refused_unmap_of_what_is_replaced),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
