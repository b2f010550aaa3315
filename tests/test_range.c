/* SPDX-License-Identifier: MIT */
/*
 * Enumeration: what snest_walk_range reports must be what one walk a page
 * reports, in maximal ascending runs, at every budget, for every format, and
 * for tables that lead to themselves.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "support/subject.h"
#include "walkers/range.h"

#define RUNS_MAX 65536
#define WINDOW_PAGES 96

struct runs {
	unsigned count;
	struct snest_run at[RUNS_MAX];
};

static struct runs got, want;

static bool joins(const struct snest_run *a, const struct snest_run *b)
{
	return a->last + 1 == b->first && a->addr + (b->first - a->first) == b->addr &&
	       a->rights == b->rights && a->outcome == b->outcome;
}

static int collect(void *opaque, const struct snest_run *run)
{
	struct runs *runs = opaque;

	assert_true(runs->count < RUNS_MAX);
	assert_true(run->first <= run->last);
	assert_true(run->rights != 0);
	if (runs->count) {
		const struct snest_run *before = &runs->at[runs->count - 1];

		assert_true(run->first > before->last);
		assert_false(joins(before, run));
	}
	runs->at[runs->count++] = *run;
	return 0;
}

/* Appends to a list that is built piece by piece. */
static void append(struct runs *runs, const struct snest_run *run)
{
	struct snest_run *before = runs->count ? &runs->at[runs->count - 1] : NULL;

	if (before && joins(before, run)) {
		before->last = run->last;
		return;
	}
	assert_true(runs->count < RUNS_MAX);
	runs->at[runs->count++] = *run;
}

static void same_runs(const struct runs *a, const struct runs *b)
{
	assert_int_equal(a->count, b->count);
	for (unsigned i = 0; i < a->count; i++) {
		assert_int_equal(a->at[i].first, b->at[i].first);
		assert_int_equal(a->at[i].last, b->at[i].last);
		assert_int_equal(a->at[i].addr, b->at[i].addr);
		assert_int_equal(a->at[i].rights, b->at[i].rights);
		assert_int_equal(a->at[i].outcome, b->at[i].outcome);
	}
}

/* Walks first..last page by page. */
static void walk_pages(struct snest_vm *vm, const struct snest_stage *stages, unsigned count,
                       uint64_t first, uint64_t last, uint64_t page, struct runs *runs)
{
	struct snest_walk w;

	runs->count = 0;
	for (uint64_t in = first, end;; in = end + 1) {
		struct snest_run run = {.first = in};

		end = in | (page - 1);
		if (end > last)
			end = last;
		assert_int_equal(
			snest_walk(vm, stages, count, in, 0, SNEST_WALK_NO_UPDATE, &w, NULL, NULL),
			0);
		run.last = end;
		run.addr = w.outcome == SNEST_WALK_HOST ? w.host : w.gpa;
		run.outcome = w.outcome;
		run.rights = w.rights;
		if (w.outcome != SNEST_WALK_FAULT && w.rights)
			append(runs, &run);
		if (end == last)
			return;
	}
}

static void enumerate(struct snest_vm *vm, const struct snest_stage *stages, unsigned count,
                      uint64_t first, uint64_t last, struct runs *runs)
{
	struct snest_walk_range range = {.size = sizeof(range), .first = first, .last = last};

	runs->count = 0;
	assert_int_equal(snest_walk_range(vm, stages, count, &range, collect, runs), 0);
}

/* ---- One stage of any format ---------------------------------------------------- */

