/* SPDX-License-Identifier: MIT */
/* The dirty log; see dirty.h for the rule that makes it exact. */
#include <errno.h>
#include "shadow/dirty.h"
#include "shadow/shadow.h"

void sn_dirty_mark(struct snest_space *space, uint64_t iova, uint64_t gpa, uint64_t length)
{
	if (!__atomic_load_n(&space->log_dirty, __ATOMIC_ACQUIRE))
		return;
	sn_dirty_add(&space->dirty, iova, iova + length - 1);
	sn_dirty_add(&space->vm->shadow->dirty, gpa, gpa + length - 1);
}

void sn_shadow_wrote(struct snest_vm *vm, uint64_t gpa, uint64_t length)
{
	struct sn_shadow *shadow = __atomic_load_n(&vm->shadow, __ATOMIC_ACQUIRE);

	if (shadow && __atomic_load_n(&shadow->log_dirty, __ATOMIC_ACQUIRE))
		sn_dirty_add(&shadow->dirty, gpa, gpa + length - 1);
}

/* Withholds write rights. Under the space's lock. */
static void withhold(struct snest_space *space, uint64_t iova_first, uint64_t iova_last,
                     uint64_t host_first, uint64_t host_last)
{
	/* A fill that began before must not publish a right behind this. */
	sn_space_note(space, iova_first, iova_last);
	sn_tree_withhold(&space->tree[0], iova_first, iova_last, host_first, host_last);
	sn_tree_withhold(&space->tree[1], iova_first, iova_last, host_first, host_last);
}

static void readers_gone(struct sn_reclaim_node *node)
{
	(void)node;
}

/* Until every read section that is open now has closed. A barrier alone waits for work only. */
static void wait_for_readers(struct snest_vm *vm)
{
	struct sn_reclaim_node node;

	sn_reclaim_defer(&vm->reclaim, &node, readers_gone);
	sn_reclaim_barrier(&vm->reclaim);
}

int snest_dirty_start(struct snest_vm *vm)
{
	struct sn_shadow *shadow = sn_shadow(vm);

	if (!shadow)
		return -ENOMEM;
	if (sn_reclaim_would_deadlock(&vm->reclaim))
		return -EDEADLK;
	/* Who found an earlier log still on has marked its pages by then; they are not this one's. */
	wait_for_readers(vm);
	pthread_mutex_lock(&shadow->lock);
	if (shadow->log_dirty) {
		pthread_mutex_unlock(&shadow->lock);
		return -EBUSY;
	}
	sn_dirty_reset(&shadow->dirty);
	__atomic_store_n(&shadow->log_dirty, true, __ATOMIC_RELEASE);
	for (struct snest_space *space = shadow->spaces; space; space = space->next) {
		sn_dirty_reset(&space->dirty);
		pthread_mutex_lock(&space->lock);
		__atomic_store_n(&space->log_dirty, true, __ATOMIC_RELEASE);
		withhold(space, 0, UINT64_MAX, 0, UINT64_MAX);
		pthread_mutex_unlock(&space->lock);
	}
	pthread_mutex_unlock(&shadow->lock);
	wait_for_readers(vm);
	return 0;
}

int snest_dirty_stop(struct snest_vm *vm)
{
	struct sn_shadow *shadow = sn_shadow(vm);

	if (!shadow)
		return -ENOMEM;
	pthread_mutex_lock(&shadow->lock);
	if (!shadow->log_dirty) {
		pthread_mutex_unlock(&shadow->lock);
		return -ENOENT;
	}
	__atomic_store_n(&shadow->log_dirty, false, __ATOMIC_RELEASE);
	for (struct snest_space *space = shadow->spaces; space; space = space->next) {
		pthread_mutex_lock(&space->lock);
		__atomic_store_n(&space->log_dirty, false, __ATOMIC_RELEASE);
		sn_tree_restore(&space->tree[0]);
		sn_tree_restore(&space->tree[1]);
		pthread_mutex_unlock(&space->lock);
		sn_dirty_reset(&space->dirty);
	}
	pthread_mutex_unlock(&shadow->lock);
	sn_dirty_reset(&shadow->dirty);
	return 0;
}

static int check(struct snest_vm *vm, uint64_t first, uint64_t last, uint32_t flags,
                 const uint64_t *bitmap)
{
	struct sn_shadow *shadow = sn_shadow(vm);

	if ((first | (last + 1)) & 4095 || first > last || (flags & ~SNEST_DIRTY_PEEK) || !bitmap)
		return -EINVAL;
	if (!shadow || !__atomic_load_n(&shadow->log_dirty, __ATOMIC_RELAXED))
		return -ENOENT;
	return !(flags & SNEST_DIRTY_PEEK) && sn_reclaim_would_deadlock(&vm->reclaim) ? -EDEADLK
	                                                                              : 0;
}

int snest_space_dirty(struct snest_space *space, uint64_t first, uint64_t last, uint32_t flags,
                      uint64_t *bitmap, uint64_t *pages)
{
	int ret = check(space->vm, first, last, flags, bitmap);
	uint64_t found;

	if (ret)
		return ret;
	sn_pins_mark_written(&space->vm->shadow->pins, sn_dirty_mark);
	found = sn_dirty_collect(&space->dirty, first, last, !(flags & SNEST_DIRTY_PEEK), bitmap);
	if (pages)
		*pages = found;
	if (flags & SNEST_DIRTY_PEEK)
		return 0;
	pthread_mutex_lock(&space->lock);
	withhold(space, first, last, 0, UINT64_MAX);
	pthread_mutex_unlock(&space->lock);
	wait_for_readers(space->vm);
	return 0;
}

/* Withholds write rights to the host memory behind first..last (GPAs), in all spaces. */
static void withhold_gpas(struct sn_shadow *shadow, const struct sn_memory_map *map, uint64_t first,
                          uint64_t last)
{
	for (size_t i = 0; i < map->count; i++) {
		const struct sn_region *region = &map->region[i];
		uint64_t from = region->first > first ? region->first : first;
		uint64_t to = region->last < last ? region->last : last;

		if (from > to)
			continue;
		for (struct snest_space *space = shadow->spaces; space; space = space->next) {
			pthread_mutex_lock(&space->lock);
			withhold(space, 0, UINT64_MAX, from + region->host, to + region->host);
			pthread_mutex_unlock(&space->lock);
		}
	}
}

int snest_vm_dirty(struct snest_vm *vm, uint64_t first, uint64_t last, uint32_t flags,
                   uint64_t *bitmap, uint64_t *pages)
{
	int ret = check(vm, first, last, flags, bitmap);
	struct sn_shadow *shadow = vm->shadow;
	uint64_t found;

	if (ret)
		return ret;
	sn_pins_mark_written(&shadow->pins, sn_dirty_mark);
	found = sn_dirty_collect(&shadow->dirty, first, last, !(flags & SNEST_DIRTY_PEEK), bitmap);
	if (pages)
		*pages = found;
	if (flags & SNEST_DIRTY_PEEK)
		return 0;
	/* memory.lock keeps the map; it comes before the shadow's lock. */
	pthread_mutex_lock(&vm->memory.lock);
	pthread_mutex_lock(&shadow->lock);
	withhold_gpas(shadow, vm->memory.map, first, last);
	pthread_mutex_unlock(&shadow->lock);
	pthread_mutex_unlock(&vm->memory.lock);
	wait_for_readers(vm);
	return 0;
}
