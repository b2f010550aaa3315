/* SPDX-License-Identifier: MIT */
/*
 * Fills that something overtakes, and changes of the memory map. Tables lie
 * behind accessors, so a test can stop a walk between two reads, let another
 * thread do what it likes, and go on: each race happens, every time.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "support/configs.h"
#include "support/guest.h"

#define RW (SNEST_READ | SNEST_WRITE)
#define TABLES (4ull << 20)
#define DATA 0x10000000ull /* GPA of 16 MiB of data */
#define DATA_BYTES 0x1000000ull
#define HOST 0x7000000000ull
#define ALL UINT64_MAX
#define SPACES 3u

struct world {
	struct snest_vm *vm;
	struct snest_table *table;
	struct snest_stage stage;
	char *ram;
	uint64_t cut;
	struct snest_space *space[SPACES];
	unsigned reads_left; /* of the accessor, until it calls `action` */
	void (*action)(struct world *w);
	int done;
};

/* ---- Tables behind accessors ------------------------------------------------- */

static void *action_main(void *arg)
{
	struct world *w = arg;

	snest_thread_register();
	w->action(w);
	snest_thread_unregister();
	return NULL;
}

/* The value that is returned was read before the action. */
static int table_read(void *opaque, uint64_t gpa, void *buf, size_t length)
{
	struct world *w = opaque;
	pthread_t thread;

	memcpy(buf, w->ram + gpa, length);
	if (w->reads_left && --w->reads_left == 0) {
		pthread_create(&thread, NULL, action_main, w);
		pthread_join(thread, NULL);
	}
	return 0;
}

static int table_cmpxchg(void *opaque, uint64_t gpa, uint64_t *expected, uint64_t desired)
{
	struct world *w = opaque;
	uint64_t *word = (uint64_t *)(void *)(w->ram + gpa);

	if (*word != *expected) {
		*expected = *word;
		return -EAGAIN;
	}
	*word = desired;
	return 0;
}

static void *page_alloc(void *opaque, unsigned lg2)
{
	struct world *w = opaque;
	void *page = w->ram + w->cut;

	assert_int_equal(lg2, 12);
	w->cut += 4096;
	assert_true(w->cut <= TABLES);
	memset(page, 0, 4096);
	return page;
}

/* At once data of somebody else. */
static void page_free(void *opaque, void *page, unsigned lg2)
{
	(void)opaque, (void)lg2;
	memset(page, 0xa7, 4096);
}

static struct snest_region data_region(uint64_t first, uint64_t bytes, uint64_t host)
{
	return (struct snest_region){.size = sizeof(struct snest_region),
	                             .first = first,
	                             .last = first + bytes - 1,
	                             .host = host};
}

static struct world *begin(const char *config)
{
	struct world *w = calloc(1, sizeof(*w));
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

static void end(struct world *w)
{
	for (unsigned i = 0; i < SPACES; i++)
		snest_space_put(w->space[i]);
	snest_table_destroy(w->table);
	snest_vm_destroy(w->vm);
	free(w->ram);
	free(w);
}

static void map(struct world *w, uint64_t iova, uint64_t bytes, uint64_t gpa)
{
	assert_int_equal(snest_table_map(w->table, iova, iova + bytes - 1, gpa, RW, SNEST_ATTR_USER,
	                                 SNEST_TABLE_REPLACE),
	                 0);
}

static int look(struct snest_space *space, uint64_t iova, uint32_t access,
                struct snest_translation *t)
{
	int ret;

