/* SPDX-License-Identifier: MIT */
/*
 * The writer, one thing at a time, for every leaf size of every configuration:
 * small over large, large over small, parts, cuts and merges, flags, and
 * arguments that must be refused.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "support/subject.h"

/* Unmaps all and starts over with the same table. */
static void start_over(struct subject *s)
{
	for (unsigned i = 0; i < s->anchors; i++)
		assert_int_equal(
			snest_table_unmap(s->table, s->anchor[i].first, s->anchor[i].last, 0, NULL),
			0);
	assert_int_equal(snest_table_bytes(s->table), s->empty_bytes);
	s->model.count = 0;
}

static void do_map(struct subject *s, uint64_t first, uint64_t bytes, uint64_t addr, uint32_t flags)
{
	assert_int_equal(snest_table_map(s->table, first, first + bytes - 1, addr, s->asked[0],
	                                 SUBJECT_ATTR, flags),
	                 0);
	test_model_set(&s->model, first, first + bytes - 1, addr, s->granted[0]);
}

/* An address for leaves of up to 2^lg2 bytes, clear of the RAM; 0 if there is none. */
static uint64_t clear_addr(const struct subject *s, unsigned lg2)
{
	uint64_t addr = 1ull << (lg2 < TEST_RAM_LG2 + 1 ? TEST_RAM_LG2 + 1 : lg2);

	return s->out_bytes && addr + (1ull << lg2) > s->out_bytes ? 0 : addr;
}

/* Calls `step` for each leaf size but the smallest, at the beginning of each anchor's inputs. */
static void each_large_leaf(const struct test_config *config,
                            void (*step)(struct subject *s, uint64_t first, unsigned lg2,
                                         uint64_t addr))
{
	struct subject *s = subject_begin(config);

	for (unsigned i = 0; i < s->anchors; i++) {
		for (unsigned lg2 = 0; lg2 < 63; lg2++) {
			subject_select(s, i);
			if (!(s->sizes >> lg2 & 1) || s->page == 1ull << lg2 ||
			    s->anchor[i].last - s->anchor[i].first < (2ull << lg2) - 1 ||
			    !clear_addr(s, lg2))
				continue;
			step(s, s->anchor[i].first, lg2, clear_addr(s, lg2));
			subject_check_all(s);
			start_over(s);
		}
	}
	subject_end(s);
}

static void replace_part(struct subject *s, uint64_t first, unsigned lg2, uint64_t addr)
{
	uint64_t size = 1ull << lg2, at[3] = {0, size / 2, size - s->page};

	/* The first, a middle and the last page of a leaf become something else. */
	do_map(s, first, size, addr, SNEST_TABLE_PAGE(lg2));
	for (unsigned i = 0; i < 3; i++) {
		do_map(s, first + at[i], s->page, addr, SNEST_TABLE_REPLACE);
		subject_check_around(s, first + at[i], first + at[i] + s->page - 1);
	}
}

static void replace_by_large(struct subject *s, uint64_t first, unsigned lg2, uint64_t addr)
{
	uint64_t size = 1ull << lg2, settled = s->tt.settled, bytes;
	struct snest_walk w;

	do_map(s, first, s->page, addr, 0);
	do_map(s, first + size - s->page, s->page, addr, 0);
	assert_int_equal(snest_table_map(s->table, first, first + size - 1, addr, s->asked[0],
	                                 SUBJECT_ATTR, SNEST_TABLE_PAGE(lg2)),
	                 -EEXIST);
	subject_check_all(s);
	bytes = snest_table_bytes(s->table);
	do_map(s, first, size, addr, SNEST_TABLE_PAGE(lg2) | SNEST_TABLE_REPLACE);
	subject_look(s, first, &w);
	assert_int_equal(w.stage[0].lg2, lg2);
	/* If tables went away, their readers were waited for. */
	assert_int_equal(snest_table_bytes(s->table) < bytes, s->tt.settled > settled);
}

