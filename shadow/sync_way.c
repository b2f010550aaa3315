/* SPDX-License-Identifier: MIT */
/*
 * One sync from beginning to end: which of the two ways it goes, and the version
 * that tells readers without the lock whether one ran meanwhile.
 */
#include "shadow/sync.h"
#include "shadow/track.h"

/* What is compiled for a format. */
struct direct {
	void (*sync)(struct sn_sync *s, uint64_t first, uint64_t last);
	bool (*same)(const struct snest_space *space, uint64_t first, uint64_t last);
};

/* Has the only stage tables of the shadow's shape, so that both can be read in step? */
static const struct direct *direct_way(const struct snest_space *space)
{
	static const struct direct vtd_ss = {sn_sync_vtd_ss, sn_sync_vtd_ss_same};
	static const struct direct x86_64 = {sn_sync_x86_64, sn_sync_x86_64_same};

	if (space->stages.count != 1 || space->log_dirty || space->track ||
	    (space->stages.pt[0].flags & SNEST_STAGE_HW_A) ||
	    space->stages.pt[0].rights != SNEST_RIGHTS)
		return NULL;
	switch (space->stages.pt[0].format) {
	case SNEST_FORMAT_VTD_SS:
		return &vtd_ss;
	case SNEST_FORMAT_X86_64:
	case SNEST_FORMAT_AMD_V2:
		return &x86_64;
	default:
		return NULL;
	}
}

/*
 * While the dirty log is on, leaves lack their right to write, so none is the
 * same; it need not be looked at here.
 */
void sn_mirror_watch_same(struct snest_space *space, bool on)
{
	const struct direct *direct = on ? direct_way(space) : NULL;

	__atomic_store_n(&space->same, direct ? direct->same : NULL, __ATOMIC_RELEASE);
}

bool sn_mirror_unchanged(const struct snest_space *space, uint64_t first, uint64_t last)
{
	bool (*same)(const struct snest_space *, uint64_t, uint64_t) =
		__atomic_load_n(&space->same, __ATOMIC_ACQUIRE);
	uint64_t version = __atomic_load_n(&space->version, __ATOMIC_ACQUIRE);

	/* A page of the guest that became several leaves is looked at as a whole. */
	if (!same || (version & 1) || ((first ^ last) >> (SN_SH_SHIFT0 + SN_SH_BITS)) ||
	    __atomic_load_n(&space->tree[0].origin, __ATOMIC_RELAXED) || !same(space, first, last))
		return false;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return __atomic_load_n(&space->version, __ATOMIC_RELAXED) == version;
}

/* lg2 of what an invalidation names at least: the first stage's granule. */
static unsigned smallest_page(const struct snest_space *space)
{
	unsigned lg2 = SN_SH_SHIFT0;

	if (space->guest_stages) {
		const struct snest_stage *stage = &space->stage_copy[0];

		if (lg2 < stage->granule_lg2)
			lg2 = stage->granule_lg2;
		if (lg2 < stage->granule_high_lg2)
			lg2 = stage->granule_high_lg2;
	}
	return lg2;
}

int sn_mirror_sync(struct snest_space *space, uint64_t first, uint64_t last)
{
	const struct direct *direct = direct_way(space);
	struct sn_sync s;
	unsigned granule;

	/* Odd, and a full barrier: see sn_mirror_unchanged. */
	__atomic_fetch_add(&space->version, 1, __ATOMIC_SEQ_CST);
	sn_rmw_barrier();

	s.space = space;
	s.mirror = space->mirror;
	s.tree = &space->tree[0];
	s.mirror->error = 0;
	s.budget = space->sync_entries_max;
	sn_tree_widen(s.tree, &first, &last);
	granule = smallest_page(space);
	first &= ~sn_mask(granule);
	last |= sn_mask(granule);
	if (space->track)
		sn_track_sync_begin(space->track, &s, first, last);
	if (direct)
		direct->sync(&s, first, last);
	else
		sn_sync_general(&s, first, last);
	sn_sync_flush(&s);
	sn_sync_report(s.mirror);
	sn_tree_tidy(s.tree, &space->graveyard);
	if (space->track)
		sn_track_sync_end(space->track);
	__atomic_store_n(&space->version, space->version + 1, __ATOMIC_RELEASE);
	return s.mirror->error;
}
