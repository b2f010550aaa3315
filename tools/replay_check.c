/* SPDX-License-Identifier: MIT */
/*
 * Judging answers.
 *
 * Three answers meet: the recorded one, a fresh walk of the tables as they are
 * at this line, and what snest says from its shadow.
 *
 *   - A recorded answer that did not come from the VMM's cache must equal the
 *     fresh walk: address, rights, size, and whether and why it faults.
 *   - One from its cache must equal it too, or an answer that was true before
 *     and that no command has covered since.
 *   - snest's answer is held to the same rule, always.
 */
#include <errno.h>
#include "tools/replay.h"

static struct sn_answer recorded(const struct sn_trace_event *e)
{
	struct sn_answer a = {.ok = e->answer.ok, .code = e->answer.code};

	if (a.ok) {
		a.gpa = e->answer.gpa;
		a.rights = e->answer.rights;
		a.lg2 = e->answer.mask == UINT64_MAX
		                ? 64
		                : (uint8_t)(63 - __builtin_clzll(e->answer.mask + 1));
	}
	return a;
}

int sn_replay_context(struct sn_replay *r, uint32_t rid, uint32_t pasid, uint32_t access,
                      uint64_t iova, struct snest_context *context)
{
	struct snest_request request = {
		.size = sizeof(request),
		.rid = rid,
		.pasid = pasid,
		.access = access,
		.iova = iova,
	};

	if (!r->enabled) {
		*context = (struct snest_context){.rights = SNEST_RIGHTS, .ia_bits = 64};
		return 0;
	}
	return snest_vtd_context(r->vm, &r->registers, &request, context);
}

/* What the tables say now. Reads no cache of snest. */
static struct sn_answer fresh(struct sn_replay *r, const struct sn_trace_event *e, uint32_t access,
                              struct snest_context *context, struct sn_wrong *wrong)
{
	struct sn_answer a = {.ok = false};
	struct snest_walk walk;

	if (sn_replay_context(r, e->answer.rid, e->answer.pasid, access, e->answer.iova, context) ||
	    context->outcome != SNEST_CONTEXT_STAGES)
		return a;
	wrong->steps = sizeof(wrong->step) / sizeof(wrong->step[0]);
	if (snest_walk(r->vm, context->stage, context->count, e->answer.iova, access,
	               SNEST_WALK_NO_UPDATE, &walk, wrong->step, &wrong->steps) ||
	    walk.outcome == SNEST_WALK_FAULT)
		return a;
	a.ok = true;
	a.gpa = walk.gpa;
	a.rights = walk.rights & (SNEST_READ | SNEST_WRITE);
	a.lg2 = walk.lg2;
	return a;
}

/* What snest says. */
static struct sn_answer ask(struct sn_replay *r, const struct sn_trace_event *e, uint32_t access)
{
	struct sn_answer a = {.ok = false};
	struct snest_translation t;
	struct snest_fault fault = {.code = 0};
	uint64_t begin = sn_replay_now();

	snest_read_begin();
	if (snest_vtd_translate(r->vtd, e->answer.rid, e->answer.pasid, e->answer.iova, access, &t,
	                        &fault)) {
		a.code = fault.code;
	} else {
		a.ok = true;
		a.cut = !t.length || (e->answer.iova + t.length) % 4096;
		a.gpa = t.outcome == SNEST_WALK_HOST ? sn_replay_gpa(r, t.host) : t.host;
		a.rights = t.rights & (SNEST_READ | SNEST_WRITE);
	}
	snest_read_end();
	r->counts.lookup_ns += sn_replay_now() - begin;
	return a;
}

static void complain(struct sn_replay *r, const struct sn_trace_event *e, struct sn_wrong *wrong,
                     const char *judge, const struct sn_answer *expected,
                     const struct sn_answer *got)
{
	wrong->judge = judge;
	wrong->line = e->line;
	wrong->rid = e->answer.rid;
	wrong->pasid = e->answer.pasid;
	wrong->iova = e->answer.iova;
	wrong->write = e->answer.write;
	wrong->expected = *expected;
	wrong->got = *got;
	if (r->counts.wrong < SN_WRONG_MAX)
		r->wrong[r->counts.wrong] = *wrong;
}

int sn_replay_check(struct sn_replay *r, const struct sn_trace_event *e)
{
	uint32_t access = e->answer.write ? SNEST_WRITE : SNEST_READ;
	struct sn_answer said = recorded(e), truth, got;
	struct sn_wrong wrong = {.steps = 0};
	bool stale = false, bad = false, sized;
	struct sn_known *k = sn_history_known(r->history, e->answer.rid, e->answer.pasid,
	                                      e->answer.iova, e->answer.write);

	if (!k)
		return -ENOMEM;
	truth = fresh(r, e, access, &wrong.context, &wrong);
	got = ask(r, e, access);
	sn_history_remember(k, &truth, e->line);

	r->counts.checked++;
	r->counts.cached += e->answer.cached;
	/* From its cache the VMM refuses a right that it lacks, and reports nothing. */
	if (e->answer.cached && said.ok && (said.rights & access) != access)
		said = (struct sn_answer){.ok = false};
	/* How far a pass-through translation reaches is nowhere in the guest's tables. */
	sized = !e->answer.cached && said.ok && wrong.context.count;
	if (!sn_answer_same(&said, &truth) || (sized && said.lg2 != truth.lg2)) {
		if (e->answer.cached &&
		    sn_history_legal(r->history, k, wrong.context.domain, &said)) {
			stale = true;
		} else {
			bad = true;
			complain(r, e, &wrong, "recorded answer against a fresh walk", &said,
			         &truth);
		}
	}
	if (!bad && !sn_answer_same(&got, &truth)) {
		if (sn_history_legal(r->history, k, wrong.context.domain, &got) ||
		    sn_slots_legal(r, e->answer.rid, e->answer.pasid, e->answer.iova, access,
		                   &got)) {
			stale = true;
		} else {
			bad = true;
			complain(r, e, &wrong, "snest's answer against a fresh walk", &truth, &got);
		}
	}
	if (!bad && !e->answer.cached && !said.ok && !got.ok && said.code &&
	    said.code != got.code) {
		bad = true;
		complain(r, e, &wrong, "fault reason", &said, &got);
	}
	r->counts.wrong += bad;
	r->counts.stale += stale && !bad;
	r->counts.agreed += !stale && !bad;
	return 0;
}
