/* SPDX-License-Identifier: MIT */
/*
 * The reference walker's few shared helpers, and its functions one per
 * architecture. Only the files of the reference walker include this.
 */
#ifndef REF_ARCH_H
#define REF_ARCH_H

#include "ref_walk.h"

static inline unsigned ref_bit(uint64_t value, unsigned n)
{
	return (unsigned)(value >> n) & 1;
}

/* Bits high..low of `value`, moved down. */
static inline uint64_t ref_bits(uint64_t value, unsigned high, unsigned low)
{
	return (value >> low) & (UINT64_MAX >> (63 - (high - low)));
}

/* A mask of bits high..low; none if high is below low. */
static inline uint64_t ref_mask(int high, int low)
{
	uint64_t mask = 0;

	for (int n = low; n <= high; n++)
		mask |= (uint64_t)1 << n;
	return mask;
}

/* Records the refusal of the entry that was read last; of none before the first. */
void ref_refuse(struct ref_result *out, unsigned reason, unsigned level);

/* Reads one entry and records it. On failure it has refused already. */
bool ref_fetch(const struct snest_stage *stage, const struct ref_memory *mem, uint64_t addr,
               unsigned bytes, unsigned level, uint64_t *entry, struct ref_result *out);

/* Sets step `i`'s entry to `entry` in memory, if it differs. On failure it has refused. */
bool ref_store(const struct snest_stage *stage, const struct ref_memory *mem, unsigned i,
               unsigned bytes, uint64_t entry, struct ref_result *out);

/* What stage->rights denies of `access`: a fault reason, or SNEST_FAULT_NONE. */
unsigned ref_denied(unsigned rights, uint32_t access);

void ref_walk_x86(const struct snest_stage *stage, const struct ref_memory *mem, uint64_t input,
                  uint32_t access, bool update, struct ref_result *out);
void ref_walk_vtd_ss(const struct snest_stage *stage, const struct ref_memory *mem, uint64_t input,
                     uint32_t access, bool update, struct ref_result *out);
void ref_walk_amd_v1(const struct snest_stage *stage, const struct ref_memory *mem, uint64_t input,
                     uint32_t access, bool update, struct ref_result *out);
void ref_walk_arm_s1(const struct snest_stage *stage, const struct ref_memory *mem, uint64_t input,
                     uint32_t access, bool update, struct ref_result *out);
void ref_walk_arm_s2(const struct snest_stage *stage, const struct ref_memory *mem, uint64_t input,
                     uint32_t access, bool update, struct ref_result *out);
void ref_walk_riscv(const struct snest_stage *stage, const struct ref_memory *mem, uint64_t input,
                    uint32_t access, bool update, struct ref_result *out);

#endif
