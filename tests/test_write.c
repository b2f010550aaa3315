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

/* ---- One thing at a time ------------------------------------------------------ */

/* Unmaps all and starts over with the same table. */
static void start_over(struct subject *s)
{
	for (unsigned i = 0; i < s->anchors; i++)
		assert_int_equal(snest_table_unmap(s->table, s->anchor[i].first,
		                                   s->anchor[i].last, 0, NULL),
		                 0);
	assert_int_equal(snest_table_bytes(s->table), s->empty_bytes);
	s->model.count = 0;
}

static void do_map(struct subject *s, uint64_t first, uint64_t bytes, uint64_t addr, uint32_t flags)
{
	assert_int_equal(snest_table_map(s->table, first, first + bytes - 1, addr, s->asked[0], ATTR,
	                                 flags),
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
			select_anchor(s, i);
			if (!(s->sizes >> lg2 & 1) || s->page == 1ull << lg2 ||
			    s->anchor[i].last - s->anchor[i].first < (2ull << lg2) - 1 ||
			    !clear_addr(s, lg2))
				continue;
			step(s, s->anchor[i].first, lg2, clear_addr(s, lg2));
			check_all(s);
			start_over(s);
		}
	}
	subject_end(s);
}

static void replace_part(struct subject *s, uint64_t first, unsigned lg2, uint64_t addr)
{
	uint64_t size = 1ull << lg2, at[3] = { 0, size / 2, size - s->page };

	/* The first, a middle and the last page of a leaf become something else. */
	do_map(s, first, size, addr, SNEST_TABLE_PAGE(lg2));
	for (unsigned i = 0; i < 3; i++) {
		do_map(s, first + at[i], s->page, addr, SNEST_TABLE_REPLACE);
		check_around(s, first + at[i], first + at[i] + s->page - 1);
	}
}

static void replace_by_large(struct subject *s, uint64_t first, unsigned lg2, uint64_t addr)
{
	uint64_t size = 1ull << lg2, settled = s->tt.settled, bytes;
	struct snest_walk w;

	do_map(s, first, s->page, addr, 0);
	do_map(s, first + size - s->page, s->page, addr, 0);
	assert_int_equal(snest_table_map(s->table, first, first + size - 1, addr, s->asked[0], ATTR,
	                                 SNEST_TABLE_PAGE(lg2)),
	                 -EEXIST);
	check_all(s);
	bytes = snest_table_bytes(s->table);
	do_map(s, first, size, addr, SNEST_TABLE_PAGE(lg2) | SNEST_TABLE_REPLACE);
	look(s, first, &w);
	assert_int_equal(w.stage[0].lg2, lg2);
	/* If tables went away, their readers were waited for. */
	assert_int_equal(snest_table_bytes(s->table) < bytes, s->tt.settled > settled);
}

static void unmap_part(struct subject *s, uint64_t first, unsigned lg2, uint64_t addr)
{
	uint64_t size = 1ull << lg2, bytes;

	do_map(s, first, size, addr, SNEST_TABLE_PAGE(lg2));
	assert_int_equal(snest_table_unmap(s->table, first + s->page, first + 2 * s->page - 1, 0,
	                                   &bytes),
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
	look(s, first, &w);
	assert_int_equal(w.stage[0].lg2, lg2);
	assert_int_equal(snest_table_cut(s->table, first + s->page), 0);
	check_all(s);
	look(s, first, &w);
	assert_int_equal(1ull << w.stage[0].lg2, s->page);
	look(s, first + size - 1, &w);
	assert_int_equal(w.stage[0].lg2, largest(s, first + s->page, first + size - 1,
	                                         addr + s->page, first + size - 1));
	/* Merging takes only what lies wholly in the range. */
	assert_int_equal(snest_table_merge(s->table, first, first + size - s->page - 1), 0);
	look(s, first, &w);
	assert_true(w.stage[0].lg2 < lg2);
	assert_int_equal(snest_table_merge(s->table, first, first + size - 1), 0);
	look(s, first, &w);
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
		                                 addr + size - s->page, s->asked[1], ATTR,
		                                 SNEST_TABLE_REPLACE),
		                 0);
		test_model_set(&s->model, first + size - s->page, first + size - 1,
		               addr + size - s->page, s->granted[1]);
	} else {
		do_map(s, first + size - s->page, s->page, addr, SNEST_TABLE_REPLACE);
	}
	assert_int_equal(snest_table_merge(s->table, first, first + size - 1), 0);
	look(s, first, &w);
	assert_int_equal(w.stage[0].lg2, largest(s, first, first + size - s->page - 1, addr, first));
}

