/* SPDX-License-Identifier: MIT */
/*
 * The writer, for every format and configuration: what it built is read back
 * with the walker and compared with a list of intervals. Nothing here knows
 * entries or levels.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "core/vm.h"
#include "support/configs.h"
#include "support/tables.h"

#define OPS 1000
#define ANCHORS 6
#define LEAVES_MAX 3000 /* that one operation may write */

#define ATTR (SNEST_ATTR_ACCESSED | SNEST_ATTR_DIRTY | SNEST_ATTR_USER)

/* One table under test, and what it should map. */
struct subject {
	const struct test_config *config;
	struct test_tables tt;
	struct snest_table *table;
	struct test_random random;
	struct test_model model;
	/* of the anchor at hand: the halves of a table may differ */
	uint64_t sizes, page;
	uint64_t out_bytes;  /* addresses are below; 0: 2^64 */
	uint64_t empty_bytes;
	unsigned rights_count;
	uint32_t asked[7], granted[7]; /* rights that differ in effect */
	unsigned anchors;
	struct {
		uint64_t at;          /* ranges begin or end near it */
		uint64_t first, last; /* valid inputs around it */
		uint64_t sizes;       /* of leaves there */
	} anchor[ANCHORS];
};

static struct subject subject;

static void look(struct subject *s, uint64_t in, struct snest_walk *w)
{
	assert_int_equal(snest_walk(s->tt.vm, snest_table_stage(s->table), 1, in, 0,
	                            SNEST_WALK_NO_UPDATE, w, NULL, NULL),
	                 0);
}

static bool valid_input(struct subject *s, uint64_t in)
{
	struct snest_walk w;

	look(s, in, &w);
	return w.outcome != SNEST_WALK_FAULT || (w.fault.reason != SNEST_FAULT_INPUT_RANGE &&
	                                         w.fault.reason != SNEST_FAULT_NON_CANONICAL &&
	                                         w.fault.reason != SNEST_FAULT_DISABLED);
}

static void add_anchor(struct subject *s, uint64_t at, uint64_t first, uint64_t last)
{
	s->anchor[s->anchors].at = at;
	s->anchor[s->anchors].first = first;
	s->anchor[s->anchors++].last = last;
}

/* The ends of the valid inputs, as the walker sees them, and a place inside. */
static void find_anchors(struct subject *s)
{
	bool tagged = s->config->stage.format == SNEST_FORMAT_ARM_S1;
	unsigned widest = tagged ? 55 : 64, bits;
	uint64_t last;

	for (bits = widest; bits && !(valid_input(s, UINT64_MAX >> (64 - bits)) &&
	                              valid_input(s, 1ull << (bits - 1)));
	     bits--)
		;
	if (bits) {
		last = UINT64_MAX >> (64 - bits);
		add_anchor(s, 0, 0, last);
		add_anchor(s, last / 2 + 1, 0, last);
		add_anchor(s, last + 1, 0, last);
		if (bits == 64)
			return;
	}
	for (bits = tagged ? 55 : 63; bits && !valid_input(s, 0 - (1ull << bits)); bits--)
		;
	if (bits) {
		last = 0 - (1ull << bits);
		add_anchor(s, last, last, UINT64_MAX);
		add_anchor(s, 0 - (1ull << (bits - 1)), last, UINT64_MAX);
		add_anchor(s, 0, last, UINT64_MAX);
	}
}

static void select_anchor(struct subject *s, unsigned i)
{
	s->sizes = s->anchor[i].sizes;
	s->page = s->sizes & -s->sizes;
}

/* Which of the table's leaf sizes may be used where. */
static void find_sizes(struct subject *s)
{
	uint64_t all = snest_table_page_sizes(s->table);

	for (unsigned i = 0; i < s->anchors; i++) {
		for (unsigned lg2 = 0; lg2 < 64; lg2++) {
			uint64_t first = s->anchor[i].first, last = first + (1ull << lg2) - 1;
			bool fits = last <= s->anchor[i].last && last > first;
			int ret = -EINVAL;

			for (uint32_t rights = 1; fits && ret && rights <= SNEST_RIGHTS; rights++)
				ret = snest_table_map(s->table, first, last, 0, rights, ATTR,
				                      SNEST_TABLE_PAGE(lg2));
			if (ret)
				continue;
			assert_true(all >> lg2 & 1);
			s->anchor[i].sizes |= 1ull << lg2;
			assert_int_equal(snest_table_unmap(s->table, first, last, 0, NULL), 0);
		}
		assert_true(s->anchor[i].sizes != 0);
	}
	select_anchor(s, 0);
}

