/* SPDX-License-Identifier: MIT */
/*
 * The guest memory map, changing side: one change from its operations to the
 * release of what it replaced. See core/memory.h for the sequence protocol.
 *
 * 1. Once snest_memory_update is past its last error, lookups that begin later
 *    see the new map, and listeners have been told before it returns.
 * 2. The old map goes after a grace period, and `done` is called after that:
 *    the map's own node carries both, so that nothing is allocated once the
 *    new map is there.
 * 3. The lock is not held while anybody waits for readers.
 */
#include <errno.h>

#include "core/extensible.h"
#include "core/memory_edit.h"
#include "core/vm.h"

#define MARK_RETIRED UINT64_MAX

void sn_memory_listen(struct sn_memory *memory, struct sn_memory_listener *listener)
{
	pthread_mutex_lock(&memory->lock);
	listener->next = memory->listeners;
	memory->listeners = listener;
	pthread_mutex_unlock(&memory->lock);
}

void sn_memory_unlisten(struct sn_memory *memory, struct sn_memory_listener *listener)
{
	struct sn_memory_listener **at;

	pthread_mutex_lock(&memory->lock);
	for (at = &memory->listeners; *at; at = &(*at)->next) {
		if (*at == listener) {
			*at = listener->next;
			break;
		}
	}
	pthread_mutex_unlock(&memory->lock);
}

/* ---- What a change took away ------------------------------------------ */

struct taken {
	struct sn_memory *memory;
	const struct sn_memory_map *old;
	bool any;
	uint64_t first, last; /* found and not yet told, if any */
};

static void flush(struct taken *taken)
{
	struct sn_memory_listener *listener;

	if (!taken->any)
		return;
	for (listener = taken->memory->listeners; listener; listener = listener->next)
		listener->changed(listener, taken->first, taken->last, taken->old);
	taken->any = false;
}

static void take(struct taken *taken, uint64_t first, uint64_t last)
{
	if (taken->any && taken->last + 1 == first) {
		taken->last = last;
		return;
	}
	flush(taken);
	taken->any = true;
	taken->first = first;
	taken->last = last;
}

/* Everything that held with `old` holds with `new`; more may. */
static bool still_holds(const struct sn_region *old, const struct sn_region *new)
{
	return new->host == old->host &&new->direct == old->direct &&new->mapping ==
	               old->mapping &&new->accessors == old->accessors &&
	       !(new->flags & ~old->flags);
}

static void tell_listeners(struct sn_memory *memory, const struct sn_memory_map *old,
                           const struct sn_memory_map *new)
{
	struct taken taken = {.memory = memory, .old = old};
	const struct sn_region *n = new->region, *beyond = new->region + new->count;

	for (const struct sn_region *o = old->region; o < old->region + old->count; o++) {
		uint64_t at = o->first;

		/* Addresses are below 2^57, so that none of these sums wraps. */
		while (at <= o->last) {
			uint64_t last = o->last;

			while (n < beyond && n->last < at)
				n++;
			if (n == beyond || n->first > last) {
				take(&taken, at, last);
			} else if (n->first > at) {
				last = n->first - 1;
				take(&taken, at, last);
			} else {
				if (n->last < last)
					last = n->last;
				if (!still_holds(o, n))
					take(&taken, at, last);
			}
			at = last + 1;
		}
	}
	flush(&taken);
	for (struct sn_memory_listener *l = memory->listeners; l; l = l->next) {
		if (l->settled)
			l->settled(l);
	}
}

/* ---- Release ---------------------------------------------------------- */

static struct sn_accessors *accessors_of(const struct sn_region *region)
{
	const char *fn = (const char *)region->accessors;

	if (!fn)
		return NULL;
	return (struct sn_accessors *)(uintptr_t)(fn - offsetof(struct sn_accessors, fn));
}

static void free_accessors(struct snest_vm *vm, struct sn_accessors *list)
{
	while (list) {
		struct sn_accessors *accessors = list;

		list = accessors->next;
		sn_vm_free(vm, accessors, sizeof(*accessors));
	}
}

/* Puts all accessors of `old` that do not carry `mark` on its list of those that go. */
static void retire_unmarked(struct sn_memory_map *old, uint64_t mark)
{
	for (size_t i = 0; i < old->count; i++) {
		struct sn_accessors *accessors = accessors_of(&old->region[i]);

		if (!accessors || accessors->mark == mark || accessors->mark == MARK_RETIRED)
			continue;
		accessors->mark = MARK_RETIRED;
		accessors->next = old->retired;
		old->retired = accessors;
	}
}

/* Sorts accessors into those that stay and those that go. Before `new` is published. */
static void retire_accessors(struct snest_vm *vm, struct sn_memory_map *old,
                             const struct sn_memory_map *new, struct sn_accessors *fresh,
                             uint64_t mark)
{
	for (size_t i = 0; i < new->count; i++) {
		struct sn_accessors *accessors = accessors_of(&new->region[i]);

		if (accessors)
			accessors->mark = mark;
	}
	retire_unmarked(old, mark);
	while (fresh) {
		struct sn_accessors *accessors = fresh;

		fresh = accessors->next;
		accessors->next = NULL;
		/* Added and removed again by one change: no reader ever saw it. */
		if (accessors->mark != mark)
			free_accessors(vm, accessors);
	}
}

