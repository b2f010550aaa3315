/* SPDX-License-Identifier: MIT */
/*
 * The model IOTLB of a VT-d unit: which answers a request may get.
 *
 * It is what hardware may cache, without bounds. For each request (RID and
 * PASID) the contexts that its structures have described since the last
 * command for the context or PASID cache that covers it; for each IOVA the
 * translations that the tables of a context have described since the last
 * command for the IOTLB that covers them. A request may get any translation of
 * any of these. Absence is never remembered: a refusal is legal only if
 * something that is legal refuses now.
 *
 * Translations are cached by the tables and their tag, the DID and for first
 * stages the PASID, and by no more: all contexts that have these share them.
 * Commands for the context and PASID caches leave them alone (vtd_forget.h).
 * What no request has led to is cached by nobody, so a request's contexts are
 * followed from its first use on, and tables while some request may reach them.
 *
 * What the structures say is asked of the resolver in another VM, which reads
 * the guest's memory through accessors; what the tables say, of the reference
 * walker behind itself. Each answer comes with the words that it was read from,
 * and is asked for again only when one of them has changed. Nothing here looks
 * at a shadow, a space or a binding.
 */
#ifndef FUZZ_VTD_MODEL_H
#define FUZZ_VTD_MODEL_H

#include <snest/device.h>
#include "ref/ref_walk.h"
#include "vm.h"

#define RAM_BYTES (1u << 16)
#define RAM_WORDS (RAM_BYTES / 8)
#define HOST 0x100000000000ull
/* Memory that only devices reach, for large pages. */
#define DATA 0x40000000ull
#define DATA_BYTES 0x100000000ull

#define MODEL_DEPS 96
#define MODEL_OLD 6
#define MODEL_CONTEXTS 12
#define MODEL_IOVAS 6
#define MODEL_RIDS 3
#define MODEL_PASIDS 3
#define MODEL_PAIRS (MODEL_RIDS * MODEL_PASIDS)

static const uint32_t model_rids[MODEL_RIDS] = {0x00, 0x01, 0x80};
static const uint32_t model_pasids[MODEL_PASIDS] = {SNEST_NO_PASID, 0, 1};
static const uint64_t model_iovas[MODEL_IOVAS] = {0,        0x1000,   0x2000,
                                                  0x200000, 0x203000, 0x40000000};

struct model_deps {
	unsigned count; /* MODEL_DEPS + 1: too many */
	uint16_t word[MODEL_DEPS];
	uint64_t value[MODEL_DEPS];
};

struct model_answer {
	uint64_t addr; /* of the first byte of the page at the IOVA */
	uint8_t outcome, rights;
	uint8_t lg2; /* the page of the first of the guest's stages */
};

struct model_set {
	struct model_answer now, old[MODEL_OLD];
	unsigned count;
	bool known; /* `now` has been asked for */
	bool wild;  /* anything is legal: too much has happened */
	struct model_deps deps;
};

/* Tables by their tag. */
struct model_tables {
	const struct snest_context *context; /* the first of those that have them */
	struct model_set set[MODEL_IOVAS];
};

struct model_context {
	struct snest_context context;
	unsigned tables;
};

struct model_pair {
	int now;        /* context, -1: refused */
	uint32_t legal; /* bit n: context n */
	bool absent;    /* it was refused since it was last announced: a mirror may lack it */
	bool used;      /* something was asked for it */
	bool known, wild;
	struct model_deps deps;
};

static struct model {
	struct snest_vm *vm;
	uint64_t *ram;
	struct snest_vtd_registers reg; /* rtaddr: latched */
	bool te;
	/* One input. */
	unsigned contexts, table_count;
	bool overflow; /* more contexts than fit: nothing is checked any more */
	struct model_context context[MODEL_CONTEXTS];
	struct model_tables tables[MODEL_CONTEXTS];
	struct model_pair pair[MODEL_PAIRS];
	struct model_deps *deps; /* of the answer that is being made */
} model;

/* ---- Reading ------------------------------------------------------------ */

static void model_depend(uint64_t addr, size_t length)
{
	for (uint64_t word = addr / 8; word <= (addr + length - 1) / 8; word++) {
		struct model_deps *d = model.deps;

		if (d->count >= MODEL_DEPS) {
			d->count = MODEL_DEPS + 1;
			return;
		}
		d->word[d->count] = (uint16_t)word;
		d->value[d->count++] = model.ram[word];
	}
}

FUZZ_FAST static bool model_changed(const struct model_deps *d)
{
	if (d->count > MODEL_DEPS)
		return true;
	for (unsigned i = 0; i < d->count; i++) {
		if (model.ram[d->word[i]] != d->value[i])
			return true;
	}
	return false;
}

static int model_read(void *opaque, uint64_t addr, void *buf, size_t length)
{
	(void)opaque;
	fuzz_check(addr < RAM_BYTES && length <= RAM_BYTES - addr, "read beyond memory");
	model_depend(addr, length);
	memcpy(buf, (const char *)model.ram + addr, length);
	return 0;
}

