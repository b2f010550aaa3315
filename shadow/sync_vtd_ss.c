/* SPDX-License-Identifier: MIT */
/* Sync in step with VT-d second-stage tables; see sync_impl.h. */
#include "shadow/sync.h"
#include "walkers/fmt_vtd_ss.h"

#define FMT vtd_ss
#define vtd_ss_MUST 0ull
#include "shadow/sync_impl.h"

static inline uint64_t vtd_ss_expect(const struct step *x, unsigned grant, uint64_t raw)
{
	uint64_t rights = raw & grant & (VTD_SS_R | VTD_SS_W), addr = raw & VTD_SS_ADDR;
	bool good =
		(rights != 0) & !(raw & x->pt->reserved_leaf) & (addr - x->hot_first < x->hot_size);

	return good ? (addr + x->hot_host) | rights : 0;
}

static inline uint64_t vtd_ss_keep(unsigned grant)
{
	return grant & (VTD_SS_R | VTD_SS_W);
}

static inline uint64_t vtd_ss_always(unsigned grant)
{
	(void)grant;
	return 0;
}

static inline uint64_t vtd_ss_reach(const struct sn_pt *pt)
{
	return sn_mask(pt->ia_bits[0]);
}