/* Which rights can be told apart, found with one page. */
static void find_rights(struct subject *s)
{
	uint64_t in = s->anchor[0].first, addr = 1ull << 29;

	for (uint32_t rights = 1; rights <= SNEST_RIGHTS; rights++) {
		bool known = false;
		struct snest_walk w;

		if (snest_table_map(s->table, in, in + s->page - 1, addr, rights, ATTR, 0))
			continue;
		look(s, in, &w);
		assert_int_equal(w.outcome, SNEST_WALK_GPA);
		assert_int_equal(w.gpa, addr);
		assert_int_equal(snest_table_unmap(s->table, in, in + s->page - 1, 0, NULL), 0);
		for (unsigned i = 0; i < s->rights_count; i++)
			known |= s->granted[i] == w.rights;
		if (!w.rights || known)
			continue;
		s->asked[s->rights_count] = rights;
		s->granted[s->rights_count++] = w.rights;
	}
	assert_true(s->rights_count > 0);
}

static struct subject *subject_begin(const struct test_config *config)
{
	struct subject *s = &subject;
	unsigned bits = test_config_output_bits(&config->stage);

	memset(s, 0, sizeof(*s));
	s->config = config;
	s->random.state = 1;
	s->out_bytes = bits >= 64 ? 0 : 1ull << bits;
	test_tables_init(&s->tt, NULL);
	assert_int_equal(snest_table_create(s->tt.vm, &config->stage, &s->tt.memory, &s->table), 0);
	s->empty_bytes = snest_table_bytes(s->table);
	assert_int_equal(s->empty_bytes, s->tt.live_bytes);
	find_anchors(s);
	find_sizes(s);
	find_rights(s);
	return s;
}

static void subject_end(struct subject *s)
{
	uint64_t bytes;

	for (unsigned i = 0; i < s->anchors; i++) {
		assert_int_equal(snest_table_unmap(s->table, s->anchor[i].first,
		                                   s->anchor[i].last, 0, &bytes),
		                 0);
		assert_int_equal(bytes, test_model_bytes(&s->model, s->anchor[i].first,
		                                         s->anchor[i].last));
		test_model_clear(&s->model, s->anchor[i].first, s->anchor[i].last);
	}
	assert_int_equal(s->model.count, 0);
	assert_int_equal(snest_table_bytes(s->table), s->empty_bytes);
	assert_int_equal(s->tt.live_bytes, s->empty_bytes);
	snest_table_destroy(s->table);
	test_tables_fini(&s->tt);
}

/* ---- Comparing ------------------------------------------------------------ */

static void check_at(struct subject *s, uint64_t in)
{
	const struct test_interval *a = test_model_find(&s->model, in);
	struct snest_walk w;

	look(s, in, &w);
	if (!a) {
		assert_int_equal(w.outcome, SNEST_WALK_FAULT);
		return;
	}
	assert_int_equal(w.outcome, SNEST_WALK_GPA);
	assert_int_equal(w.gpa, a->addr + (in - a->first));
	assert_int_equal(w.rights, a->rights);
}

static void check_around(struct subject *s, uint64_t first, uint64_t last)
{
	check_at(s, first);
	check_at(s, last);
	check_at(s, first - 1);
	check_at(s, last + 1);
	check_at(s, first + s->page - 1);
	check_at(s, last - s->page);
	for (unsigned i = 0; i < 4; i++)
		check_at(s, first + test_below(&s->random, last - first + (last - first < UINT64_MAX)));
}

struct comparison {
	const struct test_model *model;
	unsigned next;
};

static int compare_run(void *opaque, const struct snest_run *run)
{
	struct comparison *c = opaque;
	const struct test_interval *a = &c->model->at[c->next++];

	assert_true(c->next <= c->model->count);
	assert_int_equal(run->outcome, SNEST_WALK_GPA);
	assert_int_equal(run->first, a->first);
	assert_int_equal(run->last, a->last);
	assert_int_equal(run->addr, a->addr);
	assert_int_equal(run->rights, a->rights);
	return 0;
}

