/* SPDX-License-Identifier: MIT */
/*
 * VT-d second stage: 3, 4 or 5 levels of 512 entries.
 *
 * An entry is present when it grants anything (R or W); there is no separate
 * present bit. Rights are checked before reserved bits at every level, so an
 * entry that grants nothing is "not present" whatever else it holds. The same
 * layout is that of snest's own shadow.
 */
#ifndef SN_WALKERS_FMT_VTD_SS_H
#define SN_WALKERS_FMT_VTD_SS_H

#include <errno.h>
#include "walkers/fmt_common.h"

#define vtd_ss_ENTRY_LG2 3
#define vtd_ss_ADDR_UP 0
#define vtd_ss_DENY_AT_LEAF 0
#define vtd_ss_TOUCH_FIRST 0
#define vtd_ss_TABLE_A 1

#define vtd_ss_shift sn_shift_512
#define vtd_ss_index_bits sn_index_bits_512
/* The X bit is not evaluated for DMA. */
#define vtd_ss_deny sn_deny_rw
#define vtd_ss_deny_late sn_deny_late_none
#define vtd_ss_rights sn_rights_rw
#define vtd_ss_touch_mode sn_touch_mode_update

#define VTD_SS_R 0x1ull
#define VTD_SS_W 0x2ull
#define VTD_SS_EMT 0x38ull
#define VTD_SS_PS 0x80ull
#define VTD_SS_A 0x100ull
#define VTD_SS_D 0x200ull
#define VTD_SS_SNP 0x800ull
#define VTD_SS_TM (1ull << 62)
#define VTD_SS_ADDR 0x000ffffffffff000ull

static inline int vtd_ss_prepare(struct sn_pt *pt, const struct snest_stage *stage,
                                 const char **why)
{
	if (stage->levels < 3 || stage->levels > 5) {
		*why = "a VT-d second stage has 3, 4 or 5 levels";
		return -EINVAL;
	}
	unsigned width = 12 + 9u * stage->levels;

	pt->ia_bits[0] = stage->ia_bits ? stage->ia_bits : (uint8_t)width;
	if (pt->ia_bits[0] > width || pt->ia_bits[0] < 13) {
		*why = "the input address is wider than the levels translate";
		return -EINVAL;
	}
	pt->oa_bits = stage->oa_bits ? stage->oa_bits : 52;
	if (pt->oa_bits > 52 || pt->oa_bits < 32) {
		*why = "the output address width is not between 32 and 52 bits";
		return -EINVAL;
	}
	pt->top[0] = stage->levels - 1;
	pt->root[0] = stage->root & VTD_SS_ADDR;
	pt->out_mask = VTD_SS_ADDR & sn_mask(pt->oa_bits);

	uint64_t wide = VTD_SS_ADDR & ~sn_mask(pt->oa_bits);

	pt->reserved_leaf = wide;
	if (!(stage->flags & SNEST_STAGE_VTD_SNOOP))
		pt->reserved_leaf |= VTD_SS_SNP;
	if (!(stage->flags & SNEST_STAGE_VTD_TM))
		pt->reserved_leaf |= VTD_SS_TM;
	pt->reserved_table = wide | VTD_SS_SNP | VTD_SS_TM;
	pt->leaf_levels = 1;
	if (!(stage->flags & SNEST_STAGE_NO_2M))
		pt->leaf_levels |= 2;
	if (!(stage->flags & SNEST_STAGE_NO_1G))
		pt->leaf_levels |= 4;
	return 0;
}

static inline unsigned vtd_ss_start(const struct sn_pt *pt, uint64_t in, unsigned *half)
{
	*half = 0;
	return in & ~sn_mask(pt->ia_bits[0]) ? SNEST_FAULT_INPUT_RANGE : 0;
}

static inline bool vtd_ss_span(const struct sn_pt *pt, unsigned i, uint64_t *first, uint64_t *last,
                               unsigned *half)
{
	*half = 0;
	return sn_span_zero(pt->ia_bits[0], i, first, last);
}

