/* SPDX-License-Identifier: MIT */
/*
 * What is legal for readers at each moment.
 *
 * Each page that a device has used has a slot, and each slot a set of answers.
 * A change of a table adds to the set what a walk gives from now on; a command
 * that covers the page, once the wait behind it is complete, leaves only what a
 * walk gives now. The library promises (snest/space.h) that after that wait
 * nobody uses the old translation. So the law that readers check is:
 *
 *   What a lookup yields stays in the set until the read section closes.
 *
 * It holds for lookups that begin before, during and after a change, and it
 * fails when a shadow keeps something stale, and also when a wait completes
 * while somebody still uses what it removed.
 *
 * The data proves it once more: host addresses lead to memory of their own,
 * whose pages bear their GPA as a stamp while a set names them. When the last
 * set forgets a page, its stamp is wiped, as a guest would hand the page to
 * somebody else. A reader that finds a wiped stamp used a page after the
 * guest was told that nobody does.
 *
 * What is not provable is not claimed. A walk that is in flight while the guest
 * replaces a table may combine the old table's address with its later content,
 * and fill with that; so a slot one of whose upper entries changed is wild (any
 * answer is legal) until it is covered. So is one whose device structures
 * changed, until both they and the IOTLB were invalidated; one whose stages are
 * more than one; and a new one beside pages larger than 4 KiB.
 *
 * One thread writes. The sequence number is odd while tables and sets disagree;
 * a reader takes a set only as of an even one. A writer never waits for readers
 * while it is odd, because readers wait for it inside their sections.
 */
#include "tools/replay_slots.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int sn_slots_create(struct sn_replay *r)
{
	r->slots = calloc(1, sizeof(*r->slots));
	return r->slots ? sn_stamps_create(r->slots, r->memory) : -ENOMEM;
}

void sn_slots_destroy(struct sn_slots *s)
{
	if (!s)
		return;
	sn_stamps_destroy(s);
	for (uint64_t i = 0; i < s->count; i++)
		free(s->slot[i]);
	free(s);
}

/* ---- Sets ------------------------------------------------------------------- */

static void begin(struct sn_slots *s)
{
	__atomic_store_n(&s->sequence, s->sequence + 1, __ATOMIC_RELAXED);
}

/*
 * The stores between begin() and end() are release stores, so that whoever sees
 * one of them sees the odd number too; its partner is snapshot() in
 * replay_readers.c.
 */
static void end(struct sn_slots *s)
{
	__atomic_store_n(&s->sequence, s->sequence + 1, __ATOMIC_RELEASE);
}

static void set_legal(struct sn_slot *slot, unsigned i, uint64_t value)
{
	__atomic_store_n(&slot->legal[i], value, __ATOMIC_RELEASE);
}

static void set_wild(struct sn_slot *slot, bool wild)
{
	__atomic_store_n(&slot->wild, wild, __ATOMIC_RELEASE);
}

static void add(struct sn_slots *s, struct sn_slot *slot, uint64_t legal)
{
	for (unsigned i = 0; i < SN_LEGAL_MAX; i++) {
		if (slot->legal[i] == legal)
			return;
		if (slot->legal[i] == SN_LEGAL_NONE) {
			sn_stamps_use(s, legal, 1);
			set_legal(slot, i, legal);
			return;
		}
	}
	set_wild(slot, true);
}

/* From now on only this is legal. */
static void only(struct sn_slots *s, struct sn_slot *slot, uint64_t legal)
{
	uint64_t old[SN_LEGAL_MAX];

	memcpy(old, slot->legal, sizeof(old));
	sn_stamps_use(s, legal, 1);
	set_legal(slot, 0, legal);
	for (unsigned i = 1; i < SN_LEGAL_MAX; i++)
		set_legal(slot, i, SN_LEGAL_NONE);
	set_wild(slot, false);
	for (unsigned i = 0; i < SN_LEGAL_MAX; i++)
		sn_stamps_use(s, old[i], -1);
}

/* To be settled by the next command that covers it. */
static void list(struct sn_slots *s, struct sn_slot *slot)
{
	if (slot->listed)
		return;
	slot->listed = true;
	slot->dirty = s->dirty;
	s->dirty = slot;
}

/* ---- Walks ------------------------------------------------------------------ */

