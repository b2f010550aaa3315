/* SPDX-License-Identifier: MIT */
/*
 * What a walk stands on: the list of stages, the memory map, and how a table
 * entry of one stage is found through the stages behind it.
 *
 * An environment lives on the stack of one call, inside one read section. The
 * last stage reads its tables straight from the memory map; an earlier one has
 * each entry's address translated by the stages behind it first. Table reads
 * count as unprivileged reads there, accessed/dirty updates as writes.
 */
#ifndef SN_WALKERS_ENV_H
#define SN_WALKERS_ENV_H

#include <limits.h>
#include "core/vm.h"
#include "walkers/pt.h"

/* For sn_watch.table: the entries' IOVAs lie anywhere in first..last. */
#define SN_WATCH_SPREAD 0xffu

/*
 * Somebody who has to know each page of a table before its entries are read;
 * part of the watcher's own object. An enumeration says in the fields which
 * IOVAs depend on what is read next.
 */
struct sn_watch {
	/*
	 * Entries of a table of `stage` at `level` are about to be read: some
	 * of the `length` bytes from `addr` on, an address of the memory map;
	 * all in one page of 4 KiB. `shift`: the entry at addr translates
	 * 2^shift bytes from IOVA `base` on, the next one those behind, and so
	 * on; or SN_WATCH_SPREAD. 0, or what makes them unreadable.
	 */
	int (*table)(struct sn_watch *watch, unsigned stage, unsigned level, uint64_t addr,
	             size_t length, unsigned shift);
	uint64_t first, last; /* IOVAs that depend on the entries */
	uint64_t base;
	uint8_t shift;
	uint8_t entry_lg2;
};

struct sn_env {
	struct snest_vm *vm;
	const struct sn_memory_map *map;
	const struct sn_pt *pt;
	unsigned count;    /* stages, the host's included */
	unsigned straight; /* stage whose tables lie in the memory map; none while watched */
	bool update;       /* write accessed and dirty flags */
	uint8_t for_stage, for_level; /* whose table is being sought; SNEST_NO_STAGE: none */
	uint64_t iova;
	struct snest_fault fault;      /* valid after a function here returned a reason */
	struct snest_walk_step *steps; /* NULL: not wanted */
	size_t steps_max, steps_count;
	struct sn_watch *watch; /* NULL: nobody wants to know */
};

/* Where an address leads after all stages. */
struct sn_target {
	uint64_t gpa;
	const struct sn_region *region; /* NULL: no host memory there */
	uint64_t host;
	uint32_t attr;
	uint8_t lg2;
	uint8_t rights;
};

static inline void sn_env_init(struct sn_env *env, struct snest_vm *vm, const struct sn_pt *pt,
                               unsigned count)
{
	env->vm = vm;
	env->map = sn_deref(&vm->memory.map);
	env->pt = pt;
	env->count = count;
	env->straight = count - 1;
	env->update = true;
	env->for_stage = SNEST_NO_STAGE;
	env->for_level = 0;
	env->iova = 0;
	env->steps = NULL;
	env->steps_max = env->steps_count = 0;
	env->watch = NULL;
}

/* Has every table shown to `watch` first. */
static inline void sn_env_watch(struct sn_env *env, struct sn_watch *watch)
{
	env->watch = watch;
	/* All loads then go through sn_env_load_slow, so that others pay nothing. */
	env->straight = UINT_MAX;
}

/*
 * Translates `in`, an input of stage k, through stages k.. and the memory map
 * for `access`. Returns 0 and fills *target, or a fault reason and env->fault.
 * `stage`, if not NULL, receives one record a stage.
 */
unsigned sn_collapse(struct sn_env *env, unsigned k, uint64_t in, uint32_t access,
                     struct sn_target *target, struct snest_walk_stage *stage);

/*
 * Copies memory at `addr`, an input of stage k (count: the memory map itself).
 * 0, or a fault reason with env->fault filled. For structures that an IOMMU
 * reads through its stages.
 */
unsigned sn_env_copy(struct sn_env *env, unsigned k, uint64_t addr, void *buf, size_t length,
                     bool write);

/* The ways of sn_env_load and the update that are not the usual one. */
unsigned sn_env_load_slow(struct sn_env *env, unsigned k, unsigned level, uint64_t at,
                          unsigned entry_lg2, uint64_t *raw);
/*
 * Replaces the entry at `at` of stage k's tables if it still is *raw. Returns
 * 0 when done; UINT_MAX when it had changed, with the new value in *raw; or a
 * fault reason.
 */
unsigned sn_env_update(struct sn_env *env, unsigned k, unsigned level, uint64_t at,
                       unsigned entry_lg2, uint64_t *raw, uint64_t desired);

/* Records a fault of stage k and returns its reason. */
unsigned sn_env_fault(struct sn_env *env, unsigned reason, unsigned k, unsigned level, uint64_t in,
                      uint32_t access, uint64_t at, uint64_t raw);

void sn_env_step(struct sn_env *env, unsigned k, unsigned level, uint64_t at, uint64_t raw);

static inline uint64_t sn_entry_load(const void *ptr, unsigned entry_lg2)
{
	return entry_lg2 == 3 ? __atomic_load_n((const uint64_t *)ptr, __ATOMIC_ACQUIRE)
	                      : __atomic_load_n((const uint32_t *)ptr, __ATOMIC_ACQUIRE);
}

static inline uint64_t sn_entry_swap(uint64_t raw, unsigned entry_lg2)
{
	return entry_lg2 == 3 ? __builtin_bswap64(raw) : __builtin_bswap32((uint32_t)raw);
}

/*
 * Reads the entry at `at` of stage k's tables, once. 0, or a fault reason with
 * env->fault filled. Alignment makes an entry lie in one page, and regions are
 * whole pages, so one look-up covers it.
 */
static inline unsigned sn_env_load(struct sn_env *env, unsigned k, unsigned level, uint64_t at,
                                   unsigned entry_lg2, uint64_t *raw)
{
	if (__builtin_expect(k == env->straight, 1)) {
		const struct sn_region *region = sn_memory_find(env->map, at);

		if (__builtin_expect(region && region->direct &&
		                             !(region->flags & SNEST_REGION_NO_TABLES),
		                     1)) {
			*raw = sn_entry_load((const void *)(region->mapping + at), entry_lg2);
			if (env->pt[k].flags & SNEST_STAGE_BIG_ENDIAN)
				*raw = sn_entry_swap(*raw, entry_lg2);
			return 0;
		}
	}
	return sn_env_load_slow(env, k, level, at, entry_lg2, raw);
}

#endif
