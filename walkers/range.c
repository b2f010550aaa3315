/* SPDX-License-Identifier: MIT */
/*
 * Enumeration across stages: from the runs of one stage to the ranges of the
 * next, and from the last stage to the memory map and the visitor.
 */
#include <errno.h>
#include "walkers/range.h"

size_t sn_ranger_table(struct sn_ranger *r, unsigned k, unsigned level, uint64_t at, size_t length,
                       const void **ptr, bool *readable)
{
	size_t page = 4096 - (at & 4095);
	struct sn_target t;
	uint64_t gpa = at;

	if (length > page)
		length = page;
	*ptr = NULL;
	*readable = false;
	if (k + 1 < r->env.count) {
		uint8_t for_stage = r->env.for_stage, for_level = r->env.for_level;
		unsigned reason;

		r->env.for_stage = (uint8_t)k;
		r->env.for_level = (uint8_t)level;
		reason = sn_collapse(&r->env, k + 1, at, SNEST_READ, &t, NULL);
		r->env.for_stage = for_stage;
		r->env.for_level = for_level;
		if (reason)
			return length;
		gpa = t.gpa;
		/* A translation smaller than a page exists only in the mock format. */
		if (length > sn_mask(t.lg2) + 1 - (at & sn_mask(t.lg2)))
			length = sn_mask(t.lg2) + 1 - (at & sn_mask(t.lg2));
	}

	const struct sn_region *region = sn_memory_find(r->env.map, gpa);

	if (!region || (region->flags & SNEST_REGION_NO_TABLES))
		return length;
	*readable = region->direct || region->accessors;
	if (r->env.watch && *readable &&
	    r->env.watch->table(r->env.watch, k, level, gpa, length, r->env.watch->shift)) {
		*readable = false;
		return length;
	}
	if (region->direct)
		*ptr = (const void *)(region->mapping + gpa);
	return length;
}

static int out_flush(struct sn_ranger *r)
{
	r->out_valid = false;
	return r->visit(r->opaque, &r->out);
}

/*
 * One piece with a known end: merges it with the open run, or closes that
 * first. Fields are copied one by one: they were just written one by one, and
 * wider loads would wait for that.
 */
static inline int out_piece(struct sn_ranger *r, const struct snest_run *piece)
{
	struct snest_run *out = &r->out;

	if (r->out_valid && out->outcome == piece->outcome && out->rights == piece->rights &&
	    out->last + 1 == piece->first &&
	    out->addr + (piece->first - out->first) == piece->addr) {
		out->last = piece->last;
		if (out->lg2 < piece->lg2)
			out->lg2 = piece->lg2;
		if (out->first_lg2 < piece->first_lg2)
			out->first_lg2 = piece->first_lg2;
		return 0;
	}
	if (r->out_valid) {
		int ret = out_flush(r);

		if (ret)
			return ret;
	}
	out->first = piece->first;
	out->last = piece->last;
	out->addr = piece->addr;
	out->outcome = piece->outcome;
	out->rights = piece->rights;
	out->lg2 = piece->lg2;
	out->first_lg2 = piece->first_lg2;
	r->out_valid = true;
	return 0;
}

/* Index of the first region that ends at or behind addr. */
static size_t region_from(const struct sn_memory_map *map, uint64_t addr)
{
	size_t low = 0, high = map->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (map->region[middle].last < addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Cuts a run of GPAs along the regions of the memory map. */
static int out_run(struct sn_ranger *r, const struct sn_run *run, unsigned rights, unsigned lg2)
{
	const struct sn_memory_map *map = r->env.map;
	uint64_t gpa = run->addr, gpa_last = run->addr + (run->last - run->first);
	const struct sn_region *hot = &map->hot;
	bool in_hot = gpa - hot->first < map->hot_size && gpa_last - hot->first < map->hot_size;
	size_t i = in_hot ? 0 : region_from(map, gpa);

	for (;;) {
		const struct sn_region *region = in_hot           ? hot
		                                 : i < map->count ? &map->region[i]
		                                                  : NULL;
		struct snest_run piece = {
			.first = run->iova + (gpa - run->addr),
			.rights = (uint8_t)rights,
			.lg2 = (uint8_t)lg2,
			.first_lg2 = r->first_lg2,
		};
		uint64_t to = gpa_last;
		int ret;

		if (region && region->first <= gpa) {
			piece.outcome = SNEST_WALK_HOST;
			piece.addr = gpa + region->host;
			if (region->flags & SNEST_REGION_READONLY)
				piece.rights &= (uint8_t)~SNEST_WRITE;
			if (to > region->last)
				to = region->last;
			i++;
		} else {
			piece.outcome = SNEST_WALK_GPA;
			piece.addr = gpa;
			if (region && to >= region->first)
				to = region->first - 1;
		}
		piece.last = piece.first + (to - gpa);
		ret = piece.rights ? out_piece(r, &piece) : 0;
		if (ret || to == gpa_last)
			return ret;
		gpa = to + 1;
	}
}

int sn_ranger_flush(struct sn_ranger *r, unsigned k)
{
	struct sn_run *run = &r->pending[k];
	unsigned rights, lg2;
	int ret, ret2;

	if (!run->valid)
		return 0;
	run->valid = false;
	rights = run->rights & r->carry_rights[k];
	lg2 = run->lg2 < r->carry_lg2[k] ? run->lg2 : r->carry_lg2[k];
	if (!rights)
		return 0;
	if (k == 0)
		r->first_lg2 = run->lg2;
	if (k + 1 == r->env.count)
		return out_run(r, run, rights, lg2);

	r->carry_rights[k + 1] = (uint8_t)rights;
	r->carry_lg2[k + 1] = (uint8_t)lg2;
	ret = sn_format(r->env.pt[k + 1].format)
	              ->range(r, k + 1, run->addr, run->addr + (run->last - run->first), run->iova);
	if (ret && ret != -EAGAIN)
		return ret;
	/*
	 * Out of budget: what was found before the stop still goes out. If that
	 * stops in a later stage, it does so earlier and says so in r->resume.
	 */
	ret2 = sn_ranger_flush(r, k + 1);
	return ret2 ? ret2 : ret;
}

int sn_ranger_run(struct sn_ranger *r, uint64_t first, uint64_t last)
{
	int ret, ret2;

	r->out_valid = false;
	r->out = (struct snest_run){0};
	for (unsigned k = 0; k < SNEST_MAX_STAGES; k++)
		r->pending[k].valid = false;
	r->carry_rights[0] = SNEST_RIGHTS;
	r->carry_lg2[0] = 64;
	r->first_lg2 = 0;
	if (r->env.count == 0) {
		struct sn_run all = {first, last, first, first, SNEST_RIGHTS, 64, true};

		ret = out_run(r, &all, SNEST_RIGHTS, 64);
	} else {
		ret = sn_format(r->env.pt[0].format)->range(r, 0, first, last, first);
		if (!ret || ret == -EAGAIN) {
			ret2 = sn_ranger_flush(r, 0);
			ret = ret2 ? ret2 : ret;
		}
	}
	if (r->out_valid && (!ret || ret == -EAGAIN)) {
		ret2 = out_flush(r);
		ret = ret2 ? ret2 : ret;
	}
	return ret;
}
