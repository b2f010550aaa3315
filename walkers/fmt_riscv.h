/* SPDX-License-Identifier: MIT */
/*
 * What the RISC-V formats share: Sv32 with 4-byte entries, and Sv39, Sv48,
 * Sv57 with 8-byte ones; as a first stage, or (x4) as a second stage whose
 * root has 4 times the entries.
 *
 * Check order at a level, that of the privileged specification: valid,
 * reserved bits and encodings, pointer below the last level, alignment and
 * Svnapot; then at the leaf privilege, rights, and the accessed and dirty
 * flags last. Table entries grant everything: rights, U, A and D exist in
 * leaves only.
 *
 * The functions that depend on the width of entries take it as `wide`, a
 * constant wherever they are inlined.
 */
#ifndef SN_WALKERS_FMT_RISCV_H
#define SN_WALKERS_FMT_RISCV_H

#include <errno.h>
#include "walkers/fmt_common.h"

#define RISCV_V 0x1ull
#define RISCV_R 0x2ull
#define RISCV_W 0x4ull
#define RISCV_X 0x8ull
#define RISCV_U 0x10ull
#define RISCV_G 0x20ull
#define RISCV_A 0x40ull
#define RISCV_D 0x80ull
#define RISCV_PPN_SHIFT 10
#define RISCV_RESERVED 0x07c0000000000000ull /* 58:54 */
#define RISCV_RSW60T59B 0x1800000000000000ull
#define RISCV_PBMT 0x6000000000000000ull
#define RISCV_PBMT_SHIFT 61
#define RISCV_N 0x8000000000000000ull

/* Svnapot: the one size there is, and how PPN[3:0] says so. */
#define RISCV_NAPOT_LG2 16
#define RISCV_NAPOT_CODE 0x8000ull

static inline bool riscv_x4(const struct sn_pt *pt)
{
	return pt->flags & SNEST_STAGE_RISCV_X4;
}

static inline unsigned riscv_shift(bool wide, unsigned level)
{
	return 12 + (wide ? 9 : 10) * level;
}

static inline unsigned riscv_index_bits(const struct sn_pt *pt, bool wide, unsigned level)
{
	return (wide ? 9 : 10) + (riscv_x4(pt) && level == pt->top[0] ? 2 : 0);
}

static inline int riscv_prepare(struct sn_pt *pt, const struct snest_stage *stage, bool wide,
                                const char **why)
{
	unsigned levels = stage->levels;

	if (wide ? levels < 3 || levels > 5 : levels != 2) {
		*why = wide ? "a 64-bit RISC-V table has 3, 4 or 5 levels"
		            : "a 32-bit RISC-V table has 2 levels";
		return -EINVAL;
	}
	/* One control bit enables both updates. */
	if (!(stage->flags & SNEST_STAGE_HW_A) != !(stage->flags & SNEST_STAGE_HW_D)) {
		*why = "RISC-V updates both the accessed and the dirty flag, or none";
		return -EINVAL;
	}
	pt->top[0] = (uint8_t)(levels - 1);
	pt->ia_bits[0] = (uint8_t)(riscv_shift(wide, levels) + (riscv_x4(pt) ? 2 : 0));
	if (stage->ia_bits && stage->ia_bits != pt->ia_bits[0]) {
		*why = "the input width of a RISC-V table follows from its levels";
		return -EINVAL;
	}
	pt->oa_bits = stage->oa_bits ? stage->oa_bits : wide ? 56 : 34;
	if (pt->oa_bits < 32 || pt->oa_bits > (wide ? 56 : 34)) {
		*why = wide ? "the output address width is not between 32 and 56 bits"
		            : "the output address width is not between 32 and 34 bits";
		return -EINVAL;
	}
	pt->out_mask = sn_mask(pt->oa_bits) & ~sn_mask(12);
	/* The root's alignment is the device structures' to check; here low bits are ignored. */
	pt->root[0] = stage->root & sn_mask(56) & ~sn_mask(riscv_x4(pt) ? 14 : 12);
	pt->leaf_levels = (uint8_t)sn_mask(levels);
	if (!wide)
		return 0;
	pt->reserved_leaf = RISCV_RESERVED;
	if (!(pt->flags & SNEST_STAGE_RISCV_SVRSW60T59B))
		pt->reserved_leaf |= RISCV_RSW60T59B;
	if (!(pt->flags & SNEST_STAGE_RISCV_SVPBMT))
		pt->reserved_leaf |= RISCV_PBMT;
	if (!(pt->flags & SNEST_STAGE_RISCV_SVNAPOT))
		pt->reserved_leaf |= RISCV_N;
	pt->reserved_table = pt->reserved_leaf | RISCV_PBMT | RISCV_N;
	return 0;
}