static void write_to(struct subject *s, uint64_t in)
{
	struct snest_walk w;

	assert_int_equal(snest_walk(s->tt.vm, snest_table_stage(s->table), 1, in, SNEST_WRITE, 0, &w,
	                            NULL, NULL),
	                 0);
	assert_int_equal(w.outcome, SNEST_WALK_GPA);
}

static bool dirty_at(struct subject *s, uint64_t in)
{
	struct snest_walk w;

	look(s, in, &w);
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
	look(s, first, &w);
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
	look(s, first, &w);
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

		select_anchor(s, i);
		page = s->page;
		do_map(s, first, page, addr, 0);
		if (last > first + page)
			do_map(s, last - page + 1, page, addr, 0);
#define REFUSED(error, first_, last_, addr_, rights_, attr_, flags_)                              \
	assert_int_equal(snest_table_map(s->table, first_, last_, addr_, rights_, attr_, flags_), \
	                 -(error))
		REFUSED(EINVAL, first + page, first + 2 * page - 2, addr, rights, ATTR, 0);
		REFUSED(EINVAL, first + page + 1, first + 3 * page - 1, addr, rights, ATTR, 0);
		REFUSED(EINVAL, first + page, first + 2 * page - 1, addr + 1, rights, ATTR, 0);
		REFUSED(EINVAL, first + page, first - 1, addr, rights, ATTR, 0);
		REFUSED(EINVAL, first + page, first + 2 * page - 1, addr, 0, ATTR, 0);
		REFUSED(EINVAL, first + page, first + 2 * page - 1, addr, 8, ATTR, 0);
		REFUSED(EINVAL, first + page, first + 2 * page - 1, addr, rights, 0x8000000, 0);
		REFUSED(EINVAL, first + page, first + 2 * page - 1, addr, rights, ATTR, 4);
		REFUSED(EINVAL, first + page, first + 2 * page - 1, addr, rights, ATTR,
		        SNEST_TABLE_PAGE(5));
		REFUSED(EINVAL, first + page, first + 2 * page - 1, addr, rights, ATTR,
		        SNEST_TABLE_PAGE(200));
		if (s->out_bytes) {
			REFUSED(EINVAL, first + page, first + 2 * page - 1, s->out_bytes, rights,
			        ATTR, 0);
			REFUSED(EINVAL, first + page, first + 3 * page - 1, s->out_bytes - page,
			        rights, ATTR, 0);
		}
		REFUSED(EINVAL, first + page, first + 3 * page - 1, 0 - page, rights, ATTR, 0);
		REFUSED(EEXIST, first, first + page - 1, addr, rights, ATTR, 0);
		if (last != UINT64_MAX) {
			REFUSED(EINVAL, last + 1, last + page, addr, rights, ATTR, 0);
			REFUSED(EINVAL, last + 1 - page, last + page, addr, rights, ATTR,
			        SNEST_TABLE_REPLACE);
			REFUSED(EINVAL, first + page, UINT64_MAX, addr, rights, ATTR, 0);
			assert_int_equal(snest_table_unmap(s->table, first, UINT64_MAX, 0, NULL),
			                 -EINVAL);
			assert_int_equal(snest_table_merge(s->table, last + 1 - page, last + page), -EINVAL);
			assert_int_equal(snest_table_cut(s->table, last + 1), -EINVAL);
		}
		assert_int_equal(snest_table_unmap(s->table, first, first + page - 2, 0, NULL),
		                 -EINVAL);
		assert_int_equal(snest_table_unmap(s->table, first, first + page - 1, 0x80, NULL),
		                 -EINVAL);
		assert_int_equal(snest_table_cut(s->table, first + 1), -EINVAL);
		check_all(s);
	}
	subject_end(s);
}

/* ---- Tables from the VM's pool, and walks while they change -------------------- */

