/* SPDX-License-Identifier: MIT */
/*
 * Books kept twice: everything that a space counts is counted again from its
 * tree, and what its sink holds is kept by the sink itself and compared.
 *
 * The recount reads the tree's words directly and calls none of the functions
 * that keep the books. It also lists the leaves, for whoever compares them with
 * what the guest's tables say.
 */
#ifndef FUZZ_SHADOW_COUNT_H
#define FUZZ_SHADOW_COUNT_H

#include "shadow/mirror.h"
#include "shadow/shadow.h"
#include "shadow/space.h"
#include "vm.h"

#define LEAVES_MAX 8192
#define MAPS_MAX 96

/* Leaves that follow each other and say the same, units of a mirror apart. */
struct leaf {
	uint64_t first, last, entry; /* of the first of them */
};

struct map {
	uint64_t first, last, host;
	uint32_t rights;
};

/* A sink that keeps what it is given, in ascending order. */
struct sink {
	bool can_split;
	unsigned fail_map, fail_unmap; /* the n-th from now; 0: none */
	bool lacks;                    /* it was told that it lacks something */
	bool refused;                  /* it has refused an unmap */
	uint64_t ops;
	unsigned count;
	struct map map[MAPS_MAX];
};

static struct count {
	unsigned leaves;
	struct leaf leaf[LEAVES_MAX];
	uint64_t tables;
	unsigned origin;
	uint64_t work; /* entries looked at, of this input */
} count;

/* ---- The tree ----------------------------------------------------------- */

FUZZ_FAST static bool is_unused(const uint64_t t[8])
{
	return !(t[0] | t[1] | t[2] | t[3] | t[4] | t[5] | t[6] | t[7]);
}

#define LEAF_SAYS (SN_SH_RIGHTS | SN_SH_HELD | SN_SH_LOGGED)

FUZZ_FAST static void count_leaf(uint64_t first, uint64_t last, uint64_t entry)
{
	struct leaf *run = &count.leaf[count.leaves - 1];

	if (count.leaves && run->last + 1 == first && !(entry & SN_SH_START) &&
	    !((entry ^ run->entry) & LEAF_SAYS) &&
	    (run->entry & SN_SH_ADDR) + (first - run->first) == (entry & SN_SH_ADDR)) {
		run->last = last;
		return;
	}
	if (count.leaves < LEAVES_MAX)
		count.leaf[count.leaves++] = (struct leaf){first, last, entry};
}

/* Leaves and tables below one. */
FUZZ_FAST static void count_below(const uint64_t *table, unsigned shift, uint64_t base,
                                  bool mirrored)
{
	const struct sn_page *page = sn_pool_page(table);
	unsigned used = 0;
	uint64_t mask = ((uint64_t)1 << shift) - 1;

	count.tables++;
	fuzz_check(page->flags == shift, "a table of level %u, its record says %u", shift,
	           page->flags);
	for (unsigned i = 0; i < SN_SH_SLOTS; i++) {
		uint64_t entry = table[i], at = base + ((uint64_t)i << shift);
		unsigned origin;

		/* Most tables hold little. */
		if (!(i % 8) && is_unused(table + i)) {
			i += 7;
			continue;
		}
		if (!entry)
			continue;
		used++;
		if (shift != SN_SH_SHIFT0 && !(entry & SN_SH_PS) &&
		    (entry & SN_SH_RIGHTS) == SN_SH_RIGHTS) {
			fuzz_check(!(entry & ~(SN_SH_ADDR | SN_SH_RIGHTS)), "an odd table entry");
			count_below((const uint64_t *)(uintptr_t)(entry & SN_SH_ADDR),
			            shift - SN_SH_BITS, at, mirrored);
			continue;
		}
		fuzz_check(shift <= SN_SH_LEAF_MAX, "a leaf at level %u", shift);
		fuzz_check(shift == SN_SH_SHIFT0 || (entry & SN_SH_PS), "a leaf without PS");
		fuzz_check(!(entry & SN_SH_ADDR & mask), "a leaf that is not aligned");
		fuzz_check(mirrored || !(entry & (SN_SH_HELD | SN_SH_START)),
		           "a mirror's mark without a mirror");
		fuzz_check(!(entry & SN_SH_LOGGED) || !(entry & SNEST_WRITE),
		           "a right is withheld and given");
		origin = (unsigned)((entry & SN_SH_ORIGIN) >> SN_SH_ORIGIN_SHIFT);
		/* Tables inside the guest's page, and the lowest that holds it, say so. */
		fuzz_check(origin <= shift || page->aux >= origin,
		           "a leaf is from a page of 2^%u, its table knows of 2^%u", origin,
		           page->aux);
		if (count.origin < origin)
			count.origin = origin;
		count_leaf(at, at | mask, entry);
	}
	count.work += used;
	fuzz_check(page->used == used, "a table has %u entries in use, its record says %u", used,
	           page->used);
}

