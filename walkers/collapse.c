/* SPDX-License-Identifier: MIT */
/*
 * Collapse: one address through all stages and the memory map, and the ways an
 * environment reaches memory that are not the usual one (nested tables,
 * accessor callbacks, accessed/dirty updates). Called inside a read section.
 *
 * Depth: reading a table of stage k walks the stages behind k, whose tables
 * are read through the stages behind those. The recursion is bounded by the
 * number of stages, the work by levels^stages.
 */
#include <errno.h>
#include <limits.h>
#include "walkers/env.h"

unsigned sn_env_fault(struct sn_env *env, unsigned reason, unsigned k, unsigned level, uint64_t in,
                      uint32_t access, uint64_t at, uint64_t raw)
{
	env->fault = (struct snest_fault){
		.reason = (uint8_t)reason,
		.stage = (uint8_t)k,
		.level = (uint8_t)level,
		.for_stage = env->for_stage,
		.for_level = env->for_level,
		.access = (uint8_t)access,
		.iova = env->iova,
		.input = in,
		.entry_addr = at,
		.entry = raw,
	};
	return reason;
}

void sn_env_step(struct sn_env *env, unsigned k, unsigned level, uint64_t at, uint64_t raw)
{
	if (env->steps_count < env->steps_max)
		env->steps[env->steps_count] = (struct snest_walk_step){
			.stage = (uint8_t)k,
			.level = (uint8_t)level,
			.for_stage = env->for_stage,
			.for_level = env->for_level,
			.entry_addr = at,
			.entry = raw,
		};
	env->steps_count++;
}

/*
 * The largest aligned block around `in` that ends before `out` is in it: blocks
 * of 2^n bytes tell the two apart up to the highest bit in which they differ.
 */
static inline unsigned apart_lg2(uint64_t in, uint64_t out)
{
	return 63 - (unsigned)__builtin_clzll(in ^ out);
}

/* The largest aligned block around gpa, at most 2^lg2, that one region maps contiguously. */
static uint8_t region_lg2(const struct sn_region *region, uint64_t gpa, unsigned lg2)
{
	unsigned most = region->host ? (unsigned)__builtin_ctzll(region->host) : 64;

	if (lg2 > most)
		lg2 = most;
	if (region->first && lg2 > (most = apart_lg2(gpa, region->first - 1)))
		lg2 = most;
	if (region->last != UINT64_MAX && lg2 > (most = apart_lg2(gpa, region->last + 1)))
		lg2 = most;
	return (uint8_t)lg2;
}

unsigned sn_collapse(struct sn_env *env, unsigned k, uint64_t in, uint32_t access,
                     struct sn_target *target, struct snest_walk_stage *stage)
{
	unsigned lg2 = 64, rights = SNEST_RIGHTS;
	uint32_t attr = 0;
	uint64_t addr = in;

	for (unsigned s = k; s < env->count; s++) {
		struct sn_leaf leaf;
		unsigned reason = sn_format(env->pt[s].format)->walk(env, s, addr, access, &leaf);

		if (reason)
			return reason;
		if (stage)
			stage[s - k] = (struct snest_walk_stage){
				.input = addr,
				.output = leaf.addr,
				.entry = leaf.entry,
				.entry_addr = leaf.entry_addr,
				.attr = leaf.attr,
				.level = leaf.level,
				.lg2 = leaf.lg2,
				.rights = leaf.rights,
			};
		attr |= s == k ? leaf.attr : leaf.attr & SNEST_ATTR_DIRTIABLE;
		if (lg2 > leaf.lg2)
			lg2 = leaf.lg2;
		rights &= leaf.rights;
		addr = leaf.addr;
	}
	target->gpa = addr;
	target->attr = attr;
	target->region = sn_memory_find(env->map, addr);
	if (target->region) {
		target->host = addr + target->region->host;
		lg2 = region_lg2(target->region, addr, lg2);
		if (target->region->flags & SNEST_REGION_READONLY) {
			if (access & SNEST_WRITE)
				return sn_env_fault(env, SNEST_FAULT_WRITE, env->count, 0, addr,
				                    access, 0, 0);
			rights &= ~SNEST_WRITE;
		}
	} else {
		/* Nothing is known about the neighbours of an address without memory. */
		target->host = 0;
		if (k == env->count || lg2 == 64)
			lg2 = 12;
	}
	target->lg2 = (uint8_t)lg2;
	target->rights = (uint8_t)rights;
	return 0;
}

/*
 * Translates the address of a table entry of stage k for reading or writing.
 * 0, or a fault reason: of a later stage, or TABLE_ACCESS of stage k.
 */
static unsigned table_target(struct sn_env *env, unsigned k, unsigned level, uint64_t at,
                             uint32_t access, struct sn_target *target)
{
	uint8_t for_stage = env->for_stage, for_level = env->for_level;
	unsigned reason;

	env->for_stage = (uint8_t)k;
	env->for_level = (uint8_t)level;
	reason = sn_collapse(env, k + 1, at, access, target, NULL);
	env->for_stage = for_stage;
	env->for_level = for_level;
	if (reason)
		return reason;
	if (!target->region || (target->region->flags & SNEST_REGION_NO_TABLES) ||
	    (!target->region->direct && !target->region->accessors))
		return sn_env_fault(env, SNEST_FAULT_TABLE_ACCESS, k, level, at, access, at, 0);
	return 0;
}