	snest_read_begin();
	ret = snest_space_translate(space, iova, access, t, NULL);
	snest_read_end();
	return ret;
}

/* 0: a fault, 1: a GPA without memory. */
static uint64_t host_of(struct world *w, uint64_t iova)
{
	struct snest_translation t;

	if (look(w->space[0], iova, SNEST_READ, &t))
		return 0;
	return t.outcome == SNEST_WALK_HOST ? t.host : 1;
}

static uint64_t misses(struct world *w)
{
	struct snest_space_stats stats = {.size = sizeof(stats)};

	assert_int_equal(snest_space_stats(w->space[0], &stats), 0);
	return stats.misses;
}

static void count_done(void *opaque)
{
	__atomic_fetch_add((int *)opaque, 1, __ATOMIC_RELEASE);
}

/* ---- Fills and invalidations ---------------------------------------------------- */

static void remap_and_invalidate(struct world *w)
{
	map(w, 0x5000, 0x1000, DATA + 0x9000);
	snest_space_invalidate(w->space[0], 0x5000, 0x5fff, 0);
}

/* The walk reads entries of three levels; whichever is the last before the guest's command. */
static void test_hazard_1_invalidation_overtakes_a_fill(void **state)
{
	(void)state;
	for (unsigned level = 1; level <= 3; level++) {
		struct world *w = begin("vtd-ss 3 levels");
		uint64_t host;

		map(w, 0x5000, 0x1000, DATA + 0x1000);
		w->action = remap_and_invalidate;
		w->reads_left = level;
		/* It began before the command: old or new. */
		host = host_of(w, 0x5000);
		assert_int_equal(w->reads_left, 0);
		assert_true(host == HOST + 0x1000 || host == HOST + 0x9000);
		/* This one did not. */
		assert_true(host_of(w, 0x5000) == HOST + 0x9000);
		assert_true(host_of(w, 0x5000) == HOST + 0x9000);
		end(w);
	}
}

static void invalidate_all(struct world *w)
{
	map(w, 0x5000, 0x1000, DATA + 0x9000);
	snest_vm_invalidate(w->vm, 0, ALL, 0);
}

static void invalidate_many(struct world *w)
{
	map(w, 0x5000, 0x1000, DATA + 0x9000);
	snest_space_invalidate(w->space[0], 0x5000, 0x5fff, 0);
	/* More than the space keeps a record of. */
	for (uint64_t i = 0; i < 100; i++)
		snest_space_invalidate(w->space[0], i << 30, (i << 30) + 0xfff, 0);
}

static void test_hazard_1_other_invalidations(void **state)
{
	void (*const action[])(struct world *) = {invalidate_all, invalidate_many};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct world *w = begin("vtd-ss 3 levels");

		map(w, 0x5000, 0x1000, DATA + 0x1000);
		w->action = action[i];
		w->reads_left = 3;
		assert_true(host_of(w, 0x5000) == HOST + 0x1000);
		assert_true(host_of(w, 0x5000) == HOST + 0x9000);
		end(w);
	}
}

/* A superpage, of which a part that nobody is looking at is named. */
static void split_superpage(struct world *w)
{
	assert_int_equal(snest_table_unmap(w->table, 0x200000, 0x3fffff, 0, NULL), 0);
	snest_space_invalidate(w->space[0], 0x3ff000, 0x3fffff, 0);
}

static void test_hazard_1_part_of_a_superpage(void **state)
{
	struct world *w = begin("vtd-ss 3 levels");

	(void)state;
	map(w, 0x200000, 0x200000, DATA + 0x200000);
	w->action = split_superpage;
	w->reads_left = 2;
	assert_true(host_of(w, 0x200000) == HOST + 0x200000);
	assert_true(host_of(w, 0x200000) == 0);
	end(w);
}

static void invalidate_elsewhere(struct world *w)
{
	snest_space_invalidate(w->space[0], 0x6000, 0x6fff, 0);
	snest_space_invalidate(w->space[1], 0, ALL, 0);
}

/* What has nothing to do with the page does not cost the fill. */
static void test_unrelated_invalidation_spares_a_fill(void **state)
{
	struct world *w = begin("vtd-ss 3 levels");

	(void)state;
	map(w, 0x5000, 0x2000, DATA);
	w->action = invalidate_elsewhere;
	w->reads_left = 3;
	assert_true(host_of(w, 0x5000) == HOST);
	assert_int_equal(misses(w), 1);
	assert_true(host_of(w, 0x5000) == HOST);
	assert_int_equal(misses(w), 1);
	end(w);
}

/* The table that is being read is freed and becomes data: any bytes are taken, nothing is kept. */
static void free_the_table(struct world *w)
{
	assert_int_equal(snest_table_unmap(w->table, 0, 0x3fffffff, 0, NULL), 0);
	snest_space_invalidate(w->space[0], 0, ALL, 0);
}

static void test_hazard_3_table_becomes_data(void **state)
{
	static const char *const names[] = {"vtd-ss 3 levels", "x86-64 5 levels"};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		for (unsigned level = 1; level <= 5; level++) {
			struct world *w = begin(names[i]);
			struct snest_translation t;

			map(w, 0x5000, 0x1000, DATA);
			w->action = free_the_table;
			w->reads_left = level;
			/* Whatever this finds; and a write, which would set flags in the table. */
			look(w->space[0], 0x5000, i ? SNEST_WRITE : SNEST_READ, &t);
			if (!w->reads_left)
				assert_true(host_of(w, 0x5000) == 0);
			w->reads_left = 0;
			end(w);
		}
	}
}

