/* SPDX-License-Identifier: MIT */
/*
 * AMD-Vi v1 (host) tables: modes 1 to 6, that is as many levels.
 *
 * A table entry names the level it leads to and may skip levels; input bits of
 * the skipped levels must be 0. A leaf has its level's size, or (NextLevel 7)
 * a power of two between that and the next level's, coded in its address and
 * written into every slot it covers. There is no right to execute: what can be
 * read can be executed.
 *
 * Check order at a level: present, reserved bits, rights, then everything
 * about levels and sizes.
 */
#ifndef SN_WALKERS_FMT_AMD_V1_H
#define SN_WALKERS_FMT_AMD_V1_H

#include <errno.h>
#include "walkers/fmt_common.h"

#define amd_v1_ENTRY_LG2 3
#define amd_v1_ADDR_UP 0
#define amd_v1_DENY_AT_LEAF 0
#define amd_v1_TOUCH_FIRST 0
#define amd_v1_TABLE_A 1

#define amd_v1_shift sn_shift_512
#define amd_v1_deny sn_deny_rw
#define amd_v1_deny_late sn_deny_late_none
#define amd_v1_rights sn_rights_rw
#define amd_v1_touch_mode sn_touch_mode_update

#define AMD_V1_PR 0x1ull
#define AMD_V1_A 0x20ull
#define AMD_V1_D 0x40ull
#define AMD_V1_NEXT_SHIFT 9
#define AMD_V1_NEXT_SIZED 7u /* a leaf whose size is coded in its address */
#define AMD_V1_ADDR 0x000ffffffffff000ull
#define AMD_V1_RESERVED_LEAF 0x07f0000000000000ull
#define AMD_V1_RESERVED_TABLE 0x1ff0000000000000ull
#define AMD_V1_FC (1ull << 60)
#define AMD_V1_IR (1ull << 61)
#define AMD_V1_IW (1ull << 62)

/* The level (from 0) that has 7 index bits and no leaves. */
#define AMD_V1_LEVEL_SIX 5

static inline int amd_v1_prepare(struct sn_pt *pt, const struct snest_stage *stage,
                                 const char **why)
{
	if (stage->levels < 1 || stage->levels > 6) {
		*why = "an AMD v1 table has 1 to 6 levels";
		return -EINVAL;
	}
	unsigned width = stage->levels == 6 ? 64 : 12 + 9u * stage->levels;

	if (stage->ia_bits && stage->ia_bits != width) {
		*why = "the input width of an AMD v1 table follows from its levels";
		return -EINVAL;
	}
	pt->ia_bits[0] = (uint8_t)width;
	pt->oa_bits = stage->oa_bits ? stage->oa_bits : 52;
	if (pt->oa_bits > 52 || pt->oa_bits < 32) {
		*why = "the output address width is not between 32 and 52 bits";
		return -EINVAL;
	}
	pt->rights &= SNEST_READ | SNEST_WRITE;
	if (pt->rights & SNEST_READ)
		pt->rights |= SNEST_EXEC;
	pt->top[0] = stage->levels - 1;
	pt->root[0] = stage->root & AMD_V1_ADDR;
	pt->out_mask = AMD_V1_ADDR & sn_mask(pt->oa_bits);
	pt->leaf_levels = 0x1f;
	return 0;
}

static inline unsigned amd_v1_start(const struct sn_pt *pt, uint64_t in, unsigned *half)
{
	*half = 0;
	return in & ~sn_mask(pt->ia_bits[0]) ? SNEST_FAULT_INPUT_RANGE : 0;
}

static inline bool amd_v1_span(const struct sn_pt *pt, unsigned i, uint64_t *first, uint64_t *last,
                               unsigned *half)
{
	*half = 0;
	return sn_span_zero(pt->ia_bits[0], i, first, last);
}

static inline unsigned amd_v1_index_bits(const struct sn_pt *pt, unsigned half, unsigned level)
{
	(void)pt;
	(void)half;
	return level == AMD_V1_LEVEL_SIX ? 7 : 9;
}

/* The size that a sized leaf's address codes: the lowest 0 from bit 12 on ends it. 0: none does. */
static inline unsigned amd_v1_sized_lg2(uint64_t raw)
{
	uint64_t zeros = ~raw & AMD_V1_ADDR;

	return zeros ? (unsigned)__builtin_ctzll(zeros) + 1 : 0;
}

static inline struct sn_entry amd_v1_decode_leaf(const struct sn_pt *pt, unsigned level,
                                                 uint64_t raw, bool sized, struct sn_entry e)
{
	unsigned low = amd_v1_shift(pt, 0, level), lg2 = sized ? amd_v1_sized_lg2(raw) : low;

	e.kind = SN_ENTRY_LEAF;
	if (raw & AMD_V1_RESERVED_LEAF) {
		e.early = SNEST_FAULT_RESERVED;
	} else if (level == AMD_V1_LEVEL_SIX || (sized && (lg2 <= low || lg2 >= low + 9))) {
		e.late = SNEST_FAULT_LEVEL;
	} else {
		e.lg2 = (uint8_t)lg2;
		e.addr = raw & AMD_V1_ADDR & ~sn_mask(lg2);
		if (e.addr & ~pt->out_mask)
			e.late = SNEST_FAULT_ADDRESS_SIZE;
	}
	return e;
}

