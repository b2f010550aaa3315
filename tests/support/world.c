/* SPDX-License-Identifier: MIT */
/* Memory with an identity, and a guest that remaps it. See world.h. */
#include "support/world.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <cmocka.h>
#include "support/guest.h"

/* ---- Memory --------------------------------------------------------------- */

static struct stamp *stamp_of(struct world *w, unsigned page)
{
	return (struct stamp *)(void *)(w->pool + page * PAGE);
}

void world_rights(char *page, size_t bytes, int prot)
{
	if (mprotect(page, bytes, prot))
		abort();
}

static void *table_alloc(void *opaque, unsigned lg2)
{
	struct world *w = opaque;
	char *page;

	assert_int_equal(lg2, 12);
	if (w->frees) {
		page = w->free[--w->frees];
		memset(page, 0, PAGE);
		return page;
	}
	page = w->tables + w->cut;
	w->cut += PAGE;
	assert_true(w->cut <= RAM_TABLES);
	return page;
}

static void table_free(void *opaque, void *page, unsigned lg2)
{
	struct world *w = opaque;

	(void)lg2;
	if (w->pendings < 64)
		w->pending[w->pendings++] = page;
}

/* After a drain: nobody walks them any more, and the guest puts data there. */
static void tables_drained(struct world *w)
{
	while (w->pendings && w->frees < 64) {
		void *page = w->pending[--w->pendings];

		memset(page, 0xff, PAGE);
		w->free[w->frees++] = page;
	}
}

/* A table in whose place a large page came: nobody may be in it when it is cleared. */
static void settle(void *opaque)
{
	struct world *w = opaque;

	if (!w->device)
		return;
	snest_tag_invalidate(w->vm, (struct snest_tag){3, SNEST_ANY_SPACE}, 0, UINT64_MAX, 0);
	snest_drain(w->vm, 0);
}

/* Aligned to 2 MiB. */
static char *big_memory(void)
{
	char *ptr = mmap(NULL, 3 * BIG_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
	                 -1, 0);
	size_t skip = -(uintptr_t)ptr & (BIG_BYTES - 1);

	assert_true(ptr != MAP_FAILED);
	if (skip)
		munmap(ptr, skip);
	munmap(ptr + skip + 2 * BIG_BYTES, BIG_BYTES - skip);
	return ptr + skip;
}

static void *memory(size_t bytes)
{
	void *ptr = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(ptr != MAP_FAILED);
	return ptr;
}

struct snest_region world_region(uint64_t gpa, void *ptr, size_t bytes)
{
	return (struct snest_region){.size = sizeof(struct snest_region),
	                             .first = gpa,
	                             .last = gpa + bytes - 1,
	                             .host = (uintptr_t)ptr,
	                             .mapping = ptr};
}

/* ---- Begin and end ----------------------------------------------------------- */

static void make_tables(struct world *w, const char *const names[2])
{
	struct snest_table_memory tables = {
		.size = sizeof(tables),
		.alloc = table_alloc,
		.free = table_free,
		.opaque = w,
		.delta = -(uint64_t)(uintptr_t)w->tables,
		.settle = settle,
	};

	for (w->stages = 0; w->stages < 2 && names[w->stages]; w->stages++) {
		struct snest_stage shape = guest_config(names[w->stages])->stage;

		assert_int_equal(snest_table_create(w->vm, &shape, &tables, &w->table[w->stages]),
		                 0);
		w->list[w->stages] = *snest_table_stage(w->table[w->stages]);
	}
	/* A second stage maps everything to itself. */
	if (w->stages == 2)
		assert_int_equal(snest_table_map(w->table[1], 0, 0x3fffffff, 0,
		                                 SNEST_READ | SNEST_WRITE, SNEST_ATTR_USER, 0),
		                 0);
}