static void check_all(struct subject *s)
{
	/* With an ignored top byte there are 256 copies of each half; look at one. */
	bool tagged = s->config->stage.format == SNEST_FORMAT_ARM_S1;
	struct comparison c = { &s->model, 0 };

	test_model_merge(&s->model);
	for (unsigned i = 0; i < 1u + tagged; i++) {
		struct snest_walk_range range = {
			.size = sizeof(range),
			.first = i ? 0 - (1ull << 55) : 0,
			.last = tagged && !i ? (1ull << 55) - 1 : UINT64_MAX,
		};

		assert_int_equal(snest_walk_range(s->tt.vm, snest_table_stage(s->table), 1, &range,
		                                  compare_run, &c),
		                 0);
	}
	assert_int_equal(c.next, s->model.count);
}

/* lg2 of the largest leaf that may map `in` if first..last is mapped to addr.. at once. */
static unsigned largest(const struct subject *s, uint64_t first, uint64_t last, uint64_t addr,
                        uint64_t in)
{
	for (unsigned lg2 = 63; lg2; lg2--) {
		uint64_t mask = (1ull << lg2) - 1;

		if ((s->sizes >> lg2 & 1) && (in & ~mask) >= first && (in | mask) <= last &&
		    (((in & ~mask) - first + addr) & mask) == 0)
			return lg2;
	}
	return 0;
}

/* ---- Random operations ------------------------------------------------------ */

/* A range of whole pages near an anchor. False: it is not a valid one. */
static bool random_range(struct subject *s, uint64_t *first, uint64_t *last)
{
	struct test_random *r = &s->random;
	unsigned i = (unsigned)test_below(r, s->anchors), lg2;
	uint64_t size, length;
	int64_t shift;

	select_anchor(s, i);
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
		                                 ATTR, 0),
		                 -EINVAL);
		return;
	}
	if (!random_addr(s, first, last, &addr))
		return;
	ret = snest_table_map(s->table, first, last, addr, s->asked[k], ATTR,
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

			look(s, in, &w);
			assert_int_equal(w.stage[0].lg2, largest(s, first, last, addr, in));
		}
	}
	check_around(s, first, last);
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
		look(s, first, &w);
		if (w.outcome != SNEST_WALK_FAULT)
			first &= ~((1ull << w.stage[0].lg2) - 1);
		look(s, last, &w);
		if (w.outcome != SNEST_WALK_FAULT)
			last |= (1ull << w.stage[0].lg2) - 1;
	}
	assert_int_equal(snest_table_unmap(s->table, first, last, whole ? SNEST_TABLE_WHOLE : 0,
	                                   &bytes),
	                 0);
	assert_int_equal(bytes, test_model_bytes(&s->model, first, last));
	test_model_clear(&s->model, first, last);
	check_around(s, first, last);
}

static void random_cut(struct subject *s)
{
	uint64_t first, last;
	struct snest_walk w;

	if (!random_range(s, &first, &last))
		return;
	assert_int_equal(snest_table_cut(s->table, first), 0);
	look(s, first, &w);
	if (w.outcome != SNEST_WALK_FAULT)
		assert_int_equal(first & ((1ull << w.stage[0].lg2) - 1), 0);
	check_around(s, first, last);
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
		look(s, in, &w);
		assert_true(w.stage[0].lg2 >= largest(s, from, to, a->addr + (from - a->first), in));
	}
	check_around(s, first, last);
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
			check_all(s);
	}
	check_all(s);
	subject_end(s);
}

static void for_each_config(void (*test)(const struct test_config *config))
{
	for (size_t i = 0; i < test_configs_count; i++) {
		if (getenv("SNEST_TEST_CONFIG") &&
		    strcmp(getenv("SNEST_TEST_CONFIG"), test_configs[i].name))
			continue;
		print_message("# %s\n", test_configs[i].name);
		test(&test_configs[i]);
	}
}

static void random_operations_equal_the_model(void **state)
{
	(void)state;
	for_each_config(random_operations);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_operations_equal_the_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
