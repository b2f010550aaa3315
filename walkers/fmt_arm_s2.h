/* SPDX-License-Identifier: MIT */
/*
 * Armv8 stage 2: one root, up to 16 tables concatenated at the start level.
 *
 * Rights are judged once, at the leaf, after the access flag; table entries
 * hold none. Reading and writing are granted apart (there are write-only
 * pages), and execution apart from reading and by privilege.
 */
#ifndef SN_WALKERS_FMT_ARM_S2_H
#define SN_WALKERS_FMT_ARM_S2_H

#include "walkers/fmt_arm.h"

#define arm_s2_ENTRY_LG2 3
#define arm_s2_ADDR_UP 0
#define arm_s2_DENY_AT_LEAF 1
#define arm_s2_TOUCH_FIRST 1
#define arm_s2_TABLE_A 0

#define arm_s2_shift arm_shift
#define arm_s2_index_bits arm_index_bits
#define arm_s2_deny_late sn_deny_late_none
#define arm_s2_touch_mode arm_touch_mode
#define arm_s2_leaf_sizes arm_leaf_sizes
#define arm_s2_make_table arm_make_table

#define ARM_S2_MEM_ATTR 0x3cull
#define ARM_S2_READ (1ull << 6)  /* S2AP[0] */
#define ARM_S2_WRITE (1ull << 7) /* S2AP[1]; with DBM: dirty */
#define ARM_S2_XN_SHIFT 53
#define ARM_S2_XN (1ull << 54)

static inline int arm_s2_prepare(struct sn_pt *pt, const struct snest_stage *stage,
                                 const char **why)
{
	int ret = arm_prepare_output(pt, stage, why);

	if (ret)
		return ret;
	if (stage->ia_bits_high || stage->granule_high_lg2 || stage->root_high) {
		*why = "an Arm stage 2 has no upper half";
		return -EINVAL;
	}
	if (!stage->ia_bits && !stage->levels) {
		*why = "an Arm stage 2 needs an input width or a number of levels";
		return -EINVAL;
	}
	return arm_prepare_half(pt, 0, stage->granule_lg2, stage->ia_bits, stage->levels,
	                        ARM_CONCATENATE_LG2, stage->root, why);
}

static inline unsigned arm_s2_start(const struct sn_pt *pt, uint64_t in, unsigned *half)
{
	*half = 0;
	return in & ~sn_mask(pt->ia_bits[0]) ? SNEST_FAULT_INPUT_RANGE : 0;
}

static inline bool arm_s2_span(const struct sn_pt *pt, unsigned i, uint64_t *first, uint64_t *last,
                               unsigned *half)
{
	*half = 0;
	return sn_span_zero(pt->ia_bits[0], i, first, last);
}

static inline struct sn_entry arm_s2_decode(const struct sn_pt *pt, unsigned half, unsigned level,
                                            uint64_t raw)
{
	/* By XN[1:0]: all, unprivileged only, nobody, privileged only. */
	static const uint8_t exec[4] = {
		SN_GRANT_EXEC | SN_GRANT_PRIV_EXEC,
		SN_GRANT_EXEC,
		0,
		SN_GRANT_PRIV_EXEC,
	};
	struct sn_entry e = arm_decode(pt, half, level, raw);

	if (e.kind != SN_ENTRY_LEAF)
		return e;
	e.grant &= ~(SN_GRANT_READ | SN_GRANT_WRITE | SN_GRANT_EXEC | SN_GRANT_PRIV_EXEC);
	e.grant |= exec[raw >> ARM_S2_XN_SHIFT & 3];
	if (raw & ARM_S2_READ)
		e.grant |= SN_GRANT_READ;
	if ((raw & ARM_S2_WRITE) || arm_dirtiable(pt, raw))
		e.grant |= SN_GRANT_WRITE;
	return e;
}

static inline uint32_t arm_s2_rights(const struct sn_pt *pt, unsigned grant, uint32_t access)
{
	unsigned exec = access & SNEST_PRIVILEGED ? SN_GRANT_PRIV_EXEC : SN_GRANT_EXEC;

	(void)pt;
	return (grant & SN_GRANT_READ ? SNEST_READ : 0) |
	       (grant & SN_GRANT_WRITE ? SNEST_WRITE : 0) | (grant & exec ? SNEST_EXEC : 0);
}

static inline unsigned arm_s2_deny(const struct sn_pt *pt, unsigned grant, uint32_t access)
{
	uint32_t missing = access & SNEST_RIGHTS & ~arm_s2_rights(pt, grant, access);

	return !missing                ? 0
	       : missing & SNEST_READ  ? SNEST_FAULT_READ
	       : missing & SNEST_WRITE ? SNEST_FAULT_WRITE
	                               : SNEST_FAULT_EXECUTE;
}

static inline uint64_t arm_s2_touch(const struct sn_pt *pt, uint64_t raw, bool leaf, bool write)
{
	(void)leaf;
	raw |= ARM_AF;
	return write && arm_dirtiable(pt, raw) ? raw | ARM_S2_WRITE : raw;
}

static inline uint32_t arm_s2_attr(const struct sn_pt *pt, unsigned level, uint64_t raw)
{
	(void)pt;
	(void)level;
	return (uint32_t)((raw & ARM_S2_MEM_ATTR) >> 2) | (raw & ARM_AF ? SNEST_ATTR_ACCESSED : 0) |
	       ((raw & ARM_DBM) && (raw & ARM_S2_WRITE) ? SNEST_ATTR_DIRTY : 0) |
	       (raw & ARM_CONTIGUOUS ? SNEST_ATTR_CONTIGUOUS : 0);
}

static inline int arm_s2_make_leaf(const struct sn_pt *pt, unsigned half, unsigned level,
                                   unsigned lg2, uint64_t addr, uint32_t rights, uint32_t attr,
                                   uint64_t *raw)
{
	bool clean = (pt->flags & SNEST_STAGE_HW_D) && !(attr & SNEST_ATTR_DIRTY);

	if (!(rights & SNEST_RIGHTS) || arm_make_leaf(pt, half, level, lg2, addr, attr, raw))
		return -EINVAL;
	*raw |= (uint64_t)(attr & 0xf) << 2;
	if (rights & SNEST_READ)
		*raw |= ARM_S2_READ;
	if ((rights & SNEST_WRITE) && !clean)
		*raw |= ARM_S2_WRITE;
	if ((rights & SNEST_WRITE) && (pt->flags & SNEST_STAGE_HW_D))
		*raw |= ARM_DBM;
	if (!(rights & SNEST_EXEC))
		*raw |= ARM_S2_XN;
	return 0;
}

#endif