static struct sn_dep **dep_bucket(struct sn_slots *s, uint64_t gpa)
{
	return &s->deps[(gpa >> 3) * 0x9e3779b97f4a7c15 >> 48];
}

static void forget_deps(struct sn_slot *slot)
{
	for (unsigned i = 0; i < slot->deps; i++) {
		*slot->dep[i].link = slot->dep[i].next;
		if (slot->dep[i].next)
			slot->dep[i].next->link = slot->dep[i].link;
	}
	slot->deps = 0;
}

static void add_dep(struct sn_slots *s, struct sn_slot *slot, uint64_t gpa, bool last)
{
	struct sn_dep *dep = &slot->dep[slot->deps++], **head = dep_bucket(s, gpa);

	*dep = (struct sn_dep){gpa, slot, *head, head, last};
	if (*head)
		(*head)->link = &dep->next;
	*head = dep;
}

/*
 * What a walk gives now, and which words say so. False: the words do not tell
 * all (more than one stage, or too many of them).
 */
static bool walk(struct sn_replay *r, struct sn_slot *slot, uint64_t *legal)
{
	const struct snest_context *context = &slot->unit->context;
	struct snest_walk_step step[8];
	struct snest_walk walk;
	size_t steps = 8;
	bool known = context->outcome == SNEST_CONTEXT_STAGES && context->count <= 1;

	forget_deps(slot);
	*legal = SN_LEGAL_FAULT;
	if (context->outcome != SNEST_CONTEXT_STAGES)
		return true;
	if (!known || snest_walk(r->vm, context->stage, context->count, slot->page, 0,
	                         SNEST_WALK_NO_UPDATE, &walk, step, &steps))
		return false;
	if (steps > 8)
		return false;
	for (size_t i = 0; i < steps; i++)
		add_dep(r->slots, slot, step[i].entry_addr, i + 1 == steps);
	if (walk.outcome != SNEST_WALK_FAULT) {
		*legal = (walk.gpa & ~(uint64_t)4095) |
		         (walk.rights & context->rights & (SNEST_READ | SNEST_WRITE));
		slot->unit->large |= walk.lg2 > 12;
		if (!(*legal & (SNEST_READ | SNEST_WRITE)))
			*legal = SN_LEGAL_FAULT;
	}
	return true;
}

/* The tables changed under a slot. */
static void walk_again(struct sn_replay *r, struct sn_slot *slot)
{
	uint64_t legal;

	if (walk(r, slot, &legal))
		add(r->slots, slot, legal);
	else
		set_wild(slot, true);
	list(r->slots, slot);
}

static void settle(struct sn_replay *r, struct sn_slot *slot)
{
	uint64_t legal;

	if (walk(r, slot, &legal))
		only(r->slots, slot, legal);
	else
		set_wild(slot, true);
}

/* ---- Devices ---------------------------------------------------------------- */

/* Ordinary requests with read access: a context holds for every access and address. */
static bool context_now(struct sn_replay *r, const struct sn_unit *unit,
                        struct snest_context *context)
{
	return !sn_replay_context(r, unit->rid, unit->pasid, SNEST_READ, 0, context);
}

static bool same_stage(const struct snest_stage *a, const struct snest_stage *b)
{
	return a->format == b->format && a->levels == b->levels && a->ia_bits == b->ia_bits &&
	       a->oa_bits == b->oa_bits && a->rights == b->rights && a->flags == b->flags &&
	       a->root == b->root;
}

/* Faults differ in the address that was asked for, which does not matter here. */
static bool same_context(const struct snest_context *a, const struct snest_context *b)
{
	if (a->outcome != b->outcome || a->count != b->count || a->rights != b->rights ||
	    a->ia_bits != b->ia_bits || a->flags != b->flags || a->domain != b->domain ||
	    a->space != b->space)
		return false;
	for (unsigned i = 0; i < a->count; i++) {
		if (!same_stage(&a->stage[i], &b->stage[i]))
			return false;
	}
	return true;
}

