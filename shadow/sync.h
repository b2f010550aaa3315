/* SPDX-License-Identifier: MIT */
/*
 * Sync of a mirrored space: re-read, compare, send the difference.
 *
 * Two ways, one result. The general one (sync.c) works for any list of stages:
 * it enumerates the guest's tables in windows of a bounded number of runs; for
 * each, first everything in the shadow that no longer agrees is unmapped, then
 * everything that is missing is mapped. The direct one (sync_impl.h) goes
 * through the guest's tables and the shadow's in step, one stage whose tables
 * have the shadow's shape, and hands what is not simple to the general one.
 *
 * A *unit* is what one operation mapped; its first leaf carries SN_SH_START. A
 * sink that cannot split has whole units unmapped, and what is still wanted of
 * them mapped again; one that can has exactly the difference unmapped.
 *
 * sync_way.c chooses; both ways store and send through sync_ops.c.
 *
 * Under the space's lock.
 */
#ifndef SN_SHADOW_SYNC_H
#define SN_SHADOW_SYNC_H

#include "shadow/mirror.h"
#include "walkers/range.h"

#define SN_SYNC_RUNS 512u

/*
 * What a sink knows of rights, and so all that the shadow of a mirrored space
 * holds: a change of the right to execute alone is no change. Requests for it
 * miss, and walk.
 */
#define SN_SYNC_RIGHTS (SNEST_READ | SNEST_WRITE)

struct sn_sync {
	struct snest_space *space;
	struct sn_mirror *mirror;
	struct sn_tree *tree;
	uint64_t first, last; /* the window */
	unsigned count;       /* runs in it */
	bool full;            /* the window ended because it holds SN_SYNC_RUNS */
	struct snest_run run[SN_SYNC_RUNS];
	unsigned at; /* first run that ends at or behind the leaf at hand */
	/* What units that went had outside the range; mapped again behind it. */
	uint64_t again_first, again_last;
	uint64_t agreed; /* bytes of the window that the shadow has already */
	bool cut;        /* something of it was unmapped */
	uint64_t back;   /* where the first unit begins that went in this window */
	uint64_t budget; /* entries of the guest's tables that may still be read */
	bool disturbed;  /* the sink refused something, and the shadow was put back */
};

/* Queues one operation; calls the sink when the batch is full. */
void sn_sync_queue(struct sn_sync *s, bool map, uint64_t first, uint64_t last, uint64_t host,
                   uint64_t rights);

/* As sn_tree_slot, within the space's budget. */
uint64_t *sn_sync_slot(struct sn_sync *s, uint64_t iova, unsigned shift, unsigned origin,
                       int *error);

/* Stores first..last as the largest leaves that fit. 0, or -errno with nothing stored. */
int sn_sync_insert(struct sn_sync *s, uint64_t first, uint64_t last, uint64_t host, uint64_t rights,
                   unsigned origin, bool start);

/* Something that the guest maps could not be mapped; told to the sink when the sync is over. */
void sn_sync_failed(struct sn_sync *s, uint64_t first, uint64_t last, int error);

/* Hands what is queued to the sink. */
void sn_sync_flush(struct sn_sync *s);

/* Tells the sink what it lacks. */
void sn_sync_report(struct sn_mirror *m);

/* The general way, for first..last (whole pages). */
void sn_sync_general(struct sn_sync *s, uint64_t first, uint64_t last);

/* The direct way, compiled for formats whose tables have the shadow's shape. */
void sn_sync_vtd_ss(struct sn_sync *s, uint64_t first, uint64_t last);
void sn_sync_x86_64(struct sn_sync *s, uint64_t first, uint64_t last);

/* Do both sides say the same of first..last, in one lowest table? See sn_mirror_unchanged. */
bool sn_sync_vtd_ss_same(const struct snest_space *space, uint64_t first, uint64_t last);
bool sn_sync_x86_64_same(const struct snest_space *space, uint64_t first, uint64_t last);

#endif