void world_init(struct world *w, const char *const names[2])
{
	struct snest_space_config config = {.size = sizeof(config), .tag = {3, 0}};
	struct snest_memory_op op[4] = {{.kind = SNEST_MEMORY_ADD},
	                                {.kind = SNEST_MEMORY_ADD},
	                                {.kind = SNEST_MEMORY_ADD},
	                                {.kind = SNEST_MEMORY_ADD}};

	memset(w, 0, sizeof(*w));
	w->tables = memory(RAM_TABLES);
	w->cut = PAGE;
	w->pool = memory(POOL * PAGE);
	w->plug = memory(PLUG * PAGE);
	w->big = big_memory();
	op[0].region = world_region(0, w->tables, RAM_TABLES);
	op[1].region = world_region(GPA_POOL, w->pool, POOL * PAGE);
	op[2].region = world_region(GPA_PLUG, w->plug, PLUG * PAGE);
	op[3].region = world_region(GPA_BIG, w->big, 2 * BIG_BYTES);
	assert_int_equal(snest_vm_create(NULL, &w->vm), 0);
	assert_int_equal(snest_memory_update(w->vm, op, 4, NULL, NULL, NULL), 0);
	make_tables(w, names);
	assert_int_equal(snest_table_map(w->table[0], PLUG_BASE, PLUG_BASE + PLUG * PAGE - 1,
	                                 GPA_PLUG, SNEST_READ | SNEST_WRITE, SNEST_ATTR_USER,
	                                 SNEST_TABLE_PAGE(12)),
	                 0);
	for (unsigned i = 0; i < POOL; i++)
		w->spare[w->spares++] = i;
	config.stages = w->list;
	config.count = w->stages;
	assert_int_equal(snest_space_get(w->vm, &config, &w->space), 0);
	config.flags = SNEST_SPACE_ANNOUNCED;
	assert_int_equal(snest_space_get(w->vm, &config, &w->mirrored), 0);
	sink_init(&w->sink, SNEST_SINK_CAN_SPLIT);
	assert_int_equal(snest_space_mirror(w->mirrored, &w->sink.sink), 0);
	assert_int_equal(snest_device_create(w->vm, 1, NULL, NULL, &w->device), 0);
	assert_int_equal(snest_device_bind(w->device, SNEST_NO_PASID, w->space), 0);
	assert_int_equal(snest_device_create(w->vm, 2, NULL, NULL, &w->pasids), 0);
}

void world_fini(struct world *w)
{
	snest_space_put(w->space);
	snest_space_put(w->mirrored);
	assert_int_equal(w->sink.count, 0);
	for (unsigned k = 0; k < w->stages; k++)
		snest_table_destroy(w->table[k]);
	snest_vm_destroy(w->vm);
	munmap(w->tables, RAM_TABLES);
	munmap(w->pool, POOL * PAGE);
	munmap(w->plug, PLUG * PAGE);
	munmap(w->big, 2 * BIG_BYTES);
}

bool world_stopped(struct world *w)
{
	snest_thread_quiescent();
	return __atomic_load_n(&w->stop, __ATOMIC_ACQUIRE);
}

void world_wrong(struct world *w, const char *what, uint64_t iova, uint64_t a, uint64_t b)
{
	fprintf(stderr, "%s: IOVA 0x%llx, %llu, %llu\n", what, (unsigned long long)iova,
	        (unsigned long long)a, (unsigned long long)b);
	__atomic_store_n(&w->wrong, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&w->stop, 1, __ATOMIC_RELEASE);
}

void world_pause(long ns)
{
	struct timespec t = {0, ns};

	snest_thread_offline();
	nanosleep(&t, NULL);
	snest_thread_online();
}

/* ---- The guest -------------------------------------------------------------------- */

static void change_page(struct world *w, struct test_random *random, unsigned p)
{
	uint64_t iova = BASE + p * PAGE, version = w->now[p] / 2 + 1;
	bool present = w->spares && test_below(random, 8);
	unsigned old = w->at[p];
	bool was = w->now[p] & 1;

	if (present) {
		w->at[p] = w->spare[--w->spares];
		*stamp_of(w, w->at[p]) = (struct stamp){p, version};
	}
	/* Release: whoever finds the new version in the tables has seen this too. */
	__atomic_store_n(&w->now[p], version * 2 + present, __ATOMIC_RELEASE);
	if (present)
		assert_int_equal(snest_table_map(w->table[0], iova, iova + PAGE - 1,
		                                 GPA_POOL + w->at[p] * PAGE,
		                                 SNEST_READ | SNEST_WRITE, SNEST_ATTR_USER,
		                                 SNEST_TABLE_REPLACE | SNEST_TABLE_PAGE(12)),
		                 0);
	else
		assert_int_equal(snest_table_unmap(w->table[0], iova, iova + PAGE - 1, 0, NULL), 0);
	if (was)
		w->quarantine[w->quarantined++] = old;
}