static void map_unused(void *opaque)
{
	struct sn_memory_map *map = opaque;
	snest_done_fn done = map->done;

	opaque = map->done_opaque;
	sn_memory_map_free(map);
	done(opaque);
}

static void release_map(struct sn_reclaim_node *node)
{
	struct sn_memory_map *map =
		(struct sn_memory_map *)((char *)node - offsetof(struct sn_memory_map, node));

	free_accessors(map->vm, map->retired);
	/* Pins hold what the map led to, not the map; only who asked is told of them. */
	if (map->done)
		sn_shadow_after_pins(map->vm, &map->pins, map_unused, map);
	else
		sn_memory_map_free(map);
}

void sn_memory_fini(struct sn_memory *memory)
{
	retire_unmarked(memory->map, 0);
	free_accessors(memory->vm, memory->map->retired);
	sn_memory_map_free(memory->map);
	pthread_mutex_destroy(&memory->lock);
}

/* ---- A change --------------------------------------------------------- */

static void publish(struct sn_memory *memory, struct sn_memory_edit *edit, snest_done_fn done,
                    void *opaque)
{
	struct sn_memory_map *old = memory->map;
	struct sn_memory_map *new = sn_memory_edit_finish(edit);
	uint64_t change = __atomic_add_fetch(&memory->changes, 1, __ATOMIC_RELAXED);

	old->done = done;
	old->done_opaque = opaque;
	retire_accessors(memory->vm, old, new, edit->fresh, change);

	/*
	 * Whoever derefs the new map has the odd value before it (release in
	 * sn_publish). Whoever reads the even value has the new map (release
	 * here, acquire in sn_memory_seq).
	 */
	__atomic_add_fetch(&memory->seq, 1, __ATOMIC_RELAXED);
	sn_publish(&memory->map, new);
	tell_listeners(memory, old, new);
	__atomic_add_fetch(&memory->seq, 1, __ATOMIC_RELEASE);

	sn_reclaim_defer(&memory->vm->reclaim, &old->node, release_map);
}

int snest_memory_update(struct snest_vm *vm, const struct snest_memory_op *ops, size_t count,
                        size_t *failed, snest_done_fn done, void *opaque)
{
	struct sn_memory *memory = &vm->memory;
	struct sn_memory_edit edit;
	size_t i = count;
	int ret;

	if (failed)
		*failed = count;
	if (count && !ops)
		return -EINVAL;
	if (!done && sn_reclaim_would_deadlock(&vm->reclaim))
		return -EDEADLK;

	pthread_mutex_lock(&memory->lock);
	ret = sn_memory_edit_begin(&edit, vm, memory->map, ops, count);
	if (!ret) {
		for (i = 0; i < count && !ret; i++)
			ret = sn_memory_edit_apply(&edit, &ops[i]);
		if (ret) {
			if (failed)
				*failed = i - 1;
			sn_memory_edit_drop(&edit);
		} else {
			publish(memory, &edit, done, opaque);
		}
	}
	pthread_mutex_unlock(&memory->lock);

	if (!ret && !done)
		sn_shadow_wait(vm);
	return ret;
}

static int update_one(struct snest_vm *vm, const struct snest_memory_op *op)
{
	return snest_memory_update(vm, op, 1, NULL, NULL, NULL);
}

/*
 * The caller's region may be shorter or longer than the one inside an
 * operation, so it is brought to our size before it is put there.
 */
static int update_region(struct snest_vm *vm, enum snest_memory_op_kind kind,
                         const struct snest_region *region)
{
	struct snest_memory_op op = {.kind = kind};
	int ret = SN_STRUCT_IN(&op.region, region);

	return ret ? ret : update_one(vm, &op);
}

int snest_memory_add(struct snest_vm *vm, const struct snest_region *region)
{
	return update_region(vm, SNEST_MEMORY_ADD, region);
}

int snest_memory_replace(struct snest_vm *vm, const struct snest_region *region)
{
	return update_region(vm, SNEST_MEMORY_REPLACE, region);
}

int snest_memory_remove(struct snest_vm *vm, uint64_t first, uint64_t last)
{
	struct snest_memory_op op = {
		.kind = SNEST_MEMORY_REMOVE,
		.first = first,
		.last = last,
	};

	return update_one(vm, &op);
}

int snest_memory_protect(struct snest_vm *vm, uint64_t first, uint64_t last, uint32_t flags)
{
	struct snest_memory_op op = {
		.kind = SNEST_MEMORY_PROTECT,
		.flags = flags,
		.first = first,
		.last = last,
	};

	return update_one(vm, &op);
}
