/* SPDX-License-Identifier: MIT */
/* What the benchmarks of invalidations share: sync.c, of mirrors; sync_drop.c, of other spaces. */
#ifndef BENCH_SYNC_H
#define BENCH_SYNC_H

#include "bench/families.h"
#include "bench/peers.h"

#define SYNC_BLOCK 256u

enum {
	ARG_LEAVES,
	ARG_SPAN,  /* leaves that one command names */
	ARG_SHAPE, /* enum shape */
	ARG_EXTRA,
};

enum shape {
	SCATTERED,
	SPARSE,
	CONTIGUOUS
};

struct sync {
	struct guest *guest;
	uint64_t span;
	uint64_t words;      /* entries in the lowest tables */
	uint64_t *stream[2]; /* flat copies of the guest's and the shadow's entries */
	struct pair {
		const uint64_t *guest, *shadow;
	} * pair; /* the lowest tables themselves */
	uint64_t pairs;
	struct peer *tree;
	struct snest_device **devices;
	uint64_t device_count;
};

/* The first leaf of a random command: aligned to its span, as commands are. */
static inline uint64_t pick(const struct sync *s, uint64_t *seed)
{
	return random_below(seed, s->guest->shape.leaves / s->span) * s->span;
}

static inline uint64_t first_of(const struct sync *s, uint64_t leaf)
{
	return guest_iova(s->guest, leaf);
}

static inline uint64_t last_of(const struct sync *s, uint64_t leaf)
{
	return guest_iova(s->guest, leaf + s->span - 1) + PAGE - 1;
}

static inline void command(const struct sync *s, uint64_t leaf)
{
	snest_space_invalidate(s->guest->space, first_of(s, leaf), last_of(s, leaf), 0);
}

void *sync_setup_unmirrored(const uint64_t *arg);
void sync_teardown(void *group);

/* The limit: the entries of the range in two flat tables, read and compared. */
void sync_run_compare(struct gb_run *run, void *group, uint64_t arg);
/* Commands at random. Nothing has changed, and no sink may be told so. */
void sync_run_unchanged(struct gb_run *run, void *group, uint64_t arg);

/* A group, named sync/NAME/LEAVES. */
void sync_add_group(struct gb_suite *suite, const char *name, const uint64_t arg[4],
                    void *(*own)(const uint64_t *), const struct gb_member *members,
                    unsigned count);
void sync_drop_add(struct gb_suite *suite);

#endif
