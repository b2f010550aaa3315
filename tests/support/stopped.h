/* SPDX-License-Identifier: MIT */
/*
 * A VM whose tables lie behind accessors, so that a test can stop a walk between
 * two reads, let another thread do what it likes, and go on. For tests only;
 * include after cmocka.h.
 */
#ifndef SN_TESTS_STOPPED_H
#define SN_TESTS_STOPPED_H

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "support/guest.h"

#define RW (SNEST_READ | SNEST_WRITE)
#define TABLES (4ull << 20)
#define DATA 0x10000000ull /* GPA of 16 MiB of data */
#define DATA_BYTES 0x1000000ull
#define HOST 0x7000000000ull
#define ALL UINT64_MAX
#define SPACES 3u

struct stopped {
	struct snest_vm *vm;
	struct snest_table *table;
	struct snest_stage stage;
	char *ram;
	uint64_t cut;
	struct snest_space *space[SPACES];
	unsigned reads_left; /* of the accessor, until it calls `action` */
	void (*action)(struct stopped *w);
	struct snest_drain drain;
	int done;
	unsigned char junk; /* what a table that is freed becomes, at once */
};

/* ---- Tables behind accessors ------------------------------------------------- */

static inline void *action_main(void *arg)
{
	struct stopped *w = arg;

	snest_thread_register();
	w->action(w);
	snest_thread_unregister();
	return NULL;
}

/* The value that is returned was read before the action. */
static inline int table_read(void *opaque, uint64_t gpa, void *buf, size_t length)
{
	struct stopped *w = opaque;
	pthread_t thread;

	memcpy(buf, w->ram + gpa, length);
	if (w->reads_left && --w->reads_left == 0) {
		pthread_create(&thread, NULL, action_main, w);
		pthread_join(thread, NULL);
	}
	return 0;
}

static inline int table_cmpxchg(void *opaque, uint64_t gpa, uint64_t *expected, uint64_t desired)
{
	struct stopped *w = opaque;
	uint64_t *word = (uint64_t *)(void *)(w->ram + gpa);

	if (*word != *expected) {
		*expected = *word;
		return -EAGAIN;
	}
	*word = desired;
	return 0;
}

static inline void *page_alloc(void *opaque, unsigned lg2)
{
	struct stopped *w = opaque;
	void *page = w->ram + w->cut;

	assert_int_equal(lg2, 12);
	w->cut += 4096;
	assert_true(w->cut <= TABLES);
	memset(page, 0, 4096);
	return page;
}

/* At once data of somebody else. */
static inline void page_free(void *opaque, void *page, unsigned lg2)
{
	struct stopped *w = opaque;

	(void)lg2;
	memset(page, w->junk, 4096);
}

static inline struct snest_region data_region(uint64_t first, uint64_t bytes, uint64_t host)
{
	return (struct snest_region){.size = sizeof(struct snest_region),
	                             .first = first,
	                             .last = first + bytes - 1,
	                             .host = host};
}

static inline struct stopped *begin(const char *config)
{
	struct stopped *w = calloc(1, sizeof(*w));
	struct snest_accessors accessors = {
		.read = table_read, .cmpxchg64 = table_cmpxchg, .opaque = w};
	struct snest_region tables = {.size = sizeof(tables),
	                              .last = TABLES - 1,
	                              .host = 0x1000,
	                              .accessors = &accessors};
	struct snest_region data = data_region(DATA, DATA_BYTES, HOST);
	struct snest_table_memory memory = {
		.size = sizeof(memory), .alloc = page_alloc, .free = page_free, .opaque = w};
	struct snest_space_config sc = {.size = sizeof(sc), .count = 1};

	w->ram = aligned_alloc(4096, TABLES);
	w->cut = 4096;
	memory.delta = 0 - (uint64_t)(uintptr_t)w->ram;
	w->junk = 0xa7;
	assert_int_equal(snest_vm_create(NULL, &w->vm), 0);
	assert_int_equal(snest_memory_add(w->vm, &tables), 0);
	assert_int_equal(snest_memory_add(w->vm, &data), 0);
	assert_int_equal(
		snest_table_create(w->vm, &guest_config(config)->stage, &memory, &w->table), 0);
	w->stage = *snest_table_stage(w->table);
	sc.stages = &w->stage;
	for (unsigned i = 0; i < SPACES; i++) {
		sc.tag.domain = i;
		assert_int_equal(snest_space_get(w->vm, &sc, &w->space[i]), 0);
	}
	return w;
}

static inline void end(struct stopped *w)
{
	for (unsigned i = 0; i < SPACES; i++)
		snest_space_put(w->space[i]);
	snest_table_destroy(w->table);
	snest_vm_destroy(w->vm);
	free(w->ram);
	free(w);
}

static inline void map(struct stopped *w, uint64_t iova, uint64_t bytes, uint64_t gpa)
{
	assert_int_equal(snest_table_map(w->table, iova, iova + bytes - 1, gpa, RW, SNEST_ATTR_USER,
	                                 SNEST_TABLE_REPLACE),
	                 0);
}

static inline int look(struct snest_space *space, uint64_t iova, uint32_t access,
                       struct snest_translation *t)
{
	int ret;

	snest_read_begin();
	ret = snest_space_translate(space, iova, access, t, NULL);
	snest_read_end();
	return ret;
}

/* 0: a fault, 1: a GPA without memory. */
static inline uint64_t host_of(struct stopped *w, uint64_t iova)
{
	struct snest_translation t;

	if (look(w->space[0], iova, SNEST_READ, &t))
		return 0;
	return t.outcome == SNEST_WALK_HOST ? t.host : 1;
}

static inline uint64_t misses(struct stopped *w)
{
	struct snest_space_stats stats = {.size = sizeof(stats)};

	assert_int_equal(snest_space_stats(w->space[0], &stats), 0);
	return stats.misses;
}

static inline void count_done(void *opaque)
{
	__atomic_fetch_add((int *)opaque, 1, __ATOMIC_RELEASE);
}

#endif