#define SHARED_FIRST (1ull << 30)
#define SHARED_BYTES (8ull << 20)
#define SHARED_ROUNDS 3000

static const uint64_t shared_addr[2] = { 1ull << 47, 3ull << 46 };

/* A VM whose memory map shows snest's own memory at its own addresses. */
static struct snest_vm *open_vm(uint64_t table_bytes_max)
{
	struct snest_vm_config config = {
		.size = sizeof(config),
		.table_bytes_max = table_bytes_max,
	};
	struct snest_region region = {
		.size = sizeof(region),
		.first = 4096,
		.last = (1ull << 47) - 1,
		.host = 4096,
		.mapping = (void *)4096,
	};
	struct snest_vm *vm;

	assert_int_equal(snest_vm_create(&config, &vm), 0);
	assert_int_equal(snest_memory_add(vm, &region), 0);
	return vm;
}

static uint64_t table_bytes(struct snest_vm *vm)
{
	struct snest_vm_stats stats = { .size = sizeof(stats) };

	/* What a table retired while its last pages waited takes a second turn. */
	sn_reclaim_barrier(&vm->reclaim);
	sn_reclaim_barrier(&vm->reclaim);
	assert_int_equal(snest_vm_stats(vm, &stats), 0);
	return stats.table_bytes;
}

struct reader {
	struct snest_vm *vm;
	const struct snest_stage *stage;
	pthread_t thread;
	bool stop;     /* atomic */
	uint64_t seed;
	uint64_t walks, wrong;
};

/* Each page leads to one of two places, always. */
static void *reader_run(void *opaque)
{
	struct reader *r = opaque;
	struct test_random random = { r->seed };
	struct snest_walk w;

	snest_thread_register();
	while (!__atomic_load_n(&r->stop, __ATOMIC_RELAXED)) {
		uint64_t offset = test_below(&random, SHARED_BYTES);

		r->walks++;
		if (snest_walk(r->vm, r->stage, 1, SHARED_FIRST + offset, SNEST_READ, 0, &w, NULL,
		               NULL) ||
		    w.outcome != SNEST_WALK_GPA ||
		    (w.gpa != shared_addr[0] + offset && w.gpa != shared_addr[1] + offset))
			r->wrong++;
		snest_thread_quiescent();
	}
	snest_thread_unregister();
	return NULL;
}

static void change_shared(struct snest_table *table, struct test_random *random)
{
	uint64_t page = snest_table_page_sizes(table) & -snest_table_page_sizes(table);
	uint64_t grain = test_below(random, 2) ? page : 2ull << 20;
	uint64_t from = test_below(random, SHARED_BYTES / grain) * grain;
	uint64_t to = from + (1 + test_below(random, SHARED_BYTES / grain)) * grain;
	uint64_t first, last;

	if (to > SHARED_BYTES)
		to = SHARED_BYTES;
	first = SHARED_FIRST + from;
	last = SHARED_FIRST + to - 1;
	switch (test_below(random, 4)) {
	case 0:
		assert_int_equal(snest_table_cut(table, first), 0);
		break;
	case 1:
		assert_int_equal(snest_table_merge(table, first, last), 0);
		break;
	default:
		assert_int_equal(snest_table_map(table, first, last,
		                                 shared_addr[test_below(random, 2)] + from,
		                                 SNEST_READ | SNEST_WRITE, ATTR,
		                                 test_below(random, 2)
		                                         ? SNEST_TABLE_REPLACE | SNEST_TABLE_PAGE(
		                                                   __builtin_ctzll(page))
		                                         : SNEST_TABLE_REPLACE),
		                 0);
	}
}