static inline struct sn_entry vtd_ss_decode(const struct sn_pt *pt, unsigned half, unsigned level,
                                            uint64_t raw)
{
	struct sn_entry e = {.kind = SN_ENTRY_TABLE, .grant = SN_GRANT_ALL};
	unsigned lg2 = vtd_ss_shift(pt, half, level);

	if (!(raw & (VTD_SS_R | VTD_SS_W))) {
		e.kind = SN_ENTRY_FAULT;
		e.early = SNEST_FAULT_NOT_PRESENT;
		return e;
	}
	e.grant &= ~(SN_GRANT_READ | SN_GRANT_WRITE);
	e.grant |= (uint8_t)(raw & (SN_GRANT_READ | SN_GRANT_WRITE));
	e.addr = raw & pt->out_mask;
	if (level == 0 || (raw & VTD_SS_PS)) {
		e.kind = SN_ENTRY_LEAF;
		e.lg2 = (uint8_t)lg2;
		if (!(pt->leaf_levels >> level & 1) ||
		    (raw & (pt->reserved_leaf | (VTD_SS_ADDR & sn_mask(lg2)))))
			e.late = SNEST_FAULT_RESERVED;
	} else {
		e.next = (uint8_t)(level - 1);
		if (raw & pt->reserved_table)
			e.late = SNEST_FAULT_RESERVED;
	}
	return e;
}

static inline uint64_t vtd_ss_touch(const struct sn_pt *pt, uint64_t raw, bool leaf, bool write)
{
	return raw | VTD_SS_A | (leaf && write && (pt->flags & SNEST_STAGE_HW_D) ? VTD_SS_D : 0);
}

static inline uint32_t vtd_ss_attr(const struct sn_pt *pt, unsigned level, uint64_t raw)
{
	(void)pt;
	(void)level;
	return (raw & VTD_SS_A ? SNEST_ATTR_ACCESSED : 0) |
	       (raw & VTD_SS_D ? SNEST_ATTR_DIRTY : 0) | (raw & VTD_SS_SNP ? SNEST_ATTR_SNOOP : 0) |
	       (uint32_t)((raw & VTD_SS_EMT) >> 3);
}

static inline uint64_t vtd_ss_leaf_sizes(const struct sn_pt *pt, unsigned half, unsigned level)
{
	return pt->leaf_levels >> level & 1 ? 1ull << vtd_ss_shift(pt, half, level) : 0;
}

static inline int vtd_ss_make_leaf(const struct sn_pt *pt, unsigned half, unsigned level,
                                   unsigned lg2, uint64_t addr, uint32_t rights, uint32_t attr,
                                   uint64_t *raw)
{
	(void)half;
	if (!(rights & (SNEST_READ | SNEST_WRITE)) ||
	    ((rights & SNEST_EXEC) && !(rights & SNEST_READ)) || (addr & ~pt->out_mask) ||
	    (addr & sn_mask(lg2)))
		return -EINVAL;
	if ((attr & SNEST_ATTR_SNOOP) && !(pt->flags & SNEST_STAGE_VTD_SNOOP))
		return -EINVAL;
	*raw = addr | (rights & SNEST_READ ? VTD_SS_R : 0) | (rights & SNEST_WRITE ? VTD_SS_W : 0) |
	       (level ? VTD_SS_PS : 0) | (attr & SNEST_ATTR_ACCESSED ? VTD_SS_A : 0) |
	       (attr & SNEST_ATTR_DIRTY ? VTD_SS_D : 0) |
	       (attr & SNEST_ATTR_SNOOP ? VTD_SS_SNP : 0) | ((uint64_t)(attr & 7) << 3);
	return 0;
}

static inline uint64_t vtd_ss_make_table(const struct sn_pt *pt, unsigned half, unsigned level,
                                         unsigned next, uint64_t addr)
{
	(void)pt;
	(void)half;
	(void)level;
	(void)next;
	return addr | VTD_SS_R | VTD_SS_W;
}

#endif