/* Runs of 1 to 40 pages around the anchors, some contiguous, with any rights. */
static void fill(struct subject *s, unsigned times)
{
	for (unsigned n = 0; n < times; n++) {
		unsigned i = (unsigned)test_below(&s->random, s->anchors);
		unsigned k = (unsigned)test_below(&s->random, s->rights_count);
		uint64_t first, last, addr;

		subject_select(s, i);
		first = s->anchor[i].at + (test_below(&s->random, WINDOW_PAGES) - 48) * s->page;
		last = first + (1 + test_below(&s->random, 40)) * s->page - 1;
		if (first > last || first < s->anchor[i].first || last > s->anchor[i].last)
			continue;
		addr = (2ull << TEST_RAM_LG2) + test_below(&s->random, 64) * s->page;
		/* Often the address that goes on where a neighbour ends. */
		if (test_below(&s->random, 2))
			addr = (2ull << TEST_RAM_LG2) + (first & (256 * s->page - 1));
		(void)snest_table_map(s->table, first, last, addr, s->asked[k], SUBJECT_ATTR,
		                      test_below(&s->random, 2) ? SNEST_TABLE_REPLACE : 0);
	}
}

static void empty(struct subject *s)
{
	for (unsigned i = 0; i < s->anchors; i++)
		assert_int_equal(
			snest_table_unmap(s->table, s->anchor[i].first, s->anchor[i].last, 0, NULL),
			0);
}

static void pages_equal_runs(const struct test_config *config)
{
	struct subject *s = subject_begin(config);
	const struct snest_stage *stage = snest_table_stage(s->table);

	for (unsigned round = 0; round < 4; round++) {
		fill(s, 30);
		for (unsigned i = 0; i < s->anchors; i++) {
			uint64_t first, last;

			subject_select(s, i);
			first = s->anchor[i].at - WINDOW_PAGES / 2 * s->page;
			last = s->anchor[i].at + WINDOW_PAGES * s->page - 1;
			if (first > s->anchor[i].at || first < s->anchor[i].first)
				first = s->anchor[i].at;
			if (s->anchor[i].at > s->anchor[i].last || !s->anchor[i].at)
				first = s->anchor[i].last - WINDOW_PAGES * s->page / 2 + 1;
			if (first < s->anchor[i].first || first > s->anchor[i].last)
				first = s->anchor[i].first;
			if (last > s->anchor[i].last || last < first)
				last = s->anchor[i].last;
			if (last - first > 2 * WINDOW_PAGES * s->page)
				last = first + 2 * WINDOW_PAGES * s->page - 1;
			walk_pages(s->tt.vm, stage, 1, first, last, s->page, &want);
			enumerate(s->tt.vm, stage, 1, first, last, &got);
			same_runs(&got, &want);
			/* A range need not begin or end with a page. */
			if (last - first < 6 * s->page)
				continue;
			first += test_below(&s->random, 3 * s->page);
			last -= test_below(&s->random, 3 * s->page);
			walk_pages(s->tt.vm, stage, 1, first, last, s->page, &want);
			enumerate(s->tt.vm, stage, 1, first, last, &got);
			same_runs(&got, &want);
		}
	}
	empty(s);
	subject_end(s);
}

static void runs_equal_a_walk_of_each_page(void **state)
{
	(void)state;
	subject_for_each_config(pages_equal_runs);
}

/*
 * Goes on after each -EAGAIN until the end. Returns how many calls it took, or
 * 0 if the budget was too small to get further.
 */
static unsigned enumerate_in_steps(struct snest_vm *vm, const struct snest_stage *stages,
                                   unsigned count, uint64_t first, uint64_t last, uint64_t budget,
                                   struct runs *runs)
{
	static struct runs part;
	unsigned calls = 0;
	int ret;

	runs->count = 0;
	do {
		struct snest_walk_range range = {
			.size = sizeof(range),
			.first = first,
			.last = last,
			.budget = budget,
		};

		part.count = 0;
		ret = snest_walk_range(vm, stages, count, &range, collect, &part);
		for (unsigned i = 0; i < part.count; i++)
			append(runs, &part.at[i]);
		assert_int_equal(range.budget, budget);
		assert_true(range.entries <= budget);
		if (ret == -ENOSPC) {
			assert_true(budget < SN_RANGE_BUDGET_MIN && range.first == first);
			assert_true(range.entries == budget && !part.count);
			return 0;
		}
		if (ret) {
			assert_int_equal(ret, -EAGAIN);
			assert_true(range.first > first && range.first <= last);
			if (part.count)
				assert_true(part.at[part.count - 1].last < range.first);
		}
		first = range.first;
		calls++;
	} while (ret);
	return calls;
}

