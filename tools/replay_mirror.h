/* SPDX-License-Identifier: MIT */
/*
 * What a mirror holds, for replay_mirror.c, which is told by snest, and
 * replay_compare.c, which judges.
 */
#ifndef SN_TOOLS_REPLAY_MIRROR_H
#define SN_TOOLS_REPLAY_MIRROR_H

#include "tools/replay.h"

struct sn_mapping {
	uint64_t first, last, addr; /* IOVAs, host address */
	uint32_t rights;
};

/* A list of mappings, ascending and disjoint. */
struct sn_mappings {
	struct sn_mapping *map;
	size_t count, size;
};

int sn_mappings_insert(struct sn_mappings *list, size_t at, const struct sn_mapping *mapping);
/* Index of the first mapping that ends at or behind addr. */
size_t sn_mappings_find(const struct sn_mappings *list, uint64_t addr);

struct sn_range {
	uint64_t first, last;
};

/* Ranges in the order of arrival, until they are sorted. */
struct sn_ranges {
	struct sn_range *range;
	size_t count, size;
	bool all; /* too many: everything */
};

void sn_ranges_add(struct sn_ranges *ranges, uint64_t first, uint64_t last);
void sn_ranges_sort(struct sn_ranges *ranges);
/* Of sorted ranges: does one of them hold this address? *last: until where it is the same. */
bool sn_ranges_hold(const struct sn_ranges *ranges, uint64_t addr, uint64_t *last);
void sn_ranges_clear(struct sn_ranges *ranges);

struct sn_mirror {
	struct sn_replay *replay;
	uint32_t rid;
	int error; /* what went wrong in the sink since the last comparison, 0: nothing */
	struct sn_mappings sink;  /* what snest told to map */
	struct sn_mappings fresh; /* scratch: what the tables say */
	struct sn_ranges touched; /* operations since the last comparison */
	struct sn_ranges pending; /* changes that the guest has yet to announce */
};

struct sn_mirrors {
	unsigned count;
	uint64_t doorbells;      /* tail writes since the last comparison of everything */
	struct sn_ranges ranges; /* scratch */
	struct sn_mirror mirror[SN_MIRRORS_MAX];
};

#endif
