/* SPDX-License-Identifier: MIT */
/*
 * One table under test, of any configuration, beside the model of what it
 * should map. What the configuration allows (inputs, leaf sizes, rights) is
 * found out from outside: with the walker, and by trying. For tests only.
 */
#ifndef SN_TESTS_SUBJECT_H
#define SN_TESTS_SUBJECT_H

#include "support/configs.h"
#include "support/tables.h"

#define SUBJECT_ANCHORS 6
#define SUBJECT_ATTR (SNEST_ATTR_ACCESSED | SNEST_ATTR_DIRTY | SNEST_ATTR_USER)

struct subject {
	const struct test_config *config;
	struct test_tables tt;
	struct snest_table *table;
	struct test_random random;
	struct test_model model;
	/* of the anchor at hand: the halves of a table may differ */
	uint64_t sizes, page;
	uint64_t out_bytes; /* addresses are below; 0: 2^64 */
	uint64_t empty_bytes;
	unsigned rights_count;
	uint32_t asked[7], granted[7]; /* rights that differ in effect */
	unsigned anchors;
	struct {
		uint64_t at;          /* ranges begin or end near it */
		uint64_t first, last; /* valid inputs around it */
		uint64_t sizes;       /* of leaves there */
	} anchor[SUBJECT_ANCHORS];
};

/* There is one subject at a time; it is large. The end checks that no page is lost. */
struct subject *subject_begin(const struct test_config *config);
void subject_end(struct subject *s);

/* Makes `sizes` and `page` those of an anchor. */
void subject_select(struct subject *s, unsigned i);

/* Walks without a request and without updates. */
void subject_look(struct subject *s, uint64_t in, struct snest_walk *w);

/* Compare with the model: one input; the ends of a range and some inside; everything. */
void subject_check_at(struct subject *s, uint64_t in);
void subject_check_around(struct subject *s, uint64_t first, uint64_t last);
void subject_check_all(struct subject *s);

/* lg2 of the largest leaf that may map `in` if first..last is mapped to addr.. at once. */
unsigned subject_largest(const struct subject *s, uint64_t first, uint64_t last, uint64_t addr,
                         uint64_t in);

/* Of all configurations, or the one named by the variable SNEST_TEST_CONFIG. */
void subject_for_each_config(void (*test)(const struct test_config *config));

#endif
