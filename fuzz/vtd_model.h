/* SPDX-License-Identifier: MIT */
/*
 * The model IOTLB of a VT-d unit: which answers a request may get.
 *
 * It is what hardware may cache, without bounds. For each request (RID and
 * PASID) the contexts that its structures have described since the last
 * command for the context or PASID cache that covers it; for each context and
 * IOVA the translations that its tables have described since the last command
 * for the IOTLB that covers them. A request may get any translation of any of
 * these. Absence is never remembered: a refusal is legal only if something that
 * is legal refuses now.
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

struct model_context {
	struct snest_context context;
	struct model_set set[MODEL_IOVAS];
};

struct model_pair {
	int now;        /* context, -1: refused */
	uint32_t legal; /* bit n: context n */
	bool absent;    /* it was refused since it was last announced: a mirror may lack it */
	bool known, wild;
	struct model_deps deps;
};

static struct model {
	struct snest_vm *vm;
	uint64_t *ram;
	struct snest_vtd_registers reg; /* rtaddr: latched */
	bool te;
	/* One input. */
	unsigned contexts;
	bool overflow; /* more contexts than fit: nothing is checked any more */
	struct model_context context[MODEL_CONTEXTS];
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
                            uint32_t privilege, struct model_answer *a);

static bool model_behind_read(void *opaque, uint64_t addr, unsigned bytes, uint64_t *value)
{
	const struct model_behind *b = opaque;
	struct model_answer a = {.outcome = SNEST_WALK_GPA, .addr = addr, .rights = SNEST_RIGHTS};

	if (b->next < b->context->count) {
		model_translate(b->context, b->next, addr, 0, &a);
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
                            uint32_t privilege, struct model_answer *a)
{
	uint8_t rights = SNEST_RIGHTS, lg2 = 0;

	for (unsigned k = stage; k < c->count; k++) {
		struct model_behind behind = {c, k + 1};
		struct ref_memory memory = {.read = model_behind_read, .opaque = &behind};
		struct ref_result r;

		ref_walk(&c->stage[k], &memory, addr, k ? 0 : privilege, false, &r);
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

/* Asks what a context's tables say of an IOVA. True: not what they said before. */
static bool model_refresh_set(struct model_context *c, unsigned i)
{
	struct model_set *s = &c->set[i];
	uint32_t privilege = c->context.flags & SNEST_CONTEXT_PRIVILEGED ? SNEST_PRIVILEGED : 0;
	struct model_answer a;

	if (s->known && !model_changed(&s->deps))
		return false;
	s->deps.count = 0;
	model.deps = &s->deps;
	model_translate(&c->context, 0, model_iovas[i], privilege, &a);
	a.rights &= c->context.rights;
	if (s->known && model_same(&a, &s->now))
		return false;
	if (s->known)
		model_remember(s, &s->now);
	s->known = true;
	s->now = a;
	return true;
}

/* Field by field: between them is padding. */
static bool model_same_stage(const struct snest_stage *a, const struct snest_stage *b)
{
	return a->format == b->format && a->levels == b->levels && a->ia_bits == b->ia_bits &&
	       a->oa_bits == b->oa_bits && a->rights == b->rights && a->flags == b->flags &&
	       a->root == b->root;
}

static bool model_same_context(const struct snest_context *a, const struct snest_context *b)
{
	for (unsigned i = 0; i < a->count && i < b->count; i++) {
		if (!model_same_stage(&a->stage[i], &b->stage[i]))
			return false;
	}
	return a->outcome == b->outcome && a->count == b->count && a->rights == b->rights &&
	       a->ia_bits == b->ia_bits && a->flags == b->flags && a->domain == b->domain &&
	       a->space == b->space && a->pasid == b->pasid;
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
	new->context = *c;
	for (unsigned i = 0; i < MODEL_IOVAS; i++) {
		new->set[i].count = 0;
		new->set[i].known = new->set[i].wild = false;
		model_refresh_set(new, i);
	}
	return (int)model.contexts++;
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

	if (p->known && !model_changed(&p->deps))
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

/* Memory may have changed. True: some answer is another one now. */
static bool model_refresh(void)
{
	bool changed = false;

	for (unsigned i = 0; i < model.contexts; i++) {
		for (unsigned j = 0; j < MODEL_IOVAS; j++)
			changed |= model_refresh_set(&model.context[i], j);
	}
	for (unsigned n = 0; n < MODEL_PAIRS; n++)
		changed |= model_refresh_pair(n);
	return changed;
}

/* ---- Invalidation ------------------------------------------------------- */

/* Contexts that match are read anew: what pairs remember of them goes. */
static void model_forget_contexts(bool (*match)(unsigned pair, const struct snest_context *c,
                                                const void *opaque),
                                  const void *opaque)
{
	for (unsigned n = 0; n < MODEL_PAIRS; n++) {
		struct model_pair *p = &model.pair[n];

		if (p->now >= 0 && match(n, &model.context[p->now].context, opaque))
			p->absent = false;
		for (unsigned i = 0; i < model.contexts; i++) {
			if ((p->legal >> i & 1) && (int)i != p->now &&
			    match(n, &model.context[i].context, opaque))
				p->legal &= ~(1u << i);
		}
	}
}

/* Translations of a context that a page in first..last has part in go. */
static void model_forget(struct model_context *c, uint64_t first, uint64_t last)
{
	for (unsigned i = 0; i < MODEL_IOVAS; i++) {
		struct model_set *s = &c->set[i];
		unsigned kept = 0;

		if (first == 0 && last == UINT64_MAX) {
			s->count = 0;
			s->wild = false;
			continue;
		}
		for (unsigned j = 0; j < s->count; j++) {
			uint64_t mask = (1ull << (s->old[j].lg2 > 12 ? s->old[j].lg2 : 12)) - 1;

			if ((model_iovas[i] & ~mask) > last || (model_iovas[i] | mask) < first)
				s->old[kept++] = s->old[j];
		}
		s->count = kept;
	}
}

static bool model_any(unsigned pair, const struct snest_context *c, const void *opaque)
{
	(void)pair;
	(void)c;
	(void)opaque;
	return true;
}

static void model_forget_everything(void)
{
	model_forget_contexts(model_any, NULL);
	for (unsigned i = 0; i < model.contexts; i++)
		model_forget(&model.context[i], 0, UINT64_MAX);
}

/* The root pointer or translation was switched: every request is resolved anew. */
static void model_configure(uint64_t root, bool te)
{
	model.reg.rtaddr = root;
	model.te = te;
	for (unsigned n = 0; n < MODEL_PAIRS; n++)
		model.pair[n].known = false;
	model_refresh();
	model_forget_contexts(model_any, NULL);
}

struct model_match {
	uint32_t rid, did, pasid, function_mask;
};

static bool model_match_device(unsigned pair, const struct snest_context *c, const void *opaque)
{
	static const uint32_t ignored[4] = {0, 4, 6, 7};
	const struct model_match *m = opaque;

	(void)c;
	return !((model_rids[pair / MODEL_PASIDS] ^ m->rid) & ~ignored[m->function_mask & 3]);
}

static bool model_match_domain(unsigned pair, const struct snest_context *c, const void *opaque)
{
	const struct model_match *m = opaque;

	(void)pair;
	return c->domain == m->did;
}

static bool model_match_pasid(unsigned pair, const struct snest_context *c, const void *opaque)
{
	const struct model_match *m = opaque;

	(void)pair;
	return c->domain == m->did && c->pasid == m->pasid;
}

static bool model_first_stage(const struct snest_context *c)
{
	return c->count && c->stage[0].format != SNEST_FORMAT_VTD_SS;
}

/*
 * A descriptor has been executed. Read from the manual's table of fields, not by
 * the decoder under test. What the manual leaves open is taken as the front end
 * documents it: a type 2 command takes all of the first-stage and nested
 * translations of its domain, a command for the context cache of a device also
 * what its PASIDs select.
 */
static void model_execute(const uint64_t *q, uint32_t did_mask, bool scalable)
{
	unsigned type = q[0] & 0xf, g = q[0] >> 4 & 3, am = q[1] & 0x3f;
	uint64_t mask = am >= 52 ? UINT64_MAX : (4096ull << am) - 1;
	uint64_t first = q[1] & ~0xfffull & ~mask, last = first | mask;
	struct model_match m = {
		.rid = q[0] >> 32 & 0xffff,
		.did = q[0] >> 16 & did_mask,
		.pasid = q[0] >> 32 & 0xfffff,
		.function_mask = q[0] >> 48 & 3,
	};

	if (q[0] >> 9 & 7)
		return;
	if (type == 1) {
		if (g == 3)
			model_forget_contexts(model_match_device, &m);
		else if (g == 2 && !scalable)
			model_forget_contexts(model_match_domain, &m);
		else
			model_forget_contexts(model_any, NULL);
		return;
	}
	if (type == 7) {
		model_forget_contexts(g == 3   ? model_any
		                      : g == 1 ? model_match_pasid
		                               : model_match_domain,
		                      &m);
		return;
	}
	if (type != 2 && type != 6)
		return;
	for (unsigned i = 0; i < model.contexts; i++) {
		struct model_context *c = &model.context[i];
		bool fs = model_first_stage(&c->context);

		if (type == 2 && g == 1) {
			model_forget(c, 0, UINT64_MAX);
		} else if (c->context.domain != m.did) {
			continue;
		} else if (type == 2) {
			if (g == 2 || fs)
				model_forget(c, 0, UINT64_MAX);
			else
				model_forget(c, first, last);
		} else if (fs && c->context.space == m.pasid) {
			if (g == 2)
				model_forget(c, 0, UINT64_MAX);
			else
				model_forget(c, first, last);
		}
	}
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
	model.contexts = 0;
	model.overflow = false;
	model.te = false;
	model.reg = (struct snest_vtd_registers){
		.size = sizeof(model.reg), .haw = haw, .cap = cap, .ecap = ecap};
	for (unsigned n = 0; n < MODEL_PAIRS; n++) {
		model.pair[n].legal = 0;
		model.pair[n].known = model.pair[n].wild = model.pair[n].absent = false;
	}
	model_refresh();
}

#endif
