/* SPDX-License-Identifier: MIT */
/*
 * Changes next to the one before, which the writer does without looking for
 * their place: long runs of small changes in a few tables, for every format and
 * configuration, with pages of the caller and of the pool.
 *
 * Each is made in two tables. The twin forgets its table at hand before every
 * change, so all it does is decided anew; answers, pages and leaves must be the
 * same. What they should be says the list of intervals.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "support/subject.h"
#include "walkers/write.h"

#ifdef SN_TSAN
#define OPS 100
#else
#define OPS 2500
#endif
#define REACH 24 /* slots to either side of where a run of changes is */

/* A run of changes of one kind. */
struct habit {
	uint64_t at, first, last; /* they are near `at`, inside first..last */
	uint64_t bytes;           /* of a leaf */
	unsigned lg2, k;          /* k: which rights */
	uint32_t attr, flags;
};

struct pair {
	struct subject *s;
	struct snest_table *one, *twin;
	bool pooled;
	struct habit habit;
};

/* ---- What is done --------------------------------------------------------------- */

static void forget(struct pair *p)
{
	sn_table_forget(p->twin);
	sn_hand_no_leaf(&p->twin->hand);
}

static void new_habit(struct pair *p)
{
	static const uint32_t attr[] = {SUBJECT_ATTR, SUBJECT_ATTR, SUBJECT_ATTR | 1,
	                                SUBJECT_ATTR & ~SNEST_ATTR_DIRTY,
	                                SUBJECT_ATTR | SNEST_ATTR_CONTIGUOUS};
	struct subject *s = p->s;
	struct test_random *r = &s->random;
	unsigned i = (unsigned)test_below(r, s->anchors), lg2;
	struct habit *h = &p->habit;
	uint64_t away;

	subject_select(s, i);
	do {
		lg2 = (unsigned)test_below(r, 64);
	} while (!(s->sizes >> lg2 & 1));
	/* Small pages are the rule. */
	if (test_below(r, 2))
		lg2 = (unsigned)__builtin_ctzll(s->sizes);
	h->lg2 = lg2;
	h->bytes = 1ull << lg2;
	h->first = s->anchor[i].first;
	h->last = s->anchor[i].last;
	away = (test_below(r, 3) ? test_below(r, 41) - 20 : test_below(r, 1301) - 650) * h->bytes;
	h->at = (s->anchor[i].at & ~(h->bytes - 1)) + away;
	h->k = (unsigned)test_below(r, s->rights_count);
	h->attr = attr[test_below(r, sizeof(attr) / sizeof(attr[0]))];
	h->flags = test_below(r, 2) ? SNEST_TABLE_PAGE(lg2) : 0;
}

/* Some leaves near the habit's place. False: they are not all valid inputs. */
static bool choose(struct pair *p, uint64_t *first, uint64_t *last)
{
	struct test_random *r = &p->s->random;
	const struct habit *h = &p->habit;
	uint64_t n = test_below(r, 4) ? 1 : 1 + test_below(r, test_below(r, 8) ? REACH : 300);

	*first = h->at + (test_below(r, 2 * REACH + 1) - REACH) * h->bytes;
	*last = *first + n * h->bytes - 1;
	return *first <= *last && *first >= h->first && *last <= h->last &&
	       (*last - *first) >> h->lg2 == n - 1;
}

static bool choose_addr(struct pair *p, uint64_t length, uint64_t *addr)
{
	struct subject *s = p->s;
	uint64_t bits = test_random(&s->random), low = 1ull << (TEST_RAM_LG2 + 1);

	/* Low, or as high as the format allows: some keep those bits elsewhere. */
	if (s->out_bytes)
		bits &= s->out_bytes - 1;
	if (test_below(&s->random, 2))
		bits &= (1ull << 36) - 1;
	*addr = bits & ~(p->habit.bytes - 1);
	if (*addr < low)
		*addr += p->habit.bytes > low ? p->habit.bytes : low;
	return *addr + length > *addr && (!s->out_bytes || *addr + length <= s->out_bytes);
}