/* Tables at and below an unlinked one, which keeps what it held. */
FUZZ_FAST static uint64_t count_buried_below(const struct sn_page *page)
{
	const uint64_t *table = sn_pool_ptr(page);
	uint64_t n = 1;

	for (unsigned i = 0; i < SN_SH_SLOTS && page->flags != SN_SH_SHIFT0; i++) {
		uint64_t entry = table[i];

		if ((entry & (SN_SH_PS | SN_SH_RIGHTS)) == SN_SH_RIGHTS)
			n += count_buried_below(
				sn_pool_page((void *)(uintptr_t)(entry & SN_SH_ADDR)));
	}
	return n;
}

static uint64_t count_buried(const struct sn_page *page)
{
	uint64_t n = 0;

	for (; page; page = page->next)
		n += count_buried_below(page);
	return n;
}

static void count_tree(const struct sn_tree *tree, bool mirrored)
{
	uint64_t before = count.tables;

	if (tree->root != SN_TREE_EMPTY)
		count_below((const uint64_t *)(uintptr_t)(tree->root & SN_SH_ADDR),
		            tree->root & SN_SH_ROOT_SHIFT, 0, mirrored);
	fuzz_check(count.tables - before == tree->tables, "%llu tables, the tree says %llu",
	           (unsigned long long)(count.tables - before), (unsigned long long)tree->tables);
}

/* Counts a space again. The leaves of its second tree come behind those of the first. */
static void count_space(struct snest_space *space)
{
	const struct sn_graveyard *g = &space->graveyard;
	uint64_t buried = count_buried(g->fresh) + count_buried(g->dying);

	count.leaves = 0;
	count.tables = 0;
	count.origin = 0;
	count_tree(&space->tree[0], space->mirror);
	fuzz_check(count.origin <= space->tree[0].origin || !count.origin,
	           "a leaf is from a page of 2^%u, the tree knows of 2^%u", count.origin,
	           space->tree[0].origin);
	count_tree(&space->tree[1], space->mirror);
	fuzz_check(g->linked == count.tables, "%llu tables are linked, the account says %llu",
	           (unsigned long long)count.tables, (unsigned long long)g->linked);
	fuzz_check(g->unlinked == buried, "%llu tables wait, the account says %llu",
	           (unsigned long long)buried, (unsigned long long)g->unlinked);
	fuzz_check(g->queued == (g->dying != NULL), "tables wait for nobody");
	fuzz_check(g->linked <= g->linked_max, "beyond the budget");
	/* Spaces that are gone have been freed: there is only this one. */
	fuzz_check(space->vm->pool.bytes_used == (count.tables + buried) * 4096,
	           "the pool says %llu bytes, there are %llu tables",
	           (unsigned long long)space->vm->pool.bytes_used,
	           (unsigned long long)(count.tables + buried));
}

/* The leaf that holds an IOVA; NULL: none. For the first tree alone. */
static const struct leaf *count_find(uint64_t iova)
{
	unsigned low = 0, high = count.leaves;

	while (low < high) {
		unsigned mid = (low + high) / 2;

		if (count.leaf[mid].last < iova)
			low = mid + 1;
		else
			high = mid;
	}
	return low < count.leaves && count.leaf[low].first <= iova ? &count.leaf[low] : NULL;
}

/* ---- The sink ----------------------------------------------------------- */

static void sink_unmap(struct sink *s, uint64_t first, uint64_t last)
{
	struct map left[MAPS_MAX];
	unsigned kept = 0;

	for (unsigned i = 0; i < s->count; i++) {
		struct map m = s->map[i], rest = m;

		if (m.first > last || m.last < first) {
			left[kept++] = m;
			continue;
		}
		fuzz_check(s->can_split || (m.first >= first && m.last <= last),
		           "an unmap cuts a map");
		m.last = first - 1;
		if (m.first < first)
			left[kept++] = m;
		rest.host += last + 1 - rest.first;
		rest.first = last + 1;
		if (rest.last > last)
			left[kept++] = rest;
	}
	memcpy(s->map, left, kept * sizeof(left[0]));
	s->count = kept;
}

