/* SPDX-License-Identifier: MIT */
/*
 * x86-64: VT-d first stage, AMD v2, and any other x86-64 table; 4 or 5 levels.
 *
 * Check order at a level, after QEMU's and the processors': present, user or
 * supervisor, write, reserved bits, execute.
 */
#ifndef SN_WALKERS_FMT_X86_64_H
#define SN_WALKERS_FMT_X86_64_H

#include <errno.h>
#include "walkers/fmt_common.h"

#define x86_64_ENTRY_LG2 3
#define x86_64_ADDR_UP 0
#define x86_64_DENY_AT_LEAF 0
#define x86_64_TOUCH_FIRST 0
#define x86_64_TABLE_A 1

#define x86_64_shift sn_shift_512
#define x86_64_index_bits sn_index_bits_512
#define x86_64_touch_mode sn_touch_mode_update

#define X86_P 0x1ull
#define X86_RW 0x2ull
#define X86_US 0x4ull
#define X86_PWT 0x8ull
#define X86_PCD 0x10ull
#define X86_A 0x20ull
#define X86_D 0x40ull
#define X86_PS 0x80ull
#define X86_G 0x100ull
#define X86_EA 0x400ull
#define X86_PAT_LARGE 0x1000ull /* where PAT is when PS takes its place */
#define X86_ADDR 0x000ffffffffff000ull
#define X86_NX (1ull << 63)

static inline int x86_64_prepare(struct sn_pt *pt, const struct snest_stage *stage,
                                 const char **why)
{
	if (stage->levels != 4 && stage->levels != 5) {
		*why = "an x86-64 table has 4 or 5 levels";
		return -EINVAL;
	}
	unsigned width = 12 + 9u * stage->levels;

	if (stage->ia_bits && stage->ia_bits != width) {
		*why = "the input width of an x86-64 table follows from its levels";
		return -EINVAL;
	}
	if (stage->format == SNEST_FORMAT_AMD_V2 && (stage->flags & SNEST_STAGE_X86_EAF)) {
		*why = "AMD v2 has no extended accessed flag";
		return -EOPNOTSUPP;
	}
	pt->ia_bits[0] = (uint8_t)width;
	pt->oa_bits = stage->oa_bits ? stage->oa_bits : 52;
	if (pt->oa_bits > 52 || pt->oa_bits < 32) {
		*why = "the output address width is not between 32 and 52 bits";
		return -EINVAL;
	}
	pt->top[0] = stage->levels - 1;
	pt->root[0] = stage->root & X86_ADDR;
	pt->out_mask = X86_ADDR & sn_mask(pt->oa_bits);
	pt->reserved_leaf = pt->reserved_table = X86_ADDR & ~sn_mask(pt->oa_bits);
	pt->leaf_levels = 1;
	if (!(stage->flags & SNEST_STAGE_NO_2M))
		pt->leaf_levels |= 2;
	if (!(stage->flags & SNEST_STAGE_NO_1G))
		pt->leaf_levels |= 4;
	return 0;
}

static inline unsigned x86_64_start(const struct sn_pt *pt, uint64_t in, unsigned *half)
{
	unsigned unused = 64 - pt->ia_bits[0];

	*half = 0;
	return (uint64_t)((int64_t)(in << unused) >> unused) != in ? SNEST_FAULT_NON_CANONICAL : 0;
}

static inline bool x86_64_span(const struct sn_pt *pt, unsigned i, uint64_t *first, uint64_t *last,
                               unsigned *half)
{
	*half = 0;
	return sn_span_signed(pt->ia_bits[0], i, first, last);
}

static inline struct sn_entry x86_64_decode(const struct sn_pt *pt, unsigned half, unsigned level,
                                            uint64_t raw)
{
	struct sn_entry e = {.kind = SN_ENTRY_TABLE, .grant = SN_GRANT_ALL};
	unsigned lg2 = x86_64_shift(pt, half, level);

	if (!(raw & X86_P)) {
		e.kind = SN_ENTRY_FAULT;
		e.early = SNEST_FAULT_NOT_PRESENT;
		return e;
	}
	if (!(raw & X86_RW))
		e.grant &= ~SN_GRANT_WRITE;
	if (!(raw & X86_US))
		e.grant &= ~SN_GRANT_USER;
	if ((raw & X86_NX) && (pt->flags & SNEST_STAGE_X86_NX))
		e.grant &= ~SN_GRANT_EXEC;
	e.addr = raw & pt->out_mask;
	if (level == 0) {
		e.kind = SN_ENTRY_LEAF;
		e.lg2 = 12;
		if (raw & pt->reserved_leaf)
			e.late = SNEST_FAULT_RESERVED;
	} else if (raw & X86_PS) {
		uint64_t low = X86_ADDR & sn_mask(lg2);

		e.kind = SN_ENTRY_LEAF;
		e.lg2 = (uint8_t)lg2;
		e.addr &= ~low;
		if (!(pt->leaf_levels >> level & 1) ||
		    (raw & (pt->reserved_leaf | (low & ~X86_PAT_LARGE))))
			e.late = SNEST_FAULT_RESERVED;
	} else {
		e.next = (uint8_t)(level - 1);
		if (raw & pt->reserved_table)
			e.late = SNEST_FAULT_RESERVED;
	}
	return e;
}