/* ---- Comparing ------------------------------------------------------------------ */

static void look(struct pair *p, struct snest_table *table, uint64_t in, uint32_t access,
                 uint32_t flags, struct snest_walk *w)
{
	assert_int_equal(snest_walk(p->s->tt.vm, snest_table_stage(table), 1, in, access, flags, w,
	                            NULL, NULL),
	                 0);
}

static void check_at(struct pair *p, uint64_t in)
{
	const struct test_interval *a = test_model_find(&p->s->model, in);
	struct snest_walk one, twin;

	look(p, p->one, in, 0, SNEST_WALK_NO_UPDATE, &one);
	look(p, p->twin, in, 0, SNEST_WALK_NO_UPDATE, &twin);
	if (!a) {
		assert_int_equal(one.outcome, SNEST_WALK_FAULT);
		assert_int_equal(twin.outcome, SNEST_WALK_FAULT);
		assert_int_equal(one.fault.level, twin.fault.level);
		return;
	}
	assert_int_not_equal(one.outcome, SNEST_WALK_FAULT);
	assert_int_not_equal(twin.outcome, SNEST_WALK_FAULT);
	assert_int_equal(one.stage[0].output, a->addr + (in - a->first));
	assert_int_equal(one.stage[0].rights, a->rights);
	assert_int_equal(one.stage[0].entry, twin.stage[0].entry);
	assert_int_equal(one.stage[0].level, twin.stage[0].level);
	assert_int_equal(one.stage[0].lg2, twin.stage[0].lg2);
}

static void check(struct pair *p, uint64_t first, uint64_t last)
{
	const struct habit *h = &p->habit;

	/* A page of the pool has 4 KiB at least, and a table may need less. */
	if (!p->pooled || p->s->page >= 4096)
		assert_int_equal(snest_table_bytes(p->one), snest_table_bytes(p->twin));
	check_at(p, first);
	check_at(p, last);
	check_at(p, first - 1);
	check_at(p, last + 1);
	for (unsigned i = 0; i < 4; i++)
		check_at(p, h->at + (test_below(&p->s->random, 2 * REACH + 1) - REACH) * h->bytes +
		                    test_below(&p->s->random, h->bytes));
}

/* ---- Changes -------------------------------------------------------------------- */

/* With the caller's pages, now and then the first allocation fails: then nothing has changed. */
static int map_one(struct pair *p, uint64_t first, uint64_t last, uint64_t addr, uint32_t flags)
{
	struct test_tables *tt = &p->s->tt;
	const struct habit *h = &p->habit;
	uint64_t bytes = snest_table_bytes(p->one);
	int ret;

	tt->fail_in = p->pooled || test_below(&p->s->random, 4) ? 0 : 1;
	ret = snest_table_map(p->one, first, last, addr, p->s->asked[h->k], h->attr, flags);
	if (ret == -ENOMEM && tt->fail_in == 0 && tt->failed) {
		tt->failed = 0;
		assert_int_equal(snest_table_bytes(p->one), bytes);
		check(p, first, last);
		ret = snest_table_map(p->one, first, last, addr, p->s->asked[h->k], h->attr, flags);
	}
	tt->fail_in = 0;
	return ret;
}

static void map(struct pair *p, bool replace)
{
	const struct habit *h = &p->habit;
	uint32_t flags = h->flags | (replace ? SNEST_TABLE_REPLACE : 0);
	uint64_t first, last, addr;
	int ret;

	if (!choose(p, &first, &last) || !choose_addr(p, last - first + 1, &addr))
		return;
	ret = map_one(p, first, last, addr, flags);
	forget(p);
	assert_int_equal(
		snest_table_map(p->twin, first, last, addr, p->s->asked[h->k], h->attr, flags),
		ret);
	if (!replace && test_model_overlaps(&p->s->model, first, last)) {
		assert_int_equal(ret, -EEXIST);
	} else {
		assert_int_equal(ret, 0);
		test_model_set(&p->s->model, first, last, addr, p->s->granted[h->k]);
	}
	check(p, first, last);
}

