/* SPDX-License-Identifier: MIT */
/*
 * Building the next memory map: see core/memory_edit.h.
 *
 * Regions [0, low) and [high, capacity) of the array are in use, the gap is
 * between them. An operation moves the gap to the first region that ends at or
 * after its range, then consumes regions after the gap and produces regions
 * before it. It adds at most two more than it takes, which sets the capacity.
 */
#include "core/memory_edit.h"

#include <errno.h>
#include <string.h>

#include "core/extensible.h"
#include "core/vm.h"

#define PAGE_MASK 4095ull
#define GPA_LIMIT (1ull << 57)
#define HOST_LIMIT (1ull << 52)
#define REGION_FLAGS (SNEST_REGION_READONLY | SNEST_REGION_NO_TABLES)

static size_t map_size(size_t capacity)
{
	return sizeof(struct sn_memory_map) + capacity * sizeof(struct sn_region);
}

struct sn_memory_map *sn_memory_map_alloc(struct snest_vm *vm, size_t capacity)
{
	struct sn_memory_map *map = sn_vm_alloc(vm, map_size(capacity));

	if (map) {
		map->vm = vm;
		map->capacity = capacity;
	}
	return map;
}

void sn_memory_map_free(struct sn_memory_map *map)
{
	sn_vm_free(map->vm, map, map_size(map->capacity));
}

int sn_memory_edit_begin(struct sn_memory_edit *edit, struct snest_vm *vm,
                         const struct sn_memory_map *old, const struct snest_memory_op *ops,
                         size_t count)
{
	const size_t most = SNEST_MEMORY_REGIONS_MAX + 2;
	size_t capacity = old->count;

	for (size_t i = 0; i < count && capacity < most; i++)
		capacity += ops[i].kind == SNEST_MEMORY_ADD ? 1 : 2;
	if (capacity > most)
		capacity = most;

	*edit = (struct sn_memory_edit){.vm = vm};
	edit->map = sn_memory_map_alloc(vm, capacity);
	if (!edit->map)
		return -ENOMEM;
	memcpy(edit->map->region, old->region, old->count * sizeof(old->region[0]));
	edit->low = old->count;
	edit->high = capacity;
	return 0;
}

void sn_memory_edit_drop(struct sn_memory_edit *edit)
{
	while (edit->fresh) {
		struct sn_accessors *accessors = edit->fresh;

		edit->fresh = accessors->next;
		sn_vm_free(edit->vm, accessors, sizeof(*accessors));
	}
	sn_memory_map_free(edit->map);
}

struct sn_memory_map *sn_memory_edit_finish(struct sn_memory_edit *edit)
{
	struct sn_memory_map *map = edit->map;
	size_t tail = map->capacity - edit->high;

	memmove(&map->region[edit->low], &map->region[edit->high], tail * sizeof(map->region[0]));
	map->count = edit->low + tail;
	for (size_t i = 0; i < map->count; i++) {
		const struct sn_region *region = &map->region[i];
		uint64_t size = region->last - region->first + 1;

		if (size > map->hot_size) {
			map->hot_size = size;
			map->hot = *region;
		}
	}
	return map;
}

/* ---- The gap ---------------------------------------------------------- */

/* The first region after the gap, NULL if there is none. */
static struct sn_region *next(struct sn_memory_edit *edit)
{
	return edit->high < edit->map->capacity ? &edit->map->region[edit->high] : NULL;
}

static void produce(struct sn_memory_edit *edit, const struct sn_region *region)
{
	edit->map->region[edit->low++] = *region;
}

/* Moves the gap: all regions before it end before addr, none after it does. */
static void seek(struct sn_memory_edit *edit, uint64_t addr)
{
	struct sn_region *region = edit->map->region;
	size_t from, to, n;

	if (edit->low && region[edit->low - 1].last >= addr) {
		from = 0;
		to = edit->low;
		while (from < to) {
			size_t middle = from + (to - from) / 2;

			if (region[middle].last < addr)
				from = middle + 1;
			else
				to = middle;
		}
		n = edit->low - from;
		edit->high -= n;
		edit->low = from;
		memmove(&region[edit->high], &region[edit->low], n * sizeof(*region));
	} else {
		from = edit->high;
		to = edit->map->capacity;
		while (from < to) {
			size_t middle = from + (to - from) / 2;

			if (region[middle].last < addr)
				from = middle + 1;
			else
				to = middle;
		}
		n = from - edit->high;
		memmove(&region[edit->low], &region[edit->high], n * sizeof(*region));
		edit->high += n;
		edit->low += n;
	}
}

/* Makes the part of the next region before addr a region of its own, before the gap. */
static void cut(struct sn_memory_edit *edit, uint64_t addr)
{
	struct sn_region *region = next(edit);

	if (region && region->first < addr && region->last >= addr) {
		struct sn_region left = *region;

		left.last = addr - 1;
		region->first = addr;
		produce(edit, &left);
	}
}

