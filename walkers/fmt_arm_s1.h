/* SPDX-License-Identifier: MIT */
/*
 * Armv8 stage 1: a lower half (TTB0) and an upper half (TTB1) of the input,
 * each with its own root, granule and width, and two privilege levels.
 *
 * Rights are judged once, at the leaf, after the access flag: table entries
 * only take away (APTable, XNTable, PXNTable), unless HADx turns that off. A
 * privileged request may always read, unless PAN forbids it a user page.
 * Execution needs no right to read. What unprivileged code can write is never
 * executed by privileged code; UWXN says the same and changes nothing.
 */
#ifndef SN_WALKERS_FMT_ARM_S1_H
#define SN_WALKERS_FMT_ARM_S1_H

#include "walkers/fmt_arm.h"

#define arm_s1_ENTRY_LG2 3
#define arm_s1_ADDR_UP 0
#define arm_s1_DENY_AT_LEAF 1
#define arm_s1_TOUCH_FIRST 1
#define arm_s1_TABLE_A 0

#define arm_s1_shift arm_shift
#define arm_s1_index_bits arm_index_bits
#define arm_s1_deny_late sn_deny_late_none
#define arm_s1_touch_mode arm_touch_mode
#define arm_s1_leaf_sizes arm_leaf_sizes
#define arm_s1_make_table arm_make_table

#define ARM_S1_ATTR_INDEX 0x1cull
#define ARM_S1_USER (1ull << 6)     /* AP[1] */
#define ARM_S1_READONLY (1ull << 7) /* AP[2]; with DBM: clean */
#define ARM_S1_NG (1ull << 11)
#define ARM_S1_PXN (1ull << 53)
#define ARM_S1_UXN (1ull << 54) /* XN where there is one privilege level */
#define ARM_S1_PXN_TABLE (1ull << 59)
#define ARM_S1_UXN_TABLE (1ull << 60)
#define ARM_S1_AP_TABLE_USER (1ull << 61)  /* takes unprivileged access away */
#define ARM_S1_AP_TABLE_WRITE (1ull << 62) /* takes the right to write away */

static inline bool arm_s1_el2(const struct sn_pt *pt)
{
	return pt->flags & SNEST_STAGE_ARM_EL2;
}

static inline bool arm_s1_tbi(const struct sn_pt *pt, unsigned half)
{
	return pt->flags & (half ? SNEST_STAGE_ARM_TBI1 : SNEST_STAGE_ARM_TBI0);
}

static inline bool arm_s1_epd(const struct sn_pt *pt, unsigned half)
{
	return pt->flags & (half ? SNEST_STAGE_ARM_EPD1 : SNEST_STAGE_ARM_EPD0);
}

/*
 * Nothing about a disabled half is checked: if its parameters make no sense,
 * it takes all addresses on its side of bit 55.
 */
static inline int arm_s1_prepare_half(struct sn_pt *pt, unsigned half, unsigned granule,
                                      unsigned ia_bits, unsigned levels, uint64_t root,
                                      const char **why)
{
	int ret = arm_prepare_half(pt, half, granule, ia_bits, levels, 0, root, why);

	if (!ret || !arm_s1_epd(pt, half))
		return ret;
	pt->granule_lg2[half] = 12;
	pt->ia_bits[half] = 55;
	return 0;
}

static inline int arm_s1_prepare(struct sn_pt *pt, const struct snest_stage *stage,
                                 const char **why)
{
	bool low = stage->ia_bits || stage->levels || arm_s1_epd(pt, 0);
	bool high = stage->ia_bits_high || (arm_s1_epd(pt, 1) && !arm_s1_el2(pt));
	int ret = arm_prepare_output(pt, stage, why);

	if (ret)
		return ret;
	if (!low && !high) {
		*why = "an Arm stage 1 needs the input width of one half at least";
		return -EINVAL;
	}
	if (high && arm_s1_el2(pt)) {
		*why = "a stage 1 of one privilege level has no upper half";
		return -EINVAL;
	}
	if (low)
		ret = arm_s1_prepare_half(pt, 0, stage->granule_lg2, stage->ia_bits, stage->levels,
		                          stage->root, why);
	if (high && !ret)
		ret = arm_s1_prepare_half(pt, 1, stage->granule_high_lg2, stage->ia_bits_high, 0,
		                          stage->root_high, why);
	return ret;
}

static inline unsigned arm_s1_start(const struct sn_pt *pt, uint64_t in, unsigned *half)
{
	unsigned upper = in >> 55 & 1;

	/* An ignored top byte reads as copies of bit 55. */
	if (arm_s1_tbi(pt, upper))
		in = (uint64_t)((int64_t)(in << 8) >> 8);
	*half = 0;
	if (!pt->ia_bits[upper] || ((upper ? ~in : in) & ~sn_mask(pt->ia_bits[upper])))
		return SNEST_FAULT_INPUT_RANGE;
	*half = upper;
	return arm_s1_epd(pt, upper) ? SNEST_FAULT_DISABLED : 0;
}

/* With an ignored top byte a half has 256 copies; in ascending order those of both alternate. */
static inline bool arm_s1_span(const struct sn_pt *pt, unsigned i, uint64_t *first, uint64_t *last,
                               unsigned *half)
{
	unsigned count[2], byte;

	for (unsigned h = 0; h < 2; h++)
		count[h] = !pt->ia_bits[h] || arm_s1_epd(pt, h) ? 0 : arm_s1_tbi(pt, h) ? 256 : 1;
	if (i >= count[0] + count[1])
		return false;
	if (count[0] == 256 && count[1] == 256) {
		*half = i & 1;
		byte = i >> 1;
	} else {
		*half = i >= count[0];
		byte = *half ? i - count[0] + (count[1] == 256 ? 0 : 255) : i;
	}
	*first = (uint64_t)byte << 56;
	if (*half)
		*first |= sn_mask(56) & ~sn_mask(pt->ia_bits[1]);
	*last = *first | sn_mask(pt->ia_bits[*half]);
	return true;
}