static void unmap(struct pair *p)
{
	uint64_t first, last, from, to, bytes = 1, bytes_twin = 2;
	uint32_t flags = test_below(&p->s->random, 4) ? 0 : SNEST_TABLE_WHOLE;
	struct snest_walk w;

	if (!choose(p, &first, &last))
		return;
	from = first;
	to = last;
	if (flags) {
		look(p, p->one, first, 0, SNEST_WALK_NO_UPDATE, &w);
		if (w.outcome != SNEST_WALK_FAULT)
			from &= ~((1ull << w.stage[0].lg2) - 1);
		look(p, p->one, last, 0, SNEST_WALK_NO_UPDATE, &w);
		if (w.outcome != SNEST_WALK_FAULT)
			to |= (1ull << w.stage[0].lg2) - 1;
	}
	assert_int_equal(snest_table_unmap(p->one, first, last, flags,
	                                   test_below(&p->s->random, 4) ? &bytes : NULL),
	                 0);
	forget(p);
	assert_int_equal(snest_table_unmap(p->twin, first, last, flags, &bytes_twin), 0);
	assert_int_equal(bytes_twin, test_model_bytes(&p->s->model, from, to));
	assert_true(bytes == bytes_twin || bytes == 1);
	test_model_clear(&p->s->model, from, to);
	check(p, first, last);
}

/* Arguments that are wrong, but only just. */
static void refused(struct pair *p)
{
	const struct habit *h = &p->habit;
	uint64_t first, last, addr;
	uint32_t rights = p->s->asked[h->k], attr = h->attr, flags = h->flags;

	if (!choose(p, &first, &last) || !choose_addr(p, last - first + 1, &addr))
		return;
	switch (test_below(&p->s->random, 8)) {
	case 0:
		first++;
		break;
	case 1:
		last--;
		break;
	case 2:
		addr += p->s->page / 2;
		break;
	case 3:
		addr = p->s->out_bytes ? p->s->out_bytes : 0 - h->bytes / 2;
		break;
	case 4:
		rights |= 8;
		break;
	case 5:
		attr |= 0x8000000;
		break;
	case 6:
		flags |= 4;
		break;
	default:
		last = first - 1;
	}
	assert_int_equal(snest_table_map(p->one, first, last, addr, rights, attr, flags), -EINVAL);
	if ((first | (last + 1)) & (p->s->page - 1))
		assert_int_equal(snest_table_unmap(p->one, first, last, 0, NULL), -EINVAL);
	assert_int_equal(snest_table_unmap(p->one, h->at, h->at + h->bytes - 1, 4, NULL), -EINVAL);
	check(p, first, last);
}

/* What hardware does to leaves, and changes of shape. */
static void disturb(struct pair *p)
{
	uint64_t first, last;
	struct snest_walk w;
	int ret;

	if (!choose(p, &first, &last))
		return;
	switch (test_below(&p->s->random, 3)) {
	case 0:
		look(p, p->one, first, SNEST_WRITE, 0, &w);
		look(p, p->twin, first, SNEST_WRITE, 0, &w);
		break;
	case 1:
		ret = snest_table_cut(p->one, first);
		assert_int_equal(ret, 0);
		assert_int_equal(snest_table_cut(p->twin, first), 0);
		break;
	default:
		assert_int_equal(snest_table_merge(p->one, first, last), 0);
		assert_int_equal(snest_table_merge(p->twin, first, last), 0);
	}
	check(p, first, last);
}

/*
 * A range that ends before it begins, while no table is at hand: in a new table,
 * and when the last one has just gone, whose leaf is still remembered.
 */