static void unmap_part(struct subject *s, uint64_t first, unsigned lg2, uint64_t addr)
{
	uint64_t size = 1ull << lg2, bytes;

	do_map(s, first, size, addr, SNEST_TABLE_PAGE(lg2));
	assert_int_equal(
		snest_table_unmap(s->table, first + s->page, first + 2 * s->page - 1, 0, &bytes),
		0);
	assert_int_equal(bytes, s->page);
	test_model_clear(&s->model, first + s->page, first + 2 * s->page - 1);
}

static void unmap_whole(struct subject *s, uint64_t first, unsigned lg2, uint64_t addr)
{
	uint64_t size = 1ull << lg2, bytes;

	do_map(s, first, size, addr, SNEST_TABLE_PAGE(lg2));
	s->tt.fail_in = 1;
	assert_int_equal(snest_table_unmap(s->table, first + s->page, first + 2 * s->page - 1,
	                                   SNEST_TABLE_WHOLE, &bytes),
	                 0);
	s->tt.fail_in = 0;
	assert_int_equal(bytes, size);
	test_model_clear(&s->model, first, first + size - 1);
	assert_int_equal(snest_table_bytes(s->table), s->empty_bytes);
}

static void cut_and_merge(struct subject *s, uint64_t first, unsigned lg2, uint64_t addr)
{
	uint64_t size = 1ull << lg2, bytes;
	struct snest_walk w;

	do_map(s, first, size, addr, SNEST_TABLE_PAGE(lg2));
	bytes = snest_table_bytes(s->table);
	assert_int_equal(snest_table_cut(s->table, first), 0);
	subject_look(s, first, &w);
	assert_int_equal(w.stage[0].lg2, lg2);
	assert_int_equal(snest_table_cut(s->table, first + s->page), 0);
	subject_check_all(s);
	subject_look(s, first, &w);
	assert_int_equal(1ull << w.stage[0].lg2, s->page);
	subject_look(s, first + size - 1, &w);
	assert_int_equal(w.stage[0].lg2, subject_largest(s, first + s->page, first + size - 1,
	                                                 addr + s->page, first + size - 1));
	/* Merging takes only what lies wholly in the range. */
	assert_int_equal(snest_table_merge(s->table, first, first + size - s->page - 1), 0);
	subject_look(s, first, &w);
	assert_true(w.stage[0].lg2 < lg2);
	assert_int_equal(snest_table_merge(s->table, first, first + size - 1), 0);
	subject_look(s, first, &w);
	assert_int_equal(w.stage[0].lg2, lg2);
	assert_int_equal(snest_table_bytes(s->table), bytes);
}

static void merge_needs_equals(struct subject *s, uint64_t first, unsigned lg2, uint64_t addr)
{
	uint64_t size = 1ull << lg2;
	struct snest_walk w;

	/* One page with other rights, or that leads elsewhere, keeps the leaves apart. */
	do_map(s, first, size, addr, SNEST_TABLE_PAGE(lg2));
	if (s->rights_count > 1) {
		assert_int_equal(snest_table_map(s->table, first + size - s->page, first + size - 1,
		                                 addr + size - s->page, s->asked[1], SUBJECT_ATTR,
		                                 SNEST_TABLE_REPLACE),
		                 0);
		test_model_set(&s->model, first + size - s->page, first + size - 1,
		               addr + size - s->page, s->granted[1]);
	} else {
		do_map(s, first + size - s->page, s->page, addr, SNEST_TABLE_REPLACE);
	}
	assert_int_equal(snest_table_merge(s->table, first, first + size - 1), 0);
	subject_look(s, first, &w);
	assert_int_equal(w.stage[0].lg2,
	                 subject_largest(s, first, first + size - s->page - 1, addr, first));
}

static void write_to(struct subject *s, uint64_t in)
{
	struct snest_walk w;

	assert_int_equal(snest_walk(s->tt.vm, snest_table_stage(s->table), 1, in, SNEST_WRITE, 0,
	                            &w, NULL, NULL),
	                 0);
	assert_int_equal(w.outcome, SNEST_WALK_GPA);
}