static int invalidate(struct world *w, struct test_random *random, unsigned p, unsigned n)
{
	uint64_t first = BASE + p * PAGE, last = first + n * PAGE - 1;
	struct snest_tag tag = {3, SNEST_ANY_SPACE};

	__atomic_fetch_add(&w->invalidations, 1, __ATOMIC_RELAXED);
	switch (test_below(random, 8)) {
	case 0:
		return snest_tag_invalidate(w->vm, tag, 1, 0, 0);
	case 1:
		return snest_vm_invalidate(w->vm, 0, UINT64_MAX, 0);
	case 2:
		return snest_tag_invalidate(w->vm, tag, first & ~0x1fffffull, last | 0x1fffff, 0);
	default:
		return snest_tag_invalidate(w->vm, tag, first, last, 0);
	}
}

/*
 * The area goes to its other half, as one page or as many. A large page that
 * goes is named by one byte of it; small ones all have to be named.
 */
static void change_big(struct world *w, struct test_random *random)
{
	uint64_t version = w->big_now / 2 + 1, first = BIG_BASE, last = BIG_BASE + BIG_BYTES - 1;
	char *half = w->big + (version & 1) * BIG_BYTES;
	bool large = test_below(random, 2);

	world_rights(half, BIG_BYTES, PROT_READ | PROT_WRITE);
	for (uint64_t i = 0; i < BIG_BYTES / PAGE; i++)
		*(struct stamp *)(void *)(half + i * PAGE) = (struct stamp){PAGES + i, version};
	__atomic_store_n(&w->big_now, version * 2 + 1, __ATOMIC_RELEASE);
	assert_int_equal(snest_table_map(w->table[0], first, last,
	                                 GPA_BIG + (version & 1) * BIG_BYTES,
	                                 SNEST_READ | SNEST_WRITE, SNEST_ATTR_USER,
	                                 SNEST_TABLE_REPLACE | SNEST_TABLE_PAGE(large ? 21 : 12)),
	                 0);
	if (w->big_large)
		first = last = first + test_below(random, BIG_BYTES);
	w->big_large = large;
	if (snest_tag_invalidate(w->vm, (struct snest_tag){3, SNEST_ANY_SPACE}, first, last, 0))
		world_wrong(w, "the sink failed", first, 0, 0);
	__atomic_store_n(&w->big_fresh, w->big_now, __ATOMIC_RELEASE);
}

/* Takes the rights from what was unmapped, gives some of it back to the spares. */
static void drained(struct world *w, unsigned from)
{
	unsigned keep = w->quarantined < QUARANTINE ? w->quarantined : QUARANTINE;
	unsigned back = w->quarantined - keep;

	tables_drained(w);
	for (unsigned i = from; i < w->quarantined; i++)
		world_rights(w->pool + w->quarantine[i] * PAGE, PAGE, PROT_NONE);
	for (unsigned i = 0; i < back; i++) {
		world_rights(w->pool + w->quarantine[i] * PAGE, PAGE, PROT_READ | PROT_WRITE);
		w->spare[w->spares++] = w->quarantine[i];
	}
	memmove(w->quarantine, w->quarantine + back, keep * sizeof(w->quarantine[0]));
	w->quarantined = keep;
}

void *world_guest(void *arg)
{
	struct test_random random = {42 + test_seed()};
	struct world *w = arg;

	snest_thread_register();
	for (unsigned p = 0; p < PAGES; p++)
		change_page(w, &random, p);
	while (!world_stopped(w)) {
		bool big = test_below(&random, 4) == 0;
		unsigned from = w->quarantined;

		for (unsigned commands = 1 + (unsigned)test_below(&random, 16); commands;
		     commands--) {
			unsigned n = 1 + (unsigned)test_below(&random, 8);
			unsigned p = (unsigned)test_below(&random, PAGES - n + 1);

			for (unsigned i = p; i < p + n; i++)
				change_page(w, &random, i);
			if (invalidate(w, &random, p, n))
				world_wrong(w, "the sink failed", BASE + p * PAGE, 0, 0);
			for (unsigned i = p; i < p + n; i++)
				__atomic_store_n(&w->fresh[i], w->now[i], __ATOMIC_RELEASE);
		}
		if (big)
			change_big(w, &random);
		/* The guest's wait command. */
		assert_int_equal(snest_drain(w->vm, 0), 0);
		drained(w, from);
		if (big)
			world_rights(w->big + !(w->big_now / 2 & 1) * BIG_BYTES, BIG_BYTES,
			             PROT_NONE);
	}
	snest_thread_unregister();
	return NULL;
}
