/* SPDX-License-Identifier: MIT */
/* See subject.h. */
#include "support/subject.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct subject subject;

void subject_look(struct subject *s, uint64_t in, struct snest_walk *w)
{
	assert_int_equal(snest_walk(s->tt.vm, snest_table_stage(s->table), 1, in, 0,
	                            SNEST_WALK_NO_UPDATE, w, NULL, NULL),
	                 0);
}

static bool valid_input(struct subject *s, uint64_t in)
{
	struct snest_walk w;

	subject_look(s, in, &w);
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

void subject_select(struct subject *s, unsigned i)
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
				ret = snest_table_map(s->table, first, last, 0, rights,
				                      SUBJECT_ATTR, SNEST_TABLE_PAGE(lg2));
			if (ret)
				continue;
			assert_true(all >> lg2 & 1);
			s->anchor[i].sizes |= 1ull << lg2;
			assert_int_equal(snest_table_unmap(s->table, first, last, 0, NULL), 0);
		}
		assert_true(s->anchor[i].sizes != 0);
	}
	subject_select(s, 0);
}

/* Which rights can be told apart, found with one page. */
static void find_rights(struct subject *s)
{
	uint64_t in = s->anchor[0].first, addr = 1ull << 29;

	for (uint32_t rights = 1; rights <= SNEST_RIGHTS; rights++) {
		bool known = false;
		struct snest_walk w;

		if (snest_table_map(s->table, in, in + s->page - 1, addr, rights, SUBJECT_ATTR, 0))
			continue;
		subject_look(s, in, &w);
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

struct subject *subject_begin(const struct test_config *config)
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

void subject_end(struct subject *s)
{
	uint64_t bytes;

	for (unsigned i = 0; i < s->anchors; i++) {
		assert_int_equal(snest_table_unmap(s->table, s->anchor[i].first, s->anchor[i].last,
		                                   0, &bytes),
		                 0);
		assert_int_equal(
			bytes, test_model_bytes(&s->model, s->anchor[i].first, s->anchor[i].last));
		test_model_clear(&s->model, s->anchor[i].first, s->anchor[i].last);
	}
	assert_int_equal(s->model.count, 0);
	assert_int_equal(snest_table_bytes(s->table), s->empty_bytes);
	assert_int_equal(s->tt.live_bytes, s->empty_bytes);
	snest_table_destroy(s->table);
	test_tables_fini(&s->tt);
}

/* ---- Comparing ------------------------------------------------------------ */

void subject_check_at(struct subject *s, uint64_t in)
{
	const struct test_interval *a = test_model_find(&s->model, in);
	struct snest_walk w;

	subject_look(s, in, &w);
	if (!a) {
		assert_int_equal(w.outcome, SNEST_WALK_FAULT);
		return;
	}
	assert_int_equal(w.outcome, SNEST_WALK_GPA);
	assert_int_equal(w.gpa, a->addr + (in - a->first));
	assert_int_equal(w.rights, a->rights);
}

void subject_check_around(struct subject *s, uint64_t first, uint64_t last)
{
	subject_check_at(s, first);
	subject_check_at(s, last);
	subject_check_at(s, first - 1);
	subject_check_at(s, last + 1);
	subject_check_at(s, first + s->page - 1);
	subject_check_at(s, last - s->page);
	for (unsigned i = 0; i < 4; i++)
		subject_check_at(s, first + test_below(&s->random,
		                                       last - first + (last - first < UINT64_MAX)));
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

void subject_check_all(struct subject *s)
{
	/* With an ignored top byte there are 256 copies of each half; look at one. */
	bool tagged = s->config->stage.format == SNEST_FORMAT_ARM_S1;
	struct comparison c = {&s->model, 0};

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
unsigned subject_largest(const struct subject *s, uint64_t first, uint64_t last, uint64_t addr,
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

void subject_for_each_config(void (*test)(const struct test_config *config))
{
	for (size_t i = 0; i < test_configs_count; i++) {
		if (getenv("SNEST_TEST_CONFIG") &&
		    strcmp(getenv("SNEST_TEST_CONFIG"), test_configs[i].name))
			continue;
		print_message("# %s\n", test_configs[i].name);
		test(&test_configs[i]);
	}
}
