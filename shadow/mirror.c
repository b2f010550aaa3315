/* SPDX-License-Identifier: MIT */
/*
 * Sync of a mirrored space: re-read, compare, send the difference.
 *
 * The guest's tables are enumerated in windows of a bounded number of runs.
 * For each window, first everything in the shadow that no longer agrees is
 * unmapped, then everything that is missing is mapped. So nothing that did not
 * change is touched, a sink that is nearly full frees before it takes, and the
 * memory needed does not depend on what the guest maps.
 *
 * A *unit* is what one operation mapped. Its first leaf carries SN_SH_START.
 * A sink that cannot split has whole units unmapped, and what is still wanted
 * of them mapped again; one that can has exactly the difference unmapped.
 */
#include <errno.h>
#include <string.h>
#include "core/extensible.h"
#include "shadow/mirror.h"
#include "walkers/range.h"

#define WINDOW_RUNS 512u

struct sync {
	struct snest_space *space;
	struct sn_mirror *mirror;
	struct sn_tree *tree;
	uint64_t first, last; /* the window */
	unsigned count;       /* runs in it */
	bool full;            /* the window ended because it holds WINDOW_RUNS */
	struct snest_run run[WINDOW_RUNS];
	unsigned at; /* first run that ends at or behind the leaf at hand */
	/* What units that went had outside the range; mapped again behind it. */
	uint64_t again_first, again_last;
};

/* ---- Leaves --------------------------------------------------------------- */

static void erase(struct sync *s, uint64_t first, uint64_t last)
{
	sn_tree_clear(s->tree, first, last);
}

/* Stores first..last as the largest leaves that fit. 0, or -errno with nothing stored. */
static int insert(struct sync *s, uint64_t first, uint64_t last, uint64_t host, uint64_t rights,
                  unsigned origin, bool start)
{
	uint64_t at = first;

	for (;;) {
		unsigned shift = SN_SH_SHIFT0;
		uint64_t entry, *slot;
		int error;

		while (shift + SN_SH_BITS <= SN_SH_LEAF_MAX &&
		       !((at | host) & sn_mask(shift + SN_SH_BITS)) &&
		       last - at >= sn_mask(shift + SN_SH_BITS))
			shift += SN_SH_BITS;
		slot = sn_tree_slot(s->tree, &s->space->graveyard, at, shift, origin, &error);
		if (!slot) {
			if (at != first)
				erase(s, first, at - 1);
			return error;
		}
		/* Neighbours of the same size need no descent of their own. */
		do {
			entry = host | rights | (start ? SN_SH_START : 0);
			if (origin > shift)
				entry |= (uint64_t)origin << SN_SH_ORIGIN_SHIFT;
			start = false;
			sn_tree_store(s->tree, &s->space->graveyard, slot, shift, entry);
			s->space->stats.leaves_published++;
			if (last - at == sn_mask(shift))
				return 0;
			at += sn_mask(shift) + 1;
			host += sn_mask(shift) + 1;
			slot++;
		} while (((uintptr_t)slot & 4095) && last - at >= sn_mask(shift) &&
		         (shift == SN_SH_LEAF_MAX || last - at < sn_mask(shift + SN_SH_BITS) ||
		          ((at | host) & sn_mask(shift + SN_SH_BITS))));
	}
}

/* ---- Operations -------------------------------------------------------------- */

/* An operation that the sink refused: the shadow goes back to what the sink holds. */
static void refused(struct sync *s, const struct snest_sink_op *op, int error)
{
	struct sn_mirror *m = s->mirror;

	s->space->stats.sink_errors++;
	if (!m->error)
		m->error = error;
	erase(s, op->first, op->last);
	if (op->map) {
		if (m->sink.failed)
			m->sink.failed(m->sink.opaque, op->first, op->last, error);
	} else {
		/* Still held by the sink; lookups do not use it, the next sync tries again. */
		insert(s, op->first, op->last, op->host, SN_SH_HELD, 0, true);
	}
}

static void flush(struct sync *s)
{
	struct sn_mirror *m = s->mirror;
	struct snest_space_stats *stats = &s->space->stats;
	unsigned at = 0;

	while (at < m->count) {
		size_t done = 0;
		int ret = m->sink.apply(m->sink.opaque, &m->op[at], m->count - at, &done);

		stats->sink_batches++;
		if (done > m->count - at)
			done = m->count - at;
		for (unsigned i = at; i < at + done; i++) {
			stats->sink_maps += m->op[i].map;
			stats->sink_unmaps += !m->op[i].map;
			if (m->op[i].map)
				stats->sink_pages += (m->op[i].last - m->op[i].first + 4096) >> 12;
		}
		at += (unsigned)done;
		if (at < m->count) {
			refused(s, &m->op[at], ret ? ret : -EIO);
			at++;
		}
	}
	m->count = 0;
}

