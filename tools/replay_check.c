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
 *     and that no invalidation has covered since.
 *   - snest's answer is held to the same rule, always.
 *
 * "True before" is remembered for each device, PASID and page that was asked
 * for; nothing else can be in snest's shadow, which fills on demand.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "tools/replay.h"

#define BUCKETS 65536u
#define REMEMBERED 4u

/* What was true of one page, newest first. */
struct known {
	struct known *next;
	uint32_t rid, pasid;
	uint64_t page;
	bool write;
	unsigned count;
	struct {
		struct sn_answer answer;
		uint64_t line; /* last line at which it was true */
	} was[REMEMBERED];
};

/* An invalidation: of a domain, or of all. */
struct covered {
	uint64_t line;
	uint32_t domain; /* UINT32_MAX: every one */
	uint64_t first, last;
};

struct sn_history {
	struct known *bucket[BUCKETS];
	struct covered *covered;
	size_t count, size;
	size_t doorbell; /* count at the latest tail write */
};

int sn_history_create(struct sn_history **history)
{
	*history = calloc(1, sizeof(**history));
	return *history ? 0 : -ENOMEM;
}

void sn_history_destroy(struct sn_history *h)
{
	for (unsigned i = 0; h && i < BUCKETS; i++) {
		while (h->bucket[i]) {
			struct known *k = h->bucket[i];

			h->bucket[i] = k->next;
			free(k);
		}
	}
	if (h)
		free(h->covered);
	free(h);
}

/* ---- Invalidations ------------------------------------------------------------------ */

static int cover(struct sn_replay *r, uint32_t domain, uint64_t first, uint64_t last)
{
	struct sn_history *h = r->history;

	if (h->count == h->size) {
		size_t size = h->size ? 2 * h->size : 4096;
		struct covered *more = realloc(h->covered, size * sizeof(*more));

		if (!more)
			return -ENOMEM;
		h->covered = more;
		h->size = size;
	}
	h->covered[h->count++] = (struct covered){ r->line, domain, first, last };
	return 0;
}

int sn_replay_invalidated(struct sn_replay *r)
{
	return cover(r, UINT32_MAX, 0, UINT64_MAX);
}

static uint64_t word(const uint8_t *bytes)
{
	uint64_t value = 0;

	for (unsigned i = 8; i--;)
		value = value << 8 | bytes[i];
	return value;
}

int sn_replay_command(struct sn_replay *r, const uint8_t *bytes, unsigned length)
{
	uint64_t low = word(bytes), high = length >= 16 ? word(bytes + 8) : 0;
	unsigned type = low & 0xf, granularity = low >> 4 & 3, am = high & 0x3f;
	uint32_t domain = low >> 16 & 0xffff;
	uint64_t span = am >= 52 ? UINT64_MAX : ((uint64_t)4096 << am) - 1;

	if (type != 2 && type != 6)
		return 0;
	if (type == 2 && granularity == 1)
		return sn_replay_invalidated(r);
	if (granularity == 3)
		return cover(r, domain, high & ~4095ull & ~span, (high & ~4095ull) | span);
	return cover(r, domain, 0, UINT64_MAX);
}

void sn_replay_doorbell(struct sn_replay *r)
{
	r->history->doorbell = r->history->count;
}

bool sn_replay_covered_now(const struct sn_replay *r, uint32_t domain, uint64_t first,
                           uint64_t last)
{
	const struct sn_history *h = r->history;

	for (size_t i = h->doorbell; i < h->count; i++) {
		const struct covered *c = &h->covered[i];

		if ((c->domain == UINT32_MAX || c->domain == domain) && c->first <= last &&
		    c->last >= first)
			return true;
	}
	return false;
}

/* Was this page of the domain invalidated after `line`? */
static bool covered_since(const struct sn_history *h, uint64_t line, uint32_t domain,
                          uint64_t page)
{
	for (size_t i = h->count; i-- && h->covered[i].line > line;) {
		const struct covered *c = &h->covered[i];

		if ((c->domain == UINT32_MAX || c->domain == domain) && c->first <= page + 4095 &&
		    c->last >= page)
			return true;
	}
	return false;
}

/* ---- What was true ------------------------------------------------------------------------ */

static bool same(const struct sn_answer *a, const struct sn_answer *b)
{
	if (a->ok != b->ok)
		return false;
	/* Offsets within the page are the IOVA's own in every answer. */
	return a->ok ? !((a->gpa ^ b->gpa) & ~4095ull) && a->rights == b->rights : true;
}

static struct known *known(struct sn_history *h, uint32_t rid, uint32_t pasid, uint64_t page,
                           bool write)
{
	uint64_t hash = (page >> 12) * 0x9e3779b97f4a7c15ull ^ rid * 0x85ebca6bull ^ pasid;
	struct known **at = &h->bucket[(hash >> 24) % BUCKETS];

	for (; *at; at = &(*at)->next) {
		if ((*at)->rid == rid && (*at)->pasid == pasid && (*at)->page == page &&
		    (*at)->write == write)
			return *at;
	}
	*at = calloc(1, sizeof(**at));
	if (*at) {
		(*at)->rid = rid;
		(*at)->pasid = pasid;
		(*at)->page = page;
		(*at)->write = write;
	}
	return *at;
}