/* Addresses that stage `next` of a context translates, then memory. */
struct model_behind {
	const struct snest_context *context;
	unsigned next;
};

static void model_translate(const struct snest_context *c, unsigned stage, uint64_t addr,
                            struct model_answer *a);

static bool model_behind_read(void *opaque, uint64_t addr, unsigned bytes, uint64_t *value)
{
	const struct model_behind *b = opaque;
	struct model_answer a = {.outcome = SNEST_WALK_GPA, .addr = addr, .rights = SNEST_RIGHTS};

	if (b->next < b->context->count) {
		model_translate(b->context, b->next, addr, &a);
		if (a.outcome == SNEST_WALK_FAULT || !(a.rights & SNEST_READ))
			return false;
		/* The last stage gives a host address; tables lie in RAM alone. */
		if (a.outcome == SNEST_WALK_HOST)
			a.addr -= HOST;
	}
	if (a.addr >= RAM_BYTES)
		return false;
	model_depend(a.addr, bytes);
	*value = 0;
	memcpy(value, (const char *)model.ram + a.addr, bytes);
	return true;
}

/* Through the stages of a context from `stage` on, and the memory map. */
static void model_translate(const struct snest_context *c, unsigned stage, uint64_t addr,
                            struct model_answer *a)
{
	uint8_t rights = SNEST_RIGHTS, lg2 = 0;

	for (unsigned k = stage; k < c->count; k++) {
		struct model_behind behind = {c, k + 1};
		struct ref_memory memory = {.read = model_behind_read, .opaque = &behind};
		struct ref_result r;

		ref_walk(&c->stage[k], &memory, addr, 0, false, &r);
		if (!r.ok) {
			*a = (struct model_answer){.outcome = SNEST_WALK_FAULT};
			return;
		}
		if (k == stage)
			lg2 = r.lg2;
		rights &= r.rights;
		addr = r.out;
	}
	*a = (struct model_answer){.addr = addr, .outcome = SNEST_WALK_GPA, .lg2 = lg2};
	a->rights = rights;
	if (addr < RAM_BYTES || (addr >= DATA && addr < DATA + DATA_BYTES)) {
		a->outcome = SNEST_WALK_HOST;
		a->addr += HOST;
	}
}

/* ---- Following the guest's memory --------------------------------------- */

static bool model_same(const struct model_answer *a, const struct model_answer *b)
{
	return a->outcome == b->outcome && a->rights == b->rights && a->addr == b->addr &&
	       a->lg2 == b->lg2;
}

static void model_remember(struct model_set *s, const struct model_answer *a)
{
	for (unsigned i = 0; i < s->count; i++) {
		if (model_same(&s->old[i], a))
			return;
	}
	if (s->count == MODEL_OLD)
		s->wild = true;
	else
		s->old[s->count++] = *a;
}

/* Asks what tables say of an IOVA. True: not what they said before. */
static bool model_refresh_set(struct model_tables *t, unsigned i)
{
	struct model_set *s = &t->set[i];
	struct model_answer a;

	if (s->known && !model_changed(&s->deps))
		return false;
	s->deps.count = 0;
	model.deps = &s->deps;
	model_translate(t->context, 0, model_iovas[i], &a);
	if (s->known && model_same(&a, &s->now))
		return false;
	if (s->known)
		model_remember(s, &s->now);
	s->known = true;
	s->now = a;
	return true;
}

static bool model_refresh_tables(struct model_tables *t)
{
	bool changed = false;

	for (unsigned i = 0; i < MODEL_IOVAS; i++)
		changed |= model_refresh_set(t, i);
	return changed;
}

/* No request leads there any more: what tables said stays cached, what they say from now on does not. */
static void model_leave_tables(struct model_tables *t)
{
	for (unsigned i = 0; i < MODEL_IOVAS; i++) {
		if (t->set[i].known)
			model_remember(&t->set[i], &t->set[i].now);
		t->set[i].known = false;
	}
}

/* Field by field: between them is padding. */
static bool model_same_stage(const struct snest_stage *a, const struct snest_stage *b)
{
	return a->format == b->format && a->levels == b->levels && a->ia_bits == b->ia_bits &&
	       a->oa_bits == b->oa_bits && a->rights == b->rights && a->flags == b->flags &&
	       a->root == b->root;
}

/* What translations are cached by. */
static bool model_same_tables(const struct snest_context *a, const struct snest_context *b)
{
	for (unsigned i = 0; i < a->count && i < b->count; i++) {
		if (!model_same_stage(&a->stage[i], &b->stage[i]))
			return false;
	}
	return a->count == b->count && a->domain == b->domain && a->space == b->space;
}

static bool model_same_context(const struct snest_context *a, const struct snest_context *b)
{
	return a->outcome == b->outcome && a->rights == b->rights && a->ia_bits == b->ia_bits &&
	       a->flags == b->flags && a->pasid == b->pasid && model_same_tables(a, b);
}

