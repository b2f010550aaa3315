/* SPDX-License-Identifier: MIT */
/*
 * Sync of a mirrored space, the general way (sync.h): windows of runs, what no
 * longer agrees unmapped, what is missing mapped. Here too, because it also goes
 * by units: host memory that was taken away.
 */
#include <errno.h>
#include "shadow/sync.h"
#include "shadow/track.h"

/* ---- Pass A: unmap what no longer agrees ------------------------------------------ */

/* The run that holds iova, NULL if none. Called with ascending addresses. */
static const struct snest_run *run_at(struct sn_sync *s, uint64_t iova)
{
	while (s->at < s->count && s->run[s->at].last < iova)
		s->at++;
	return s->at < s->count && s->run[s->at].first <= iova ? &s->run[s->at] : NULL;
}

/*
 * Where the unit that the leaf at iova belongs to begins and ends. What a sink
 * that can split refuses to let go of is a unit for itself.
 */
static uint64_t unit_first(const struct sn_tree *tree, uint64_t iova)
{
	unsigned shift;
	uint64_t held = sn_tree_find(tree, iova, &shift) & SN_SH_HELD;

	for (;;) {
		uint64_t entry = sn_tree_find(tree, iova, &shift);

		if (!entry || (entry & SN_SH_HELD) != held)
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
	uint64_t held = sn_tree_find(tree, iova, &shift) & SN_SH_HELD;

	for (;;) {
		uint64_t entry;

		iova |= sn_mask(shift);
		if (iova == UINT64_MAX)
			return iova;
		entry = sn_tree_find(tree, iova + 1, &shift);
		if (!entry || (entry & SN_SH_START) || (entry & SN_SH_HELD) != held)
			return iova;
		iova++;
	}
}

/* first..last goes, and may lie partly outside of what is being read: that is read again. */
static void taken_along(struct sn_sync *s, uint64_t first, uint64_t last)
{
	s->cut = true;
	if (s->again_first > first)
		s->again_first = first;
	if (s->back > first)
		s->back = first;
	if (s->again_last < last)
		s->again_last = last;
	sn_tree_clear(s->tree, first, last);
}

/* Unmaps the unit of a leaf, whole. */
static void unmap_unit(struct sn_sync *s, uint64_t iova)
{
	uint64_t first = unit_first(s->tree, iova), last = unit_last(s->tree, iova);
	unsigned shift;
	uint64_t entry = sn_tree_find(s->tree, first, &shift);

	taken_along(s, first, last);
	sn_sync_queue(s, false, first, last, entry & SN_SH_ADDR, sn_sh_rights(entry));
}

/* Do the guest's tables still say this of first..last? Called with ascending addresses. */
static bool agrees(struct sn_sync *s, uint64_t first, uint64_t last, uint64_t host, uint64_t rights)
{
	const struct snest_run *run = run_at(s, first);

	return run && last <= run->last && run->rights == rights &&
	       run->addr + (first - run->first) == host;
}

/* A part of a leaf that begins at `first` stays: stored anew, without a word to the sink. */
static bool keep_part(struct sn_sync *s, uint64_t first, uint64_t entry, uint64_t from, uint64_t to)
{
	return !sn_sync_insert(s, from, to, (entry & SN_SH_ADDR) + (from - first),
	                       sn_sh_rights(entry), sn_sh_origin(entry),
	                       from != first || (entry & SN_SH_START));
}

static void drop_part(struct sn_sync *s, uint64_t first, uint64_t entry, uint64_t from, uint64_t to)
{
	sn_sync_queue(s, false, from, to, (entry & SN_SH_ADDR) + (from - first),
	              sn_sh_rights(entry));
}

/*
 * There is no memory for the parts of a leaf: it goes as a whole. If the sink
 * refuses that, it is put back where it was, which takes no memory either.
 */
static void drop_leaf(struct sn_sync *s, uint64_t first, uint64_t last, uint64_t entry)
{
	taken_along(s, first, last);
	drop_part(s, first, entry, first, last);
}

/*
 * Of a leaf, the part that begins at `at`: where it ends, and whether it stays.
 * Called with ascending addresses.
 */
static bool part_stays(struct sn_sync *s, uint64_t first, uint64_t last, uint64_t entry,
                       uint64_t at, uint64_t *to)
{
	const struct snest_run *run;

	*to = last;
	if (at < s->first) {
		*to = s->first - 1;
		return true;
	}
	if (at > s->last)
		return true;
	run = run_at(s, at);
	if (*to > s->last)
		*to = s->last;
	if (run && run->last < *to)
		*to = run->last;
	else if (!run && s->at < s->count && s->run[s->at].first <= *to)
		*to = s->run[s->at].first - 1;
	return agrees(s, at, *to, (entry & SN_SH_ADDR) + (at - first), sn_sh_rights(entry));
}

/* Of one leaf, exactly the parts inside the window that differ go. */
static void split_leaf(struct sn_sync *s, uint64_t first, unsigned shift, uint64_t entry)
{
	uint64_t last = first + sn_mask(shift), at, to;
	unsigned run = s->at;

	s->cut = true;
	sn_tree_clear(s->tree, first, last);
	/* First what stays, so that nothing has been said yet if that cannot be stored. */
	for (at = first;; at = to + 1) {
		if (part_stays(s, first, last, entry, at, &to) &&
		    !keep_part(s, first, entry, at, to)) {
			drop_leaf(s, first, last, entry);
			return;
		}
		if (to == last)
			break;
	}
	s->at = run;
	for (at = first;; at = to + 1) {
		if (!part_stays(s, first, last, entry, at, &to))
			drop_part(s, first, entry, at, to);
		if (to == last)
			break;
	}
}

/*
 * The same translation, from a larger page of the guest than was known: from now
 * on an invalidation of any part of that page means this leaf too.
 */
static void note_origin(struct sn_sync *s, uint64_t iova, unsigned shift, uint64_t entry,
                        unsigned origin)
{
	int error;
	/* All tables on the way are there, so this only marks them. */
	uint64_t *slot = sn_tree_slot(s->tree, &s->space->graveyard, iova, shift, origin, &error);

	sn_tree_note_origin(s->tree, origin);
	if (slot)
		sn_sh_store(slot, (entry & ~SN_SH_ORIGIN) | (uint64_t)origin << SN_SH_ORIGIN_SHIFT);
}

static int old_leaf(void *opaque, uint64_t iova, unsigned shift, uint64_t entry)
{
	struct sn_sync *s = opaque;
	uint64_t last = iova + sn_mask(shift);
	uint64_t from = iova > s->first ? iova : s->first;
	uint64_t to = last < s->last ? last : s->last;

	if (!(entry & SN_SH_HELD) &&
	    agrees(s, from, to, (entry & SN_SH_ADDR) + (from - iova), sn_sh_rights(entry))) {
		s->agreed += to - from + 1;
		if (s->run[s->at].first_lg2 > SN_SH_SHIFT0 &&
		    s->run[s->at].first_lg2 > sn_sh_origin(entry))
			note_origin(s, iova, shift, entry, s->run[s->at].first_lg2);
		return 0;
	}
	if ((s->mirror->sink.flags & SNEST_SINK_CAN_SPLIT) && !(entry & SN_SH_HELD))
		split_leaf(s, iova, shift, entry);
	else
		unmap_unit(s, iova);
	return 0;
}

/* ---- Pass B: map what is missing ----------------------------------------------------- */

static void map_hole(struct sn_sync *s, const struct snest_run *run, uint64_t first, uint64_t last)
{
	uint64_t host = run->addr + (first - run->first);
	int ret = sn_sync_insert(s, first, last, host, run->rights, run->first_lg2, true);

	if (!ret) {
		sn_sync_queue(s, true, first, last, host, run->rights);
		return;
	}
	sn_sync_failed(s, first, last, ret);
}

struct hole {
	struct sn_sync *s;
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

static void map_missing(struct sn_sync *s, const struct snest_run *run)
{
	struct hole h = {.s = s, .from = run->first};

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
	struct sn_sync *s = opaque;
	struct snest_run *prev = s->count ? &s->run[s->count - 1] : NULL;
	uint8_t rights = run->rights & SN_SYNC_RIGHTS;

	if (run->outcome != SNEST_WALK_HOST || !rights)
		return 0;
	/* Two runs may differ in what does not count here. */
	if (prev && prev->last + 1 == run->first && prev->rights == rights &&
	    prev->addr + (run->first - prev->first) == run->addr) {
		prev->last = run->last;
		if (prev->first_lg2 < run->first_lg2)
			prev->first_lg2 = run->first_lg2;
		return 0;
	}
	s->run[s->count] = *run;
	s->run[s->count++].rights = rights;
	s->full = s->count == SN_SYNC_RUNS;
	return s->full;
}

/* Reads the next window, from s->first up to at most `last`. False: no entry may be read any more. */
static bool read_window(struct sn_sync *s, uint64_t last)
{
	struct sn_ranger r = {.visit = collect, .opaque = s};
	int ret;

	r.budget = s->budget;
	r.resume = s->first;
	s->count = 0;
	s->full = false;
	s->at = 0;
	sn_read_begin();
	sn_env_init(&r.env, s->space->vm, s->space->stages.pt, s->space->stages.count);
	r.env.update = false;
	if (s->space->track)
		sn_env_watch(&r.env, &s->space->track->watch);
	ret = sn_ranger_run(&r, s->first, last);
	sn_read_end();
	s->last = last;
	if (ret == -EAGAIN) {
		s->budget = 0;
		s->last = r.resume - 1;
		return r.resume > s->first;
	}
	s->budget = r.budget < s->budget ? r.budget : 0;
	if (ret)
		s->last = s->run[s->count - 1].last;
	return true;
}

/*
 * The budget is spent: what the guest maps in first..last stays unknown, so the
 * sink must hold nothing there.
 */
static void give_up(struct sn_sync *s, uint64_t first, uint64_t last)
{
	s->first = s->back = first;
	s->last = last;
	s->count = s->at = 0;
	sn_tree_visit(s->tree, first, last, old_leaf, s);
	sn_sync_flush(s);
	sn_sync_failed(s, s->back, last, -ENOSPC);
}

static uint64_t window_bytes(const struct sn_sync *s)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < s->count; i++)
		bytes += s->run[i].last - s->run[i].first + 1;
	return bytes;
}

