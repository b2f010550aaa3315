/* SPDX-License-Identifier: MIT */
/*
 * Statistics of spaces, and of a VM's spaces and devices together. What is
 * counted is counted where it happens, off the way of a lookup that hits.
 */
#include <string.h>
#include "core/extensible.h"
#include "shadow/device.h"
#include "shadow/shadow.h"
#include "shadow/space.h"

/* What grows for ever, and so is kept of spaces that are gone. */
static void add_totals(struct snest_space_stats *sum, const struct snest_space_stats *one)
{
	sum->leaves_published += one->leaves_published;
	sum->misses += one->misses;
	sum->fills += one->fills;
	sum->fills_dropped += one->fills_dropped;
	sum->faults += one->faults;
	sum->invalidations += one->invalidations;
	sum->invalidations_all += one->invalidations_all;
	sum->leaves_dropped += one->leaves_dropped;
	sum->over_invalidated += one->over_invalidated;
	sum->evictions += one->evictions;
	sum->sink_maps += one->sink_maps;
	sum->sink_unmaps += one->sink_unmaps;
	sum->sink_batches += one->sink_batches;
	sum->sink_pages += one->sink_pages;
	sum->sink_errors += one->sink_errors;
	sum->notices += one->notices;
}

void sn_space_count(struct snest_space *space, struct snest_space_stats *now)
{
	pthread_mutex_lock(&space->lock);
	*now = space->stats;
	now->table_bytes = space->graveyard.linked * 4096;
	now->leaves = sn_tree_leaves(&space->tree[0]) + sn_tree_leaves(&space->tree[1]);
	now->table_pages = space->track ? space->track->count : 0;
	pthread_mutex_unlock(&space->lock);
	now->invalidations = __atomic_load_n(&space->invalidations, __ATOMIC_RELAXED);
	now->misses = __atomic_load_n(&space->misses, __ATOMIC_RELAXED);
	now->faults = __atomic_load_n(&space->faults, __ATOMIC_RELAXED);
	now->fills = __atomic_load_n(&space->fills, __ATOMIC_RELAXED);
	now->fills_dropped = __atomic_load_n(&space->fills_dropped, __ATOMIC_RELAXED);
}

int snest_space_stats(struct snest_space *space, struct snest_space_stats *stats)
{
	struct snest_space_stats now;

	sn_space_count(space, &now);
	return SN_STRUCT_OUT(stats, &now);
}

void sn_shadow_retire(struct sn_shadow *shadow, struct snest_space *space)
{
	struct snest_space_stats last;

	sn_space_count(space, &last);
	pthread_mutex_lock(&shadow->lock);
	add_totals(&shadow->gone, &last);
	pthread_mutex_unlock(&shadow->lock);
}

static void count_pins(struct sn_pins *pins, struct snest_shadow_stats *now)
{
	pthread_mutex_lock(&pins->lock);
	now->pins_held = pins->held;
	if (pins->oldest)
		now->pin_oldest_ns = sn_vm_now(pins->vm) - pins->oldest->born_ns;
	for (const struct sn_drain_link *drain = pins->drains; drain; drain = drain->next)
		now->drains_waiting++;
	pthread_mutex_unlock(&pins->lock);
}

int snest_shadow_stats(struct snest_vm *vm, struct snest_shadow_stats *stats)
{
	struct sn_shadow *shadow = __atomic_load_n(&vm->shadow, __ATOMIC_ACQUIRE);
	struct snest_shadow_stats now = {.size = 0};
	struct snest_space_stats one;

	if (!shadow)
		return SN_STRUCT_OUT(stats, &now);
	pthread_mutex_lock(&shadow->lock);
	now.sum = shadow->gone;
	for (struct snest_space *space = shadow->spaces; space; space = space->next) {
		sn_space_count(space, &one);
		add_totals(&now.sum, &one);
		now.sum.table_bytes += one.table_bytes;
		now.sum.leaves += one.leaves;
		now.sum.table_pages += one.table_pages;
		now.spaces++;
		pthread_mutex_lock(&space->lock);
		now.mirrors += space->mirror || space->observer;
		pthread_mutex_unlock(&space->lock);
	}
	for (unsigned i = 0; i < SN_DEVICE_BUCKETS; i++) {
		for (struct snest_device *device = shadow->device[i]; device; device = device->next)
			now.devices++;
	}
	pthread_mutex_unlock(&shadow->lock);
	pthread_mutex_lock(&shadow->tracker.lock);
	now.tracked_pages = shadow->tracker.count;
	pthread_mutex_unlock(&shadow->tracker.lock);
	now.drains = __atomic_load_n(&shadow->drains, __ATOMIC_RELAXED);
	count_pins(&shadow->pins, &now);
	now.sum.size = sizeof(now.sum);
	return SN_STRUCT_OUT(stats, &now);
}
