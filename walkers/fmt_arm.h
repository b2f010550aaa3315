/* SPDX-License-Identifier: MIT */
/*
 * What stage 1 and stage 2 of Armv8 (VMSAv8-64) share: granules, shapes of
 * tables, addresses in entries, the access flag.
 *
 * Levels here count from 0, the manual's level 3, up to 4, its level -1. The
 * first table is as wide as the input address needs: less than a full index,
 * or, in a stage 2 with concatenated tables, up to 4 bits more.
 *
 * Bits of a block's address below its size are ignored, as the manual has
 * them RES0. Where 52-bit addresses are on, their top bits move to lower ones:
 * OA[51:48] to [15:12] with 64K pages, OA[51:50] to [9:8] with smaller ones.
 * The contiguous bit is an attribute only: every entry stands for itself.
 */
#ifndef SN_WALKERS_FMT_ARM_H
#define SN_WALKERS_FMT_ARM_H

#include <errno.h>
#include "walkers/fmt_common.h"

#define ARM_VALID 0x1ull
#define ARM_TABLE 0x2ull            /* at the last level: a page */
#define ARM_ADDR_DS_HIGH 0x300ull   /* OA[51:50] */
#define ARM_ADDR_LPA_HIGH 0xf000ull /* OA[51:48] */
#define ARM_SH_INNER 0x300ull
#define ARM_AF (1ull << 10)
#define ARM_DBM (1ull << 51)
#define ARM_CONTIGUOUS (1ull << 52)

/* How many tables a stage 2 may concatenate at its start level, in bits. */
#define ARM_CONCATENATE_LG2 4u

static inline bool arm_ds(const struct sn_pt *pt, unsigned half)
{
	return (pt->flags & SNEST_STAGE_ARM_DS) && pt->granule_lg2[half] != 16;
}

static inline bool arm_lpa(const struct sn_pt *pt, unsigned half)
{
	return (pt->flags & SNEST_STAGE_ARM_LPA) && pt->granule_lg2[half] == 16;
}

static inline unsigned arm_shift(const struct sn_pt *pt, unsigned half, unsigned level)
{
	unsigned granule = pt->granule_lg2[half];

	return granule + (granule - 3) * level;
}

static inline unsigned arm_index_bits(const struct sn_pt *pt, unsigned half, unsigned level)
{
	if (level == pt->top[half])
		return pt->ia_bits[half] - arm_shift(pt, half, level);
	return pt->granule_lg2[half] - 3u;
}

/* Leaves of this half by level. Four levels at most have them, so both halves fit. */
static inline unsigned arm_leaf_levels(const struct sn_pt *pt, unsigned half)
{
	return pt->leaf_levels >> 4 * half & 0xf;
}

/* Checks one half's granule, width and levels (0: derive them), and fills its fields. */
static inline int arm_prepare_half(struct sn_pt *pt, unsigned half, unsigned granule,
                                   unsigned ia_bits, unsigned levels, unsigned concatenate_lg2,
                                   uint64_t root, const char **why)
{
	if (granule != 12 && granule != 14 && granule != 16) {
		*why = "an Arm granule is 12, 14 or 16 (4K, 16K, 64K)";
		return -EINVAL;
	}
	pt->granule_lg2[half] = (uint8_t)granule;

	bool ds = arm_ds(pt, half), lpa = arm_lpa(pt, half), stage2 = concatenate_lg2;
	unsigned stride = granule - 3;
	/* A stage 1 may translate 52 bits to 48: input and output widths are separate features. */
	unsigned ia_max = ds || (stage2 ? lpa : granule == 16) ? 52 : 48;
	unsigned levels_max = granule == 16 ? 3 : granule == 12 && ds ? 5 : 4;

	if (stage2 && granule == 14 && !ds)
		levels_max = 3;
	if (levels > levels_max) {
		*why = "more levels than the granule allows";
		return -EINVAL;
	}
	if (!ia_bits)
		ia_bits = granule + stride * levels < ia_max ? granule + stride * levels : ia_max;
	if (ia_bits > ia_max || ia_bits < (granule == 16 ? 17 : 16)) {
		*why = "the input width is outside what the granule allows";
		return -EINVAL;
	}
	if (!levels) {
		levels = (ia_bits - granule + stride - 1) / stride;
		/* 16K, 48 bits: a stage 2 always concatenates instead of a table of 2 entries. */
		if (levels > levels_max)
			levels = levels_max;
	}

	unsigned shift = granule + stride * (levels - 1);

	if (ia_bits <= shift || ia_bits > shift + stride + concatenate_lg2) {
		*why = "the input width does not fit the number of levels";
		return -EINVAL;
	}
	pt->ia_bits[half] = (uint8_t)ia_bits;
	pt->top[half] = (uint8_t)(levels - 1);
	/* The table is aligned to its size; address bits below that are ignored. */
	pt->root[half] = root & sn_mask(56) & ~sn_mask(ia_bits - shift + 3);
	pt->leaf_levels |= (uint8_t)((granule == 12   ? ds ? 0xf : 0x7
	                              : granule == 14 ? ds ? 0x7 : 0x3
	                              : lpa           ? 0x7
	                                              : 0x3)
	                             << 4 * half);
	return 0;
}

