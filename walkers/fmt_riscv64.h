/* SPDX-License-Identifier: MIT */
/*
 * RISC-V Sv39, Sv48, Sv57 and their x4 forms: entries of 8 bytes. See walkers/fmt_riscv.h.
 */
#ifndef SN_WALKERS_FMT_RISCV64_H
#define SN_WALKERS_FMT_RISCV64_H

#include "walkers/fmt_riscv.h"

#define riscv64_ENTRY_LG2 3
#define riscv64_ADDR_UP (-2)
#define riscv64_DENY_AT_LEAF 1
#define riscv64_TOUCH_FIRST 0
#define riscv64_TABLE_A 0

#define riscv64_deny riscv_deny
#define riscv64_deny_late sn_deny_late_none
#define riscv64_rights riscv_rights
#define riscv64_touch riscv_touch
#define riscv64_touch_mode riscv_touch_mode

static inline int riscv64_prepare(struct sn_pt *pt, const struct snest_stage *stage,
                                  const char **why)
{
	return riscv_prepare(pt, stage, true, why);
}

static inline unsigned riscv64_start(const struct sn_pt *pt, uint64_t in, unsigned *half)
{
	return riscv_start(pt, true, in, half);
}

static inline bool riscv64_span(const struct sn_pt *pt, unsigned i, uint64_t *first, uint64_t *last,
                                unsigned *half)
{
	return riscv_span(pt, true, i, first, last, half);
}

static inline unsigned riscv64_shift(const struct sn_pt *pt, unsigned half, unsigned level)
{
	(void)pt;
	(void)half;
	return riscv_shift(true, level);
}

static inline unsigned riscv64_index_bits(const struct sn_pt *pt, unsigned half, unsigned level)
{
	(void)half;
	return riscv_index_bits(pt, true, level);
}

static inline struct sn_entry riscv64_decode(const struct sn_pt *pt, unsigned half, unsigned level,
                                             uint64_t raw)
{
	(void)half;
	return riscv_decode(pt, true, level, raw);
}

static inline uint32_t riscv64_attr(const struct sn_pt *pt, unsigned level, uint64_t raw)
{
	(void)level;
	return riscv_attr(pt, true, raw);
}

static inline uint64_t riscv64_leaf_sizes(const struct sn_pt *pt, unsigned half, unsigned level)
{
	(void)half;
	return riscv_leaf_sizes(pt, true, level);
}

static inline int riscv64_make_leaf(const struct sn_pt *pt, unsigned half, unsigned level,
                                    unsigned lg2, uint64_t addr, uint32_t rights, uint32_t attr,
                                    uint64_t *raw)
{
	(void)half;
	return riscv_make_leaf(pt, true, level, lg2, addr, rights, attr, raw);
}

static inline uint64_t riscv64_make_table(const struct sn_pt *pt, unsigned half, unsigned level,
                                          unsigned next, uint64_t addr)
{
	(void)pt;
	(void)half;
	(void)level;
	(void)next;
	return riscv_make_table(addr);
}

#endif