static void queue(struct sync *s, bool map, uint64_t first, uint64_t last, uint64_t host,
                  uint64_t rights)
{
	struct sn_mirror *m = s->mirror;

	m->op[m->count++] = (struct snest_sink_op){
		.map = map,
		.rights = (uint32_t)rights & (SNEST_READ | SNEST_WRITE),
		.first = first,
		.last = last,
		.host = host,
	};
	if (m->count == SN_MIRROR_BATCH)
		flush(s);
}

/* ---- Pass A: unmap what no longer agrees ------------------------------------------ */

/* The run that holds iova, NULL if none. Called with ascending addresses. */
static const struct snest_run *run_at(struct sync *s, uint64_t iova)
{
	while (s->at < s->count && s->run[s->at].last < iova)
		s->at++;
	return s->at < s->count && s->run[s->at].first <= iova ? &s->run[s->at] : NULL;
}

/* Where the unit that the leaf at iova belongs to begins and ends. */
static uint64_t unit_first(const struct sn_tree *tree, uint64_t iova)
{
	for (;;) {
		unsigned shift;
		uint64_t entry = sn_tree_find(tree, iova, &shift);

		if (!entry)
			return iova + 1;
		iova &= ~sn_mask(shift);
		if ((entry & SN_SH_START) || !iova)
			return iova;
		iova--;
	}
}

static uint64_t unit_last(const struct sn_tree *tree, uint64_t iova)
{
	unsigned shift;

	sn_tree_find(tree, iova, &shift);
	for (;;) {
		uint64_t entry;

		iova |= sn_mask(shift);
		if (iova == UINT64_MAX)
			return iova;
		entry = sn_tree_find(tree, iova + 1, &shift);
		if (!entry || (entry & SN_SH_START))
			return iova;
		iova++;
	}
}

/* Unmaps the unit of a leaf, whole. */
static void unmap_unit(struct sync *s, uint64_t iova)
{
	uint64_t first = unit_first(s->tree, iova), last = unit_last(s->tree, iova);
	unsigned shift;
	uint64_t entry = sn_tree_find(s->tree, first, &shift);

	if (s->again_first > first)
		s->again_first = first;
	if (s->again_last < last)
		s->again_last = last;
	erase(s, first, last);
	queue(s, false, first, last, entry & SN_SH_ADDR, entry & SN_SH_RIGHTS);
}

/* Do the guest's tables still say this of first..last? Called with ascending addresses. */
static bool agrees(struct sync *s, uint64_t first, uint64_t last, uint64_t host, uint64_t rights)
{
	const struct snest_run *run = run_at(s, first);

	return run && last <= run->last && run->rights == rights &&
	       run->addr + (first - run->first) == host;
}

/*
 * Of one leaf, exactly the parts inside the window that differ go; the rest is
 * stored anew, without a word to the sink.
 */
static void split_leaf(struct sync *s, uint64_t first, uint64_t last, uint64_t entry)
{
	uint64_t host = entry & SN_SH_ADDR, rights = entry & SN_SH_RIGHTS, at = first;

	erase(s, first, last);
	for (;;) {
		uint64_t to = last;
		bool keep;

		if (at < s->first) {
			to = s->first - 1;
			keep = true;
		} else if (at > s->last) {
			keep = true;
		} else {
			const struct snest_run *run = run_at(s, at);

			if (to > s->last)
				to = s->last;
			if (run && run->last < to)
				to = run->last;
			else if (!run && s->at < s->count && s->run[s->at].first <= to)
				to = s->run[s->at].first - 1;
			keep = agrees(s, at, to, host + (at - first), rights);
		}
		if (!keep || insert(s, at, to, host + (at - first), rights, 0,
		                    at == first && (entry & SN_SH_START)))
			queue(s, false, at, to, host + (at - first), rights);
		if (to == last)
			return;
		at = to + 1;
	}
}

