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

/* Tells a space's observer that first..last is gone. 0, or what it returned. */
int sn_mirror_observe(struct snest_space *space, uint64_t first, uint64_t last);

/*
 * Host memory first..last (host addresses) was taken away: unmaps every unit
 * that has some of it, even if the same addresses come back in the same change
 * as other memory.
 */
void sn_mirror_forget_host(struct snest_space *space, uint64_t first, uint64_t last);

#endif