static inline struct sn_entry amd_v1_decode(const struct sn_pt *pt, unsigned half, unsigned level,
                                            uint64_t raw)
{
	struct sn_entry e = {.kind = SN_ENTRY_TABLE, .grant = SN_GRANT_ALL};
	unsigned next = raw >> AMD_V1_NEXT_SHIFT & 7;

	if (!(raw & AMD_V1_PR)) {
		e.kind = SN_ENTRY_FAULT;
		e.early = SNEST_FAULT_NOT_PRESENT;
		return e;
	}
	if (!(raw & AMD_V1_IR))
		e.grant &= ~SN_GRANT_READ;
	if (!(raw & AMD_V1_IW))
		e.grant &= ~SN_GRANT_WRITE;
	if (next == 0 || next == AMD_V1_NEXT_SIZED)
		return amd_v1_decode_leaf(pt, level, raw, next != 0, e);

	e.addr = raw & AMD_V1_ADDR;
	if (raw & AMD_V1_RESERVED_TABLE) {
		e.early = SNEST_FAULT_RESERVED;
	} else if (__builtin_expect(next == level, 1)) {
		/* The manual's levels count from 1. Said apart, as then no shift waits for `raw`. */
		e.next = (uint8_t)(level - 1);
	} else if (next > level) {
		e.late = SNEST_FAULT_LEVEL;
		return e;
	} else {
		e.next = (uint8_t)(next - 1);
		e.skip = sn_mask(amd_v1_shift(pt, half, level)) &
		         ~sn_mask(amd_v1_shift(pt, half, next));
	}
	if (e.addr & ~pt->out_mask)
		e.late = SNEST_FAULT_ADDRESS_SIZE;
	return e;
}

static inline uint64_t amd_v1_touch(const struct sn_pt *pt, uint64_t raw, bool leaf, bool write)
{
	return raw | AMD_V1_A | (leaf && write && (pt->flags & SNEST_STAGE_HW_D) ? AMD_V1_D : 0);
}

static inline uint32_t amd_v1_attr(const struct sn_pt *pt, unsigned level, uint64_t raw)
{
	(void)pt;
	(void)level;
	return (raw & AMD_V1_A ? SNEST_ATTR_ACCESSED : 0) |
	       (raw & AMD_V1_D ? SNEST_ATTR_DIRTY : 0) | (raw & AMD_V1_FC ? SNEST_ATTR_SNOOP : 0) |
	       (raw >> AMD_V1_NEXT_SHIFT & 7 ? SNEST_ATTR_CONTIGUOUS : 0);
}

static inline uint64_t amd_v1_leaf_sizes(const struct sn_pt *pt, unsigned half, unsigned level)
{
	unsigned low = amd_v1_shift(pt, half, level);

	if (level == AMD_V1_LEVEL_SIX)
		return 0;
	return (sn_mask(9) << low) & sn_mask(pt->oa_bits + 1u);
}

static inline int amd_v1_make_leaf(const struct sn_pt *pt, unsigned half, unsigned level,
                                   unsigned lg2, uint64_t addr, uint32_t rights, uint32_t attr,
                                   uint64_t *raw)
{
	bool sized = lg2 != amd_v1_shift(pt, half, level);

	if (!(rights & (SNEST_READ | SNEST_WRITE)) ||
	    ((rights & SNEST_EXEC) && !(rights & SNEST_READ)) || (addr & ~pt->out_mask) ||
	    (addr & sn_mask(lg2)))
		return -EINVAL;
	if (sized)
		addr |= AMD_V1_ADDR & sn_mask(lg2 - 1);
	*raw = addr | AMD_V1_PR | (sized ? (uint64_t)AMD_V1_NEXT_SIZED << AMD_V1_NEXT_SHIFT : 0) |
	       (rights & SNEST_READ ? AMD_V1_IR : 0) | (rights & SNEST_WRITE ? AMD_V1_IW : 0) |
	       (attr & SNEST_ATTR_ACCESSED ? AMD_V1_A : 0) |
	       (attr & SNEST_ATTR_DIRTY ? AMD_V1_D : 0) | (attr & SNEST_ATTR_SNOOP ? AMD_V1_FC : 0);
	return 0;
}

static inline uint64_t amd_v1_make_table(const struct sn_pt *pt, unsigned half, unsigned level,
                                         unsigned next, uint64_t addr)
{
	(void)pt;
	(void)half;
	(void)level;
	return addr | AMD_V1_PR | AMD_V1_IR | AMD_V1_IW | (uint64_t)(next + 1) << AMD_V1_NEXT_SHIFT;
}

#endif
