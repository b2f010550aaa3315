/* SPDX-License-Identifier: MIT */
/*
 * RISC-V Sv32 and Sv32x4: entries of 4 bytes. See walkers/fmt_riscv.h.
 */
#ifndef SN_WALKERS_FMT_RISCV32_H
#define SN_WALKERS_FMT_RISCV32_H

#include "walkers/fmt_riscv.h"

#define riscv32_ENTRY_LG2 2
#define riscv32_ADDR_UP (-2)
#define riscv32_DENY_AT_LEAF 1
#define riscv32_TOUCH_FIRST 0
#define riscv32_TABLE_A 0

#define riscv32_deny riscv_deny
#define riscv32_deny_late sn_deny_late_none
#define riscv32_rights riscv_rights
#define riscv32_touch riscv_touch
#define riscv32_touch_mode riscv_touch_mode

static inline int riscv32_prepare(struct sn_pt *pt, const struct snest_stage *stage,
                                  const char **why)
{
	return riscv_prepare(pt, stage, false, why);
}

static inline unsigned riscv32_start(const struct sn_pt *pt, uint64_t in, unsigned *half)
{
	return riscv_start(pt, false, in, half);
}

static inline bool riscv32_span(const struct sn_pt *pt, unsigned i, uint64_t *first, uint64_t *last,
                                unsigned *half)
{
	return riscv_span(pt, false, i, first, last, half);
}

static inline unsigned riscv32_shift(const struct sn_pt *pt, unsigned half, unsigned level)
{
	(void)pt;
	(void)half;
	return riscv_shift(false, level);
}

static inline unsigned riscv32_index_bits(const struct sn_pt *pt, unsigned half, unsigned level)
{
	(void)half;
	return riscv_index_bits(pt, false, level);
}

static inline struct sn_entry riscv32_decode(const struct sn_pt *pt, unsigned half, unsigned level,
                                             uint64_t raw)
{
	(void)half;
	return riscv_decode(pt, false, level, raw);
}

static inline uint32_t riscv32_attr(const struct sn_pt *pt, unsigned level, uint64_t raw)
{
	(void)level;
	return riscv_attr(pt, false, raw);
}

static inline uint64_t riscv32_leaf_sizes(const struct sn_pt *pt, unsigned half, unsigned level)
{
	(void)half;
	return riscv_leaf_sizes(pt, false, level);
}

static inline int riscv32_make_leaf(const struct sn_pt *pt, unsigned half, unsigned level,
                                    unsigned lg2, uint64_t addr, uint32_t rights, uint32_t attr,
                                    uint64_t *raw)
{
	(void)half;
	return riscv_make_leaf(pt, false, level, lg2, addr, rights, attr, raw);
}

static inline uint64_t riscv32_make_table(const struct sn_pt *pt, unsigned half, unsigned level,
                                          unsigned next, uint64_t addr)
{
	(void)pt;
	(void)half;
	(void)level;
	(void)next;
	return riscv_make_table(addr);
}

#endif
