/* SPDX-License-Identifier: MIT */
/*
 * Mirrors of the replayed devices: each has a sink that keeps a plain, sorted
 * list of what it was told to map, and that is as strict as VFIO type 1: maps
 * must not overlap, and unmaps name whole maps. After the commands of every tail
 * write the lists are compared with a fresh walk of the device's tables.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "tools/replay.h"

#define MIRRORS_MAX 64

struct mapping {
	uint64_t first, last, host;
	uint32_t rights;
};

struct mirror {
	uint32_t rid;
	struct mapping *map; /* ascending, disjoint */
	size_t count, size;
	uint64_t maps, unmaps, batches, pages;
	bool broken; /* an operation broke the rules, or failed */
};

struct sn_mirrors {
	unsigned count;
	struct mirror mirror[MIRRORS_MAX];
};

int sn_mirrors_create(struct sn_mirrors **mirrors)
{
	*mirrors = calloc(1, sizeof(**mirrors));
	return *mirrors ? 0 : -ENOMEM;
}

void sn_mirrors_destroy(struct sn_mirrors *mirrors)
{
	for (unsigned i = 0; mirrors && i < mirrors->count; i++)
		free(mirrors->mirror[i].map);
	free(mirrors);
}

void sn_mirrors_totals(const struct sn_mirrors *mirrors, uint64_t *maps, uint64_t *unmaps,
                       uint64_t *batches, uint64_t *pages)
{
	*maps = *unmaps = *batches = *pages = 0;
	for (unsigned i = 0; mirrors && i < mirrors->count; i++) {
		*maps += mirrors->mirror[i].maps;
		*unmaps += mirrors->mirror[i].unmaps;
		*batches += mirrors->mirror[i].batches;
		*pages += mirrors->mirror[i].pages;
	}
}

/* ---- The sink --------------------------------------------------------------------- */

