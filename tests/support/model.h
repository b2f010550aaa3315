/* SPDX-License-Identifier: MIT */
/*
 * The model IOTLB: unbounded, plain arrays, and for each page the set of
 * answers that a lookup may give.
 *
 * The set of a page is what the guest's tables say now, and every translation
 * that they said since the page was last invalidated. Absence and missing
 * rights are never remembered, so a fault is legal only if the tables as they
 * are refuse. An invalidation of any part of a page of the guest takes all
 * that came from it (what a translation came from is known by the id of the
 * guest's leaf). The memory map is always the present one. For tests only;
 * failures end the test.
 */
#ifndef SN_TESTS_MODEL_H
#define SN_TESTS_MODEL_H

#include "support/guest.h"

struct model_set {
	struct guest_answer now;
	bool was_absent; /* at some time since the page was invalidated; for mirrors */
	struct guest_answer *old;
	unsigned count, room;
};

struct model {
	const struct guest *guest;
	size_t pages;             /* cells of stage 0 */
	struct model_set *set[2]; /* by privilege */
	const char *what;         /* printed with a failure */
};

void model_init(struct model *model, const struct guest *guest, const char *what);
void model_fini(struct model *model);

/* The guest's tables may have changed. */
void model_refresh(struct model *model);

/* An invalidation of first..last (wrapped: all) has returned. */
void model_invalidate(struct model *model, uint64_t first, uint64_t last);

/* One lookup and what it returned. */
void model_check(const struct model *model, uint64_t iova, uint32_t access, int ret,
                 const struct snest_translation *t);

/* Every leaf that the shadow holds is a legal answer. */
void model_check_shadow(const struct model *model, struct snest_space *space);

/*
 * May a mirror hold this for the page at iova (rights 0: nothing)? As for a
 * lookup, but what was absent may be absent until it is announced.
 */
bool model_allows_mirror(const struct model *model, uint64_t iova, uint64_t host, uint32_t rights);

#endif