static void walks_during_changes(const struct snest_stage *shape)
{
	struct snest_vm *vm = open_vm(0);
	struct test_random random = { 7 };
	struct reader reader[2];
	struct snest_table *table;

	assert_int_equal(snest_table_create(vm, shape, NULL, &table), 0);
	assert_int_equal(snest_table_map(table, SHARED_FIRST, SHARED_FIRST + SHARED_BYTES - 1,
	                                 shared_addr[0], SNEST_READ | SNEST_WRITE, ATTR, 0),
	                 0);
	for (unsigned i = 0; i < 2; i++) {
		reader[i] = (struct reader){
			.vm = vm,
			.stage = snest_table_stage(table),
			.seed = i,
		};
		pthread_create(&reader[i].thread, NULL, reader_run, &reader[i]);
	}
	snest_thread_offline();
	for (unsigned i = 0; i < SHARED_ROUNDS; i++)
		change_shared(table, &random);
	snest_thread_online();
	for (unsigned i = 0; i < 2; i++) {
		__atomic_store_n(&reader[i].stop, true, __ATOMIC_RELAXED);
		pthread_join(reader[i].thread, NULL);
		assert_int_equal(reader[i].wrong, 0);
	}
	assert_int_equal(snest_table_unmap(table, SHARED_FIRST, SHARED_FIRST + SHARED_BYTES - 1, 0,
	                                   NULL),
	                 0);
	assert_int_equal(table_bytes(vm), snest_table_bytes(table));
	snest_table_destroy(table);
	assert_int_equal(table_bytes(vm), 0);
	snest_vm_destroy(vm);
}

#define SHAPE(...)                                                             \
	(&(const struct snest_stage){ .size = sizeof(struct snest_stage), __VA_ARGS__ })
#define HW (SNEST_STAGE_HW_A | SNEST_STAGE_HW_D)

static void walks_during_changes_see_old_or_new(void **state)
{
	(void)state;
	walks_during_changes(SHAPE(.format = SNEST_FORMAT_X86_64, .levels = 4, .flags = HW));
	walks_during_changes(SHAPE(.format = SNEST_FORMAT_AMD_V1, .levels = 4, .flags = HW));
	walks_during_changes(SHAPE(.format = SNEST_FORMAT_ARM_S2, .ia_bits = 48, .granule_lg2 = 14));
	walks_during_changes(SHAPE(.format = SNEST_FORMAT_RISCV64, .levels = 4,
	                           .flags = HW | SNEST_STAGE_RISCV_SVNAPOT));
}

/* All pages come back, also of a table that is destroyed with pages on their way. */
static void pool_pages_come_back(void **state)
{
	struct snest_vm *vm = open_vm(0);
	struct snest_table *table;
	uint64_t empty;

	(void)state;
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(snest_table_create(vm,
		                                    SHAPE(.format = SNEST_FORMAT_VTD_SS,
		                                          .levels = 4),
		                                    NULL, &table),
		                 0);
		empty = snest_table_bytes(table);
		assert_int_equal(empty, 4096);
		assert_int_equal(snest_table_map(table, 0, (1ull << 30) - 1, 4096, SNEST_READ, 0, 0),
		                 0);
		assert_int_equal(snest_table_bytes(table), (1 + 1 + 1 + 512) * 4096);
		assert_int_equal(snest_table_map(table, 0, (1ull << 30) - 1, 1ull << 30, SNEST_READ,
		                                 0, SNEST_TABLE_REPLACE),
		                 0);
		assert_int_equal(snest_table_bytes(table), 2 * 4096);
		snest_table_destroy(table);
	}
	assert_int_equal(table_bytes(vm), 0);
	snest_vm_destroy(vm);
}

static void budget_refuses_and_changes_nothing(void **state)
{
	struct snest_vm *vm = open_vm(6 * 4096);
	struct snest_table *table;

	(void)state;
	assert_int_equal(snest_table_create(vm, SHAPE(.format = SNEST_FORMAT_VTD_SS, .levels = 4),
	                                    NULL, &table),
	                 0);
	assert_int_equal(snest_table_map(table, 0, 4095, 0, SNEST_READ, 0, 0), 0);
	assert_int_equal(table_bytes(vm), 4 * 4096);
	assert_int_equal(snest_table_map(table, 1ull << 39, (1ull << 39) + 4095, 0, SNEST_READ, 0,
	                                 0),
	                 -ENOSPC);
	assert_int_equal(table_bytes(vm), 4 * 4096);
	assert_int_equal(snest_table_map(table, 1ull << 30, (1ull << 30) + 4095, 0, SNEST_READ, 0,
	                                 0),
	                 0);
	assert_int_equal(table_bytes(vm), 6 * 4096);
	snest_table_destroy(table);
	snest_vm_destroy(vm);
}

