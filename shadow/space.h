/* SPDX-License-Identifier: MIT */
/*
 * A space, as the files of shadow/ share it.
 *
 * Locks: sn_shadow.lock (indexes, reference counts of spaces, lists) comes before
 * snest_space.lock (trees, sink). Lookups take neither; a fill takes the
 * space's lock for the publish alone.
 *
 * Freshness. `seq` counts invalidations; it changes under the lock, before the
 * first leaf is dropped. A fill publishes only if nothing that overlaps its
 * page was invalidated, and the memory map did not change, since before it
 * read the first table entry:
 *
 *     filler                                invalidator
 *     ------                                -----------
 *     s = seq (acquire); m = memory.seq     guest changes its tables
 *     walk the guest's tables               lock
 *     lock                                  seq++ ; note the range
 *     seq == s, or the noted ranges since   drop leaves in the range
 *       s miss this page? m unchanged?      unlock
 *     yes: publish; no: do not
 *     unlock
 *
 * If the walk read an entry from before the guest's change, then s was read
 * before seq++, and the filler's check either comes first, and its leaf is
 * dropped, or sees the noted range. The result of a walk that lost is still
 * given to its caller: it is inside a read section that the drain waits for.
 */
#ifndef SN_SHADOW_SPACE_H
#define SN_SHADOW_SPACE_H

#include <snest/space.h>
#include "core/vm.h"
#include "shadow/dirty_map.h"
#include "shadow/tree.h"
#include "walkers/walk.h"

/* Ranges of the latest invalidations, so that an unrelated one does not spoil a fill. */
#define SN_RECENT 16

struct sn_mirror;
struct sn_track;

struct snest_space {
	/* Read by lookups; written under `lock`. */
	struct sn_tree tree[2];  /* [1]: privileged requests, where that makes a difference */
	uint32_t privilege_mask; /* SNEST_PRIVILEGED if the formats look at it, else 0 */
	uint32_t flags;          /* SNEST_SPACE_* */
	struct snest_vm *vm;

	_Alignas(64) pthread_mutex_t lock;
	uint64_t seq; /* atomic; written under lock */
	/* For invalidations that change nothing and take no lock: sn_mirror_unchanged. */
	uint64_t invalidations; /* atomic: all of them */
	uint64_t version;       /* atomic; written under lock: odd during a sync */
	bool (*same)(const struct snest_space *space, uint64_t first, uint64_t last); /* atomic */
	struct {
		uint64_t first, last;
	} recent[SN_RECENT]; /* range of invalidation number n at n % SN_RECENT */
	struct sn_graveyard graveyard;
	uint64_t sync_entries_max;  /* budget of a mirror's sync */
	struct sn_mirror *mirror;   /* atomic, written under lock; NULL: lookups only */
	struct sn_track *track;     /* write tracking of the mirror, or NULL */
	struct sn_mirror *observer; /* a sink that is told of invalidations, or NULL */
	/* lg2 of the largest page that the observer may hold and the shadow does not know; 64: any */
	uint8_t unremembered;
	struct sn_dirty dirty;          /* by IOVA */
	bool log_dirty;                 /* write rights are withheld until a write is logged */
	struct snest_space_stats stats; /* the counters that are not atomic: under lock */
	uint64_t misses, faults, fills, fills_dropped; /* atomic, relaxed */

	/* Identity; immutable. */
	struct snest_tag tag;
	struct sn_stages stages;
	uint32_t guest_stages;          /* the host's not counted */
	struct snest_stage *stage_copy; /* for comparing; guest_stages of them */

	/* Under sn_shadow.lock. */
	uint64_t references;
	struct snest_space *next_in_tag;
	struct snest_space *next, **prev;
	struct sn_reclaim_node node;
};

/* What a miss found. */
struct sn_fill {
	uint64_t host; /* or GPA, by outcome */
	uint64_t gpa;
	uint32_t rights;
	uint8_t outcome;
	uint8_t lg2;
};

/*
 * Walks the stages for iova and publishes what it finds, unless that was
 * overtaken. 0 and *fill, or -EACCES and *fault (if not NULL). Inside a read
 * section.
 */
int sn_space_fill(struct snest_space *space, uint64_t iova, uint32_t access, struct sn_fill *fill,
                  struct snest_fault *fault);

static inline struct sn_tree *sn_space_tree(struct snest_space *space, uint32_t access)
{
	return &space->tree[(access & space->privilege_mask) / SNEST_PRIVILEGED];
}

/*
 * Behind a sequentially consistent read-modify-write: nothing passes the two. On
 * x86 that instruction alone is such a barrier, which the language does not say.
 */
static inline void sn_rmw_barrier(void)
{
#if defined(__x86_64__)
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/* Notes an invalidation. Under the lock, before the first leaf is dropped. */
static inline void sn_space_note(struct snest_space *space, uint64_t first, uint64_t last)
{
	uint64_t seq = space->seq + 1;

	space->recent[seq % SN_RECENT].first = first;
	space->recent[seq % SN_RECENT].last = last;
	/* Pairs with the acquire in sn_space_fill. */
	__atomic_store_n(&space->seq, seq, __ATOMIC_RELEASE);
}

/* Was anything of first..last invalidated after sequence number `since`? Under the lock. */
static inline bool sn_space_overtaken(const struct snest_space *space, uint64_t since,
                                      uint64_t first, uint64_t last)
{
	if (space->seq - since > SN_RECENT)
		return true;
	for (uint64_t n = since + 1; n - 1 != space->seq; n++) {
		if (space->recent[n % SN_RECENT].first <= last &&
		    space->recent[n % SN_RECENT].last >= first)
			return true;
	}
	return false;
}

/* One more reference; false if the last one is gone already. */
bool sn_space_ref(struct snest_space *space);

#endif