static bool dirty_at(struct subject *s, uint64_t in)
{
	struct snest_walk w;

	subject_look(s, in, &w);
	return w.attr & SNEST_ATTR_DIRTY;
}

/* Parts of a clean leaf are clean, of a dirty one dirty; merging never loses a dirty flag. */
static void flags_survive(struct subject *s, uint64_t first, unsigned lg2, uint64_t addr)
{
	uint32_t hw = SNEST_STAGE_HW_A | SNEST_STAGE_HW_D, k = s->rights_count;
	uint64_t half = first + (1ull << lg2) / 2, last = first + (1ull << lg2) - 1;
	struct snest_walk w;

	while (k-- && !(s->granted[k] & SNEST_WRITE))
		;
	if ((s->config->stage.flags & hw) != hw || k >= s->rights_count)
		return;
	assert_int_equal(snest_table_map(s->table, first, last, addr, s->asked[k], SNEST_ATTR_USER,
	                                 SNEST_TABLE_PAGE(lg2)),
	                 0);
	test_model_set(&s->model, first, last, addr, s->granted[k]);
	subject_look(s, first, &w);
	assert_false(w.attr & SNEST_ATTR_DIRTY);
	assert_int_equal(snest_table_cut(s->table, half), 0);
	/* Which of a group's entries hardware flagged cannot be told: its parts count as dirty. */
	if (!(w.attr & SNEST_ATTR_CONTIGUOUS)) {
		assert_false(dirty_at(s, first));
		assert_false(dirty_at(s, half));
		write_to(s, last);
		assert_false(dirty_at(s, first));
	}
	assert_int_equal(snest_table_merge(s->table, first, last), 0);
	subject_look(s, first, &w);
	assert_int_equal(w.stage[0].lg2, lg2);
	assert_true(dirty_at(s, first));

	assert_int_equal(snest_table_map(s->table, first, last, addr, s->asked[k], SNEST_ATTR_USER,
	                                 SNEST_TABLE_PAGE(lg2) | SNEST_TABLE_REPLACE),
	                 0);
	assert_false(dirty_at(s, first));
	write_to(s, half);
	assert_int_equal(snest_table_cut(s->table, half), 0);
	assert_true(dirty_at(s, first));
	assert_true(dirty_at(s, last));
}