/* The root of 16 tables of 64 KiB is larger than the pool's pages. */
static void large_roots(void **state)
{
	struct snest_vm *vm = open_vm(0);
	struct snest_table *table;
	struct snest_walk w;

	(void)state;
	assert_int_equal(snest_table_create(vm,
	                                    SHAPE(.format = SNEST_FORMAT_ARM_S2, .ia_bits = 46,
	                                          .levels = 2, .granule_lg2 = 16),
	                                    NULL, &table),
	                 0);
	assert_int_equal(snest_table_bytes(table), 1 << 20);
	assert_int_equal(snest_table_stage(table)->root & ((1 << 20) - 1), 0);
	assert_int_equal(snest_table_map(table, (1ull << 46) - 65536, (1ull << 46) - 1, 1ull << 47,
	                                 SNEST_READ, ATTR, 0),
	                 0);
	assert_int_equal(snest_walk(vm, snest_table_stage(table), 1, (1ull << 46) - 1, 0, 0, &w,
	                            NULL, NULL),
	                 0);
	assert_int_equal(w.gpa, (1ull << 47) + 65535);
	assert_int_equal(snest_table_bytes(table), (1 << 20) + 65536);
	snest_table_destroy(table);
	assert_int_equal(table_bytes(vm), 0);
	snest_vm_destroy(vm);
}

static void memory_that_entries_cannot_hold_is_refused(void **state)
{
	struct snest_vm *vm = open_vm(0);
	struct snest_table *table;

	(void)state;
	/* Pointers have up to 47 bits here, and these entries 34 and 39. */
	assert_int_equal(snest_table_create(vm, SHAPE(.format = SNEST_FORMAT_RISCV32, .levels = 2),
	                                    NULL, &table),
	                 -EINVAL);
	assert_int_equal(snest_table_create(vm,
	                                    SHAPE(.format = SNEST_FORMAT_X86_64, .levels = 4,
	                                          .oa_bits = 39),
	                                    NULL, &table),
	                 -EINVAL);
	assert_int_equal(table_bytes(vm), 0);
	snest_vm_destroy(vm);
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

#define LARGE_LEAF_TEST(name, step)                                 \
	static void name##_config(const struct test_config *config) \
	{                                                           \
		each_large_leaf(config, step);                      \
	}                                                           \
	static void name(void **state)                              \
	{                                                           \
		(void)state;                                        \
		for_each_config(name##_config);                     \
	}

LARGE_LEAF_TEST(small_replaces_part_of_large, replace_part)
LARGE_LEAF_TEST(large_replaces_small, replace_by_large)
LARGE_LEAF_TEST(unmapping_a_part_cuts, unmap_part)
LARGE_LEAF_TEST(unmapping_whole_leaves_needs_no_memory, unmap_whole)
LARGE_LEAF_TEST(what_was_cut_merges_again, cut_and_merge)
LARGE_LEAF_TEST(unequal_leaves_do_not_merge, merge_needs_equals)
LARGE_LEAF_TEST(accessed_and_dirty_survive_cut_and_merge, flags_survive)

static void random_operations_equal_the_model(void **state)
{
	(void)state;
	for_each_config(random_operations);
}

static void wrong_arguments_change_nothing(void **state)
{
	(void)state;
	for_each_config(wrong_arguments);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_operations_equal_the_model),
		cmocka_unit_test(wrong_arguments_change_nothing),
		cmocka_unit_test(small_replaces_part_of_large),
		cmocka_unit_test(large_replaces_small),
		cmocka_unit_test(unmapping_a_part_cuts),
		cmocka_unit_test(unmapping_whole_leaves_needs_no_memory),
		cmocka_unit_test(what_was_cut_merges_again),
		cmocka_unit_test(unequal_leaves_do_not_merge),
		cmocka_unit_test(accessed_and_dirty_survive_cut_and_merge),
		cmocka_unit_test(pool_pages_come_back),
		cmocka_unit_test(budget_refuses_and_changes_nothing),
		cmocka_unit_test(large_roots),
		cmocka_unit_test(memory_that_entries_cannot_hold_is_refused),
		cmocka_unit_test(walks_during_changes_see_old_or_new),
	};

	int failed;

	snest_thread_register();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	snest_thread_unregister();
	return failed;
}