/* The same entry comes back meanwhile, and leads elsewhere: equal values prove nothing. */
static void swap_memory(struct world *w)
{
	struct snest_region region = data_region(DATA, 0x1000, 0x123000);
	struct snest_memory_op op = {.kind = SNEST_MEMORY_REPLACE, .region = region};

	assert_int_equal(snest_table_unmap(w->table, 0x5000, 0x5fff, 0, NULL), 0);
	map(w, 0x5000, 0x1000, DATA);
	/* The reader's section is open: this may not wait for it. */
	assert_int_equal(snest_memory_update(w->vm, &op, 1, NULL, count_done, &w->done), 0);
}

static void test_hazard_4_the_same_entry_again(void **state)
{
	(void)state;
	for (unsigned level = 1; level <= 3; level++) {
		struct world *w = begin("vtd-ss 3 levels");
		uint64_t host;

		/* The other page keeps the table where it is. */
		map(w, 0x5000, 0x2000, DATA);
		w->action = swap_memory;
		w->reads_left = level;
		host = host_of(w, 0x5000);
		assert_true(host == HOST || host == 0x123000);
		assert_true(host_of(w, 0x5000) == 0x123000);
		end(w);
	}
}

/* ---- Changes of the memory map ----------------------------------------------------- */

static void take_memory_away(struct world *w)
{
	struct snest_memory_op op = {
		.kind = SNEST_MEMORY_REMOVE, .first = DATA, .last = DATA + 0xfff};

	assert_int_equal(snest_memory_update(w->vm, &op, 1, NULL, count_done, &w->done), 0);
}

static void test_hazard_8_memory_goes_during_a_fill(void **state)
{
	(void)state;
	for (unsigned level = 1; level <= 3; level++) {
		struct world *w = begin("vtd-ss 3 levels");

		map(w, 0x5000, 0x1000, DATA);
		w->action = take_memory_away;
		w->reads_left = level;
		snest_read_begin();
		host_of(w, 0x5000);
		/* Not before this reader has gone. */
		assert_int_equal(__atomic_load_n(&w->done, __ATOMIC_ACQUIRE), 0);
		snest_read_end();
		assert_true(host_of(w, 0x5000) == 1);
		assert_int_equal(snest_drain(w->vm, 0), 0);
		assert_int_equal(__atomic_load_n(&w->done, __ATOMIC_ACQUIRE), 1);
		end(w);
	}
}

struct hosts {
	uint64_t first, last;
	bool found, writable;
};

static int find_host(void *opaque, const struct snest_run *run)
{
	struct hosts *h = opaque;
	uint64_t last = run->addr + (run->last - run->first);

	if (run->addr <= h->last && last >= h->first) {
		h->found = true;
		h->writable |= run->rights & SNEST_WRITE;
	}
	return 0;
}

/* Whether any shadow leads to these host addresses. */
static struct hosts leads_to(struct world *w, uint64_t first, uint64_t last)
{
	struct hosts h = {first, last, false, false};

	for (unsigned i = 0; i < SPACES; i++)
		assert_int_equal(snest_space_enumerate(w->space[i], 0, ALL, find_host, &h), 0);
	return h;
}

static void fill_all(struct world *w, uint64_t first, uint64_t bytes)
{
	for (unsigned i = 0; i < SPACES; i++) {
		for (uint64_t at = first; at < first + bytes; at += 0x1000) {
			struct snest_translation t;

			assert_int_equal(look(w->space[i], at, SNEST_WRITE, &t), 0);
		}
	}
}

