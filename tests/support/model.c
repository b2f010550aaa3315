/* SPDX-License-Identifier: MIT */
/* The model IOTLB. See model.h. */
#include "support/model.h"
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Input of a cell of stage 0. */
static uint64_t input_of(const struct guest *g, size_t page)
{
	const struct guest_table *t = &g->table[0];

	for (unsigned i = t->windows; i--;) {
		if (page >= t->window[i].at)
			return t->window[i].first +
			       ((uint64_t)(page - t->window[i].at) << t->unit_lg2);
	}
	return 0;
}

static struct model_set *set_of(const struct model *m, uint64_t iova, bool privileged)
{
	const struct guest_cell *cell = guest_cell(m->guest, 0, iova);

	return cell ? &m->set[privileged][cell - m->guest->table[0].cell] : NULL;
}

static bool same(const struct guest_answer *a, const struct guest_answer *b)
{
	return a->present == b->present && a->table_rights == b->table_rights && a->id == b->id &&
	       a->gpa == b->gpa;
}

static void remember(struct model_set *set, const struct guest_answer *answer)
{
	for (unsigned i = 0; i < set->count; i++) {
		if (same(&set->old[i], answer))
			return;
	}
	if (set->count == set->room) {
		set->room = set->room ? 2 * set->room : 4;
		set->old = realloc(set->old, set->room * sizeof(*set->old));
		assert_non_null(set->old);
	}
	set->old[set->count++] = *answer;
}

void model_init(struct model *m, const struct guest *g, const char *what)
{
	m->guest = g;
	m->what = what;
	m->pages = g->table[0].cells;
	for (unsigned p = 0; p < 2; p++) {
		m->set[p] = calloc(m->pages, sizeof(*m->set[p]));
		assert_non_null(m->set[p]);
	}
	model_refresh(m);
}

void model_fini(struct model *m)
{
	for (unsigned p = 0; p < 2; p++) {
		for (size_t i = 0; i < m->pages; i++)
			free(m->set[p][i].old);
		free(m->set[p]);
	}
}

void model_refresh(struct model *m)
{
	for (unsigned p = 0; p < 2; p++) {
		for (size_t i = 0; i < m->pages; i++) {
			struct model_set *set = &m->set[p][i];
			struct guest_answer now;

			guest_answer(m->guest, input_of(m->guest, i), p, &now);
			if (same(&now, &set->now))
				continue;
			if (set->now.present)
				remember(set, &set->now);
			/* A mirror keeps nothing of what grants nothing, so it cannot know. */
			if (!set->now.memory || !(set->now.rights & (SNEST_READ | SNEST_WRITE)))
				set->was_absent = true;
			set->now = now;
		}
	}
}

static void drop_ids(struct model_set *set, const unsigned char *dropped)
{
	unsigned n = 0;

	for (unsigned i = 0; i < set->count; i++) {
		if (!dropped[set->old[i].id])
			set->old[n++] = set->old[i];
	}
	set->count = n;
}

void model_invalidate(struct model *m, uint64_t first, uint64_t last)
{
	uint64_t unit = ((uint64_t)1 << m->guest->table[0].unit_lg2) - 1;
	unsigned char *dropped = calloc(m->guest->id + 1, 1);

	assert_non_null(dropped);
	if (first > last) {
		first = 0;
		last = UINT64_MAX;
	}
	for (unsigned p = 0; p < 2; p++) {
		for (size_t i = 0; i < m->pages; i++) {
			struct model_set *set = &m->set[p][i];
			uint64_t at = input_of(m->guest, i);

			if (at + unit < first || at > last)
				continue;
			for (unsigned j = 0; j < set->count; j++)
				dropped[set->old[j].id] = 1;
			if (set->now.present)
				dropped[set->now.id] = 1;
			set->count = 0;
			set->was_absent = false;
		}
	}
	for (unsigned p = 0; p < 2; p++) {
		for (size_t i = 0; i < m->pages; i++)
			drop_ids(&m->set[p][i], dropped);
	}
	free(dropped);
}

/* Where in its cell. */
static uint64_t offset_of(const struct model *m, uint64_t iova)
{
	return iova & (((uint64_t)1 << m->guest->table[0].unit_lg2) - 1);
}

/* Does this answer explain what was seen at `offset` in its page? */
static bool explains(const struct model *m, const struct guest_answer *legal, uint64_t offset,
                     uint32_t outcome, uint64_t addr, uint32_t rights)
{
	struct guest_answer a = *legal;

	if (!a.present)
		return false;
	a.gpa += offset;
	guest_answer_memory(m->guest, &a);
	if (rights & ~(uint32_t)a.rights)
		return false;
	if (outcome == SNEST_WALK_HOST)
		return a.memory && a.host == addr;
	return outcome == SNEST_WALK_GPA && !a.memory && a.gpa == addr;
}

