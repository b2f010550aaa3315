/* SPDX-License-Identifier: MIT */
/*
 * What was true of each page that a device asked for, and which commands have
 * covered it since. An answer that was true is legal until a command that
 * covers it is complete. Nothing else can be in the shadow, which fills on
 * demand only.
 *
 * Grows with the trace: a few dozen bytes for each page that was asked for and
 * for each command.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "tools/replay_state.h"

int sn_history_create(struct sn_history **history)
{
	*history = calloc(1, sizeof(**history));
	return *history ? 0 : -ENOMEM;
}

void sn_history_destroy(struct sn_history *h)
{
	for (unsigned i = 0; h && i < SN_HISTORY_BUCKETS; i++) {
		while (h->bucket[i]) {
			struct sn_known *k = h->bucket[i];

			h->bucket[i] = k->next;
			free(k);
		}
	}
	if (h)
		free(h->covered);
	free(h);
}

bool sn_answer_same(const struct sn_answer *a, const struct sn_answer *b)
{
	if (a->ok != b->ok || a->cut != b->cut)
		return false;
	/* Offsets within the page are the IOVA's own in every answer. */
	return a->ok ? !((a->gpa ^ b->gpa) & ~(uint64_t)4095) && a->rights == b->rights : true;
}

/* ---- Commands --------------------------------------------------------------- */

void sn_history_doorbell(struct sn_history *h)
{
	h->doorbell = h->count;
}

int sn_history_cover(struct sn_history *h, uint64_t line, const struct sn_cover *cover)
{
	if (cover->kind != SN_COVER_IOTLB)
		return 0;
	if (h->count == h->size) {
		size_t size = h->size ? 2 * h->size : 4096;
		struct sn_covered *more = realloc(h->covered, size * sizeof(*more));

		if (!more)
			return -ENOMEM;
		h->covered = more;
		h->size = size;
	}
	h->covered[h->count++] = (struct sn_covered){*cover, line};
	return 0;
}

const struct sn_cover *sn_history_recent(const struct sn_history *h, size_t i)
{
	return i < h->count - h->doorbell ? &h->covered[h->doorbell + i].cover : NULL;
}

/* Was this page of the domain covered after `line`? */
static bool covered_since(const struct sn_history *h, uint64_t line, uint32_t domain, uint64_t page)
{
	for (size_t i = h->count; i-- && h->covered[i].line > line;) {
		if (sn_cover_hits(&h->covered[i].cover, domain, page, page | 4095))
			return true;
	}
	return false;
}

/* ---- Answers ---------------------------------------------------------------- */

struct sn_known *sn_history_known(struct sn_history *h, uint32_t rid, uint32_t pasid, uint64_t iova,
                                  bool write)
{
	uint64_t page = iova & ~(uint64_t)4095;
	uint64_t hash = (page >> 12) * 0x9e3779b97f4a7c15 ^ rid * UINT64_C(0x85ebca6b) ^ pasid;
	struct sn_known **at = &h->bucket[(hash >> 24) % SN_HISTORY_BUCKETS];

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

void sn_history_remember(struct sn_known *k, const struct sn_answer *answer, uint64_t line)
{
	if (!k->count || !sn_answer_same(&k->was[0].answer, answer)) {
		memmove(&k->was[1], &k->was[0], (SN_REMEMBERED - 1) * sizeof(k->was[0]));
		if (k->count < SN_REMEMBERED)
			k->count++;
		k->was[0].answer = *answer;
	}
	k->was[0].line = line;
}

bool sn_history_legal(const struct sn_history *h, const struct sn_known *k, uint32_t domain,
                      const struct sn_answer *answer)
{
	for (unsigned i = 0; i < k->count; i++) {
		if (sn_answer_same(&k->was[i].answer, answer))
			return !covered_since(h, k->was[i].line, domain, k->page);
	}
	return false;
}
