/* SPDX-License-Identifier: MIT */
/*
 * Mirrors of the replayed devices: each has a sink that keeps a plain, sorted
 * list of what it was told to map, and that is as strict as VFIO type 1: maps
 * must not overlap, and unmaps name whole maps. After every completed wait the
 * lists are compared with a fresh walk of the device's tables.
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
	bool refused; /* not to be mirrored: the guest does not announce its maps */
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

struct comparison {
	const struct mirror *m;
	size_t at;     /* mapping at hand */
	uint64_t from; /* its first address not yet compared */
	uint64_t entries;
	bool equal;
};

/* One run of the fresh walk must be what the list says next. */
static int compare(void *opaque, const struct snest_run *run)
{
	struct comparison *c = opaque;
	uint64_t first = run->first;

	if (run->outcome != SNEST_WALK_HOST || !(run->rights & (SNEST_READ | SNEST_WRITE)))
		return 0;
	for (;;) {
		const struct mapping *map = c->at < c->m->count ? &c->m->map[c->at] : NULL;
		uint64_t from = map && c->from > map->first ? c->from : map ? map->first : 0;
		uint64_t last;

		c->entries++;
		if (!map || from != first || map->last > run->last ||
		    map->rights != (run->rights & (SNEST_READ | SNEST_WRITE)) ||
		    map->host + (first - map->first) != run->addr + (first - run->first)) {
			c->equal = false;
			return 1;
		}
		last = map->last;
		c->at++;
		c->from = 0;
		if (last == run->last)
			return 0;
		first = last + 1;
	}
}

static bool equals_tables(struct sn_replay *r, const struct mirror *m)
{
	struct snest_request request = {
		.size = sizeof(request),
		.rid = m->rid,
		.pasid = SNEST_NO_PASID,
		.access = SNEST_READ,
	};
	struct comparison c = { .m = m, .equal = true };
	struct snest_walk_range range = { .size = sizeof(range), .last = UINT64_MAX };
	struct snest_context context;

	if (snest_vtd_context(r->vm, &r->registers, &request, &context))
		return false;
	if (context.outcome != SNEST_CONTEXT_STAGES)
		return m->count == 0;
	if (snest_walk_range(r->vm, context.stage, context.count, &range, compare, &c) < 0)
		return false;
	r->counts.mirror_entries += c.entries;
	return c.equal && c.at == m->count;
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