static void remember(struct known *k, const struct sn_answer *answer, uint64_t line)
{
	if (!k->count || !same(&k->was[0].answer, answer)) {
		memmove(&k->was[1], &k->was[0], (REMEMBERED - 1) * sizeof(k->was[0]));
		if (k->count < REMEMBERED)
			k->count++;
		k->was[0].answer = *answer;
	}
	k->was[0].line = line;
}

/* An answer that differs from the truth: was it true, and nothing has covered it since? */
static bool legal(const struct sn_history *h, const struct known *k, uint32_t domain,
                  const struct sn_answer *answer)
{
	for (unsigned i = 0; i < k->count; i++) {
		if (same(&k->was[i].answer, answer))
			return !covered_since(h, k->was[i].line, domain, k->page);
	}
	return false;
}

/* ---- The three answers ----------------------------------------------------------------------- */

static struct sn_answer recorded(const struct sn_trace_event *e)
{
	struct sn_answer a = { .ok = e->answer.ok, .code = e->answer.code };

	if (a.ok) {
		a.gpa = e->answer.gpa;
		a.rights = e->answer.rights;
		a.lg2 = e->answer.mask == UINT64_MAX
		                ? 64
		                : (uint8_t)(63 - __builtin_clzll(e->answer.mask + 1));
	}
	return a;
}

/* What the tables say now. Reads no cache of snest. */
static struct sn_answer fresh(struct sn_replay *r, const struct sn_trace_event *e, uint32_t access,
                              struct snest_context *context, struct sn_wrong *wrong)
{
	struct snest_request request = {
		.size = sizeof(request),
		.rid = e->answer.rid,
		.pasid = e->answer.pasid,
		.access = access,
		.iova = e->answer.iova,
	};
	struct sn_answer a = { .ok = false };
	struct snest_walk walk;

	if (snest_vtd_context(r->vm, &r->registers, &request, context) ||
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

static struct sn_answer ask(struct sn_replay *r, const struct sn_trace_event *e, uint32_t access)
{
	struct sn_answer a = { .ok = false };
	struct snest_translation t;
	struct snest_fault fault = { .code = 0 };
	struct timespec begin, end;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	snest_read_begin();
	if (snest_vtd_translate(r->vtd, e->answer.rid, e->answer.pasid, e->answer.iova, access, &t,
	                        &fault)) {
		a.code = fault.code;
	} else {
		uint64_t end_of_leaf = e->answer.iova + t.length - 1;

		a.ok = true;
		a.gpa = t.host;
		a.rights = t.rights & (SNEST_READ | SNEST_WRITE);
		a.lg2 = t.length ? (uint8_t)__builtin_ctzll(end_of_leaf + 1 ? end_of_leaf + 1
		                                                            : 1ull << 63)
		                 : 0;
	}
	snest_read_end();
	clock_gettime(CLOCK_MONOTONIC, &end);
	r->counts.lookup_ns += (uint64_t)((end.tv_sec - begin.tv_sec) * 1000000000 + end.tv_nsec -
	                                  begin.tv_nsec);
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
	struct sn_wrong wrong = { .steps = 0 };
	bool stale = false, bad = false, sized;
	struct known *k = known(r->history, e->answer.rid, e->answer.pasid,
	                        e->answer.iova & ~4095ull, e->answer.write);

	if (!k)
		return -ENOMEM;
	truth = fresh(r, e, access, &wrong.context, &wrong);
	got = ask(r, e, access);
	remember(k, &truth, e->line);

	r->counts.checked++;
	r->counts.cached += e->answer.cached;
	/* From its cache the VMM refuses a right that it lacks, and reports nothing. */
	if (e->answer.cached && said.ok && (said.rights & access) != access)
		said = (struct sn_answer){ .ok = false };
	/* How far a pass-through translation reaches is nowhere in the guest's tables. */
	sized = !e->answer.cached && said.ok && wrong.context.count;
	if (!same(&said, &truth) || (sized && said.lg2 != truth.lg2)) {
		if (e->answer.cached && legal(r->history, k, wrong.context.domain, &said)) {
			stale = true;
		} else {
			bad = true;
			complain(r, e, &wrong, "recorded answer against a fresh walk", &said,
			         &truth);
		}
	}
	if (!bad && (!same(&got, &truth) || (got.ok && got.lg2 < 12))) {
		if (legal(r->history, k, wrong.context.domain, &got)) {
			stale = true;
		} else {
			bad = true;
			complain(r, e, &wrong, "snest's answer against a fresh walk", &truth,
			         &got);
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