unsigned sn_env_load_slow(struct sn_env *env, unsigned k, unsigned level, uint64_t at,
                          unsigned entry_lg2, uint64_t *raw)
{
	struct sn_target t;
	unsigned reason = table_target(env, k, level, at, SNEST_READ, &t);

	if (reason)
		return reason;
	if (env->watch &&
	    env->watch->table(env->watch, k, level, t.gpa, (size_t)1 << entry_lg2, SN_WATCH_SPREAD))
		return sn_env_fault(env, SNEST_FAULT_TABLE_ACCESS, k, level, at, SNEST_READ, at, 0);
	if (t.region->direct) {
		*raw = sn_entry_load((const void *)(t.region->mapping + t.gpa), entry_lg2);
	} else {
		uint8_t bytes[8] = {0};

		if (!t.region->accessors->read ||
		    t.region->accessors->read(t.region->accessors->opaque, t.gpa, bytes,
		                              (size_t)1 << entry_lg2))
			return sn_env_fault(env, SNEST_FAULT_TABLE_ACCESS, k, level, at, SNEST_READ,
			                    at, 0);
		*raw = 0;
		for (unsigned i = 8; i--;)
			*raw = *raw << 8 | bytes[i];
	}
	if (env->pt[k].flags & SNEST_STAGE_BIG_ENDIAN)
		*raw = sn_entry_swap(*raw, entry_lg2);
	return 0;
}

/* Compare-and-swap of an entry where it is. UINT_MAX: it had changed. */
static unsigned target_cmpxchg(const struct sn_target *t, unsigned entry_lg2, uint64_t *raw,
                               uint64_t desired)
{
	if (!t->region->direct) {
		const struct snest_accessors *a = t->region->accessors;
		int ret = a->cmpxchg64 && entry_lg2 == 3
		                  ? a->cmpxchg64(a->opaque, t->gpa, raw, desired)
		                  : -EFAULT;

		return ret == 0 ? 0 : ret == -EAGAIN ? UINT_MAX : SNEST_FAULT_UPDATE;
	}

	void *ptr = (void *)(t->region->mapping + t->gpa);

	if (entry_lg2 == 3)
		return __atomic_compare_exchange_n((uint64_t *)ptr, raw, desired, false,
		                                   __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)
		               ? 0
		               : UINT_MAX;

	uint32_t expected = (uint32_t)*raw;
	bool done = __atomic_compare_exchange_n((uint32_t *)ptr, &expected, (uint32_t)desired,
	                                        false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);

	*raw = expected;
	return done ? 0 : UINT_MAX;
}

unsigned sn_env_update(struct sn_env *env, unsigned k, unsigned level, uint64_t at,
                       unsigned entry_lg2, uint64_t *raw, uint64_t desired)
{
	bool swap = env->pt[k].flags & SNEST_STAGE_BIG_ENDIAN;
	uint64_t expected = swap ? sn_entry_swap(*raw, entry_lg2) : *raw;
	struct sn_target t;
	unsigned reason = table_target(env, k, level, at, SNEST_WRITE, &t);

	if (reason) {
		/* The host map's refusal is this stage's failed update; a later stage's is its own. */
		if (env->fault.stage == env->count || reason == SNEST_FAULT_TABLE_ACCESS)
			return sn_env_fault(env, SNEST_FAULT_UPDATE, k, level, at, SNEST_WRITE, at,
			                    *raw);
		return reason;
	}
	reason = target_cmpxchg(&t, entry_lg2, &expected,
	                        swap ? sn_entry_swap(desired, entry_lg2) : desired);
	if (reason == 0) {
		*raw = desired;
		sn_shadow_wrote(env->vm, t.gpa, (uint64_t)1 << entry_lg2);
	} else if (reason == UINT_MAX) {
		*raw = swap ? sn_entry_swap(expected, entry_lg2) : expected;
	} else {
		return sn_env_fault(env, reason, k, level, at, SNEST_WRITE, at, *raw);
	}
	return reason;
}

unsigned sn_env_copy(struct sn_env *env, unsigned k, uint64_t addr, void *buf, size_t length,
                     bool write)
{
	uint32_t access = write ? SNEST_WRITE : SNEST_READ;
	char *bytes = buf;

	while (length) {
		struct sn_target t;
		unsigned reason = sn_collapse(env, k, addr, access, &t, NULL);
		uint64_t left;
		size_t n;
		int ret;

		if (reason)
			return reason;
		left = sn_mask(t.lg2) - (addr & sn_mask(t.lg2));
		n = left < length - 1 ? (size_t)left + 1 : length;
		ret = !t.region ? -EFAULT
		      : write   ? sn_memory_write(env->map, t.gpa, bytes, n)
		                : sn_memory_read(env->map, t.gpa, bytes, n);
		if (ret)
			return sn_env_fault(env, SNEST_FAULT_TABLE_ACCESS, env->count, 0, addr,
			                    access, addr, 0);
		bytes += n;
		addr += n;
		length -= n;
	}
	return 0;
}