/* A unit's device structures changed, or may have. */
static void change_unit(struct sn_replay *r, struct sn_unit *unit,
                        const struct snest_context *context)
{
	struct sn_slots *s = r->slots;

	unit->context = *context;
	unit->state = SN_UNIT_CHANGED;
	for (uint64_t i = 0; i < s->count; i++) {
		if (s->slot[i]->unit == unit) {
			set_wild(s->slot[i], true);
			forget_deps(s->slot[i]);
			list(s, s->slot[i]);
		}
	}
}

/* After a change of memory: have device structures changed? */
static void look_at_units(struct sn_replay *r)
{
	for (unsigned i = 0; i < r->slots->units; i++) {
		struct sn_unit *unit = &r->slots->unit[i];
		struct snest_context context;

		if (context_now(r, unit, &context) && !same_context(&context, &unit->context))
			change_unit(r, unit, &context);
	}
}

void sn_slots_upset(struct sn_replay *r)
{
	if (!r->slots)
		return;
	begin(r->slots);
	for (unsigned i = 0; i < r->slots->units; i++) {
		struct snest_context context;

		if (context_now(r, &r->slots->unit[i], &context))
			change_unit(r, &r->slots->unit[i], &context);
	}
	end(r->slots);
}

static struct sn_unit *unit_of(struct sn_replay *r, uint32_t rid, uint32_t pasid)
{
	struct sn_slots *s = r->slots;
	struct sn_unit *unit = &s->unit[s->units];

	for (unsigned i = 0; i < s->units; i++) {
		if (s->unit[i].rid == rid && s->unit[i].pasid == pasid)
			return &s->unit[i];
	}
	if (s->units == SN_UNITS_MAX)
		return NULL;
	unit->rid = rid;
	unit->pasid = pasid;
	unit->state = SN_UNIT_SETTLED;
	if (!context_now(r, unit, &unit->context) || snest_vtd_device(r->vtd, rid, &unit->device))
		return NULL;
	s->units++;
	return unit;
}

/* ---- Slots ------------------------------------------------------------------ */

static struct sn_slot **slot_bucket(struct sn_slots *s, uint32_t rid, uint32_t pasid, uint64_t page)
{
	uint64_t hash = (page >> 12) * 0x9e3779b97f4a7c15 ^ rid * UINT64_C(0x85ebca6b) ^ pasid;

	return &s->bucket[(hash >> 24) % SN_SLOT_BUCKETS];
}

static struct sn_slot *find(struct sn_slots *s, uint32_t rid, uint32_t pasid, uint64_t iova)
{
	uint64_t page = iova & ~(uint64_t)4095;
	struct sn_slot *slot = *slot_bucket(s, rid, pasid, page);

	while (slot && !(slot->page == page && slot->rid == rid && slot->pasid == pasid))
		slot = slot->next;
	return slot;
}

int sn_slots_known(struct sn_replay *r, uint32_t rid, uint32_t pasid, uint64_t iova)
{
	struct sn_slots *s = r->slots;
	struct sn_slot *slot = find(s, rid, pasid, iova), **bucket;
	struct sn_unit *unit;
	uint64_t legal;

	if (slot || s->count == SN_SLOTS_MAX)
		return 0;
	unit = unit_of(r, rid, pasid);
	if (!unit)
		return 0;
	slot = calloc(1, sizeof(*slot));
	if (!slot)
		return -ENOMEM;
	slot->rid = rid;
	slot->pasid = pasid;
	slot->page = iova & ~(uint64_t)4095;
	slot->unit = unit;
	slot->device = unit->device;
	for (unsigned i = 0; i < SN_LEGAL_MAX; i++)
		slot->legal[i] = SN_LEGAL_NONE;
	bucket = slot_bucket(s, rid, pasid, slot->page);
	slot->next = *bucket;
	*bucket = slot;

	begin(s);
	if (walk(r, slot, &legal))
		add(s, slot, legal);
	else
		set_wild(slot, true);
	if (unit->state != SN_UNIT_SETTLED || unit->large) {
		set_wild(slot, true);
		list(s, slot);
	}
	s->slot[s->count] = slot;
	__atomic_store_n(&s->latest, s->count, __ATOMIC_RELAXED);
	__atomic_store_n(&s->count, s->count + 1, __ATOMIC_RELEASE);
	end(s);
	return 0;
}

