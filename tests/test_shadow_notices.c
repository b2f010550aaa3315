/* SPDX-License-Identifier: MIT */
/*
 * Write tracking with everybody at once: notices from several threads, sinks
 * attached and detached, spaces that come and go, the memory map changing
 * under the tables, invalidations. No write is ever made, so what counts is
 * that a sink which is attached equals a walk in the end, that every page is
 * protected and unprotected in turn, and what a sanitizer says.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <snest/track.h>
#include "support/guest.h"
#include "support/sink.h"

#define ROUNDS 300
#define NOTICERS 2
#define SPACES 3
#define TABLE_PAGES ((1u << GUEST_TABLES_LG2) >> 12)

static struct guest guest;
static struct sink sinks[SPACES];
static unsigned char protected[TABLE_PAGES]; /* atomic */
static bool stop;                            /* atomic */
static uint64_t wrong;                       /* atomic */

static void note_wrong(bool is_wrong)
{
	if (is_wrong)
		__atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
}

static int protect(void *opaque, uint64_t gpa, uint64_t length)
{
	(void)opaque;
	(void)length;
	note_wrong(__atomic_exchange_n(&protected[gpa >> 12], 1, __ATOMIC_RELAXED));
	return 0;
}

static void unprotect(void *opaque, uint64_t gpa, uint64_t length)
{
	(void)opaque;
	(void)length;
	note_wrong(!__atomic_exchange_n(&protected[gpa >> 12], 0, __ATOMIC_RELAXED));
}

static void *notice(void *arg)
{
	struct test_random random = {(uintptr_t)arg};

	snest_thread_register();
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		uint64_t page = 16 + test_below(&random, 64);
		uint64_t pages = test_below(&random, 16) ? 1 : test_below(&random, 1024);

		note_wrong(snest_table_written(guest.vm, page << 12, pages * 4096 + 8) != 0);
		snest_thread_quiescent();
	}
	snest_thread_unregister();
	return NULL;
}

/* Its own space, attached and detached, given back and made again. */
static void *mirror(void *arg)
{
	unsigned i = (unsigned)(uintptr_t)arg;
	struct snest_space *space;

	snest_thread_register();
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		space = guest_space(&guest, (struct snest_tag){7, i}, 0, 0);
		sink_init(&sinks[i], 0);
		note_wrong(snest_space_mirror(space, &sinks[i].sink) != 0);
		note_wrong(snest_space_invalidate(space, 0, 0xfffff, 0) != 0);
		note_wrong(snest_space_unmirror(space) != 0);
		note_wrong(sinks[i].count);
		snest_space_put(space);
		snest_thread_quiescent();
	}
	snest_thread_unregister();
	return NULL;
}

/* Memory of some tables goes and comes back: their pages have to be protected again. */
static void change_memory(struct test_random *random)
{
	uint64_t page = 16 + test_below(random, 16);
	struct snest_region region = {
		.size = sizeof(region),
		.first = page << 12,
		.last = (page << 12 | 4095) + 8 * 4096,
		.host = 0x2000000000ull + (page << 12),
		.mapping = guest.ram + (page << 12),
	};

	assert_int_equal(snest_memory_remove(guest.vm, region.first, region.last), 0);
	assert_int_equal(snest_memory_add(guest.vm, &region), 0);
}

static int count_bytes(void *opaque, const struct snest_run *r)
{
	if (r->outcome == SNEST_WALK_HOST && (r->rights & 3))
		*(uint64_t *)opaque += r->last - r->first + 1;
	return 0;
}

static void test_all_at_once(void **state)
{
	struct guest_options o = {
		.config = {guest_config("arm-s1 4K 48"), guest_config("arm-s2 4K 48")}, .seed = 1};
	struct snest_tracker tracker = {
		.size = sizeof(tracker), .protect = protect, .unprotect = unprotect};
	struct snest_walk_range range = {.size = sizeof(range), .last = UINT64_MAX};
	struct test_random random = {2};
	pthread_t thread[NOTICERS + SPACES - 1];
	struct snest_space *space;
	uint64_t bytes = 0;

	(void)state;
	guest_init(&guest, &o);
	guest_map(&guest, 1, GUEST_DATA, GUEST_DATA + 0x7fffff, GUEST_DATA,
	          SNEST_READ | SNEST_WRITE, SNEST_ATTR_USER, 12, false);
	guest_map(&guest, 0, 0, 0xfffff, GUEST_DATA, SNEST_READ | SNEST_WRITE, SNEST_ATTR_USER, 12,
	          false);
	assert_int_equal(snest_vm_track(guest.vm, &tracker), 0);
	space = guest_space(&guest, (struct snest_tag){7, 0}, 0, 0);
	sink_init(&sinks[0], 0);
	assert_int_equal(snest_space_mirror(space, &sinks[0].sink), 0);
	for (uintptr_t i = 0; i < NOTICERS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, notice, (void *)(i + 1)), 0);
	for (uintptr_t i = 1; i < SPACES; i++)
		assert_int_equal(pthread_create(&thread[NOTICERS + i - 1], NULL, mirror, (void *)i),
		                 0);
	for (unsigned i = 0; i < ROUNDS; i++)
		change_memory(&random);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	snest_thread_offline();
	for (unsigned i = 0; i < NOTICERS + SPACES - 1; i++)
		pthread_join(thread[i], NULL);
	snest_thread_online();

	assert_int_equal(
		snest_walk_range(guest.vm, guest.list, guest.stages, &range, count_bytes, &bytes),
		0);
	assert_true(bytes > 0);
	assert_int_equal(sink_bytes(&sinks[0]), bytes);
	snest_space_put(space);
	assert_int_equal(sinks[0].count, 0);
	for (unsigned i = 0; i < TABLE_PAGES; i++)
		note_wrong(protected[i]);
	assert_int_equal(wrong, 0);
	guest_fini(&guest);
}

static int register_thread(void **state)
{
	(void)state;
	snest_thread_register();
	return 0;
}

static int unregister_thread(void **state)
{
	(void)state;
	snest_thread_unregister();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_at_once),
	};

	return cmocka_run_group_tests(tests, register_thread, unregister_thread);
}