static void no_range(struct pair *p)
{
	uint64_t first, last, addr;

	do {
		new_habit(p);
	} while (!choose(p, &first, &last) || !choose_addr(p, p->habit.bytes, &addr));
	last = first + p->habit.bytes - 1;
	for (unsigned i = 0; i < 3; i++) {
		const struct habit *h = &p->habit;
		uint32_t rights = p->s->asked[h->k];

		assert_int_equal(snest_table_unmap(p->one, 1, 0, 0, NULL), -EINVAL);
		assert_int_equal(snest_table_map(p->one, 1, 0, 0, rights, h->attr, h->flags),
		                 -EINVAL);
		if (i == 0)
			assert_int_equal(snest_table_map(p->one, first, last, addr, rights, h->attr,
			                                 h->flags),
			                 0);
		if (i == 1)
			assert_int_equal(snest_table_unmap(p->one, first, last, 0, NULL), 0);
	}
}

/* ---- Runs ----------------------------------------------------------------------- */

static void clear(struct pair *p, struct snest_table *table, uint64_t empty)
{
	for (unsigned i = 0; i < p->s->anchors; i++)
		assert_int_equal(snest_table_unmap(table, p->s->anchor[i].first,
		                                   p->s->anchor[i].last, 0, NULL),
		                 0);
	assert_int_equal(snest_table_bytes(table), empty);
	snest_table_destroy(table);
}

static void run(const struct test_config *config, bool pooled)
{
	struct pair p = {.s = subject_begin(config), .pooled = pooled};
	struct snest_region region = {
		.size = sizeof(region),
		.first = 1ull << TEST_RAM_LG2,
		.last = (1ull << 47) - 1,
		.host = 1ull << TEST_RAM_LG2,
		.mapping = (void *)(uintptr_t)(1ull << TEST_RAM_LG2), /* snest's own memory */
	};
	const struct snest_table_memory *memory = pooled ? NULL : &p.s->tt.memory;
	uint64_t empty, empty_twin;
	unsigned left = 0;

	/* Entries of some configurations are too narrow for pointers. */
	if (snest_table_create(p.s->tt.vm, &config->stage, memory, &p.one)) {
		assert_true(pooled);
		subject_end(p.s);
		return;
	}
	assert_int_equal(snest_table_create(p.s->tt.vm, &config->stage, &p.s->tt.memory, &p.twin),
	                 0);
	if (pooled)
		assert_int_equal(snest_memory_add(p.s->tt.vm, &region), 0);
	empty = snest_table_bytes(p.one);
	empty_twin = snest_table_bytes(p.twin);
	no_range(&p);
	for (unsigned i = 0; i < OPS; i++, left--) {
		if (!left) {
			new_habit(&p);
			left = 1 + (unsigned)test_below(&p.s->random, 60);
		}
		switch (test_below(&p.s->random, 20)) {
		case 0:
			refused(&p);
			break;
		case 1:
			disturb(&p);
			break;
		case 2:
			map(&p, true);
			break;
		default:
			if (test_below(&p.s->random, 5) < 3)
				map(&p, false);
			else
				unmap(&p);
		}
	}
	clear(&p, p.one, empty);
	clear(&p, p.twin, empty_twin);
	p.s->model.count = 0;
	subject_end(p.s);
}

static void run_callers(const struct test_config *config)
{
	run(config, false);
}

static void run_pooled(const struct test_config *config)
{
	run(config, true);
}

static void small_changes_in_the_callers_pages(void **state)
{
	(void)state;
	subject_for_each_config(run_callers);
}

static void small_changes_in_the_pools_pages(void **state)
{
	(void)state;
	subject_for_each_config(run_pooled);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_changes_in_the_callers_pages),
		cmocka_unit_test(small_changes_in_the_pools_pages),
	};
	int failed;

	snest_thread_register();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	snest_thread_unregister();
	return failed;
}
