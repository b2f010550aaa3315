/* SPDX-License-Identifier: MIT */
/*
 * The writer, for every format and configuration: random changes, read back
 * with the walker and compared with a list of intervals. Nothing here knows
 * entries or levels.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "support/subject.h"
#include "core/rcu.h"

#ifdef SN_TSAN
#define OPS 30
#else
#define OPS 1000
#endif
#define LEAVES_MAX 3000 /* that one operation may write */

/* A range of whole pages near an anchor. False: it is not a valid one. */
static bool random_range(struct subject *s, uint64_t *first, uint64_t *last)
{
	struct test_random *r = &s->random;
	unsigned i = (unsigned)test_below(r, s->anchors), lg2;
	uint64_t size, length;
	int64_t shift;

	subject_select(s, i);
	do {
		lg2 = (unsigned)test_below(r, 64);
	} while (!(s->sizes >> lg2 & 1));
	size = 1ull << lg2;
	if (size > (s->anchor[i].last - s->anchor[i].first) / 2)
		size = s->page;
	length = size * (1 + test_below(r, 3));
	shift = (int64_t)test_below(r, 7) - 3;
	*first = s->anchor[i].at + (uint64_t)shift * size;
	if (test_below(r, 2))
		*first += (test_below(r, 41) - 20) * s->page;
	if (test_below(r, 2))
		length += (test_below(r, 41) - 20) * s->page;
	*last = *first + length - 1;
	return *first <= *last && length < 1ull << 63 && *first >= s->anchor[i].first &&
	       *last <= s->anchor[i].last;
}

/* An output address for first..last that needs no absurd number of leaves. */
static bool random_addr(struct subject *s, uint64_t first, uint64_t last, uint64_t *addr)
{
	struct test_random *r = &s->random;
	unsigned lg2, grain = 0;
	uint64_t length = last - first + 1;

	/* A grain keeps its place: leaves up to that size remain possible. */
	for (lg2 = 63; lg2; lg2--) {
		if ((s->sizes >> lg2 & 1) && (!grain || test_below(r, 2)) &&
		    length >> lg2 <= LEAVES_MAX)
			grain = lg2;
	}
	for (lg2 = 63; !grain && lg2; lg2--) {
		if (s->sizes >> lg2 & 1)
			grain = lg2;
	}
	*addr = test_random(r);
	if (s->out_bytes)
		*addr &= s->out_bytes - 1;
	*addr = (*addr & ~((1ull << grain) - 1)) | (first & ((1ull << grain) - 1));
	/* Clear of the RAM, so that results are GPAs. */
	if (*addr < 2ull << TEST_RAM_LG2)
		*addr += (1ull << grain) > 2ull << TEST_RAM_LG2 ? 1ull << grain
		                                                : 2ull << TEST_RAM_LG2;
	return *addr + length > *addr && (!s->out_bytes || *addr + length <= s->out_bytes);
}

static void random_map(struct subject *s, bool replace)
{
	unsigned k = (unsigned)test_below(&s->random, s->rights_count);
	uint64_t first, last, addr, bytes = snest_table_bytes(s->table), pages = s->tt.live_pages;
	int ret;

	if (!random_range(s, &first, &last)) {
		assert_int_equal(snest_table_map(s->table, last, first, 1ull << 29, s->asked[k],
		                                 SUBJECT_ATTR, 0),
		                 -EINVAL);
		return;
	}
	if (!random_addr(s, first, last, &addr))
		return;
	ret = snest_table_map(s->table, first, last, addr, s->asked[k], SUBJECT_ATTR,
	                      replace ? SNEST_TABLE_REPLACE : 0);
	if (!replace && test_model_overlaps(&s->model, first, last)) {
		assert_int_equal(ret, -EEXIST);
		assert_int_equal(snest_table_bytes(s->table), bytes);
		assert_int_equal(s->tt.live_pages, pages);
	} else {
		assert_int_equal(ret, 0);
		test_model_set(&s->model, first, last, addr, s->granted[k]);
		for (unsigned i = 0; i < 4; i++) {
			uint64_t in = first + test_below(&s->random, last - first);
			struct snest_walk w;

			subject_look(s, in, &w);
			assert_int_equal(w.stage[0].lg2, subject_largest(s, first, last, addr, in));
		}
	}
	subject_check_around(s, first, last);
}

static void random_unmap(struct subject *s)
{
	bool whole = test_below(&s->random, 2);
	uint64_t first, last, bytes;
	struct snest_walk w;

	if (!random_range(s, &first, &last))
		return;
	/* A whole unmap takes along the leaves at its ends; the walker knows their size. */
	if (whole) {
		subject_look(s, first, &w);
		if (w.outcome != SNEST_WALK_FAULT)
			first &= ~((1ull << w.stage[0].lg2) - 1);
		subject_look(s, last, &w);
		if (w.outcome != SNEST_WALK_FAULT)
			last |= (1ull << w.stage[0].lg2) - 1;
	}
	assert_int_equal(
		snest_table_unmap(s->table, first, last, whole ? SNEST_TABLE_WHOLE : 0, &bytes), 0);
	assert_int_equal(bytes, test_model_bytes(&s->model, first, last));
	test_model_clear(&s->model, first, last);
	subject_check_around(s, first, last);
}

static void random_cut(struct subject *s)
{
	uint64_t first, last;
	struct snest_walk w;

	if (!random_range(s, &first, &last))
		return;
	assert_int_equal(snest_table_cut(s->table, first), 0);
	subject_look(s, first, &w);
	if (w.outcome != SNEST_WALK_FAULT)
		assert_int_equal(first & ((1ull << w.stage[0].lg2) - 1), 0);
	subject_check_around(s, first, last);
}

static void random_merge(struct subject *s)
{
	uint64_t first, last;

	if (!random_range(s, &first, &last))
		return;
	assert_int_equal(snest_table_merge(s->table, first, last), 0);
	test_model_merge(&s->model);
	for (unsigned i = 0; i < 8; i++) {
		uint64_t in = first + test_below(&s->random, last - first), from, to;
		const struct test_interval *a = test_model_find(&s->model, in);
		struct snest_walk w;

		if (!a)
			continue;
		from = a->first > first ? a->first : first;
		to = a->last < last ? a->last : last;
		subject_look(s, in, &w);
		assert_true(w.stage[0].lg2 >=
		            subject_largest(s, from, to, a->addr + (from - a->first), in));
	}
	subject_check_around(s, first, last);
}

static void random_operations(const struct test_config *config)
{
	struct subject *s = subject_begin(config);

	for (unsigned i = 0; i < OPS; i++) {
		switch (test_below(&s->random, 8)) {
		case 0:
		case 1:
			random_map(s, false);
			break;
		case 2:
		case 3:
			random_map(s, true);
			break;
		case 4:
		case 5:
			random_unmap(s);
			break;
		case 6:
			random_cut(s);
			break;
		default:
			random_merge(s);
		}
		assert_int_equal(snest_table_bytes(s->table), s->tt.live_bytes);
		if (i % 50 == 0)
			subject_check_all(s);
	}
	subject_check_all(s);
	subject_end(s);
}

static void random_operations_equal_the_model(void **state)
{
	(void)state;
	subject_for_each_config(random_operations);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_operations_equal_the_model),
	};
	int failed;

	snest_thread_register();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	snest_thread_unregister();
	return failed;
}
