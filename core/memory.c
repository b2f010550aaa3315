/* SPDX-License-Identifier: MIT */
/*
 * The guest memory map, reading side: looking up and copying. Ordering and the
 * sequence protocol are described in core/memory.h.
 */
#include "core/memory.h"

#include <errno.h>
#include <string.h>

#include "core/memory_edit.h"
#include "core/vm.h"

int sn_memory_init(struct sn_memory *memory, struct snest_vm *vm)
{
	*memory = (struct sn_memory){.vm = vm};
	memory->map = sn_memory_map_alloc(vm, 0);
	if (!memory->map)
		return -ENOMEM;
	pthread_mutex_init(&memory->lock, NULL);
	return 0;
}

const struct sn_region *sn_memory_search(const struct sn_memory_map *map, uint64_t addr)
{
	const struct sn_region *base = map->region;
	size_t count = map->count;

	if (!count)
		return NULL;
	/*
	 * The region of addr, if there is one, is in base[0 .. count - 1]. The
	 * choice of half compiles to a conditional move: guesses of a branch
	 * predictor about it would be wrong half of the time.
	 */
	while (count > 1) {
		size_t half = count / 2;

		base = base[half].first <= addr ? base + half : base;
		count -= half;
	}
	return base->first <= addr && addr <= base->last ? base : NULL;
}

/* ---- Copying ---------------------------------------------------------- */

/* The guest's bytes have no type of ours. */
typedef uint64_t __attribute__((may_alias)) guest64;
typedef uint32_t __attribute__((may_alias)) guest32;
typedef uint16_t __attribute__((may_alias)) guest16;

/* The size of the largest naturally aligned word at `at` of at most `left` bytes. */
static size_t word_size(uintptr_t at, size_t left)
{
	size_t size = 8;

	while (size > 1 && ((at & (size - 1)) || left < size))
		size /= 2;
	return size;
}

#define COPY_WORD_IN(type)                                                          \
	do {                                                                        \
		type word_ = __atomic_load_n((const type *)from, __ATOMIC_RELAXED); \
		memcpy(buf, &word_, sizeof(word_));                                 \
	} while (0)

static void copy_in(char *buf, uintptr_t from, size_t length)
{
	while (length) {
		size_t size = word_size(from, length);

		switch (size) {
		case 8:
			COPY_WORD_IN(guest64);
			break;
		case 4:
			COPY_WORD_IN(guest32);
			break;
		case 2:
			COPY_WORD_IN(guest16);
			break;
		default:
			COPY_WORD_IN(uint8_t);
		}
		buf += size;
		from += size;
		length -= size;
	}
}

#define COPY_WORD_OUT(type)                                            \
	do {                                                           \
		type word_;                                            \
		memcpy(&word_, buf, sizeof(word_));                    \
		__atomic_store_n((type *)to, word_, __ATOMIC_RELAXED); \
	} while (0)

static void copy_out(uintptr_t to, const char *buf, size_t length)
{
	while (length) {
		size_t size = word_size(to, length);

		switch (size) {
		case 8:
			COPY_WORD_OUT(guest64);
			break;
		case 4:
			COPY_WORD_OUT(guest32);
			break;
		case 2:
			COPY_WORD_OUT(guest16);
			break;
		default:
			COPY_WORD_OUT(uint8_t);
		}
		buf += size;
		to += size;
		length -= size;
	}
}

/* The region of addr, and in *length how much of the given length it holds. */
static const struct sn_region *piece(const struct sn_memory_map *map, uint64_t addr, size_t *length)
{
	const struct sn_region *region = sn_memory_find(map, addr);

	if (region && *length - 1 > region->last - addr)
		*length = (size_t)(region->last - addr + 1);
	return region;
}

int sn_memory_read(const struct sn_memory_map *map, uint64_t addr, void *buf, size_t length)
{
	char *to = buf;

	while (length) {
		size_t n = length;
		const struct sn_region *region = piece(map, addr, &n);

		if (!region)
			return -EFAULT;
		if (region->direct) {
			copy_in(to, region->mapping + (uintptr_t)addr, n);
		} else {
			const struct snest_accessors *fn = region->accessors;

			if (!fn || !fn->read || fn->read(fn->opaque, addr, to, n))
				return -EFAULT;
		}
		to += n;
		addr += n;
		length -= n;
	}
	return 0;
}

int sn_memory_write(const struct sn_memory_map *map, uint64_t addr, const void *buf, size_t length)
{
	const char *from = buf;

	while (length) {
		size_t n = length;
		const struct sn_region *region = piece(map, addr, &n);

		if (!region || (region->flags & SNEST_REGION_READONLY))
			return -EFAULT;
		if (region->direct) {
			copy_out(region->mapping + (uintptr_t)addr, from, n);
		} else {
			const struct snest_accessors *fn = region->accessors;

			if (!fn || !fn->write || fn->write(fn->opaque, addr, from, n))
				return -EFAULT;
		}
		sn_shadow_wrote(map->vm, addr, n);
		from += n;
		addr += n;
		length -= n;
	}
	return 0;
}

int snest_guest_read(struct snest_vm *vm, uint64_t gpa, void *buf, size_t length)
{
	int ret;

	sn_read_begin();
	if (vm->host_stage.format)
		ret = sn_collapse_copy(vm, gpa, buf, length, false);
	else
		ret = sn_memory_read(sn_deref(&vm->memory.map), gpa, buf, length);
	sn_read_end();
	return ret;
}

int snest_guest_write(struct snest_vm *vm, uint64_t gpa, const void *buf, size_t length)
{
	int ret;

	sn_read_begin();
	if (vm->host_stage.format)
		ret = sn_collapse_copy(vm, gpa, (void *)(uintptr_t)buf, length, true);
	else
		ret = sn_memory_write(sn_deref(&vm->memory.map), gpa, buf, length);
	sn_read_end();
	return ret;
}
