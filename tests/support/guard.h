/* SPDX-License-Identifier: MIT */
/*
 * The embedder of a guest (guest.h) whose spaces are tracked: it sees writes to
 * the pages that snest asked it to protect, and to no others, by keeping a copy
 * of each. And what a sink (sink.h) should hold: what a fresh walk finds. For
 * tests only; failures end the test.
 */
#ifndef SN_TESTS_GUARD_H
#define SN_TESTS_GUARD_H

#include <snest/track.h>
#include "support/guest.h"
#include "support/sink.h"

#define GUARD_PAGES ((1u << GUEST_TABLES_LG2) >> 12)

struct guard {
	struct snest_tracker tracker;
	struct guest *guest;
	bool on[GUARD_PAGES];
	unsigned count; /* pages that are protected */
	uint64_t protects, unprotects;
	uint64_t fail_in;             /* the n-th protect from now fails; 0: none */
	bool deaf;                    /* notices are lost */
	char copy[GUARD_PAGES][4096]; /* as it was when it was protected or last noticed */
};

/* Turns tracking on in the guest's VM. */
void guard_init(struct guard *guard, struct guest *guest);
/* Turns it off; everything has to be unprotected by then. */
void guard_fini(struct guard *guard);

/* Tells of all writes since the last time. What snest returned first, if not 0. */
int guard_notices(struct guard *guard);

/* Does the sink hold what a walk finds? */
bool guard_equal(const struct guest *guest, const struct sink *sink);
/* Is everything in the sink true? Something may be missing. */
bool guard_nothing_stale(const struct guest *guest, const struct sink *sink);
/* The same as guard_equal; fails with a message. */
void guard_check(const struct guest *guest, const struct sink *sink, const char *what);

#endif