static void budgets_of(const struct test_config *config)
{
	struct subject *s = subject_begin(config);
	const struct snest_stage *stage = snest_table_stage(s->table);
	struct snest_walk_range range = {.size = sizeof(range), .last = UINT64_MAX};
	uint64_t all, step;
	bool stopped = false, small = false;

	/* Of the 256 copies of a half with an ignored top byte, one will do. */
	if (config->stage.format == SNEST_FORMAT_ARM_S1)
		range.last = (1ull << 55) - 1;
	fill(s, 20);
	enumerate(s->tt.vm, stage, 1, 0, range.last, &want);
	got.count = 0;
	assert_int_equal(snest_walk_range(s->tt.vm, stage, 1, &range, collect, &got), 0);
	all = range.entries;
	/* Every budget near the smallest, then larger ones, to one that suffices. */
	step = 1;
	for (uint64_t budget = 1; budget <= all + 1; budget += step) {
		unsigned calls =
			enumerate_in_steps(s->tt.vm, stage, 1, 0, range.last, budget, &got);

		/* One entry of the root and one below it get nowhere. */
		assert_true(calls || budget < SN_LEVELS_MAX + 1);
		small |= !calls;
		if (calls)
			same_runs(&got, &want);
		stopped |= calls > 1;
		if (budget > SN_RANGE_BUDGET_MIN + 40)
			step = 1 + all / 40;
		else if (budget > 20 && budget < SN_RANGE_BUDGET_MIN - 4)
			step = 50;
		else
			step = 1;
	}
	assert_true(!all || (stopped && (small || range.tables == 1)));
	empty(s);
	subject_end(s);
}

static void any_budget_gives_the_same_runs(void **state)
{
	(void)state;
	subject_for_each_config(budgets_of);
}

/* ---- Tables that lead to themselves ------------------------------------------------ */

/* Memory behind callbacks, which count. */
struct counted {
	const struct test_tables *tt;
	uint64_t reads;
	/* reads of from..from+size-1 see to.. instead */
	uint64_t from, to, size;
};

static int counted_read(void *opaque, uint64_t addr, void *buf, size_t length)
{
	struct counted *c = opaque;

	c->reads++;
	if (addr - c->from < c->size)
		addr = c->to + (addr - c->from);
	memcpy(buf, c->tt->ram + addr, length);
	return 0;
}

static int counted_cmpxchg(void *opaque, uint64_t addr, uint64_t *expected, uint64_t desired)
{
	(void)opaque;
	(void)addr;
	(void)expected;
	(void)desired;
	return -EFAULT;
}

static void count_reads(struct test_tables *tt, struct counted *c)
{
	struct snest_accessors accessors = {
		.read = counted_read,
		.cmpxchg64 = counted_cmpxchg,
		.opaque = c,
	};
	struct snest_region region = {
		.size = sizeof(region),
		.last = (1ull << TEST_RAM_LG2) - 1,
		.host = 1ull << 32,
		.accessors = &accessors,
	};

	c->tt = tt;
	c->reads = 0;
	assert_int_equal(snest_memory_replace(tt->vm, &region), 0);
}

struct stopper {
	uint64_t calls, stop_at;
};

static int stop_at(void *opaque, const struct snest_run *run)
{
	struct stopper *stopper = opaque;

	(void)run;
	return ++stopper->calls == stopper->stop_at ? 77 : 0;
}

/*
 * In the table of one level, every entry becomes a link, and what the link
 * leads to reads as the table itself.
 */
