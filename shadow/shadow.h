/* SPDX-License-Identifier: MIT */
/*
 * What the shadow keeps per VM: all spaces, the tag index, all devices, drains
 * and pins. Hangs at snest_vm.shadow, made with the first space or device.
 *
 * Locks, outermost first: front end, memory map, device.lock, sn_shadow.lock,
 * space.lock, tracker.lock, graveyard.lock, pins.lock, reclaim, pool.
 */
#ifndef SN_SHADOW_SHADOW_H
#define SN_SHADOW_SHADOW_H

#include <snest/space.h>
#include "core/vm.h"
#include "shadow/dirty_map.h"
#include "shadow/pins.h"
#include "shadow/track.h"

#define SN_TAG_BUCKETS 4096u
#define SN_DEVICE_BUCKETS 1024u

struct sn_shadow {
	struct snest_vm *vm;
	pthread_mutex_t lock; /* guards lists, indexes and reference counts */
	struct snest_space *spaces;
	struct snest_space *tag[SN_TAG_BUCKETS]; /* by domain, chained through next_in_tag */
	struct snest_device
		*device[SN_DEVICE_BUCKETS]; /* heads are RCU-read by snest_device_find */
	struct sn_memory_listener listener;
	struct sn_pins pins;
	struct sn_dirty dirty; /* by GPA */
	struct sn_tracker tracker;
	bool log_dirty;                /* atomic; written under lock: new spaces begin with it on */
	uint64_t drains;               /* atomic, relaxed */
	struct snest_space_stats gone; /* of spaces that are no more */
};

/* The VM's shadow; NULL if out of memory. */
struct sn_shadow *sn_shadow(struct snest_vm *vm);

/* A space's numbers as they are now. Takes its lock. */
void sn_space_count(struct snest_space *space, struct snest_space_stats *now);
/* Adds to the VM's totals what a space counted that is about to go. */
void sn_shadow_retire(struct sn_shadow *shadow, struct snest_space *space);

static inline unsigned sn_tag_bucket(uint32_t domain)
{
	return (domain ^ domain >> 12) & (SN_TAG_BUCKETS - 1);
}

#endif
