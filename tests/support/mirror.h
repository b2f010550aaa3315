/* SPDX-License-Identifier: MIT */
/*
 * A guest with one mirrored space and a sink, for tests that tell what the sink
 * is to hear. For tests only; include after cmocka.h.
 */
#ifndef SN_TESTS_MIRROR_H
#define SN_TESTS_MIRROR_H

#include <stdlib.h>
#include "support/guest.h"
#include "support/sink.h"

#define RW (SNEST_READ | SNEST_WRITE)
#define ALL UINT64_MAX
#define M2 0x200000ull

struct fixture {
	struct guest guest;
	struct snest_table *table;
	struct snest_space *space;
	struct sink sink;
};

static inline struct fixture *begin(const char *config, uint32_t flags, uint64_t skew)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct guest_options o = {.config = {guest_config(config)}, .host_skew = skew};

	guest_init(&f->guest, &o);
	f->table = f->guest.table[0].table;
	f->space = guest_space(&f->guest, (struct snest_tag){1, 0}, SNEST_SPACE_ANNOUNCED, 0);
	sink_init(&f->sink, flags);
	return f;
}

static inline void attach(struct fixture *f)
{
	assert_int_equal(snest_space_mirror(f->space, &f->sink.sink), 0);
}

static inline void end(struct fixture *f)
{
	snest_space_put(f->space);
	/* The last reference takes the sink along, and what it holds. */
	assert_int_equal(f->sink.count, 0);
	guest_fini(&f->guest);
	free(f);
}

static inline void map(struct fixture *f, uint64_t first, uint64_t bytes, uint64_t gpa,
                       uint32_t rights, unsigned lg2)
{
	assert_int_equal(snest_table_map(f->table, first, first + bytes - 1, gpa, rights,
	                                 SNEST_ATTR_USER,
	                                 SNEST_TABLE_REPLACE | SNEST_TABLE_PAGE(lg2)),
	                 0);
}

static inline void sync(struct fixture *f, uint64_t first, uint64_t bytes)
{
	sink_reset(&f->sink);
	assert_int_equal(snest_space_invalidate(f->space, first, first + bytes - 1, 0), 0);
}

static inline void sync_all(struct fixture *f)
{
	sink_reset(&f->sink);
	assert_int_equal(snest_space_invalidate(f->space, 0, ALL, 0), 0);
}

static inline int compare(void *opaque, const struct snest_run *run)
{
	struct fixture *f = opaque;

	if (run->outcome != SNEST_WALK_HOST || !(run->rights & RW))
		return 0;
	for (uint64_t at = run->first; at < run->last; at += 4096) {
		const struct sink_map *m = sink_find(&f->sink, at);

		assert_non_null(m);
		assert_true(m->host + (at - m->first) == run->addr + (at - run->first));
		assert_int_equal(m->rights, run->rights & RW);
		f->sink.failures += 4096; /* counts what is mapped */
	}
	return 0;
}

/* The sink is what a fresh walk of everything finds. */
static inline void expect_equal(struct fixture *f)
{
	struct snest_walk_range range = {.size = sizeof(range), .last = ALL};
	uint64_t failures = f->sink.failures;

	f->sink.failures = 0;
	assert_int_equal(snest_walk_range(f->guest.vm, f->guest.list, 1, &range, compare, f), 0);
	assert_true(f->sink.failures == sink_bytes(&f->sink));
	f->sink.failures = failures;
}

static const uint32_t kinds[] = {0, SNEST_SINK_CAN_SPLIT};
static const char *const configs[] = {"vtd-ss 3 levels", "amd-v1 mode 4"};

#endif
