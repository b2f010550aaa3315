/* SPDX-License-Identifier: MIT */
/*
 * A sink for tests: keeps a plain copy of what it was told, as a list of maps,
 * and holds the engine to the rules of VFIO type 1. An overlapping map, an
 * unmap of something that is not mapped, or one that cuts a map (unless the
 * sink can split) ends the test. It can be made to refuse operations, or to be
 * full. For tests only.
 */
#ifndef SN_TESTS_SINK_H
#define SN_TESTS_SINK_H

#include <snest/space.h>

#define SINK_MAPS_MAX 65536
#define SINK_REFUSED_MAX 4096

struct sink_map {
	uint64_t first, last, host;
	uint32_t rights;
};

struct sink {
	struct snest_sink sink;
	unsigned head, count;
	struct sink_map map[SINK_MAPS_MAX]; /* `count` of them from `head` on, ascending */
	unsigned limit;                     /* maps it takes; 0: SINK_MAPS_MAX */
	uint64_t fail_in;                   /* the n-th operation from now fails; 0: none */
	uint64_t fail_every;                /* and then every n-th; 0: only that one */
	int fail_with;
	/* Since sink_reset. */
	uint64_t calls, maps, unmaps, failures, told;
	uint64_t unmapped_bytes;
	unsigned unmapped_count;
	struct sink_map unmapped[SINK_MAPS_MAX]; /* the first of them */
	/* Unmaps that it refused, while they are refused. */
	unsigned refused_count;
	struct sink_map refused[SINK_REFUSED_MAX];
};

void sink_init(struct sink *sink, uint32_t flags);
/* Forgets the counters and what was unmapped, not the maps. */
void sink_reset(struct sink *sink);
/* Copies the maps, for comparing later. */
void sink_copy(struct sink *to, const struct sink *from_sink);
/* The map that holds iova, or NULL. */
const struct sink_map *sink_find(const struct sink *sink, uint64_t iova);
uint64_t sink_bytes(const struct sink *sink);

#endif
