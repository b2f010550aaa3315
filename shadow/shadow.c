/* SPDX-License-Identifier: MIT */
/*
 * What the shadow keeps per VM, and what a change of the memory map does to it.
 */
#include "shadow/device.h"
#include "shadow/mirror.h"
#include "shadow/pins.h"
#include "shadow/shadow.h"
#include "shadow/space.h"

/*
 * A range of the memory map leads elsewhere. Leaves hold host addresses, so
 * each shadow is scanned for the old ones: 8 bytes a page at memory bandwidth,
 * and no reverse map to keep. Runs between the two steps of memory.seq
 * (core/memory.h), so no fill that saw the old map publishes behind it.
 */
static void forget_host(struct snest_space *space, uint64_t host_first, uint64_t host_last)
{
	sn_space_note(space, 0, UINT64_MAX);
	for (unsigned i = 0; i < 2; i++)
		space->stats.leaves_dropped += sn_tree_remove_host(
			&space->tree[i], &space->graveyard, host_first, host_last);
	if (space->observer)
		sn_mirror_observe(space, 0, UINT64_MAX);
}

static void memory_changed(struct sn_memory_listener *listener, uint64_t first, uint64_t last,
                           const struct sn_memory_map *old)
{
	struct sn_shadow *shadow =
		(void *)((char *)listener - offsetof(struct sn_shadow, listener));

	pthread_mutex_lock(&shadow->lock);
	for (struct snest_space *space = shadow->spaces; space; space = space->next) {
		pthread_mutex_lock(&space->lock);
		if (space->track)
			sn_track_memory_changed(space->track, first, last);
		pthread_mutex_unlock(&space->lock);
	}
	for (size_t i = 0; i < old->count; i++) {
		const struct sn_region *region = &old->region[i];
		uint64_t from = region->first > first ? region->first : first;
		uint64_t to = region->last < last ? region->last : last;

		if (from > to)
			continue;
		for (struct snest_space *space = shadow->spaces; space; space = space->next) {
			pthread_mutex_lock(&space->lock);
			if (space->mirror)
				sn_mirror_forget_host(space, from + region->host,
				                      to + region->host);
			else
				forget_host(space, from + region->host, to + region->host);
			pthread_mutex_unlock(&space->lock);
		}
	}
	pthread_mutex_unlock(&shadow->lock);
}

/* Memory may have come as well: a mirrored space has to have it, others find it on a miss. */
static void memory_settled(struct sn_memory_listener *listener)
{
	struct sn_shadow *shadow =
		(void *)((char *)listener - offsetof(struct sn_shadow, listener));

	pthread_mutex_lock(&shadow->lock);
	for (struct snest_space *space = shadow->spaces; space; space = space->next) {
		pthread_mutex_lock(&space->lock);
		if (space->mirror)
			sn_mirror_sync(space, 0, UINT64_MAX);
		pthread_mutex_unlock(&space->lock);
	}
	pthread_mutex_unlock(&shadow->lock);
}

void sn_shadow_destroy(struct snest_vm *vm)
{
	struct sn_shadow *shadow = vm->shadow;

	if (!shadow)
		return;
	sn_memory_unlisten(&vm->memory, &shadow->listener);
	for (unsigned i = 0; i < SN_DEVICE_BUCKETS; i++) {
		while (shadow->device[i])
			snest_device_destroy(shadow->device[i]);
	}
	while (shadow->spaces) {
		shadow->spaces->references = 1;
		snest_space_put(shadow->spaces);
	}
	/* Spaces and devices are freed on the reclaim thread, in steps that queue themselves again. */
	while (sn_reclaim_pending(&vm->reclaim))
		sn_reclaim_barrier(&vm->reclaim);
	sn_tracker_fini(&shadow->tracker);
	sn_pins_fini(&shadow->pins);
	sn_dirty_fini(&shadow->dirty);
	pthread_mutex_destroy(&shadow->lock);
	vm->shadow = NULL;
	sn_vm_free(vm, shadow, sizeof(*shadow));
}

struct sn_shadow *sn_shadow(struct snest_vm *vm)
{
	struct sn_shadow *shadow = __atomic_load_n(&vm->shadow, __ATOMIC_ACQUIRE);
	struct sn_shadow *expected = NULL;

	if (shadow)
		return shadow;
	shadow = sn_vm_alloc(vm, sizeof(*shadow));
	if (!shadow)
		return NULL;
	shadow->vm = vm;
	pthread_mutex_init(&shadow->lock, NULL);
	sn_pins_init(&shadow->pins, vm);
	sn_dirty_init(&shadow->dirty, vm);
	sn_tracker_init(&shadow->tracker, vm);
	shadow->listener.changed = memory_changed;
	shadow->listener.settled = memory_settled;
	/* First: whoever fills a leaf has found this, so no change of memory may miss it. */
	sn_memory_listen(&vm->memory, &shadow->listener);
	if (!__atomic_compare_exchange_n(&vm->shadow, &expected, shadow, false, __ATOMIC_ACQ_REL,
	                                 __ATOMIC_ACQUIRE)) {
		sn_memory_unlisten(&vm->memory, &shadow->listener);
		sn_tracker_fini(&shadow->tracker);
		sn_pins_fini(&shadow->pins);
		sn_dirty_fini(&shadow->dirty);
		pthread_mutex_destroy(&shadow->lock);
		sn_vm_free(vm, shadow, sizeof(*shadow));
		return expected;
	}
	return shadow;
}