static int old_leaf(void *opaque, uint64_t iova, unsigned shift, uint64_t entry)
{
	struct sync *s = opaque;
	uint64_t last = iova + sn_mask(shift);
	uint64_t from = iova > s->first ? iova : s->first;
	uint64_t to = last < s->last ? last : s->last;

	if (!(entry & SN_SH_HELD) && agrees(s, from, to, (entry & SN_SH_ADDR) + (from - iova),
	                                    entry & SN_SH_RIGHTS))
		return 0;
	if ((s->mirror->sink.flags & SNEST_SINK_CAN_SPLIT) && !(entry & SN_SH_HELD))
		split_leaf(s, iova, last, entry);
	else
		unmap_unit(s, iova);
	return 0;
}

/* ---- Pass B: map what is missing ----------------------------------------------------- */

static void map_hole(struct sync *s, const struct snest_run *run, uint64_t first, uint64_t last)
{
	uint64_t host = run->addr + (first - run->first);
	int ret = insert(s, first, last, host, run->rights, run->lg2, true);

	if (!ret) {
		queue(s, true, first, last, host, run->rights);
		return;
	}
	s->space->stats.sink_errors++;
	if (!s->mirror->error)
		s->mirror->error = ret;
	if (s->mirror->sink.failed)
		s->mirror->sink.failed(s->mirror->sink.opaque, first, last, ret);
}

struct hole {
	struct sync *s;
	uint64_t from; /* first address not yet known to be mapped */
	uint64_t first, last;
	bool found;
};

/* Stops at the first leaf behind `from` that leaves a hole before it. */
static int find_hole(void *opaque, uint64_t iova, unsigned shift, uint64_t entry)
{
	struct hole *h = opaque;

	(void)entry;
	if (iova > h->from) {
		h->last = iova - 1;
		h->found = true;
		return 1;
	}
	h->from = iova + sn_mask(shift) + 1;
	return 0;
}

static void map_missing(struct sync *s, const struct snest_run *run)
{
	struct hole h = { .s = s, .from = run->first };

	for (;;) {
		h.found = false;
		h.last = run->last;
		sn_tree_visit(s->tree, h.from, run->last, find_hole, &h);
		/* Covered to the end; from is 0 when that is the end of the address space. */
		if (h.from > run->last || (h.from == 0 && run->first))
			return;
		h.first = h.from;
		map_hole(s, run, h.first, h.last);
		if (h.last == run->last)
			return;
		h.from = h.last + 1;
	}
}

/* ---- Windows ---------------------------------------------------------------------------- */

static int collect(void *opaque, const struct snest_run *run)
{
	struct sync *s = opaque;

	if (run->outcome != SNEST_WALK_HOST || !(run->rights & (SNEST_READ | SNEST_WRITE)))
		return 0;
	s->run[s->count++] = *run;
	s->full = s->count == WINDOW_RUNS;
	return s->full;
}

/* Reads the next window, from s->first up to at most `last`. */
static void read_window(struct sync *s, uint64_t last)
{
	struct sn_ranger r = { .visit = collect, .opaque = s };
	int ret;

	r.budget = UINT64_MAX;
	r.resume = s->first;
	s->count = 0;
	s->full = false;
	s->at = 0;
	sn_read_begin();
	sn_env_init(&r.env, s->space->vm, s->space->stages.pt, s->space->stages.count);
	r.env.update = false;
	ret = sn_ranger_run(&r, s->first, last);
	sn_read_end();
	s->last = ret ? s->run[s->count - 1].last : last;
}

/* Makes first..last right, in as many windows as it takes. */
static void sync_windows(struct sync *s, uint64_t first, uint64_t last)
{
	s->first = first;
	for (;;) {
		read_window(s, last);
		sn_tree_visit(s->tree, s->first, s->last, old_leaf, s);
		flush(s);
		for (unsigned i = 0; i < s->count; i++)
			map_missing(s, &s->run[i]);
		if (s->last == last)
			break;
		s->first = s->last + 1;
	}
}

static void sync_range(struct sync *s, uint64_t first, uint64_t last)
{
	sn_tree_widen(s->tree, &first, &last);
	first &= ~(uint64_t)4095;
	last |= 4095;
	s->again_first = first;
	s->again_last = last;
	sync_windows(s, first, last);
	/*
	 * Units that stuck out of the range went as a whole. All their leaves
	 * are gone, so nothing outside them is touched here.
	 */
	if (s->again_first < first)
		sync_windows(s, s->again_first, first - 1);
	if (s->again_last > last)
		sync_windows(s, last + 1, s->again_last);
	flush(s);
}