static inline unsigned riscv_start(const struct sn_pt *pt, bool wide, uint64_t in, unsigned *half)
{
	unsigned unused = 64 - pt->ia_bits[0];

	*half = 0;
	if (!wide || riscv_x4(pt))
		return in & ~sn_mask(pt->ia_bits[0]) ? SNEST_FAULT_INPUT_RANGE : 0;
	return (uint64_t)((int64_t)(in << unused) >> unused) != in ? SNEST_FAULT_NON_CANONICAL : 0;
}

static inline bool riscv_span(const struct sn_pt *pt, bool wide, unsigned i, uint64_t *first,
                              uint64_t *last, unsigned *half)
{
	*half = 0;
	return !wide || riscv_x4(pt) ? sn_span_zero(pt->ia_bits[0], i, first, last)
	                             : sn_span_signed(pt->ia_bits[0], i, first, last);
}

static inline struct sn_entry riscv_decode_leaf(bool wide, unsigned level, uint64_t raw,
                                                struct sn_entry e)
{
	unsigned lg2 = riscv_shift(wide, level);

	e.kind = SN_ENTRY_LEAF;
	e.grant &= ~(SN_GRANT_READ | SN_GRANT_WRITE | SN_GRANT_EXEC | SN_GRANT_USER);
	e.grant |= (uint8_t)((raw & (RISCV_R | RISCV_W | RISCV_X)) >> 1);
	e.grant |= raw & RISCV_U ? SN_GRANT_USER : 0;
	if (e.addr & sn_mask(lg2)) {
		e.early = SNEST_FAULT_LEVEL;
	} else if (wide && (raw & RISCV_N)) {
		if (level != 0 || (e.addr & sn_mask(RISCV_NAPOT_LG2)) != RISCV_NAPOT_CODE)
			e.early = SNEST_FAULT_RESERVED;
		e.addr &= ~sn_mask(RISCV_NAPOT_LG2);
		lg2 = RISCV_NAPOT_LG2;
	}
	e.lg2 = (uint8_t)lg2;
	return e;
}

static inline struct sn_entry riscv_decode(const struct sn_pt *pt, bool wide, unsigned level,
                                           uint64_t raw)
{
	struct sn_entry e = {.kind = SN_ENTRY_TABLE, .grant = SN_GRANT_ALL};
	bool pointer = !(raw & (RISCV_R | RISCV_X));

	if (!(raw & RISCV_V) || (raw & (RISCV_R | RISCV_W)) == RISCV_W) {
		e.kind = SN_ENTRY_FAULT;
		e.early = SNEST_FAULT_NOT_PRESENT;
		return e;
	}
	e.addr = (wide ? raw & sn_mask(54) : raw) >> RISCV_PPN_SHIFT << 12;
	if (pointer) {
		e.next = (uint8_t)(level - 1);
		if (raw & (pt->reserved_table | RISCV_D | RISCV_A | RISCV_U))
			e.early = SNEST_FAULT_RESERVED;
		else if (level == 0)
			e.early = SNEST_FAULT_LEVEL;
	} else if ((raw & pt->reserved_leaf) || (raw & RISCV_PBMT) == RISCV_PBMT) {
		e.kind = SN_ENTRY_LEAF;
		e.early = SNEST_FAULT_RESERVED;
	} else {
		e = riscv_decode_leaf(wide, level, raw, e);
	}
	if (!e.early && (e.addr & ~pt->out_mask))
		e.early = SNEST_FAULT_ADDRESS_SIZE;
	return e;
}

/* What the page's U bit leaves of the rights at the request's privilege. */
static inline uint32_t riscv_reach(const struct sn_pt *pt, unsigned grant, uint32_t access)
{
	bool user_page = grant & SN_GRANT_USER;

	/* A second stage sees every request as unprivileged. */
	if (riscv_x4(pt) || !(access & SNEST_PRIVILEGED))
		return user_page ? SNEST_RIGHTS : 0;
	if (!user_page)
		return SNEST_RIGHTS;
	return pt->flags & SNEST_STAGE_RISCV_SUM ? SNEST_READ | SNEST_WRITE : 0;
}