static void sync_window(struct sn_sync *s, uint64_t last)
{
	s->back = s->first;
	if (!s->budget || !read_window(s, last)) {
		give_up(s, s->first, last);
		return;
	}
	s->agreed = 0;
	s->cut = false;
	sn_tree_visit(s->tree, s->first, s->last, old_leaf, s);
	sn_sync_flush(s);
	/* Nothing went, and as much agrees as there is: then nothing is missing. */
	if (!s->cut && s->agreed == window_bytes(s))
		return;
	for (unsigned i = 0; i < s->count; i++)
		map_missing(s, &s->run[i]);
}

/* Makes first..last right, in as many windows as it takes. */
static void sync_windows(struct sn_sync *s, uint64_t first, uint64_t last)
{
	s->first = first;
	for (;;) {
		uint64_t begun = s->first, done;

		sync_window(s, last);
		done = s->last;
		/* A unit that began in an earlier window took something of that along. */
		if (s->back < begun && begun > first) {
			s->first = s->back > first ? s->back : first;
			for (;;) {
				sync_window(s, begun - 1);
				if (s->last == begun - 1)
					break;
				s->first = s->last + 1;
			}
		}
		if (done == last)
			break;
		s->first = done + 1;
	}
}

void sn_sync_general(struct sn_sync *s, uint64_t first, uint64_t last)
{
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
}

