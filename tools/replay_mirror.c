/* SPDX-License-Identifier: MIT */
/*
 * Mirrors of the replayed devices: each has a sink that keeps a plain, sorted
 * list of what it was told to map, and that is as strict as VFIO type 1: maps
 * must not overlap, and unmaps name whole maps.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "tools/replay_mirror.h"

int sn_mirrors_create(struct sn_mirrors **mirrors)
{
	*mirrors = calloc(1, sizeof(**mirrors));
	return *mirrors ? 0 : -ENOMEM;
}

void sn_mirrors_destroy(struct sn_mirrors *mirrors)
{
	for (unsigned i = 0; mirrors && i < mirrors->count; i++) {
		struct sn_mirror *m = &mirrors->mirror[i];

		free(m->sink.map);
		free(m->fresh.map);
		free(m->touched.range);
		free(m->pending.range);
	}
	if (mirrors)
		free(mirrors->ranges.range);
	free(mirrors);
}

unsigned sn_mirrors_count(const struct sn_mirrors *mirrors)
{
	return mirrors->count;
}

unsigned sn_mirrors_rids(const struct sn_mirrors *mirrors, uint32_t *rids, unsigned max)
{
	unsigned n = 0;

	for (; n < mirrors->count && n < max; n++)
		rids[n] = mirrors->mirror[n].rid;
	return n;
}

/* ---- Lists ------------------------------------------------------------------ */

size_t sn_mappings_find(const struct sn_mappings *list, uint64_t addr)
{
	size_t low = 0, high = list->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (list->map[middle].last < addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int sn_mappings_insert(struct sn_mappings *list, size_t at, const struct sn_mapping *mapping)
{
	if (list->count == list->size) {
		size_t size = list->size ? 2 * list->size : 256;
		struct sn_mapping *more = realloc(list->map, size * sizeof(*more));

		if (!more)
			return -ENOMEM;
		list->map = more;
		list->size = size;
	}
	memmove(&list->map[at + 1], &list->map[at], (list->count - at) * sizeof(list->map[0]));
	list->map[at] = *mapping;
	list->count++;
	return 0;
}

/* More than this is everything. */
#define RANGES_MAX 4096u

void sn_ranges_add(struct sn_ranges *r, uint64_t first, uint64_t last)
{
	if (r->all)
		return;
	if (r->count == r->size) {
		size_t size = r->size ? 2 * r->size : 64;
		struct sn_range *more =
			size <= RANGES_MAX ? realloc(r->range, size * sizeof(*more)) : NULL;

		if (!more) {
			r->all = true;
			return;
		}
		r->range = more;
		r->size = size;
	}
	r->range[r->count++] = (struct sn_range){first, last};
}

static int by_first(const void *a, const void *b)
{
	const struct sn_range *x = a, *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

void sn_ranges_sort(struct sn_ranges *r)
{
	size_t n = 0;

	if (r->all || !r->count)
		return;
	qsort(r->range, r->count, sizeof(r->range[0]), by_first);
	for (size_t i = 1; i < r->count; i++) {
		struct sn_range *to = &r->range[n];

		if (to->last == UINT64_MAX || r->range[i].first <= to->last + 1) {
			if (to->last < r->range[i].last)
				to->last = r->range[i].last;
		} else {
			r->range[++n] = r->range[i];
		}
	}
	r->count = n + 1;
}

bool sn_ranges_hold(const struct sn_ranges *r, uint64_t addr, uint64_t *last)
{
	*last = UINT64_MAX;
	if (r->all)
		return true;
	for (size_t i = 0; i < r->count; i++) {
		if (r->range[i].last < addr)
			continue;
		if (r->range[i].first <= addr) {
			*last = r->range[i].last;
			return true;
		}
		*last = r->range[i].first - 1;
		return false;
	}
	return false;
}

void sn_ranges_clear(struct sn_ranges *r)
{
	r->count = 0;
	r->all = false;
}

/* ---- The sink --------------------------------------------------------------- */

static int map(struct sn_mirror *m, const struct snest_sink_op *op)
{
	const struct sn_mapping mapping = {op->first, op->last, op->host, op->rights};
	size_t at = sn_mappings_find(&m->sink, op->first);

	if (op->first > op->last || !op->rights)
		return -EINVAL;
	if (at < m->sink.count && m->sink.map[at].first <= op->last)
		return -EEXIST;
	m->replay->counts.mirror_maps++;
	m->replay->counts.mirror_pages += (op->last - op->first + 4096) >> 12;
	return sn_mappings_insert(&m->sink, at, &mapping);
}

static int unmap(struct sn_mirror *m, const struct snest_sink_op *op)
{
	struct sn_mappings *list = &m->sink;
	size_t at = sn_mappings_find(list, op->first), n = 0;

	while (at + n < list->count && list->map[at + n].first <= op->last)
		n++;
	if (!n || list->map[at].first < op->first || list->map[at + n - 1].last > op->last)
		return -EINVAL;
	memmove(&list->map[at], &list->map[at + n], (list->count - at - n) * sizeof(list->map[0]));
	list->count -= n;
	m->replay->counts.mirror_unmaps++;
	return 0;
}

static int apply(void *opaque, const struct snest_sink_op *ops, size_t count, size_t *done)
{
	struct sn_mirror *m = opaque;

	m->replay->counts.mirror_batches++;
	for (*done = 0; *done < count; ++*done) {
		const struct snest_sink_op *op = &ops[*done];
		int ret = op->map ? map(m, op) : unmap(m, op);

		sn_ranges_add(&m->touched, op->first, op->last);
		if (ret) {
			m->error = ret;
			return ret;
		}
	}
	return 0;
}

static void failed(void *opaque, uint64_t first, uint64_t last, int error)
{
	struct sn_mirror *m = opaque;

	(void)first;
	(void)last;
	if (!m->error)
		m->error = error;
}

int sn_replay_mirror(struct sn_replay *r, uint32_t rid)
{
	struct sn_mirrors *mirrors = r->mirrors;
	struct snest_sink sink = {
		.size = sizeof(sink),
		.apply = apply,
		.failed = failed,
	};
	struct sn_mirror *m;
	int ret;

	for (unsigned i = 0; i < mirrors->count; i++) {
		if (mirrors->mirror[i].rid == rid)
			return 0;
	}
	if (mirrors->count == SN_MIRRORS_MAX)
		return -ENOSPC;
	m = &mirrors->mirror[mirrors->count];
	m->replay = r;
	m->rid = rid;
	sink.opaque = m;
	ret = snest_vtd_mirror(r->vtd, rid, SNEST_NO_PASID, &sink);
	if (ret)
		return ret;
	mirrors->count++;
	r->check_due = true;
	return 0;
}
