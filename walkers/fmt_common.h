/* SPDX-License-Identifier: MIT */
/*
 * What several formats do alike. A format takes a function from here by its own
 * name: #define vtd_ss_shift sn_shift_512.
 */
#ifndef SN_WALKERS_FMT_COMMON_H
#define SN_WALKERS_FMT_COMMON_H

#include "walkers/pt.h"

/* Tables of 512 entries: each level translates 9 bits. The root may be smaller. */
static inline unsigned sn_shift_512(const struct sn_pt *pt, unsigned half, unsigned level)
{
	(void)pt;
	(void)half;
	return 12 + 9 * level;
}

static inline unsigned sn_index_bits_512(const struct sn_pt *pt, unsigned half, unsigned level)
{
	(void)pt;
	(void)half;
	(void)level;
	return 9;
}

/* Entries that grant reading and writing: what can be read can be executed. */
static inline unsigned sn_deny_rw(const struct sn_pt *pt, unsigned grant, uint32_t access)
{
	(void)pt;
	if ((access & (SNEST_READ | SNEST_EXEC)) && !(grant & SN_GRANT_READ))
		return SNEST_FAULT_READ;
	if ((access & SNEST_WRITE) && !(grant & SN_GRANT_WRITE))
		return SNEST_FAULT_WRITE;
	return 0;
}

static inline uint32_t sn_rights_rw(const struct sn_pt *pt, unsigned grant, uint32_t access)
{
	(void)pt;
	(void)access;
	return (grant & SN_GRANT_READ ? SNEST_READ | SNEST_EXEC : 0) |
	       (grant & SN_GRANT_WRITE ? SNEST_WRITE : 0);
}

/* All rights are checked before reserved bits. */
static inline unsigned sn_deny_late_none(const struct sn_pt *pt, unsigned grant, uint32_t access,
                                         bool leaf)
{
	(void)pt;
	(void)grant;
	(void)access;
	(void)leaf;
	return 0;
}

/* Flags are set, or the tables have none. */
static inline unsigned sn_touch_mode_update(const struct sn_pt *pt)
{
	return pt->flags & SNEST_STAGE_HW_A ? SN_TOUCH_UPDATE : SN_TOUCH_NONE;
}

#endif