static void self_reference(const struct test_config *config)
{
	struct subject *s = subject_begin(config);
	const struct snest_stage *stage = snest_table_stage(s->table);
	unsigned entry = test_config_entry_lg2(&config->stage);
	uint64_t in = s->anchor[0].first, addr = 2ull << TEST_RAM_LG2;
	static const uint64_t budgets[] = {1, 5, 16, 256, 1000, 20000};
	struct snest_walk_step steps[8];
	bool ran_out = false, levels_coded = config->stage.format == SNEST_FORMAT_AMD_V1 ||
	                                     config->stage.format >= SNEST_FORMAT_COUNT;
	struct snest_walk w;
	size_t depth = 8;

	assert_int_equal(snest_table_map(s->table, in, in + s->page - 1, addr, s->asked[0],
	                                 SUBJECT_ATTR, SNEST_TABLE_PAGE(__builtin_ctzll(s->page))),
	                 0);
	assert_int_equal(
		snest_walk(s->tt.vm, stage, 1, in, 0, SNEST_WALK_NO_UPDATE, &w, steps, &depth), 0);
	for (size_t k = 0; k + 1 < depth; k++) {
		/* in is the first of all inputs, or of a half: its entries come first in tables. */
		uint64_t table = steps[k].entry_addr, below = steps[k + 1].entry_addr;
		size_t bytes = 1u << test_config_granule_lg2(&config->stage, 0);
		static char saved[1 << 16];
		struct counted c = {.from = below, .to = table, .size = bytes};

		memcpy(saved, s->tt.ram + table, bytes);
		for (size_t i = 1u << entry; i < bytes; i += 1u << entry)
			memcpy(s->tt.ram + table + i, s->tt.ram + table, 1u << entry);
		count_reads(&s->tt, &c);
		for (size_t b = 0; b < sizeof(budgets) / sizeof(budgets[0]); b++) {
			struct snest_walk_range range = {
				.size = sizeof(range),
				.first = in,
				.last = s->anchor[0].last,
				.budget = budgets[b],
			};
			struct stopper stopper = {0, 0};
			int ret;

			c.reads = 0;
			ret = snest_walk_range(s->tt.vm, stage, 1, &range, stop_at, &stopper);
			assert_true(ret == 0 || ret == -EAGAIN ||
			            (ret == -ENOSPC && budgets[b] < SN_LEVELS_MAX + 1));
			ran_out |= ret == -EAGAIN;
			assert_true(c.reads <= budgets[b]);
			assert_true(range.tables <= budgets[b] + 1 && range.entries <= budgets[b]);
		}
		memcpy(s->tt.ram + table, saved, bytes);
	}
	/* Where an entry does not say which level it leads to, that was a great many pages. */
	assert_true(ran_out || levels_coded || depth < 3);
	empty(s);
	subject_end(s);
}

static void self_reference_costs_the_budget(void **state)
{
	(void)state;
	subject_for_each_config(self_reference);
}

/* The visitor's value ends the enumeration and is returned. */
static void a_visitor_can_stop(void **state)
{
	struct subject *s = subject_begin(&test_configs[0]);
	struct snest_walk_range range = {.size = sizeof(range), .last = UINT64_MAX};
	struct stopper stopper = {0, 3};

	(void)state;
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(snest_table_map(s->table, i * 8192, i * 8192 + 4095, 1ull << 30,
		                                 SNEST_READ, SUBJECT_ATTR, 0),
		                 0);
	assert_int_equal(snest_walk_range(s->tt.vm, snest_table_stage(s->table), 1, &range, stop_at,
	                                  &stopper),
	                 77);
	assert_int_equal(stopper.calls, 3);
	empty(s);
	subject_end(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(runs_equal_a_walk_of_each_page),
		cmocka_unit_test(any_budget_gives_the_same_runs),
		cmocka_unit_test(self_reference_costs_the_budget),
		cmocka_unit_test(a_visitor_can_stop),
	};
	int failed;

	snest_thread_register();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	snest_thread_unregister();
	return failed;
}