static inline unsigned x86_64_deny(const struct sn_pt *pt, unsigned grant, uint32_t access)
{
	bool user = !(access & SNEST_PRIVILEGED);

	if (user && (access & SNEST_RIGHTS) && !(grant & SN_GRANT_USER))
		return SNEST_FAULT_PRIVILEGE;
	if ((access & SNEST_WRITE) && !(grant & SN_GRANT_WRITE) &&
	    (user || (pt->flags & SNEST_STAGE_X86_WP)))
		return SNEST_FAULT_WRITE;
	return 0;
}

static inline bool x86_64_smep(const struct sn_pt *pt, unsigned grant, uint32_t access)
{
	return (pt->flags & SNEST_STAGE_X86_SMEP) && (access & SNEST_PRIVILEGED) &&
	       (grant & SN_GRANT_USER);
}

static inline unsigned x86_64_deny_late(const struct sn_pt *pt, unsigned grant, uint32_t access,
                                        bool leaf)
{
	if (!(access & SNEST_EXEC))
		return 0;
	if (!(grant & SN_GRANT_EXEC))
		return SNEST_FAULT_EXECUTE;
	return leaf && x86_64_smep(pt, grant, access) ? SNEST_FAULT_PRIVILEGE : 0;
}

static inline uint32_t x86_64_rights(const struct sn_pt *pt, unsigned grant, uint32_t access)
{
	bool user = !(access & SNEST_PRIVILEGED);
	uint32_t rights = SNEST_READ;

	if (user && !(grant & SN_GRANT_USER))
		return 0;
	if ((grant & SN_GRANT_WRITE) || (!user && !(pt->flags & SNEST_STAGE_X86_WP)))
		rights |= SNEST_WRITE;
	if ((grant & SN_GRANT_EXEC) && !x86_64_smep(pt, grant, access))
		rights |= SNEST_EXEC;
	return rights;
}

static inline uint64_t x86_64_touch(const struct sn_pt *pt, uint64_t raw, bool leaf, bool write)
{
	return raw | X86_A | (pt->flags & SNEST_STAGE_X86_EAF ? X86_EA : 0) |
	       (leaf && write && (pt->flags & SNEST_STAGE_HW_D) ? X86_D : 0);
}

/* Memory type: PAT, PCD, PWT. PAT is bit 7 at level 0, and bit 12 where bit 7 is PS. */
static inline uint32_t x86_64_attr(const struct sn_pt *pt, unsigned level, uint64_t raw)
{
	(void)pt;
	return (raw & X86_A ? SNEST_ATTR_ACCESSED : 0) | (raw & X86_D ? SNEST_ATTR_DIRTY : 0) |
	       (raw & X86_G ? SNEST_ATTR_GLOBAL : 0) | (raw & X86_US ? SNEST_ATTR_USER : 0) |
	       (uint32_t)((raw & (X86_PWT | X86_PCD)) >> 3) |
	       (raw & (level ? X86_PAT_LARGE : X86_PS) ? 4 : 0);
}

static inline uint64_t x86_64_leaf_sizes(const struct sn_pt *pt, unsigned half, unsigned level)
{
	return pt->leaf_levels >> level & 1 ? 1ull << x86_64_shift(pt, half, level) : 0;
}

static inline int x86_64_make_leaf(const struct sn_pt *pt, unsigned half, unsigned level,
                                   unsigned lg2, uint64_t addr, uint32_t rights, uint32_t attr,
                                   uint64_t *raw)
{
	(void)half;
	if (!(rights & SNEST_READ) || (addr & ~pt->out_mask) || (addr & sn_mask(lg2)))
		return -EINVAL;
	if (!(rights & SNEST_EXEC) && (pt->flags & SNEST_STAGE_X86_NX))
		addr |= X86_NX;
	*raw = addr | X86_P | (rights & SNEST_WRITE ? X86_RW : 0) |
	       (attr & SNEST_ATTR_USER ? X86_US : 0) | (attr & SNEST_ATTR_ACCESSED ? X86_A : 0) |
	       (attr & SNEST_ATTR_DIRTY ? X86_D : 0) | (attr & SNEST_ATTR_GLOBAL ? X86_G : 0) |
	       (level ? X86_PS : 0) | ((uint64_t)(attr & 3) << 3) |
	       (attr & 4 ? level ? X86_PAT_LARGE : X86_PS : 0);
	return 0;
}

static inline uint64_t x86_64_make_table(const struct sn_pt *pt, unsigned half, unsigned level,
                                         unsigned next, uint64_t addr)
{
	(void)pt;
	(void)half;
	(void)level;
	(void)next;
	return addr | X86_P | X86_RW | X86_US | X86_A;
}

#endif
