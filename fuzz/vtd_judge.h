/* SPDX-License-Identifier: MIT */
/*
 * What the model IOTLB (vtd_model.h) allows: the answers that a request may get
 * now, and what a mirror's sink may hold.
 */
#ifndef FUZZ_VTD_JUDGE_H
#define FUZZ_VTD_JUDGE_H

#include "viommu/vtd_defs.h"
#include "vtd_forget.h"

/* ---- Judging ------------------------------------------------------------ */

static bool model_is_wild(const struct model_pair *p, unsigned iova)
{
	if (model.overflow || p->wild)
		return true;
	for (unsigned i = 0; i < model.contexts; i++) {
		if ((p->legal >> i & 1) && model_tables_of(i)->set[iova].wild)
			return true;
	}
	return false;
}

/* Which answers count: what is cached, too; what tables say now; what a sink has to follow. */
enum model_scope {
	MODEL_CACHED,
	MODEL_NOW,
	MODEL_MIRROR,
};

/*
 * Caching mode announces what changes in second stages. The sink of others is
 * told what was written, and has nothing that tables said before.
 */
static bool model_is_announced(const struct snest_context *c)
{
	return !c->count || (!model_first_stage(c) && (model.reg.cap & VTD_CAP_CM));
}

/* Calls fit for every legal answer until it says yes. */
static bool model_find(const struct model_pair *p, unsigned iova, enum model_scope scope,
                       bool (*fit)(const struct model_answer *a, const void *opaque),
                       const void *opaque)
{
	for (unsigned i = 0; i < model.contexts; i++) {
		const struct model_set *s = &model_tables_of(i)->set[iova];

		if (!(p->legal >> i & 1))
			continue;
		if (fit(&s->now, opaque))
			return true;
		if (scope == MODEL_NOW ||
		    (scope == MODEL_MIRROR && !model_is_announced(&model.context[i].context)))
			continue;
		for (unsigned j = 0; j < s->count; j++) {
			if (fit(&s->old[j], opaque))
				return true;
		}
	}
	return false;
}

struct model_reply {
	uint64_t addr;
	uint32_t outcome, rights, access;
};

static bool model_fits(const struct model_answer *a, const void *opaque)
{
	const struct model_reply *r = opaque;

	return a->outcome == r->outcome && a->addr == r->addr &&
	       !((r->rights | r->access) & SNEST_RIGHTS & ~(uint32_t)a->rights);
}

/* Does this answer refuse the access? Also one that leads to the interrupt range. */
static bool model_refuses(const struct model_answer *a, const void *opaque)
{
	const struct model_reply *r = opaque;

	return a->outcome == SNEST_WALK_FAULT ||
	       (r->access & SNEST_RIGHTS & ~(uint32_t)a->rights) ||
	       (a->outcome == SNEST_WALK_GPA && a->addr >> 20 == 0xfee);
}

static void model_print(unsigned pair, unsigned iova)
{
	const struct model_pair *p = &model.pair[pair];

	fprintf(stderr, "model: rid 0x%x pasid 0x%x iova 0x%llx: now context %d, legal 0x%x\n",
	        model_rids[pair / MODEL_PASIDS], model_pasids[pair % MODEL_PASIDS],
	        (unsigned long long)model_iovas[iova], p->now, p->legal);
	for (unsigned i = 0; i < model.contexts; i++) {
		const struct model_context *c = &model.context[i];
		const struct model_set *s = &model_tables_of(i)->set[iova];

		fprintf(stderr,
		        "  context %u: domain %u space %u pasid 0x%x %u bits flags 0x%x, %u stages, tables %u\n",
		        i, c->context.domain, c->context.space, c->context.pasid,
		        c->context.ia_bits, c->context.flags, c->context.count, c->tables);
		for (int j = s->known ? -1 : 0; j < (int)s->count; j++) {
			const struct model_answer *a = j < 0 ? &s->now : &s->old[j];

			fprintf(stderr, "    %s outcome %u addr 0x%llx rights %u lg2 %u\n",
			        j < 0 ? "now" : "old", a->outcome, (unsigned long long)a->addr,
			        a->rights, a->lg2);
		}
	}
}

/* A request for a page and its reply, offset in the page already taken off. */
static void model_judge(unsigned pair, unsigned iova, int ret, const struct model_reply *r)
{
	const struct model_pair *p = &model.pair[pair];
	bool legal, nested = false;

	if (model_is_wild(p, iova))
		return;
	if (!ret) {
		legal = model_find(p, iova, MODEL_CACHED, model_fits, r);
	} else {
		/* Flags that nested tables could not be given are not the model's. */
		for (unsigned i = 0; i < model.contexts; i++)
			nested |= (p->legal >> i & 1) && model.context[i].context.count > 1;
		legal = nested || p->now < 0 || model_find(p, iova, MODEL_NOW, model_refuses, r);
	}
	if (!legal)
		model_print(pair, iova);
	fuzz_check(legal, "access %u: %d, outcome %u, 0x%llx rights %u", r->access, ret, r->outcome,
	           (unsigned long long)r->addr, r->rights);
}

static bool model_is_absent(const struct model_answer *a, const void *opaque)
{
	(void)opaque;
	return a->outcome != SNEST_WALK_HOST || !(a->rights & (SNEST_READ | SNEST_WRITE));
}

static bool model_is_mapped(const struct model_answer *a, const void *opaque)
{
	const struct model_reply *r = opaque;

	return a->outcome == SNEST_WALK_HOST && a->addr == r->addr &&
	       (a->rights & (SNEST_READ | SNEST_WRITE)) == r->rights;
}

/* What a mirror's sink holds for a page: rights 0 is nothing. `lacks`: it was told so. */
static void model_judge_mirror(unsigned pair, unsigned iova, uint64_t host, uint32_t rights,
                               bool lacks)
{
	const struct model_pair *p = &model.pair[pair];
	struct model_reply r = {.addr = host, .rights = rights};
	bool legal;

	if (model_is_wild(p, iova) || (!rights && lacks))
		return;
	if (rights)
		legal = model_find(p, iova, MODEL_MIRROR, model_is_mapped, &r);
	else
		legal = p->absent || model_find(p, iova, MODEL_MIRROR, model_is_absent, NULL);
	if (!legal)
		model_print(pair, iova);
	fuzz_check(legal, "mirror: host 0x%llx rights %u", (unsigned long long)host, rights);
}

#endif
