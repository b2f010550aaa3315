/* SPDX-License-Identifier: MIT */
/* Sync in step with x86-64 tables, their lower half; see sync_impl.h. */
#include "shadow/sync.h"
#include "walkers/fmt_x86_64.h"

#define FMT x86_64
#define x86_64_MUST (X86_P | X86_US)
#include "shadow/sync_impl.h"

/* Mirrors serve requests without privilege. */
static inline uint64_t x86_64_expect(const struct step *x, unsigned grant, uint64_t raw)
{
	uint64_t addr = raw & X86_ADDR;
	bool good = ((raw & (X86_P | X86_US)) == (X86_P | X86_US)) &
	            ((grant & SN_GRANT_USER) != 0) & !(raw & x->pt->reserved_leaf) &
	            (addr - x->hot_first < x->hot_size);
	uint64_t rights = SNEST_READ | (raw & grant & X86_RW ? SNEST_WRITE : 0);

	return good ? (addr + x->hot_host) | rights : 0;
}

static inline uint64_t x86_64_keep(unsigned grant)
{
	return grant & X86_RW;
}

static inline uint64_t x86_64_always(unsigned grant)
{
	return SNEST_READ | (grant & SN_GRANT_USER ? 0 : SN_SH_HELD);
}

static inline uint64_t x86_64_reach(const struct sn_pt *pt)
{
	return sn_mask(pt->ia_bits[0] - 1u);
}