/* There are never more of them than contexts. */
static unsigned model_tables_number(const struct snest_context *c)
{
	struct model_tables *new = &model.tables[model.table_count];

	for (unsigned i = 0; i < model.table_count; i++) {
		if (model_same_tables(model.tables[i].context, c))
			return i;
	}
	new->context = c;
	for (unsigned i = 0; i < MODEL_IOVAS; i++) {
		new->set[i].count = 0;
		new->set[i].known = new->set[i].wild = false;
	}
	return model.table_count++;
}

/* The number of a context, -1 if there is no room. */
static int model_context_number(const struct snest_context *c)
{
	struct model_context *new = &model.context[model.contexts];

	for (unsigned i = 0; i < model.contexts; i++) {
		if (model_same_context(&model.context[i].context, c))
			return (int)i;
	}
	if (model.contexts == MODEL_CONTEXTS) {
		model.overflow = true;
		return -1;
	}
	/* No unit here has RPRIVS, and nothing of VT-d narrows rights outside of tables. */
	fuzz_check(c->rights == SNEST_RIGHTS && !(c->flags & SNEST_CONTEXT_PRIVILEGED),
	           "a context with rights %u, flags 0x%x", c->rights, c->flags);
	new->context = *c;
	new->tables = model_tables_number(&new->context);
	return (int)model.contexts++;
}

static struct model_tables *model_tables_of(unsigned context)
{
	return &model.tables[model.context[context].tables];
}

static bool model_refresh_pair(unsigned n)
{
	struct model_pair *p = &model.pair[n];
	struct snest_request request = {
		.size = sizeof(request),
		.rid = model_rids[n / MODEL_PASIDS],
		.pasid = model_pasids[n % MODEL_PASIDS],
	};
	struct snest_context c;
	int old = p->now;

	if (!p->used || (p->known && !model_changed(&p->deps)))
		return false;
	p->deps.count = 0;
	model.deps = &p->deps;
	memset(&c, 0, sizeof(c));
	if (!model.te) {
		c.rights = SNEST_RIGHTS;
		c.ia_bits = 64;
		c.pasid = request.pasid;
	} else if (snest_vtd_context(model.vm, &model.reg, &request, &c)) {
		c.outcome = SNEST_CONTEXT_BLOCKED;
	}
	p->now = c.outcome == SNEST_CONTEXT_STAGES ? model_context_number(&c) : -1;
	if (p->now >= 0)
		p->legal |= 1u << p->now;
	else
		p->absent = true;
	if (p->known && p->now == old)
		return false;
	p->known = true;
	return true;
}

/* The tables that some request may reach: bit n, tables n. The others are left. */
static uint32_t model_reach(void)
{
	uint32_t contexts = 0, tables = 0;

	for (unsigned n = 0; n < MODEL_PAIRS; n++)
		contexts |= model.pair[n].legal;
	for (; contexts; contexts &= contexts - 1)
		tables |= 1u << model.context[__builtin_ctz(contexts)].tables;
	for (unsigned i = 0; i < model.table_count; i++) {
		if (!(tables >> i & 1))
			model_leave_tables(&model.tables[i]);
	}
	return tables;
}

/* Memory may have changed. True: some answer is another one now. */
static bool model_refresh(void)
{
	bool changed = false;

	for (unsigned n = 0; n < MODEL_PAIRS; n++)
		changed |= model_refresh_pair(n);
	for (uint32_t left = model_reach(); left; left &= left - 1)
		changed |= model_refresh_tables(&model.tables[__builtin_ctz(left)]);
	return changed;
}

/* A request is about to be made, for the first time perhaps. */
static void model_use(unsigned pair)
{
	if (model.pair[pair].used)
		return;
	model.pair[pair].used = true;
	model_refresh();
}

/* Nothing has been asked for it, or it has been forgotten whole. */
static void model_disuse(unsigned pair)
{
	struct model_pair *p = &model.pair[pair];

	p->legal = 0;
	p->now = -1;
	p->used = p->known = p->wild = p->absent = false;
}

/* ---- One input ---------------------------------------------------------- */

static void model_create(uint64_t *ram)
{
	struct snest_hooks hooks = {.size = sizeof(hooks), .log = fuzz_vm_log};
	struct snest_vm_config config = {.size = sizeof(config), .hooks = &hooks};
	struct snest_accessors accessors = {.read = model_read};
	struct snest_region region = {
		.size = sizeof(region),
		.last = RAM_BYTES - 1,
		.host = HOST,
		.accessors = &accessors,
	};

	model.ram = ram;
	sn_reclaim_threadless = true;
	if (snest_vm_create(&config, &model.vm) || snest_memory_add(model.vm, &region))
		fuzz_check(0, "no VM for the model");
}

/* Translation is off, memory as it is. */
static void model_begin(uint32_t haw, uint64_t cap, uint64_t ecap)
{
	model.contexts = model.table_count = 0;
	model.overflow = false;
	model.te = false;
	model.reg = (struct snest_vtd_registers){
		.size = sizeof(model.reg), .haw = haw, .cap = cap, .ecap = ecap};
	for (unsigned n = 0; n < MODEL_PAIRS; n++)
		model_disuse(n);
}

#endif