static inline struct sn_entry arm_s1_decode(const struct sn_pt *pt, unsigned half, unsigned level,
                                            uint64_t raw)
{
	struct sn_entry e = arm_decode(pt, half, level, raw);
	unsigned take = 0;

	if (e.kind == SN_ENTRY_LEAF) {
		if (!(raw & ARM_S1_USER))
			take |= SN_GRANT_USER;
		if ((raw & ARM_S1_READONLY) && !arm_dirtiable(pt, raw))
			take |= SN_GRANT_WRITE;
		if (raw & ARM_S1_UXN)
			take |= SN_GRANT_EXEC;
		if (raw & ARM_S1_PXN)
			take |= SN_GRANT_PRIV_EXEC;
	} else if (!(pt->flags & (half ? SNEST_STAGE_ARM_HAD1 : SNEST_STAGE_ARM_HAD0))) {
		if (raw & ARM_S1_AP_TABLE_USER)
			take |= SN_GRANT_USER;
		if (raw & ARM_S1_AP_TABLE_WRITE)
			take |= SN_GRANT_WRITE;
		if (raw & ARM_S1_UXN_TABLE)
			take |= SN_GRANT_EXEC;
		if (raw & ARM_S1_PXN_TABLE)
			take |= SN_GRANT_PRIV_EXEC;
	}
	e.grant &= ~take;
	return e;
}

static inline uint32_t arm_s1_rights(const struct sn_pt *pt, unsigned grant, uint32_t access)
{
	bool el2 = arm_s1_el2(pt), privileged = el2 || (access & SNEST_PRIVILEGED);
	bool user = !el2 && (grant & SN_GRANT_USER), writable = grant & SN_GRANT_WRITE;
	bool exec = grant & (!privileged || el2 ? SN_GRANT_EXEC : SN_GRANT_PRIV_EXEC);
	uint32_t rights = 0;

	if (privileged ? !user || !(pt->flags & SNEST_STAGE_ARM_PAN) : user)
		rights = SNEST_READ | (writable ? SNEST_WRITE : 0);
	if (privileged && user && writable)
		exec = false;
	if ((pt->flags & SNEST_STAGE_ARM_WXN) && writable && (privileged || user))
		exec = false;
	return rights | (exec ? SNEST_EXEC : 0);
}

static inline unsigned arm_s1_deny(const struct sn_pt *pt, unsigned grant, uint32_t access)
{
	uint32_t missing = access & SNEST_RIGHTS & ~arm_s1_rights(pt, grant, access);

	if (!missing)
		return 0;
	/* Whoever may not even read lacks the privilege, except to execute. */
	if ((missing & (SNEST_READ | SNEST_WRITE)) &&
	    !(arm_s1_rights(pt, grant, access) & SNEST_READ))
		return SNEST_FAULT_PRIVILEGE;
	return missing & SNEST_WRITE ? SNEST_FAULT_WRITE : SNEST_FAULT_EXECUTE;
}

static inline uint64_t arm_s1_touch(const struct sn_pt *pt, uint64_t raw, bool leaf, bool write)
{
	(void)leaf;
	raw |= ARM_AF;
	return write && arm_dirtiable(pt, raw) ? raw & ~ARM_S1_READONLY : raw;
}

static inline uint32_t arm_s1_attr(const struct sn_pt *pt, unsigned level, uint64_t raw)
{
	(void)level;
	return (uint32_t)((raw & ARM_S1_ATTR_INDEX) >> 2) |
	       (raw & ARM_AF ? SNEST_ATTR_ACCESSED : 0) |
	       ((raw & (ARM_DBM | ARM_S1_READONLY)) == ARM_DBM ? SNEST_ATTR_DIRTY : 0) |
	       (raw & ARM_S1_NG ? 0 : SNEST_ATTR_GLOBAL) |
	       ((raw & ARM_S1_USER) && !arm_s1_el2(pt) ? SNEST_ATTR_USER : 0) |
	       (raw & ARM_CONTIGUOUS ? SNEST_ATTR_CONTIGUOUS : 0);
}

static inline int arm_s1_make_leaf(const struct sn_pt *pt, unsigned half, unsigned level,
                                   unsigned lg2, uint64_t addr, uint32_t rights, uint32_t attr,
                                   uint64_t *raw)
{
	bool el2 = arm_s1_el2(pt), user = !el2 && (attr & SNEST_ATTR_USER);
	bool write = rights & SNEST_WRITE, exec = rights & SNEST_EXEC;
	bool clean = (pt->flags & SNEST_STAGE_HW_D) && !(attr & SNEST_ATTR_DIRTY);

	if (!(rights & SNEST_READ) || (write && exec && (pt->flags & SNEST_STAGE_ARM_WXN)) ||
	    arm_make_leaf(pt, half, level, lg2, addr, attr, raw))
		return -EINVAL;
	*raw |= (uint64_t)(attr & 7) << 2;
	if (user || el2)
		*raw |= ARM_S1_USER;
	if (!write || clean)
		*raw |= ARM_S1_READONLY;
	if (write && (pt->flags & SNEST_STAGE_HW_D))
		*raw |= ARM_DBM;
	if (!(attr & SNEST_ATTR_GLOBAL))
		*raw |= ARM_S1_NG;
	/* Only one of the two privilege levels executes the page: the one that it is for. */
	if (!exec || !(user || el2))
		*raw |= ARM_S1_UXN;
	if (!el2 && (!exec || user))
		*raw |= ARM_S1_PXN;
	return 0;
}

#endif
