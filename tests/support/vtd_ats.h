/* SPDX-License-Identifier: MIT */
/*
 * Translation requests to a guest of vtd_guest.h. For tests only; include after
 * cmocka.h.
 */
#ifndef VTD_ATS_H
#define VTD_ATS_H

#include "support/vtd_guest.h"

#define R SNEST_READ
#define W SNEST_WRITE
#define X SNEST_EXEC
#define P SNEST_PRIVILEGED
#define NO SNEST_NO_PASID
#define SUCCESS SNEST_VTD_COMPLETION_SUCCESS
#define UNSUPPORTED SNEST_VTD_COMPLETION_UNSUPPORTED
#define ABORT SNEST_VTD_COMPLETION_ABORT

static struct snest_vtd_ats_entry entries[64];
static size_t filled;

/* Asks, and says how it completed; what came is in `entries`. */
static inline enum snest_vtd_completion ask(struct vtd_guest *g, uint32_t pasid, uint64_t iova,
                                            uint32_t access, uint32_t pages)
{
	struct snest_vtd_ats_request r = {
		.rid = G_RID,
		.pasid = pasid,
		.access = access,
		.pages = pages,
		.iova = iova,
	};
	enum snest_vtd_completion completion;

	memset(entries, 0xa5, sizeof(entries));
	filled = sizeof(entries) / sizeof(entries[0]);
	assert_int_equal(snest_vtd_ats_request(g->vtd, &r, entries, &filled, &completion), 0);
	assert_true(completion == SUCCESS ? filled > 0 : filled == 0);
	return completion;
}

static inline void expect_entry(unsigned i, uint64_t first, uint64_t last, uint64_t gpa,
                                uint32_t rights, uint32_t flags)
{
	assert_true(i < filled);
	assert_int_equal(entries[i].first, first);
	assert_int_equal(entries[i].last, last);
	assert_int_equal(entries[i].gpa, gpa);
	assert_int_equal(entries[i].rights, rights);
	assert_int_equal(entries[i].flags, flags);
}

static inline void expect_nothing(uint64_t iova)
{
	assert_int_equal(filled, 1);
	expect_entry(0, iova & ~0xfffull, iova | 0xfff, 0, 0, 0);
}

static inline unsigned recorded(struct vtd_guest *g)
{
	uint64_t high = g_read(g, R_FRCD + 8, 8);

	return high >> 63 ? (unsigned)(high >> 32 & 0xff) : 0;
}

/* Legacy mode with TT = 1. */
static inline void ats_start(struct legacy *l)
{
	legacy_start(l, G_CAP_CM, G_ECAP_ATS);
	image_put(&l->g.image, g_context_at(&l->g, G_RID), l->root | 1 | 1 << 2);
	g_submit(&l->g, D_CC(1, 0, 0, 0), 0);
}

#endif
