/* SPDX-License-Identifier: MIT */
/*
 * Shadow entries. The layout is that of a VT-d second-stage entry, so that the
 * root of a shadow can be handed to hardware; what only software needs lies in
 * bits that hardware ignores.
 *
 *   [2:0]   rights, SNEST_READ | SNEST_WRITE | SNEST_EXEC
 *   7       PS: a leaf above level 0
 *   10      START: first leaf of what one sink operation mapped
 *   [51:12] host address, or address of the lower table
 *   [57:52] ORIGIN: lg2 of the guest's page when it is larger than this leaf; in a
 *           mirrored space, where leaves are merged, when it is larger than 4 KiB
 *   58      HELD: a sink refused to unmap this; no lookup uses it
 *   59      LOGGED: has the write right, withheld so that the dirty log sees a write
 *
 * Levels count from 0. The root word of a shadow is the top table's address
 * with the lowest bit of its index in the low bits, so that a reader gets both
 * in one load.
 */
#ifndef SN_SHADOW_ENTRY_H
#define SN_SHADOW_ENTRY_H

#include <snest/types.h>
#include <stdint.h>

#define SN_SH_RIGHTS 0x7ull
#define SN_SH_PS 0x80ull
#define SN_SH_START 0x400ull
#define SN_SH_ADDR 0x000ffffffffff000ull
#define SN_SH_ORIGIN_SHIFT 52
#define SN_SH_ORIGIN (0x3full << SN_SH_ORIGIN_SHIFT)
#define SN_SH_HELD (1ull << 58)
#define SN_SH_LOGGED (1ull << 59)

/*
 * What a table entry carries beside the address, and nothing else (lookup.c takes
 * it off by subtraction): every right, so that leaves alone decide.
 */
#define SN_SH_TABLE SN_SH_RIGHTS

#define SN_SH_SHIFT0 12u
#define SN_SH_BITS 9u
#define SN_SH_SLOTS 512u
#define SN_SH_SHIFT_MAX 57u /* index bit of the highest level: all 64 bits are covered */
#define SN_SH_LEAF_MAX 39u  /* largest leaf, lg2 */

#define SN_SH_ROOT_SHIFT 0xfffull

static inline uint64_t *sn_sh_table(uint64_t entry)
{
	return (uint64_t *)(uintptr_t)(entry & SN_SH_ADDR);
}

static inline unsigned sn_sh_index(uint64_t iova, unsigned shift)
{
	return (unsigned)(iova >> shift) & (SN_SH_SLOTS - 1);
}

/* At index bit `shift`: points to a lower table? (Else a leaf, or nothing.) */
static inline bool sn_sh_is_table(uint64_t entry, unsigned shift)
{
	return shift != SN_SH_SHIFT0 && (entry & (SN_SH_PS | SNEST_READ)) == SNEST_READ &&
	       (entry & SN_SH_RIGHTS) == SN_SH_TABLE;
}

static inline unsigned sn_sh_origin(uint64_t entry)
{
	return (unsigned)((entry & SN_SH_ORIGIN) >> SN_SH_ORIGIN_SHIFT);
}

/* The rights of a leaf, what the dirty log withholds included. */
static inline uint64_t sn_sh_rights(uint64_t entry)
{
	return (entry & SN_SH_RIGHTS) | (entry & SN_SH_LOGGED ? SNEST_WRITE : 0);
}

static inline uint64_t sn_sh_load(const uint64_t *slot)
{
	return __atomic_load_n(slot, __ATOMIC_ACQUIRE);
}

/* Pairs with sn_sh_load: what the entry leads to is complete before it can be reached. */
static inline void sn_sh_store(uint64_t *slot, uint64_t entry)
{
	__atomic_store_n(slot, entry, __ATOMIC_RELEASE);
}

#endif
