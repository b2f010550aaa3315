/* SPDX-License-Identifier: MIT */
/*
 * What the manuals say about each format, as tables and lists, for tests to
 * hold the format headers against. Written from the manuals' figures, with
 * their numbers, and sharing nothing with the library. For tests only.
 */
#ifndef FACTS_H
#define FACTS_H

#include <snest/stage.h>

/* Number of levels of a half of a stage that snest_stage_check accepts. */
unsigned fact_levels(const struct snest_stage *stage, unsigned half);

/* Sizes that a leaf at `level` (from 0) may have: bit n for 2^n bytes. */
uint64_t fact_leaf_sizes(const struct snest_stage *stage, unsigned half, unsigned level);

/* Bits that are reserved, one by one, in a leaf of its level's own size, or in a table entry. */
uint64_t fact_reserved(const struct snest_stage *stage, unsigned level, bool leaf);

/* Width of the input of a half, in bits; of the lower half for formats with one root. */
unsigned fact_input_bits(const struct snest_stage *stage, unsigned half);

/* Whether inputs are sign-extended. */
bool fact_signed(const struct snest_stage *stage);

/* Whether a leaf with these rights and attributes (SNEST_ATTR_*) cannot be said. */
bool fact_refuses(const struct snest_stage *stage, uint32_t rights, uint32_t attr);

/* What a leaf with these rights and attributes grants, by privilege. */
uint32_t fact_granted(const struct snest_stage *stage, uint32_t rights, uint32_t attr,
                      bool privileged);

/* Attributes that a leaf with these rights can hold. */
uint32_t fact_attr_kept(const struct snest_stage *stage, uint32_t rights);

/*
 * Whether the Arm manuals allow an input of `bits` bits with that granule when
 * the walk starts at the manual's level `start` (-1 to 3).
 */
bool fact_arm_start(bool stage2, unsigned granule_lg2, unsigned bits, int start, bool ds, bool lpa);

#endif
