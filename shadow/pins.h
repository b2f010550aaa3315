/* SPDX-License-Identifier: MIT */
/*
 * Pins and drains.
 *
 * A drain takes two steps. First a grace period: every read section that may
 * have seen a removed leaf has closed, and whoever wanted to hold on to it has
 * pinned it by then. Then the pins that exist at that moment: when the last of
 * them is gone, the drain is complete. Pins made later hold translations that
 * were looked up after the removal. Drains complete in the order they began,
 * all of them on the reclaim thread: unpinning may happen anywhere, even inside
 * a read section, and calls nobody.
 */
#ifndef SN_SHADOW_PINS_H
#define SN_SHADOW_PINS_H

#include <snest/space.h>
#include "core/vm.h"

/* In struct snest_pin.private_. */
struct sn_pin_link {
	struct sn_pin_link *next, **prev;
	uint64_t number; /* ascending */
	struct snest_space *space;
	uint64_t iova, gpa, length;
	uint64_t born_ns;
	uint32_t access;
	uint32_t rid;
};

/* In struct snest_drain.private_. */
struct sn_drain_link {
	struct sn_reclaim_node node;
	struct sn_drain_link *next;
	struct snest_vm *vm;
	uint64_t number; /* complete when no pin up to this one is held */
	snest_done_fn done;
	void *opaque;
};

struct sn_pins {
	pthread_mutex_t lock; /* guards all of it */
	struct sn_pin_link *oldest, **newest;
	uint64_t number; /* of the newest pin so far */
	uint64_t held;
	struct sn_drain_link *drains, **drains_tail; /* past their grace period, in order */
	struct snest_vm *vm;
	struct sn_reclaim_node node; /* brings drains that lost their last pin to the background */
	bool queued;                 /* node is with the reclaim thread */
	/* Attempts of sn_drain_now in a row that failed, and that are left out for it; atomic. */
	unsigned failed, skip;
};

/* Calls mark for every pin held for writing. Takes the lock. */
void sn_pins_mark_written(struct sn_pins *pins,
                          void (*mark)(struct snest_space *space, uint64_t iova, uint64_t gpa,
                                       uint64_t length));

/*
 * Is a drain that begins now complete already, or within a few microseconds?
 * For callers that may do at once what they would do in its callback, and that
 * have no earlier drain of their own under way. Not inside a read section. False:
 * drain.
 */
bool sn_drain_now(struct snest_vm *vm);

void sn_pins_init(struct sn_pins *pins, struct snest_vm *vm);
void sn_pins_fini(struct sn_pins *pins);

#endif
