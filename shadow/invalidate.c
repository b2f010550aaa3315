/* SPDX-License-Identifier: MIT */
/*
 * Invalidation: by space, tag, device, or everything.
 *
 * An unmirrored space forgets what overlaps, a mirrored one re-reads it. The
 * whole of an unmirrored space is forgotten in one store, whatever it holds.
 * The range that is noted for running fills (space.h) is the one asked for;
 * what goes may be more: whole leaves, and whole pages of the guest.
 */
#include "core/probe.h"
#include "shadow/device.h"
#include "shadow/mirror.h"
#include "shadow/shadow.h"
#include "shadow/space.h"

/* Under the lock. */
static void forget(struct snest_space *space, struct sn_tree *tree, uint64_t first, uint64_t last)
{
	uint64_t wide_first = first, wide_last = last;

	if (sn_tree_is_empty(tree))
		return;
	if (first == 0 && last == UINT64_MAX) {
		sn_tree_detach(tree, &space->graveyard);
		return;
	}
	sn_tree_widen(tree, &wide_first, &wide_last);
	if (wide_first < first)
		space->stats.over_invalidated +=
			sn_tree_remove(tree, &space->graveyard, wide_first, first - 1);
	if (wide_last > last)
		space->stats.over_invalidated +=
			sn_tree_remove(tree, &space->graveyard, last + 1, wide_last);
	space->stats.leaves_dropped += sn_tree_remove(tree, &space->graveyard, first, last);
	sn_tree_tidy(tree, &space->graveyard);
}

/* What an observer may hold that goes with first..last: whole leaves, whole pages of the guest. */
static void widen_told(const struct snest_space *space, uint64_t *first, uint64_t *last)
{
	for (unsigned i = 0; i < 2; i++) {
		const struct sn_tree *tree = &space->tree[i];
		unsigned shift;

		sn_tree_widen(tree, first, last);
		if (sn_tree_find(tree, *first, &shift))
			*first &= ~sn_mask(shift);
		if (sn_tree_find(tree, *last, &shift))
			*last |= sn_mask(shift);
	}
	*first &= ~sn_mask(space->unremembered);
	*last |= sn_mask(space->unremembered);
}

/* A mirrored space that is as it should be already, seen without its lock. */
static inline bool unchanged(struct snest_space *space, uint64_t first, uint64_t last)
{
	bool same;

	if (!__atomic_load_n(&space->same, __ATOMIC_RELAXED) || !sn_rcu_may_read())
		return false;
	sn_read_begin();
	same = sn_mirror_unchanged(space, first, last);
	sn_read_end();
	return same;
}

int snest_space_invalidate(struct snest_space *space, uint64_t first, uint64_t last, uint32_t flags)
{
	int ret = 0;

	/* Tables between root and leaf are not cached, so the hint saves nothing here. */
	(void)flags;
	if (first > last) {
		first = 0;
		last = UINT64_MAX;
	}
	SN_PROBE3(invalidate, space, first, last);
	/* Also a full barrier: what the guest wrote before comes before what is read below. */
	__atomic_fetch_add(&space->invalidations, 1, __ATOMIC_SEQ_CST);
	sn_rmw_barrier();
	if (unchanged(space, first, last))
		return 0;
	pthread_mutex_lock(&space->lock);
	space->stats.invalidations_all += first == 0 && last == UINT64_MAX;
	sn_space_note(space, first, last);
	if (space->mirror) {
		ret = sn_mirror_sync(space, first, last);
	} else {
		uint64_t told_first = first, told_last = last;

		if (space->observer)
			widen_told(space, &told_first, &told_last);
		forget(space, &space->tree[0], first, last);
		if (space->privilege_mask)
			forget(space, &space->tree[1], first, last);
		if (space->observer)
			ret = sn_mirror_observe(space, told_first, told_last);
	}
	pthread_mutex_unlock(&space->lock);
	return ret;
}

int snest_tag_invalidate(struct snest_vm *vm, struct snest_tag tag, uint64_t first, uint64_t last,
                         uint32_t flags)
{
	struct sn_shadow *shadow = __atomic_load_n(&vm->shadow, __ATOMIC_ACQUIRE);
	int ret = 0;

	if (!shadow)
		return 0;
	pthread_mutex_lock(&shadow->lock);
	for (struct snest_space *space = shadow->tag[sn_tag_bucket(tag.domain)]; space;
	     space = space->next_in_tag) {
		int one;

		if (space->tag.domain != tag.domain ||
		    (tag.space != SNEST_ANY_SPACE && space->tag.space != tag.space))
			continue;
		one = snest_space_invalidate(space, first, last, flags);
		ret = ret ? ret : one;
	}
	pthread_mutex_unlock(&shadow->lock);
	return ret;
}

int snest_vm_invalidate(struct snest_vm *vm, uint64_t first, uint64_t last, uint32_t flags)
{
	struct sn_shadow *shadow = __atomic_load_n(&vm->shadow, __ATOMIC_ACQUIRE);
	int ret = 0;

	if (!shadow)
		return 0;
	pthread_mutex_lock(&shadow->lock);
	for (struct snest_space *space = shadow->spaces; space; space = space->next) {
		int one = snest_space_invalidate(space, first, last, flags);

		ret = ret ? ret : one;
	}
	pthread_mutex_unlock(&shadow->lock);
	return ret;
}

int snest_device_invalidate(struct snest_device *device, uint32_t pasid, uint64_t first,
                            uint64_t last, uint32_t flags)
{
	int ret = 0;

	/* The device's lock keeps its spaces bound, and so alive. */
	pthread_mutex_lock(&device->lock);
	if (pasid != SNEST_ANY_PASID) {
		struct snest_space *space = sn_device_space(device, pasid);

		if (space)
			ret = snest_space_invalidate(space, first, last, flags);
	} else {
		struct sn_pasid_dir *dir = device->pasids;
		uint32_t left = device->bound;

		if (device->space)
			ret = snest_space_invalidate(device->space, first, last, flags);
		for (unsigned i = 0; dir && i < SN_PASID_DIR && left; i++) {
			struct sn_pasid_leaf *leaf = dir->leaf[i];

			for (unsigned j = 0; leaf && j < SN_PASID_LEAF && left; j++) {
				int one;

				if (!leaf->space[j])
					continue;
				left--;
				one = snest_space_invalidate(leaf->space[j], first, last, flags);
				ret = ret ? ret : one;
			}
		}
	}
	pthread_mutex_unlock(&device->lock);
	return ret;
}
