/* SPDX-License-Identifier: MIT */
/*
 * Write tracking: which pages of guest memory a mirror was read from.
 *
 * A *use* is one page of 4 KiB that tables of a space lie in, with the IOVAs
 * that depend on its entries: the space's own stages' tables, and where stages
 * nest also what was read of later stages to find them. There is one use per
 * space and page, whatever a guest's tables look like. A page that has a use
 * is protected; each page once, by reference count.
 *
 * Why no write is missed. A sync takes each page in this order, the first two
 * steps under tracker.lock: list the use, protect the page, load its entries.
 *
 *     sync (holds space.lock)           writer of guest memory
 *     -----------------------           ----------------------
 *     list the use                      write the entry
 *     protect the page                  page protected? then a notice:
 *     load the entries                    find the page's uses (tracker.lock)
 *     send the difference                 space.lock; re-read what they serve
 *
 * A write that lands before protect returns is seen by the loads behind it. A
 * write that lands later is followed by a notice, which finds the use, since
 * that was listed before the protection which made the notice; and which reads
 * after the write. If it comes while the sync is still going, it waits for the
 * space's lock.
 *
 * Why no use is dropped too early. A use goes when all IOVAs that it serves
 * have been re-read and the page was not met, and only then is the page opened
 * for writing. To be met again it needs an entry that leads to it, which is a
 * write to a page that still has a use, or to one that is listed, protected and
 * read before this one.
 *
 * Entries that were never read have no notice to wait for: whatever leads to
 * them was either not there, or is a page whose own notice is still to come.
 *
 * Memory. A use and its page cost 192 bytes; those of a space may take as much
 * as its budget of tables. Without memory, or when protecting fails, the page's
 * entries count as not readable: nothing is mapped through them, and the sink
 * is told. Dropping uses never allocates.
 *
 * Locks: tracker.lock comes behind space.lock and is held during the calls to
 * protect and unprotect, so that they reach the embedder in order.
 */
#ifndef SN_SHADOW_TRACK_H
#define SN_SHADOW_TRACK_H

#include <pthread.h>
#include <snest/track.h>
#include "walkers/env.h"

#define SN_TRACK_USE_BYTES 192u

struct sn_sync;
struct sn_track;

#define SN_USE_NOWHERE 0xffu

/* One space's use of one page. Under the space's lock but where said. */
struct sn_use {
	uint64_t page;          /* address / 4096; constant */
	struct sn_track *track; /* constant */
	struct sn_use *next_by_page;
	struct sn_use *next_by_range, **prev_by_range;
	struct sn_use *next_in_page, **prev_in_page; /* tracker.lock */
	struct sn_tracked_page *in;
	uint64_t first, last; /* IOVAs that depend on it; first > last: none */
	/*
	 * Entry i of the page translates 2^shift bytes from base + (i << shift)
	 * on; or shift is SN_WATCH_SPREAD, and nothing finer is known.
	 */
	uint64_t base;
	uint64_t met; /* number of the sync that last met it */
	uint8_t shift;
	uint8_t entry_lg2;
	uint8_t block_lg2; /* its place by range: the aligned block that holds first..last, */
	uint64_t block;    /* IOVA >> block_lg2; block_lg2 is SN_USE_NOWHERE if it has none */
};

/* A page with at least one use. Under tracker.lock. */
struct sn_tracked_page {
	uint64_t page;
	struct sn_tracked_page *next;
	struct sn_use *uses;
};

/* The VM's part, in struct sn_shadow. */
struct sn_tracker {
	pthread_mutex_t lock; /* guards all but `caller` */
	struct snest_vm *vm;
	struct snest_tracker calls; /* protect NULL: off */
	uint64_t spaces;            /* that are tracked */
	uint64_t seed;              /* of the hashes; constant */
	struct sn_tracked_page **bucket;
	uint64_t buckets, count;
	uint64_t uses, uses_max; /* of all spaces */
	uint64_t caller;         /* atomic: the thread that is in protect or unprotect, 0 if none */
};

/* A tracked space's part; made and gone with its mirror. Under the space's lock. */
struct sn_track {
	struct sn_watch watch;
	struct sn_tracker *tracker;
	struct snest_space *space;
	/* Uses by page, and by range: two chains through the same objects. */
	struct sn_use **by_page, **by_range;
	uint64_t buckets, count, count_max;
	uint32_t blocks[65]; /* uses by block_lg2 */
	/* The sync that is going on. */
	struct sn_sync *sync;
	uint64_t number;
	uint64_t first, last;           /* what it re-reads; more may be read */
	uint64_t told_first, told_last; /* IOVAs last reported as failed; first > last: none */
};

/* Bytes of `n` chains of a hash. */
static inline size_t sn_track_chains(uint64_t n)
{
	return (size_t)n * sizeof(uintptr_t);
}

static inline uint64_t sn_track_hash(uint64_t seed, uint64_t key)
{
	uint64_t z = (key ^ seed) * 0x9e3779b97f4a7c15ull;

	return (z ^ z >> 32) * 0xd6e8feb86659fd93ull >> 20;
}

void sn_tracker_init(struct sn_tracker *tracker, struct snest_vm *vm);
void sn_tracker_fini(struct sn_tracker *tracker);

/*
 * Begins to track a space, before its first sync. *track is NULL if tracking
 * is off. 0 or -ENOMEM.
 */
int sn_track_begin(struct snest_space *space, struct sn_track **track);
/* Drops all uses and frees *track. NULL is ignored. */
void sn_track_end(struct sn_track *track);

/* Around a sync of first..last; the second drops the uses that it showed to be gone. */
void sn_track_sync_begin(struct sn_track *track, struct sn_sync *sync, uint64_t first,
                         uint64_t last);
void sn_track_sync_end(struct sn_track *track);

/*
 * Guest memory first..last is no longer what it was: its pages' protection
 * belongs to memory that is gone. Drops their uses; a sync of everything has
 * to follow.
 */
void sn_track_memory_changed(struct sn_track *track, uint64_t first, uint64_t last);

/* ---- track_set.c: one space's uses ---------------------------------------------------- */

struct sn_use *sn_track_find(const struct sn_track *track, uint64_t page);

/*
 * A new use of a page, which is protected when this returns. NULL with *error.
 * It serves nothing yet; sn_track_serve says what.
 */
struct sn_use *sn_track_add(struct sn_track *track, uint64_t page, int *error);
void sn_track_drop(struct sn_track *track, struct sn_use *use);

/* One more piece of what a use serves: as the watch says, for the entry at byte `offset`. */
void sn_track_serve(struct sn_track *track, struct sn_use *use, unsigned offset, unsigned shift);

/* The IOVAs that bytes from..to of a page serve. False: none. */
bool sn_use_range(const struct sn_use *use, unsigned from, unsigned to, uint64_t *first,
                  uint64_t *last);

/*
 * Calls fn for all uses that serve part of first..last, and perhaps for more;
 * it may drop the use, or change what it serves.
 */
void sn_track_each(struct sn_track *track, uint64_t first, uint64_t last,
                   void (*fn)(struct sn_track *track, struct sn_use *use));

/* Serves first..last no longer, as far as that can be said. True: nothing is left. */
bool sn_track_unserve(struct sn_track *track, struct sn_use *use, uint64_t first, uint64_t last);

/* The page's uses, NULL if there are none. Under tracker->lock. */
struct sn_tracked_page *sn_tracked_page(const struct sn_tracker *tracker, uint64_t page);

#endif