/* Before the change returns no space has a leaf of it left: large leaves, small ones, parts. */
static void test_hazard_18_removal_reaches_every_space(void **state)
{
	struct world *w = begin("vtd-ss 3 levels");
	struct snest_memory_op op = {.kind = SNEST_MEMORY_REMOVE};

	(void)state;
	map(w, 0x200000, 0x200000, DATA + 0x200000);
	map(w, 0x800000, 0x100000, DATA + 0x400000);
	map(w, 0x4000000000, 0x1000, DATA + 0x200000);
	fill_all(w, 0x200000, 0x200000);
	fill_all(w, 0x800000, 0x100000);
	fill_all(w, 0x4000000000, 0x1000);
	assert_true(leads_to(w, HOST + 0x200000, HOST + 0x3fffff).found);
	/* A part of the large page; the call does not wait. */
	op.first = DATA + 0x200000;
	op.last = DATA + 0x200fff;
	assert_int_equal(snest_memory_update(w->vm, &op, 1, NULL, count_done, &w->done), 0);
	assert_false(leads_to(w, HOST + 0x200000, HOST + 0x200fff).found);
	assert_true(host_of(w, 0x200000) == 1);
	assert_true(host_of(w, 0x201000) == HOST + 0x201000);
	assert_true(leads_to(w, HOST + 0x400000, HOST + 0x4fffff).found);
	assert_int_equal(snest_memory_remove(w->vm, DATA + 0x4ff000, DATA + 0x4fffff), 0);
	assert_false(leads_to(w, HOST + 0x4ff000, HOST + 0x4fffff).found);
	assert_true(leads_to(w, HOST + 0x400000, HOST + 0x4fefff).found);
	assert_true(host_of(w, 0x8ff000) == 1);
	assert_true(host_of(w, 0x8fe000) == HOST + 0x4fe000);
	end(w);
}

static void test_protection(void **state)
{
	struct world *w = begin("vtd-ss 3 levels");
	struct snest_translation t;

	(void)state;
	map(w, 0x200000, 0x200000, DATA + 0x200000);
	fill_all(w, 0x200000, 0x1000);
	assert_int_equal(snest_memory_protect(w->vm, DATA + 0x300000, DATA + 0x300fff,
	                                      SNEST_REGION_READONLY),
	                 0);
	assert_false(leads_to(w, HOST + 0x300000, HOST + 0x300fff).writable);
	assert_int_equal(look(w->space[0], 0x300000, SNEST_WRITE, &t), -EACCES);
	assert_int_equal(look(w->space[0], 0x300000, SNEST_READ, &t), 0);
	assert_false(t.rights & SNEST_WRITE);
	assert_int_equal(look(w->space[0], 0x301000, SNEST_WRITE, &t), 0);
	assert_int_equal(look(w->space[0], 0x2ff000, SNEST_WRITE, &t), 0);
	/* More rights need no invalidation. */
	assert_int_equal(snest_memory_protect(w->vm, DATA + 0x300000, DATA + 0x300fff, 0), 0);
	assert_int_equal(look(w->space[0], 0x300000, SNEST_WRITE, &t), 0);
	end(w);
}

/* Two regions change places in one change: nobody sees one of them twice. */
static void test_memory_that_changes_places(void **state)
{
	struct world *w = begin("vtd-ss 3 levels");
	struct snest_memory_op op[2] = {{.kind = SNEST_MEMORY_REPLACE},
	                                {.kind = SNEST_MEMORY_REPLACE}};

	(void)state;
	map(w, 0x1000, 0x2000, DATA);
	for (unsigned i = 0; i < 20; i++) {
		bool swapped = i & 1;

		fill_all(w, 0x1000, 0x2000);
		assert_true(host_of(w, 0x1000) == HOST + (swapped ? 0x1000 : 0));
		assert_true(host_of(w, 0x2000) == HOST + (swapped ? 0 : 0x1000));
		op[0].region = data_region(DATA, 0x1000, HOST + (swapped ? 0 : 0x1000));
		op[1].region = data_region(DATA + 0x1000, 0x1000, HOST + (swapped ? 0x1000 : 0));
		assert_int_equal(snest_memory_update(w->vm, op, 2, NULL, NULL, NULL), 0);
	}
	end(w);
}

/* Gone and back at the same host address: other memory as far as anybody knows. */
static void test_memory_that_comes_back(void **state)
{
	struct world *w = begin("vtd-ss 3 levels");
	struct snest_region region = data_region(DATA, 0x1000, HOST);

	(void)state;
	map(w, 0x1000, 0x2000, DATA);
	for (unsigned i = 0; i < 5; i++) {
		fill_all(w, 0x1000, 0x2000);
		assert_int_equal(snest_memory_remove(w->vm, DATA, DATA + 0xfff), 0);
		assert_false(leads_to(w, HOST, HOST + 0xfff).found);
		assert_true(host_of(w, 0x1000) == 1);
		assert_true(host_of(w, 0x2000) == HOST + 0x1000);
		assert_int_equal(snest_memory_add(w->vm, &region), 0);
		assert_true(host_of(w, 0x1000) == HOST);
	}
	end(w);
}