static inline int arm_prepare_output(struct sn_pt *pt, const struct snest_stage *stage,
                                     const char **why)
{
	bool wide = pt->flags & (SNEST_STAGE_ARM_DS | SNEST_STAGE_ARM_LPA);

	pt->oa_bits = stage->oa_bits ? stage->oa_bits : wide ? 52 : 48;
	if (pt->oa_bits > 52 || pt->oa_bits < 32) {
		*why = "the output address width is not between 32 and 52 bits";
		return -EINVAL;
	}
	return 0;
}

/* The address that an entry holds, at a granularity of 2^low. */
static inline uint64_t arm_addr(const struct sn_pt *pt, unsigned half, uint64_t raw, unsigned low)
{
	if (arm_ds(pt, half))
		return (raw & sn_mask(50) & ~sn_mask(low)) | (raw & ARM_ADDR_DS_HIGH) << 42;
	if (arm_lpa(pt, half))
		return (raw & sn_mask(48) & ~sn_mask(low)) | (raw & ARM_ADDR_LPA_HIGH) << 36;
	return raw & sn_mask(48) & ~sn_mask(low);
}

/* The reverse. -EINVAL if an entry cannot hold addr. */
static inline int arm_put_addr(const struct sn_pt *pt, unsigned half, unsigned low, uint64_t addr,
                               uint64_t *raw)
{
	if (arm_ds(pt, half))
		*raw = (addr & sn_mask(50)) | (addr >> 42 & ARM_ADDR_DS_HIGH);
	else if (arm_lpa(pt, half))
		*raw = (addr & sn_mask(48)) | (addr >> 36 & ARM_ADDR_LPA_HIGH);
	else
		*raw = addr & sn_mask(48);
	return arm_addr(pt, half, *raw, low) == addr && !(addr & ~sn_mask(pt->oa_bits)) ? 0
	                                                                                : -EINVAL;
}

/* Type and address; grants are left to the stages. */
static inline struct sn_entry arm_decode(const struct sn_pt *pt, unsigned half, unsigned level,
                                         uint64_t raw)
{
	struct sn_entry e = {.kind = SN_ENTRY_TABLE, .grant = SN_GRANT_ALL};
	bool leaf = level == 0 || !(raw & ARM_TABLE);
	unsigned low = pt->granule_lg2[half];

	/* At level 0 a leaf has both type bits set, above it only the first. */
	if (!(raw & ARM_VALID) || (leaf && (level == 0) != !!(raw & ARM_TABLE)) ||
	    (leaf && !(arm_leaf_levels(pt, half) >> level & 1))) {
		e.kind = SN_ENTRY_FAULT;
		e.early = SNEST_FAULT_NOT_PRESENT;
		return e;
	}
	if (leaf) {
		low = arm_shift(pt, half, level);
		e.kind = SN_ENTRY_LEAF;
		e.lg2 = (uint8_t)low;
	} else {
		e.next = (uint8_t)(level - 1);
	}
	e.addr = arm_addr(pt, half, raw, low);
	if (e.addr & ~sn_mask(pt->oa_bits))
		e.early = SNEST_FAULT_ADDRESS_SIZE;
	return e;
}

/* Whether a write finds the entry writable-clean and may make it dirty. */
static inline bool arm_dirtiable(const struct sn_pt *pt, uint64_t raw)
{
	return (pt->flags & SNEST_STAGE_HW_D) && (raw & ARM_DBM);
}

static inline unsigned arm_touch_mode(const struct sn_pt *pt)
{
	return pt->flags & SNEST_STAGE_HW_A       ? SN_TOUCH_UPDATE
	       : pt->flags & SNEST_STAGE_ARM_AFFD ? SN_TOUCH_NONE
	                                          : SN_TOUCH_FAULT;
}

static inline uint64_t arm_leaf_sizes(const struct sn_pt *pt, unsigned half, unsigned level)
{
	return arm_leaf_levels(pt, half) >> level & 1 ? 1ull << arm_shift(pt, half, level) : 0;
}

/*
 * What the leaves of both stages have in common. Without hardware updates a
 * clear access flag would make the page fault, so it is always set then.
 */
static inline int arm_make_leaf(const struct sn_pt *pt, unsigned half, unsigned level, unsigned lg2,
                                uint64_t addr, uint32_t attr, uint64_t *raw)
{
	if ((addr & sn_mask(lg2)) || arm_put_addr(pt, half, lg2, addr, raw))
		return -EINVAL;
	*raw |= ARM_VALID | (level ? 0 : ARM_TABLE) | (arm_ds(pt, half) ? 0 : ARM_SH_INNER);
	if ((attr & SNEST_ATTR_ACCESSED) || arm_touch_mode(pt) == SN_TOUCH_FAULT)
		*raw |= ARM_AF;
	return 0;
}

static inline uint64_t arm_make_table(const struct sn_pt *pt, unsigned half, unsigned level,
                                      unsigned next, uint64_t addr)
{
	uint64_t raw;

	(void)level;
	(void)next;
	arm_put_addr(pt, half, pt->granule_lg2[half], addr, &raw);
	return raw | ARM_VALID | ARM_TABLE;
}

#endif