/* Index of the first mapping that ends at or behind addr. */
static size_t find(const struct mirror *m, uint64_t addr)
{
	size_t low = 0, high = m->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (m->map[middle].last < addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int map(struct mirror *m, const struct snest_sink_op *op)
{
	size_t at = find(m, op->first);

	if (at < m->count && m->map[at].first <= op->last)
		return -EEXIST;
	if (m->count == m->size) {
		size_t size = m->size ? 2 * m->size : 1024;
		struct mapping *more = realloc(m->map, size * sizeof(*more));

		if (!more)
			return -ENOMEM;
		m->map = more;
		m->size = size;
	}
	memmove(&m->map[at + 1], &m->map[at], (m->count - at) * sizeof(m->map[0]));
	m->map[at] = (struct mapping){ op->first, op->last, op->host, op->rights };
	m->count++;
	m->maps++;
	m->pages += (op->last - op->first + 4096) >> 12;
	return 0;
}

static int unmap(struct mirror *m, const struct snest_sink_op *op)
{
	size_t at = find(m, op->first), n = 0;

	while (at + n < m->count && m->map[at + n].first <= op->last)
		n++;
	if (!n || m->map[at].first < op->first || m->map[at + n - 1].last > op->last)
		return -EINVAL;
	memmove(&m->map[at], &m->map[at + n], (m->count - at - n) * sizeof(m->map[0]));
	m->count -= n;
	m->unmaps++;
	return 0;
}

static int apply(void *opaque, const struct snest_sink_op *ops, size_t count, size_t *done)
{
	struct mirror *m = opaque;

	m->batches++;
	for (*done = 0; *done < count; ++*done) {
		const struct snest_sink_op *op = &ops[*done];
		int ret = op->map ? map(m, op) : unmap(m, op);

		if (ret) {
			m->broken = true;
			return ret;
		}
	}
	return 0;
}

static void failed(void *opaque, uint64_t first, uint64_t last, int error)
{
	struct mirror *m = opaque;

	(void)first;
	(void)last;
	(void)error;
	m->broken = true;
}

int sn_replay_mirror(struct sn_replay *r, uint32_t rid)
{
	struct sn_mirrors *mirrors = r->mirrors;
	struct snest_sink sink = {
		.size = sizeof(sink),
		.apply = apply,
		.failed = failed,
	};
	struct mirror *m;
	int ret;

	for (unsigned i = 0; i < mirrors->count; i++) {
		if (mirrors->mirror[i].rid == rid)
			return 0;
	}
	if (mirrors->count == MIRRORS_MAX)
		return -ENOSPC;
	m = &mirrors->mirror[mirrors->count];
	m->rid = rid;
	sink.opaque = m;
	ret = snest_vtd_mirror(r->vtd, rid, SNEST_NO_PASID, &sink);
	if (ret)
		return ret;
	mirrors->count++;
	return 0;
}

/* ---- The comparison ----------------------------------------------------------------- */

/*
 * A guest has more than one processor: at a tail write its tables may hold
 * changes that another one has yet to announce. So a difference is wrong only
 * where a command of this very tail write covered it; the tables have not
 * changed since that was processed.
 */

struct comparison {
	struct sn_replay *r;
	const struct mirror *m;
	uint32_t domain;
	size_t at;       /* mapping at hand */
	uint64_t next;   /* first address not yet compared */
	bool end;        /* nothing is left to compare */
	bool wrong;
	uint64_t entries;
};

static void differs(struct comparison *c, uint64_t first, uint64_t last)
{
	if (sn_replay_covered_now(c->r, c->domain, first, last))
		c->wrong = true;
}

/* Nothing is mapped from c->next to last: nor may anything be in the list. */
static void compare_hole(struct comparison *c, uint64_t last)
{
	while (c->at < c->m->count && c->m->map[c->at].last < c->next)
		c->at++;
	for (size_t i = c->at; i < c->m->count && c->m->map[i].first <= last; i++) {
		const struct mapping *map = &c->m->map[i];

		c->entries++;
		differs(c, map->first > c->next ? map->first : c->next,
		        map->last < last ? map->last : last);
	}
}

/* One run of the fresh walk, in ascending order. */
static int compare(void *opaque, const struct snest_run *run)
{
	uint32_t rights = run->rights & (SNEST_READ | SNEST_WRITE);
	struct comparison *c = opaque;
	uint64_t at = run->first;

	if (run->outcome != SNEST_WALK_HOST || !rights)
		return 0;
	if (c->next < run->first)
		compare_hole(c, run->first - 1);
	while (c->at < c->m->count && c->m->map[c->at].last < run->first)
		c->at++;
	for (size_t i = c->at; at <= run->last; i++) {
		const struct mapping *map = i < c->m->count ? &c->m->map[i] : NULL;
		uint64_t last;

		c->entries++;
		if (!map || map->first > run->last) {
			differs(c, at, run->last);
			break;
		}
		if (map->first > at)
			differs(c, at, map->first - 1);
		else if (map->rights != rights ||
		         map->host - map->first != run->addr - run->first)
			differs(c, at, map->last < run->last ? map->last : run->last);
		if (map->first > at &&
		    (map->rights != rights || map->host - map->first != run->addr - run->first))
			differs(c, map->first, map->last < run->last ? map->last : run->last);
		last = map->last < run->last ? map->last : run->last;
		if (last == UINT64_MAX)
			break;
		at = last + 1;
	}
	c->end = run->last == UINT64_MAX;
	c->next = run->last + 1;
	return 0;
}

static bool equals_tables(struct sn_replay *r, const struct mirror *m)
{
	struct snest_request request = {
		.size = sizeof(request),
		.rid = m->rid,
		.pasid = SNEST_NO_PASID,
		.access = SNEST_READ,
	};
	struct comparison c = { .r = r, .m = m };
	struct snest_walk_range range = { .size = sizeof(range), .last = UINT64_MAX };
	struct snest_context context;

	if (snest_vtd_context(r->vm, &r->registers, &request, &context))
		return false;
	c.domain = context.domain;
	if (context.outcome == SNEST_CONTEXT_STAGES &&
	    snest_walk_range(r->vm, context.stage, context.count, &range, compare, &c) < 0)
		return false;
	if (!c.end)
		compare_hole(&c, UINT64_MAX);
	r->counts.mirror_entries += c.entries;
	return !c.wrong;
}

void sn_replay_mirror_check(struct sn_replay *r)
{
	for (unsigned i = 0; r->enabled && i < r->mirrors->count; i++) {
		struct mirror *m = &r->mirrors->mirror[i];

		r->counts.mirror_checks++;
		if (m->broken || !equals_tables(r, m)) {
			if (!r->counts.mirror_wrong)
				sn_tool_error(r->tool,
				              "%s:%llu: the mirror of device %02x:%02x.%x "
				              "differs from its tables%s",
				              r->file, (unsigned long long)r->line, m->rid >> 8,
				              m->rid >> 3 & 31, m->rid & 7,
				              m->broken ? " (the sink refused an operation)" : "");
			r->counts.mirror_wrong++;
		}
	}
}