/* Drops whatever lies in first..last. The gap is at `first` afterwards. */
static bool drop(struct sn_memory_edit *edit, uint64_t first, uint64_t last)
{
	struct sn_region *region;
	bool any = false;

	seek(edit, first);
	while ((region = next(edit)) && region->first <= last) {
		any = true;
		cut(edit, first);
		if (region->last > last) {
			region->first = last + 1;
			break;
		}
		edit->high++;
	}
	return any;
}

/* ---- Operations ------------------------------------------------------- */

static bool range_ok(uint64_t first, uint64_t last)
{
	return first <= last && !(first & PAGE_MASK) && (last & PAGE_MASK) == PAGE_MASK;
}

static int import_region(const struct snest_region *user, struct snest_region *region)
{
	int ret = SN_STRUCT_IN(region, user);
	uintptr_t mapping;
	uint64_t length;

	if (ret)
		return ret;
	mapping = (uintptr_t)region->mapping;
	if (!range_ok(region->first, region->last) || region->last >= GPA_LIMIT)
		return -EINVAL;
	length = region->last - region->first;
	if ((region->host & PAGE_MASK) || region->host >= HOST_LIMIT ||
	    length >= HOST_LIMIT - region->host)
		return -EINVAL;
	if (mapping && (mapping % 8 || length > UINTPTR_MAX - mapping))
		return -EINVAL;
	if ((region->flags & ~REGION_FLAGS) || region->reserved)
		return -EINVAL;
	return 0;
}

static int insert(struct sn_memory_edit *edit, const struct snest_region *user)
{
	struct sn_region region = {
		.first = user->first,
		.last = user->last,
		.host = user->host - user->first,
		.flags = user->flags,
	};

	if (user->mapping) {
		region.direct = true;
		region.mapping = (uintptr_t)user->mapping - (uintptr_t)user->first;
	} else if (user->accessors) {
		struct sn_accessors *accessors = sn_vm_alloc(edit->vm, sizeof(*accessors));

		if (!accessors)
			return -ENOMEM;
		accessors->fn = *user->accessors;
		accessors->next = edit->fresh;
		edit->fresh = accessors;
		region.accessors = &accessors->fn;
	}
	produce(edit, &region);
	return 0;
}

static int add(struct sn_memory_edit *edit, const struct snest_region *user)
{
	const struct sn_region *after;

	seek(edit, user->first);
	after = next(edit);
	if (after && after->first <= user->last)
		return -EEXIST;
	return insert(edit, user);
}

static int replace(struct sn_memory_edit *edit, const struct snest_region *user)
{
	drop(edit, user->first, user->last);
	return insert(edit, user);
}

static int protect(struct sn_memory_edit *edit, uint64_t first, uint64_t last, uint32_t flags)
{
	struct sn_region *region;
	bool any = false;

	seek(edit, first);
	while ((region = next(edit)) && region->first <= last) {
		struct sn_region part;

		any = true;
		/* What has the right flags already is not cut for nothing. */
		if ((region->flags & SNEST_REGION_READONLY) != flags) {
			cut(edit, first);
			part = *region;
			part.flags ^= SNEST_REGION_READONLY;
			if (part.last > last) {
				part.last = last;
				region->first = last + 1;
				produce(edit, &part);
				break;
			}
		} else {
			part = *region;
		}
		edit->high++;
		produce(edit, &part);
	}
	return any ? 0 : -ENOENT;
}

int sn_memory_edit_apply(struct sn_memory_edit *edit, const struct snest_memory_op *op)
{
	struct snest_region region;
	int ret;

	switch (op->kind) {
	case SNEST_MEMORY_ADD:
	case SNEST_MEMORY_REPLACE:
		ret = op->flags ? -EINVAL : import_region(&op->region, &region);
		if (!ret)
			ret = op->kind == SNEST_MEMORY_ADD ? add(edit, &region)
			                                   : replace(edit, &region);
		break;
	case SNEST_MEMORY_REMOVE:
		if (op->flags || !range_ok(op->first, op->last))
			return -EINVAL;
		ret = drop(edit, op->first, op->last) ? 0 : -ENOENT;
		break;
	case SNEST_MEMORY_PROTECT:
		if ((op->flags & ~SNEST_REGION_READONLY) || !range_ok(op->first, op->last))
			return -EINVAL;
		ret = protect(edit, op->first, op->last, op->flags);
		break;
	default:
		return -EINVAL;
	}
	if (!ret && edit->low + edit->map->capacity - edit->high > SNEST_MEMORY_REGIONS_MAX)
		ret = -ENOSPC;
	return ret;
}