/* Errors of the embedder, each of which must change nothing. */
static void wrong_arguments(const struct test_config *config)
{
	struct subject *s = subject_begin(config);
	uint64_t addr = 1ull << 29;

	for (unsigned i = 0; i < s->anchors; i += 3) {
		uint64_t first = s->anchor[i].first, last = s->anchor[i].last, page;
		uint32_t rights = s->asked[0];

		subject_select(s, i);
		page = s->page;
		do_map(s, first, page, addr, 0);
		if (last > first + page)
			do_map(s, last - page + 1, page, addr, 0);
#define REFUSED(error, first_, last_, addr_, rights_, attr_, flags_)                              \
	assert_int_equal(snest_table_map(s->table, first_, last_, addr_, rights_, attr_, flags_), \
	                 -(error))
		REFUSED(EINVAL, first + page, first + 2 * page - 2, addr, rights, SUBJECT_ATTR, 0);
		REFUSED(EINVAL, first + page + 1, first + 3 * page - 1, addr, rights, SUBJECT_ATTR,
		        0);
		REFUSED(EINVAL, first + page, first + 2 * page - 1, addr + 1, rights, SUBJECT_ATTR,
		        0);
		REFUSED(EINVAL, first + page, first - 1, addr, rights, SUBJECT_ATTR, 0);
		REFUSED(EINVAL, first + page, first + 2 * page - 1, addr, 0, SUBJECT_ATTR, 0);
		REFUSED(EINVAL, first + page, first + 2 * page - 1, addr, 8, SUBJECT_ATTR, 0);
		REFUSED(EINVAL, first + page, first + 2 * page - 1, addr, rights, 0x8000000, 0);
		REFUSED(EINVAL, first + page, first + 2 * page - 1, addr, rights, SUBJECT_ATTR, 4);
		REFUSED(EINVAL, first + page, first + 2 * page - 1, addr, rights, SUBJECT_ATTR,
		        SNEST_TABLE_PAGE(5));
		REFUSED(EINVAL, first + page, first + 2 * page - 1, addr, rights, SUBJECT_ATTR,
		        SNEST_TABLE_PAGE(200));
		if (s->out_bytes) {
			REFUSED(EINVAL, first + page, first + 2 * page - 1, s->out_bytes, rights,
			        SUBJECT_ATTR, 0);
			REFUSED(EINVAL, first + page, first + 3 * page - 1, s->out_bytes - page,
			        rights, SUBJECT_ATTR, 0);
		}
		REFUSED(EINVAL, first + page, first + 3 * page - 1, 0 - page, rights, SUBJECT_ATTR,
		        0);
		REFUSED(EEXIST, first, first + page - 1, addr, rights, SUBJECT_ATTR, 0);
		if (last != UINT64_MAX) {
			REFUSED(EINVAL, last + 1, last + page, addr, rights, SUBJECT_ATTR, 0);
			REFUSED(EINVAL, last + 1 - page, last + page, addr, rights, SUBJECT_ATTR,
			        SNEST_TABLE_REPLACE);
			REFUSED(EINVAL, first + page, UINT64_MAX, addr, rights, SUBJECT_ATTR, 0);
			assert_int_equal(snest_table_unmap(s->table, first, UINT64_MAX, 0, NULL),
			                 -EINVAL);
			assert_int_equal(snest_table_merge(s->table, last + 1 - page, last + page),
			                 -EINVAL);
			assert_int_equal(snest_table_cut(s->table, last + 1), -EINVAL);
		}
		assert_int_equal(snest_table_unmap(s->table, first, first + page - 2, 0, NULL),
		                 -EINVAL);
		assert_int_equal(snest_table_unmap(s->table, first, first + page - 1, 0x80, NULL),
		                 -EINVAL);
		assert_int_equal(snest_table_cut(s->table, first + 1), -EINVAL);
		subject_check_all(s);
	}
	subject_end(s);
}

#define LARGE_LEAF_TEST(name, step)                                 \
	static void name##_config(const struct test_config *config) \
	{                                                           \
		each_large_leaf(config, step);                      \
	}                                                           \
	static void name(void **state)                              \
	{                                                           \
		(void)state;                                        \
		subject_for_each_config(name##_config);             \
	}

LARGE_LEAF_TEST(small_replaces_part_of_large, replace_part)
LARGE_LEAF_TEST(large_replaces_small, replace_by_large)
LARGE_LEAF_TEST(unmapping_a_part_cuts, unmap_part)
LARGE_LEAF_TEST(unmapping_whole_leaves_needs_no_memory, unmap_whole)
LARGE_LEAF_TEST(what_was_cut_merges_again, cut_and_merge)
LARGE_LEAF_TEST(unequal_leaves_do_not_merge, merge_needs_equals)
LARGE_LEAF_TEST(accessed_and_dirty_survive_cut_and_merge, flags_survive)

static void wrong_arguments_change_nothing(void **state)
{
	(void)state;
	subject_for_each_config(wrong_arguments);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wrong_arguments_change_nothing),
		cmocka_unit_test(small_replaces_part_of_large),
		cmocka_unit_test(large_replaces_small),
		cmocka_unit_test(unmapping_a_part_cuts),
		cmocka_unit_test(unmapping_whole_leaves_needs_no_memory),
		cmocka_unit_test(what_was_cut_merges_again),
		cmocka_unit_test(unequal_leaves_do_not_merge),
		cmocka_unit_test(accessed_and_dirty_survive_cut_and_merge),
	};
	int failed;

	snest_thread_register();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	snest_thread_unregister();
	return failed;
}
