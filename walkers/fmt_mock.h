/* SPDX-License-Identifier: MIT */
/*
 * A format that no hardware has, to flush out what the walker, the enumeration
 * and the writer take for granted: pages and tables of 2 KiB, 256 entries a
 * table, 4 levels, bits of input that are neither a multiple of 9 nor of 12.
 * Only in builds for tests.
 *
 *   bit 0      1: not present
 *   bits 2:1   1 table, 2 leaf, else not present
 *   bits 5:3   rights that are denied: read, write, execute
 *   bit 6      old: clear is accessed; bit 7 clean: clear is dirty
 *   bits 15:8  must be the entry's own level
 *   bits 62:23 address, shifted up by 12
 *
 * Leaves may be at levels 0, 1 and 3, not at 2.
 */
#ifndef SN_WALKERS_FMT_MOCK_H
#define SN_WALKERS_FMT_MOCK_H

#include <errno.h>
#include "walkers/fmt_common.h"

#define mock_ENTRY_LG2 3
#define mock_ADDR_UP MOCK_ADDR_UP
#define mock_DENY_AT_LEAF 0
#define mock_TOUCH_FIRST 0
#define mock_TABLE_A 0

#define mock_deny_late sn_deny_late_none
#define mock_touch_mode sn_touch_mode_update

#define MOCK_ABSENT 0x1ull
#define MOCK_KIND 0x6ull
#define MOCK_TABLE 0x2ull
#define MOCK_LEAF 0x4ull
#define MOCK_DENY_SHIFT 3
#define MOCK_OLD 0x40ull
#define MOCK_CLEAN 0x80ull
#define MOCK_LEVEL_SHIFT 8
#define MOCK_RESERVED 0x7f0000ull
#define MOCK_ADDR_UP 12
#define MOCK_PAGE_LG2 11

static inline int mock_prepare(struct sn_pt *pt, const struct snest_stage *stage, const char **why)
{
	if (stage->levels != 4 || stage->ia_bits) {
		*why = "a mock table has 4 levels";
		return -EINVAL;
	}
	pt->ia_bits[0] = 43;
	pt->oa_bits = 51;
	pt->granule_lg2[0] = pt->granule_lg2[1] = MOCK_PAGE_LG2;
	pt->top[0] = 3;
	pt->root[0] = stage->root & ~sn_mask(MOCK_PAGE_LG2);
	pt->out_mask = sn_mask(pt->oa_bits) & ~sn_mask(MOCK_PAGE_LG2);
	pt->leaf_levels = 0xb;
	return 0;
}

static inline unsigned mock_start(const struct sn_pt *pt, uint64_t in, unsigned *half)
{
	*half = 0;
	return in & ~sn_mask(pt->ia_bits[0]) ? SNEST_FAULT_INPUT_RANGE : 0;
}

static inline bool mock_span(const struct sn_pt *pt, unsigned i, uint64_t *first, uint64_t *last,
                             unsigned *half)
{
	*half = 0;
	return sn_span_zero(pt->ia_bits[0], i, first, last);
}

static inline unsigned mock_shift(const struct sn_pt *pt, unsigned half, unsigned level)
{
	(void)pt;
	(void)half;
	return MOCK_PAGE_LG2 + 8 * level;
}

static inline unsigned mock_index_bits(const struct sn_pt *pt, unsigned half, unsigned level)
{
	(void)pt;
	(void)half;
	(void)level;
	return 8;
}

static inline struct sn_entry mock_decode(const struct sn_pt *pt, unsigned half, unsigned level,
                                          uint64_t raw)
{
	struct sn_entry e = {.kind = SN_ENTRY_TABLE, .grant = SN_GRANT_ALL};
	uint64_t kind = raw & MOCK_KIND;

	if ((raw & MOCK_ABSENT) || (kind != MOCK_TABLE && kind != MOCK_LEAF)) {
		e.kind = SN_ENTRY_FAULT;
		e.early = SNEST_FAULT_NOT_PRESENT;
		return e;
	}
	e.grant &= ~(raw >> MOCK_DENY_SHIFT & SNEST_RIGHTS);
	e.addr = raw >> MOCK_ADDR_UP & pt->out_mask;
	if (kind == MOCK_LEAF) {
		e.kind = SN_ENTRY_LEAF;
		e.lg2 = (uint8_t)mock_shift(pt, half, level);
		e.addr &= ~sn_mask(e.lg2);
		if (!(pt->leaf_levels >> level & 1))
			e.late = SNEST_FAULT_LEVEL;
	} else if (level == 0) {
		e.late = SNEST_FAULT_LEVEL;
	} else {
		e.next = (uint8_t)(level - 1);
	}
	if ((raw & MOCK_RESERVED) || (raw >> MOCK_LEVEL_SHIFT & 0xff) != level)
		e.late = SNEST_FAULT_RESERVED;
	return e;
}

static inline unsigned mock_deny(const struct sn_pt *pt, unsigned grant, uint32_t access)
{
	uint32_t missing = access & SNEST_RIGHTS & ~grant;

	(void)pt;
	return !missing                ? 0
	       : missing & SNEST_READ  ? SNEST_FAULT_READ
	       : missing & SNEST_WRITE ? SNEST_FAULT_WRITE
	                               : SNEST_FAULT_EXECUTE;
}

static inline uint32_t mock_rights(const struct sn_pt *pt, unsigned grant, uint32_t access)
{
	(void)pt;
	(void)access;
	return grant & SNEST_RIGHTS;
}

static inline uint64_t mock_touch(const struct sn_pt *pt, uint64_t raw, bool leaf, bool write)
{
	(void)leaf;
	return raw & ~MOCK_OLD & ~(write && (pt->flags & SNEST_STAGE_HW_D) ? MOCK_CLEAN : 0);
}

static inline uint32_t mock_attr(const struct sn_pt *pt, unsigned level, uint64_t raw)
{
	(void)pt;
	(void)level;
	return (raw & MOCK_OLD ? 0 : SNEST_ATTR_ACCESSED) |
	       (raw & MOCK_CLEAN ? 0 : SNEST_ATTR_DIRTY);
}

static inline uint64_t mock_leaf_sizes(const struct sn_pt *pt, unsigned half, unsigned level)
{
	return pt->leaf_levels >> level & 1 ? 1ull << mock_shift(pt, half, level) : 0;
}

static inline int mock_make_leaf(const struct sn_pt *pt, unsigned half, unsigned level,
                                 unsigned lg2, uint64_t addr, uint32_t rights, uint32_t attr,
                                 uint64_t *raw)
{
	(void)half;
	if (!(rights & SNEST_RIGHTS) || (addr & ~pt->out_mask) || (addr & sn_mask(lg2)))
		return -EINVAL;
	*raw = addr << MOCK_ADDR_UP | MOCK_LEAF | (uint64_t)level << MOCK_LEVEL_SHIFT |
	       (uint64_t)(~rights & SNEST_RIGHTS) << MOCK_DENY_SHIFT |
	       (attr & SNEST_ATTR_ACCESSED ? 0 : MOCK_OLD) |
	       (attr & SNEST_ATTR_DIRTY ? 0 : MOCK_CLEAN);
	return 0;
}

static inline uint64_t mock_make_table(const struct sn_pt *pt, unsigned half, unsigned level,
                                       unsigned next, uint64_t addr)
{
	(void)pt;
	(void)half;
	(void)next;
	return addr << MOCK_ADDR_UP | MOCK_TABLE | (uint64_t)level << MOCK_LEVEL_SHIFT;
}

#endif