int sn_mirror_sync(struct snest_space *space, uint64_t first, uint64_t last)
{
	struct sync s;

	s.space = space;
	s.mirror = space->mirror;
	s.tree = &space->tree[0];
	s.mirror->error = 0;
	sync_range(&s, first, last);
	return s.mirror->error;
}

int sn_mirror_observe(struct snest_space *space, uint64_t first, uint64_t last)
{
	struct snest_sink_op op = { .map = 0, .first = first, .last = last };
	struct sn_mirror *m = space->observer;
	size_t done = 0;
	int ret = m->sink.apply(m->sink.opaque, &op, 1, &done);

	space->stats.sink_batches++;
	space->stats.sink_unmaps++;
	space->stats.sink_errors += ret != 0;
	return ret;
}

/* ---- Changes of the memory map -------------------------------------------------------------- */

struct stale {
	struct sync *s;
	uint64_t host_first, host_last;
};

static int stale_leaf(void *opaque, uint64_t iova, unsigned shift, uint64_t entry)
{
	struct stale *st = opaque;
	uint64_t host = entry & SN_SH_ADDR;

	if (host <= st->host_last && host + sn_mask(shift) >= st->host_first)
		unmap_unit(st->s, iova);
	return 0;
}

/* Unmaps every unit with a leaf over these host addresses. */
static void forget_host(struct snest_space *space, uint64_t first, uint64_t last)
{
	struct sync s = { .space = space, .mirror = space->mirror, .tree = &space->tree[0] };
	struct stale st = { &s, first, last };

	space->mirror->error = 0;
	sn_tree_visit(s.tree, 0, UINT64_MAX, stale_leaf, &st);
	flush(&s);
}

void sn_mirror_forget_host(struct snest_space *space, uint64_t first, uint64_t last)
{
	sn_space_note(space, 0, UINT64_MAX);
	forget_host(space, first, last);
}

/* ---- Attaching ----------------------------------------------------------------------------------- */

int snest_space_mirror(struct snest_space *space, const struct snest_sink *user)
{
	struct snest_sink sink;
	struct sn_mirror *mirror;
	int ret = SN_STRUCT_IN(&sink, user);

	if (ret)
		return ret;
	if (!sink.apply || sink.reserved ||
	    (sink.flags & ~(SNEST_SINK_CAN_SPLIT | SNEST_SINK_UNMAP_ONLY)))
		return -EINVAL;
	if (!(space->flags & SNEST_SPACE_ANNOUNCED) && !(sink.flags & SNEST_SINK_UNMAP_ONLY))
		return -EOPNOTSUPP;
	mirror = sn_vm_alloc(space->vm, sizeof(*mirror));
	if (!mirror)
		return -ENOMEM;
	mirror->sink = sink;

	pthread_mutex_lock(&space->lock);
	if (space->mirror || space->observer) {
		pthread_mutex_unlock(&space->lock);
		sn_vm_free(space->vm, mirror, sizeof(*mirror));
		return -EBUSY;
	}
	if (sink.flags & SNEST_SINK_UNMAP_ONLY) {
		space->observer = mirror;
		pthread_mutex_unlock(&space->lock);
		return 0;
	}
	/* From here on the shadow is what the sink holds, so it starts empty. */
	space->mirror = mirror;
	sn_space_note(space, 0, UINT64_MAX);
	sn_tree_detach(&space->tree[0], &space->graveyard);
	sn_tree_detach(&space->tree[1], &space->graveyard);
	ret = sn_mirror_sync(space, 0, UINT64_MAX);
	if (ret) {
		forget_host(space, 0, UINT64_MAX);
		space->mirror = NULL;
		sn_tree_detach(&space->tree[0], &space->graveyard);
	}
	pthread_mutex_unlock(&space->lock);
	if (ret)
		sn_vm_free(space->vm, mirror, sizeof(*mirror));
	return ret;
}

int snest_space_unmirror(struct snest_space *space)
{
	struct sn_mirror *mirror;
	int ret = 0;

	pthread_mutex_lock(&space->lock);
	mirror = space->mirror ? space->mirror : space->observer;
	if (space->mirror) {
		forget_host(space, 0, UINT64_MAX);
		ret = mirror->error;
		space->mirror = NULL;
		sn_space_note(space, 0, UINT64_MAX);
		sn_tree_detach(&space->tree[0], &space->graveyard);
	}
	space->observer = NULL;
	pthread_mutex_unlock(&space->lock);
	if (!mirror)
		return -ENOENT;
	sn_vm_free(space->vm, mirror, sizeof(*mirror));
	return ret;
}
