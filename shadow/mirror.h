/* SPDX-License-Identifier: MIT */
/*
 * Mirrors: a sink is kept equal to the guest's tables.
 *
 * The shadow of a mirrored space holds exactly what the sink holds: a leaf is
 * in the shadow if and only if the sink has been told to map it and not yet to
 * unmap it. A sync re-reads the guest's tables and sends the difference. No
 * lookup publishes into such a shadow.
 *
 * All functions: under the space's lock.
 */
#ifndef SN_SHADOW_MIRROR_H
#define SN_SHADOW_MIRROR_H

#include "shadow/space.h"

/* Operations collected before the sink is called. Preallocated: removing never allocates. */
#define SN_MIRROR_BATCH 256u

struct sn_mirror {
	struct snest_sink sink;
	struct snest_sink_op op[SN_MIRROR_BATCH];
	unsigned count;
	int error; /* first failure of the sink in this sync */
	/* What could not be mapped and is not yet reported; 0: nothing. */
	int missing;
	uint64_t missing_first, missing_last;
};

/* Makes the sink equal to the guest's tables in first..last. 0, or what failed. */
int sn_mirror_sync(struct snest_space *space, uint64_t first, uint64_t last);

/*
 * Is the sink equal to the guest's tables in first..last already? False also
 * where that is not simple to see: outside one lowest table, for example.
 * Without the lock, inside a read section, behind a full barrier that comes
 * after the guest's command.
 *
 * A sync makes `version` odd while it runs. So when it is even and has not
 * changed, the shadow stood still and was what the sink holds, while the guest's
 * entries were loaded and found to say the same. A sync that read an older entry
 * than these loads, and has not stored it yet, cannot be running:
 *
 *     sync                             here
 *     ----                             ----
 *     version odd                      (guest changes the entry, and commands)
 *     full barrier                     full barrier
 *     load the guest's entry           version even? load the guest's entry
 *     store the shadow's               and the shadow's; version the same?
 *     version even
 *
 * Either the sync's load comes after the guest's change, or version is odd here.
 */
bool sn_mirror_unchanged(const struct snest_space *space, uint64_t first, uint64_t last);

/* Lets invalidations take that way, or not. Under the lock. */
void sn_mirror_watch_same(struct snest_space *space, bool on);

/* Tells a space's observer that first..last is gone. 0, or what it returned. */
int sn_mirror_observe(struct snest_space *space, uint64_t first, uint64_t last);

/*
 * Host memory first..last (host addresses) was taken away: unmaps every unit
 * that has some of it, even if the same addresses come back in the same change
 * as other memory.
 */
void sn_mirror_forget_host(struct snest_space *space, uint64_t first, uint64_t last);

#endif