static inline unsigned riscv_deny(const struct sn_pt *pt, unsigned grant, uint32_t access)
{
	uint32_t asked = access & SNEST_RIGHTS;

	if (asked & ~riscv_reach(pt, grant, access))
		return SNEST_FAULT_PRIVILEGE;
	asked &= ~grant;
	return !asked                ? 0
	       : asked & SNEST_READ  ? SNEST_FAULT_READ
	       : asked & SNEST_WRITE ? SNEST_FAULT_WRITE
	                             : SNEST_FAULT_EXECUTE;
}

static inline uint32_t riscv_rights(const struct sn_pt *pt, unsigned grant, uint32_t access)
{
	return grant & riscv_reach(pt, grant, access);
}

static inline uint64_t riscv_touch(const struct sn_pt *pt, uint64_t raw, bool leaf, bool write)
{
	(void)pt;
	(void)leaf;
	return raw | RISCV_A | (write ? RISCV_D : 0);
}

static inline unsigned riscv_touch_mode(const struct sn_pt *pt)
{
	return pt->flags & SNEST_STAGE_HW_A ? SN_TOUCH_UPDATE : SN_TOUCH_FAULT;
}

/* The global flag means nothing in a second stage. */
static inline uint32_t riscv_attr(const struct sn_pt *pt, bool wide, uint64_t raw)
{
	return (raw & RISCV_A ? SNEST_ATTR_ACCESSED : 0) | (raw & RISCV_D ? SNEST_ATTR_DIRTY : 0) |
	       (raw & RISCV_U ? SNEST_ATTR_USER : 0) |
	       ((raw & RISCV_G) && !riscv_x4(pt) ? SNEST_ATTR_GLOBAL : 0) |
	       (wide && (raw & RISCV_N) ? SNEST_ATTR_CONTIGUOUS : 0) |
	       (wide ? (uint32_t)((raw & RISCV_PBMT) >> RISCV_PBMT_SHIFT) : 0);
}

static inline uint64_t riscv_leaf_sizes(const struct sn_pt *pt, bool wide, unsigned level)
{
	uint64_t sizes = 1ull << riscv_shift(wide, level);

	if (level == 0 && (pt->flags & SNEST_STAGE_RISCV_SVNAPOT))
		sizes |= 1ull << RISCV_NAPOT_LG2;
	return sizes;
}

/* Without hardware updates a clear flag would make the page fault: both are set then. */
static inline int riscv_make_leaf(const struct sn_pt *pt, bool wide, unsigned level, unsigned lg2,
                                  uint64_t addr, uint32_t rights, uint32_t attr, uint64_t *raw)
{
	bool fault = riscv_touch_mode(pt) == SN_TOUCH_FAULT;

	if (!(rights & (SNEST_READ | SNEST_EXEC)) ||
	    (rights & (SNEST_READ | SNEST_WRITE)) == SNEST_WRITE || (addr & ~pt->out_mask) ||
	    (addr & sn_mask(lg2)))
		return -EINVAL;
	if (wide && lg2 != riscv_shift(wide, level))
		*raw = RISCV_N | (addr | RISCV_NAPOT_CODE) >> 12 << RISCV_PPN_SHIFT;
	else
		*raw = addr >> 12 << RISCV_PPN_SHIFT;
	*raw |= RISCV_V | (uint64_t)(rights & SNEST_RIGHTS) << 1;
	if ((attr & SNEST_ATTR_USER) || riscv_x4(pt))
		*raw |= RISCV_U;
	if ((attr & SNEST_ATTR_GLOBAL) && !riscv_x4(pt))
		*raw |= RISCV_G;
	if ((attr & SNEST_ATTR_ACCESSED) || fault)
		*raw |= RISCV_A;
	if ((attr & SNEST_ATTR_DIRTY) || (fault && (rights & SNEST_WRITE)))
		*raw |= RISCV_D;
	if (wide && (pt->flags & SNEST_STAGE_RISCV_SVPBMT)) {
		if ((attr & 3) == 3)
			return -EINVAL;
		*raw |= (uint64_t)(attr & 3) << RISCV_PBMT_SHIFT;
	}
	return 0;
}

static inline uint64_t riscv_make_table(uint64_t addr)
{
	return addr >> 12 << RISCV_PPN_SHIFT | RISCV_V;
}

#endif
