/* SPDX-License-Identifier: MIT */
/*
 * Devices: from a requester and its PASID to a space.
 *
 * The binding without PASID is one pointer in the handle. PASIDs are 20 bits:
 * a directory of 2048 leaves of 512 pointers each, both made when first used,
 * so a lookup is two loads and a million PASIDs cost 8 bytes each. Readers
 * follow the pointers inside a read section; changes happen under the device's
 * lock; a space that was unbound is given back after a grace period.
 */
#ifndef SN_SHADOW_DEVICE_H
#define SN_SHADOW_DEVICE_H

#include <snest/space.h>
#include "core/vm.h"

#define SN_PASID_BITS 20u
#define SN_PASID_LEAF_BITS 9u
#define SN_PASID_LEAF (1u << SN_PASID_LEAF_BITS)
#define SN_PASID_DIR (1u << (SN_PASID_BITS - SN_PASID_LEAF_BITS))

struct sn_pasid_leaf {
	struct snest_space *space[SN_PASID_LEAF]; /* RCU */
};

struct sn_pasid_dir {
	struct sn_pasid_leaf *leaf[SN_PASID_DIR]; /* RCU */
};

struct snest_device {
	struct snest_space *space;   /* RCU: requests without PASID */
	struct sn_pasid_dir *pasids; /* RCU */
	struct snest_vm *vm;
	snest_resolve_fn resolve;
	void *opaque;
	uint32_t rid;
	pthread_mutex_t lock; /* guards the bindings */
	uint32_t bound;       /* PASIDs that are bound */
	struct snest_device_stats
		stats;             /* misses, faults, unbound, pins: atomic; others: under lock */
	struct snest_device *next; /* RCU: chain of its bucket */
	struct sn_reclaim_node node;
};

/* A request that the shadow did not answer. Any thread. */
static inline void sn_device_missed(struct snest_device *device, bool fault)
{
	__atomic_fetch_add(&device->stats.misses, 1, __ATOMIC_RELAXED);
	if (fault)
		__atomic_fetch_add(&device->stats.faults, 1, __ATOMIC_RELAXED);
}

/* Inside a read section. */
static inline struct snest_space *sn_device_space(struct snest_device *device, uint32_t pasid)
{
	struct sn_pasid_leaf *leaf;
	struct sn_pasid_dir *dir;

	if (pasid == SNEST_NO_PASID)
		return sn_deref(&device->space);
	if (pasid >> SN_PASID_BITS)
		return NULL;
	dir = sn_deref(&device->pasids);
	if (!dir)
		return NULL;
	leaf = sn_deref(&dir->leaf[pasid >> SN_PASID_LEAF_BITS]);
	return leaf ? sn_deref(&leaf->space[pasid & (SN_PASID_LEAF - 1)]) : NULL;
}

/*
 * The same, asking the front end when nothing is bound. NULL: refused, *t and
 * *fault (if not NULL) say so. Inside a read section.
 */
struct snest_space *sn_device_lookup_space(struct snest_device *device, uint32_t pasid,
                                           uint64_t iova, uint32_t access,
                                           struct snest_translation *t, struct snest_fault *fault);

#endif
