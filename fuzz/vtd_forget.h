/* SPDX-License-Identifier: MIT */
/*
 * What the model IOTLB (vtd_model.h) forgets: for each command of the guest what
 * is not legal any more when it has been executed.
 */
#ifndef FUZZ_VTD_FORGET_H
#define FUZZ_VTD_FORGET_H

#include "vtd_model.h"

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
	/* Before a command for the IOTLB that may follow. */
	model_reach();
}

/* Translations that a page in first..last has part in go. */
static void model_forget(struct model_tables *t, uint64_t first, uint64_t last)
{
	for (unsigned i = 0; i < MODEL_IOVAS; i++) {
		struct model_set *s = &t->set[i];
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
	for (unsigned i = 0; i < model.table_count; i++)
		model_forget(&model.tables[i], 0, UINT64_MAX);
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
	for (unsigned i = 0; i < model.table_count; i++) {
		struct model_tables *t = &model.tables[i];
		bool fs = model_first_stage(t->context);

		if (type == 2 && g == 1) {
			model_forget(t, 0, UINT64_MAX);
		} else if (t->context->domain != m.did) {
			continue;
		} else if (type == 2) {
			if (g == 2 || fs)
				model_forget(t, 0, UINT64_MAX);
			else
				model_forget(t, first, last);
		} else if (fs && t->context->space == m.pasid) {
			if (g == 2)
				model_forget(t, 0, UINT64_MAX);
			else
				model_forget(t, first, last);
		}
	}
}

#endif