static bool legal(const struct model *m, uint64_t iova, bool privileged, uint32_t outcome,
                  uint64_t addr, uint32_t rights)
{
	const struct model_set *set = set_of(m, iova, privileged);
	uint64_t offset = offset_of(m, iova);

	if (!set)
		return false;
	if (explains(m, &set->now, offset, outcome, addr, rights))
		return true;
	/* What leads to no memory is not remembered. */
	for (unsigned i = 0; outcome == SNEST_WALK_HOST && i < set->count; i++) {
		if (explains(m, &set->old[i], offset, outcome, addr, rights))
			return true;
	}
	return false;
}

static void show(const struct model *m, uint64_t iova, bool privileged)
{
	const struct model_set *set = set_of(m, iova, privileged);

	print_error("%s: IOVA 0x%" PRIx64 "%s\n", m->what, iova, privileged ? ", privileged" : "");
	if (!set)
		return;
	for (unsigned i = 0; i <= set->count; i++) {
		struct guest_answer a = i ? set->old[i - 1] : set->now;

		a.gpa += offset_of(m, iova);
		guest_answer_memory(m->guest, &a);
		print_error("  %s: present %d gpa 0x%" PRIx64 " host 0x%" PRIx64
		            " rights %u leaf %u\n",
		            i ? "before" : "now", a.present, a.gpa, a.host, a.rights, a.id);
	}
}

void model_check(const struct model *m, uint64_t iova, uint32_t access, int ret,
                 const struct snest_translation *t)
{
	bool privileged = access & SNEST_PRIVILEGED;
	uint32_t need = access & SNEST_RIGHTS;
	uint64_t at;

	if (ret) {
		const struct model_set *set = set_of(m, iova, privileged);

		if (ret != -EACCES || t->outcome != SNEST_WALK_FAULT) {
			show(m, iova, privileged);
			fail_msg("returned %d, outcome %u", ret, t->outcome);
		}
		if (set && set->now.present) {
			struct guest_answer now = set->now;

			now.gpa += offset_of(m, iova);
			guest_answer_memory(m->guest, &now);
			if (now.rights && !(need & ~(uint32_t)now.rights)) {
				show(m, iova, privileged);
				fail_msg("fault (access %u), but the tables allow it", access);
			}
		}
		return;
	}
	if ((t->rights & need) != need || !t->length) {
		show(m, iova, privileged);
		fail_msg("rights %u for access %u, length %" PRIu64, t->rights, access, t->length);
	}
	/* Every page that the answer covers. */
	for (at = iova; at - iova < t->length; at = (at | 4095) + 1) {
		if (!legal(m, at, privileged, t->outcome, t->host + (at - iova), t->rights)) {
			show(m, at, privileged);
			fail_msg("lookup of 0x%" PRIx64 " gave 0x%" PRIx64 " + 0x%" PRIx64
			         ", rights %u, outcome %u",
			         iova, t->host, t->length, t->rights, t->outcome);
		}
		if ((at | 4095) == UINT64_MAX)
			break;
	}
}

static int check_run(void *opaque, const struct snest_run *run)
{
	const struct model *m = opaque;

	for (uint64_t at = run->first;; at += 4096) {
		if (run->outcome != SNEST_WALK_HOST ||
		    !legal(m, at, false, run->outcome, run->addr + (at - run->first),
		           run->rights)) {
			show(m, at, false);
			fail_msg("the shadow holds 0x%" PRIx64 " -> 0x%" PRIx64 ", rights %u", at,
			         run->addr + (at - run->first), run->rights);
		}
		if (run->last - at < 4096)
			return 0;
	}
}

void model_check_shadow(const struct model *m, struct snest_space *space)
{
	assert_int_equal(
		snest_space_enumerate(space, 0, UINT64_MAX, check_run, (void *)(uintptr_t)m), 0);
}

static bool mirrors(const struct model *m, struct guest_answer a, uint64_t iova, uint64_t host,
                    uint32_t rights)
{
	uint32_t has;

	a.gpa += offset_of(m, iova);
	guest_answer_memory(m->guest, &a);
	has = a.memory ? a.rights & (SNEST_READ | SNEST_WRITE) : 0;
	return has == rights && (!has || a.host == host);
}

bool model_allows_mirror(const struct model *m, uint64_t iova, uint64_t host, uint32_t rights)
{
	const struct model_set *set = set_of(m, iova, false);

	if (!set)
		return false;
	if ((!rights && set->was_absent) || mirrors(m, set->now, iova, host, rights))
		return true;
	for (unsigned i = 0; i < set->count; i++) {
		if (mirrors(m, set->old[i], iova, host, rights))
			return true;
	}
	return false;
}