/* ---- Changes of the memory map -------------------------------------------------------------- */

struct stale {
	struct sn_sync *s;
	uint64_t host_first, host_last;
};

static int stale_leaf(void *opaque, uint64_t iova, unsigned shift, uint64_t entry)
{
	struct stale *st = opaque;
	uint64_t host = entry & SN_SH_ADDR, last = iova + sn_mask(shift), from = iova, to = last;
	struct sn_sync *s = st->s;

	if (host > st->host_last || host + sn_mask(shift) < st->host_first)
		return 0;
	if (!(s->mirror->sink.flags & SNEST_SINK_CAN_SPLIT) || (entry & SN_SH_HELD)) {
		unmap_unit(s, iova);
		return 0;
	}
	if (st->host_first > host)
		from += st->host_first - host;
	if (st->host_last < host + sn_mask(shift))
		to = iova + (st->host_last - host);
	sn_tree_clear(s->tree, iova, last);
	if ((from > iova && !keep_part(s, iova, entry, iova, from - 1)) ||
	    (to < last && !keep_part(s, iova, entry, to + 1, last)))
		drop_leaf(s, iova, last, entry);
	else
		drop_part(s, iova, entry, from, to);
	return 0;
}

void sn_mirror_forget_host(struct snest_space *space, uint64_t first, uint64_t last)
{
	struct sn_sync s = {.space = space, .mirror = space->mirror, .tree = &space->tree[0]};
	struct stale st = {&s, first, last};

	space->mirror->error = 0;
	sn_space_note(space, 0, UINT64_MAX);
	sn_tree_visit(s.tree, 0, UINT64_MAX, stale_leaf, &st);
	sn_sync_flush(&s);
}