/* The tables' own memory goes: what is not remembered faults, cleanly. */
static void test_tables_lose_their_memory(void **state)
{
	struct world *w = begin("vtd-ss 3 levels");

	(void)state;
	map(w, 0x1000, 0x2000, DATA);
	assert_true(host_of(w, 0x1000) == HOST);
	assert_int_equal(snest_memory_remove(w->vm, 0, TABLES - 1), 0);
	assert_true(host_of(w, 0x2000) == 0);
	assert_int_equal(snest_vm_invalidate(w->vm, 0, ALL, 0), 0);
	assert_true(host_of(w, 0x1000) == 0);
	end(w);
}

/* ---- Pins ------------------------------------------------------------------------------ */

struct pinned {
	struct world *w;
	struct snest_pin pin;
	int go;
};

static void *hold(void *arg)
{
	struct pinned *p = arg;

	usleep(30000);
	__atomic_store_n(&p->go, 1, __ATOMIC_RELEASE);
	snest_unpin(&p->pin);
	return NULL;
}

static void pin_page(struct pinned *p, struct snest_device *device)
{
	p->go = 0;
	assert_int_equal(snest_pin(device, SNEST_NO_PASID, 0x1000, 1, SNEST_WRITE, &p->pin, NULL),
	                 0);
}

/* A removal waits for the pins that existed, blocking or not. */
static void test_removal_waits_for_pins(void **state)
{
	struct world *w = begin("vtd-ss 3 levels");
	struct snest_memory_op op = {
		.kind = SNEST_MEMORY_REMOVE, .first = DATA + 0x1000, .last = DATA + 0x1fff};
	struct pinned p = {.w = w};
	struct snest_device *device;
	pthread_t thread;

	(void)state;
	map(w, 0x1000, 0x2000, DATA);
	assert_int_equal(snest_device_create(w->vm, 1, NULL, NULL, &device), 0);
	assert_int_equal(snest_device_bind(device, SNEST_NO_PASID, w->space[0]), 0);
	pin_page(&p, device);
	pthread_create(&thread, NULL, hold, &p);
	assert_int_equal(snest_memory_remove(w->vm, DATA, DATA + 0xfff), 0);
	assert_int_equal(__atomic_load_n(&p.go, __ATOMIC_ACQUIRE), 1);
	pthread_join(thread, NULL);

	map(w, 0x1000, 0x2000, DATA + 0x1000);
	assert_int_equal(snest_space_invalidate(w->space[0], 0, ALL, 0), 0);
	pin_page(&p, device);
	assert_int_equal(snest_memory_update(w->vm, &op, 1, NULL, count_done, &w->done), 0);
	snest_thread_offline();
	usleep(20000);
	snest_thread_online();
	assert_int_equal(__atomic_load_n(&w->done, __ATOMIC_ACQUIRE), 0);
	/* Lookups see the change at once. */
	assert_true(host_of(w, 0x1000) == 1);
	snest_unpin(&p.pin);
	assert_int_equal(snest_drain(w->vm, 0), 0);
	assert_int_equal(__atomic_load_n(&w->done, __ATOMIC_ACQUIRE), 1);
	snest_device_destroy(device);
	end(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hazard_1_invalidation_overtakes_a_fill),
		cmocka_unit_test(test_hazard_1_other_invalidations),
		cmocka_unit_test(test_hazard_1_part_of_a_superpage),
		cmocka_unit_test(test_unrelated_invalidation_spares_a_fill),
		cmocka_unit_test(test_hazard_3_table_becomes_data),
		cmocka_unit_test(test_hazard_4_the_same_entry_again),
		cmocka_unit_test(test_hazard_8_memory_goes_during_a_fill),
		cmocka_unit_test(test_hazard_18_removal_reaches_every_space),
		cmocka_unit_test(test_protection),
		cmocka_unit_test(test_memory_that_changes_places),
		cmocka_unit_test(test_memory_that_comes_back),
		cmocka_unit_test(test_tables_lose_their_memory),
		cmocka_unit_test(test_removal_waits_for_pins),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