bool sn_slots_legal(const struct sn_replay *r, uint32_t rid, uint32_t pasid, uint64_t iova,
                    uint32_t access, const struct sn_answer *answer)
{
	const struct sn_slot *slot = r->slots ? find(r->slots, rid, pasid, iova) : NULL;

	if (!slot)
		return false;
	for (unsigned i = 0; i < SN_LEGAL_MAX; i++) {
		uint64_t legal = slot->legal[i];

		if (legal == SN_LEGAL_NONE)
			continue;
		if (answer->ok ? legal == ((answer->gpa & ~(uint64_t)4095) | answer->rights)
		               : (legal & access) != access)
			return true;
	}
	return slot->wild;
}

/* ---- Changes ---------------------------------------------------------------- */

static int store(struct sn_replay *r, uint64_t gpa, unsigned bytes, uint64_t value)
{
	struct sn_slot *slot, *todo = NULL;
	int ret = sn_sparse_store(r->memory, gpa, bytes, value);

	gpa &= ~(uint64_t)7;
	/* Collected first: a new walk moves a slot's words to the front of this very list. */
	for (struct sn_dep *dep = *dep_bucket(r->slots, gpa); dep; dep = dep->next) {
		if (dep->gpa != gpa)
			continue;
		if (!dep->last) {
			set_wild(dep->slot, true);
			list(r->slots, dep->slot);
		} else if (!dep->slot->due) {
			dep->slot->due = true;
			dep->slot->todo = todo;
			todo = dep->slot;
		}
	}
	while ((slot = todo)) {
		todo = slot->todo;
		slot->due = false;
		walk_again(r, slot);
	}
	return ret;
}

int sn_slots_words(struct sn_replay *r, uint64_t gpa, const uint64_t *words, unsigned count)
{
	int ret = 0;

	begin(r->slots);
	__atomic_store_n(&r->slots->line, r->line, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < count && !ret; i++) {
		if (sn_sparse_load(r->memory, gpa + 8 * i) != words[i])
			ret = store(r, gpa + 8 * i, 8, words[i]);
	}
	look_at_units(r);
	end(r->slots);
	return ret;
}

int sn_slots_store(struct sn_replay *r, uint64_t gpa, unsigned bytes, uint64_t value)
{
	int ret;

	begin(r->slots);
	ret = store(r, gpa, bytes, value);
	look_at_units(r);
	end(r->slots);
	return ret;
}

/* Does a command that is complete now cover the slot? */
static bool covered(const struct sn_slots *s, const struct sn_slot *slot)
{
	for (unsigned i = 0; i < s->pendings; i++) {
		if (sn_cover_hits(&s->pending[i], slot->unit->context.domain, slot->page,
		                  slot->page | 4095))
			return true;
	}
	return false;
}

/* Device structures that changed are announced by two commands, in this order. */
static void announce(struct sn_slots *s, const struct sn_cover *cover)
{
	for (unsigned i = 0; i < s->units; i++) {
		struct sn_unit *unit = &s->unit[i];

		if (unit->state == SN_UNIT_CHANGED && cover->kind == SN_COVER_CONTEXT)
			unit->state = SN_UNIT_CONTEXT_COVERED;
		else if (unit->state == SN_UNIT_CONTEXT_COVERED && !cover->page &&
		         sn_cover_hits(cover, unit->context.domain, 0, UINT64_MAX))
			unit->state = SN_UNIT_SETTLED;
	}
}

void sn_slots_command(struct sn_replay *r, const struct sn_cover *cover)
{
	struct sn_slots *s = r->slots;
	struct sn_slot *slot, *left = NULL;

	if (cover->kind != SN_COVER_WAIT) {
		announce(s, cover);
		/* One that does not fit is lost: more is legal then, not less. */
		if (cover->kind == SN_COVER_IOTLB && s->pendings < SN_PENDING_MAX)
			s->pending[s->pendings++] = *cover;
		return;
	}
	begin(s);
	for (slot = s->dirty; slot; slot = s->dirty) {
		s->dirty = slot->dirty;
		slot->listed = false;
		if (slot->unit->state == SN_UNIT_SETTLED && covered(s, slot)) {
			settle(r, slot);
		} else {
			slot->listed = true;
			slot->dirty = left;
			left = slot;
		}
	}
	s->dirty = left;
	s->pendings = 0;
	end(s);
}