static void sink_map(struct sink *s, const struct snest_sink_op *op)
{
	unsigned at = s->count;

	while (at && s->map[at - 1].first > op->first)
		at--;
	fuzz_check((!at || s->map[at - 1].last < op->first) &&
	                   (at == s->count || s->map[at].first > op->last),
	           "a map over a map: 0x%llx-0x%llx", (unsigned long long)op->first,
	           (unsigned long long)op->last);
	memmove(&s->map[at + 1], &s->map[at], (s->count - at) * sizeof(s->map[0]));
	s->map[at] = (struct map){op->first, op->last, op->host, op->rights};
	s->count++;
}

static int sink_apply(void *opaque, const struct snest_sink_op *ops, size_t n, size_t *done)
{
	struct sink *s = opaque;

	for (*done = 0; *done < n; ++*done) {
		const struct snest_sink_op *op = &ops[*done];

		fuzz_check(op->first <= op->last && !(op->first & 4095) &&
		                   (op->last & 4095) == 4095,
		           "a range 0x%llx-0x%llx", (unsigned long long)op->first,
		           (unsigned long long)op->last);
		fuzz_check(!op->map || (op->rights && !(op->host & 4095)), "a map of nothing");
		if (op->map ? s->fail_map && --s->fail_map == 0
		            : s->fail_unmap && --s->fail_unmap == 0) {
			s->refused |= !op->map;
			return op->map ? -ENOSPC : -EBUSY;
		}
		/* The last place is for the other half of a map that is cut. */
		if (s->count >= (op->map ? MAPS_MAX - 1 : MAPS_MAX)) {
			s->refused |= !op->map;
			return -ENOSPC;
		}
		if (op->map)
			sink_map(s, op);
		else
			sink_unmap(s, op->first, op->last);
		s->ops++;
	}
	return 0;
}

static void sink_failed(void *opaque, uint64_t first, uint64_t last, int error)
{
	struct sink *s = opaque;

	fuzz_check(error < 0 && first <= last, "failed with %d", error);
	s->lacks = true;
}

/*
 * Is from..to, a part of a map and of a leaf, the whole unit that the map is?
 * Neighbours are unmapped together; refused, they are held as one unit, which
 * then is several whole maps.
 */
static bool sink_is_unit(const struct map *m, const struct leaf *l, uint64_t from, uint64_t to)
{
	bool starts = l->entry & SN_SH_START;

	if (l->entry & SN_SH_HELD)
		return from == m->first && to == m->last && (starts || from != l->first);
	return to == l->last && starts == (from == m->first);
}

/* The sink and the shadow hold the same; where it cannot split, unit by unit. */
static void sink_compare(const struct sink *s)
{
	unsigned at = 0;
	uint64_t next = 0; /* first byte of leaf `at` that has not been compared */

	if (count.leaves == LEAVES_MAX)
		return;
	for (unsigned i = 0; i < s->count; i++) {
		const struct map *m = &s->map[i];
		uint64_t from = m->first, to;

		do {
			const struct leaf *l = &count.leaf[at];
			uint64_t host = m->host + (from - m->first);
			uint32_t rights = l->entry & (SNEST_READ | SNEST_WRITE);

			if (at < count.leaves && next < l->first)
				next = l->first;
			fuzz_check(at < count.leaves && next == from,
			           "the sink holds 0x%llx, the shadow goes on at 0x%llx",
			           (unsigned long long)from,
			           (unsigned long long)(at < count.leaves ? next : 0));
			to = l->last < m->last ? l->last : m->last;
			rights |= l->entry & SN_SH_LOGGED ? SNEST_WRITE : 0;
			fuzz_check((l->entry & SN_SH_HELD) ||
			                   ((l->entry & SN_SH_ADDR) + (from - l->first) == host &&
			                    rights == m->rights),
			           "0x%llx: sink 0x%llx rights %u, shadow 0x%llx rights %u",
			           (unsigned long long)from, (unsigned long long)host, m->rights,
			           (unsigned long long)(l->entry & SN_SH_ADDR), rights);
			fuzz_check(s->can_split || sink_is_unit(m, l, from, to),
			           "0x%llx: a unit is not what was mapped",
			           (unsigned long long)from);
			next = to + 1;
			at += to == l->last;
			from = to + 1;
		} while (to != m->last);
	}
	fuzz_check(at == count.leaves, "the shadow holds 0x%llx, the sink does not",
	           (unsigned long long)(at < count.leaves ? count.leaf[at].first : 0));
}

#endif
