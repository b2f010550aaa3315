/* SPDX-License-Identifier: MIT */
/*
 * Two or three threads, one race each: a root that grows and goes under readers,
 * PASIDs and devices that come and go, a mirror that is attached and detached
 * while commands run, memory that goes while the first space is made.
 *
 * SNEST_TEST_SECONDS says how long all of them last.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "support/guest.h"
#include "support/sink.h"

#define RW (SNEST_READ | SNEST_WRITE)
#define ALL UINT64_MAX
#define PAGE 4096ull

static struct guest guest;
static int stop;
static const char *wrong;

static bool stopped(void)
{
	snest_thread_quiescent();
	return __atomic_load_n(&stop, __ATOMIC_ACQUIRE);
}

/* The first thing that is wrong ends everything. */
static void complain(const char *what)
{
	const char *none = NULL;

	__atomic_compare_exchange_n(&wrong, &none, what, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	__atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
}

static void expect_right(void)
{
	const char *what = wrong;

	wrong = NULL;
	if (what)
		fail_msg("%s", what);
}

/* Lets others run, and holds nobody up meanwhile. */
static void rest(long ns)
{
	struct timespec t = {0, ns};

	snest_thread_offline();
	nanosleep(&t, NULL);
	snest_thread_online();
}

static void *registered(void *arg)
{
	void (*const *fn)(void) = arg;

	snest_thread_register();
	(*fn)();
	snest_thread_unregister();
	return NULL;
}

/* Runs the threads for a while. */
static void race(void (*const fn[])(void), unsigned count)
{
	double left = test_seconds(2) / 4;
	pthread_t thread[4];

	__atomic_store_n(&stop, 0, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(
			pthread_create(&thread[i], NULL, registered, (void *)(uintptr_t)&fn[i]), 0);
	snest_thread_offline();
	for (; left > 0 && !__atomic_load_n(&stop, __ATOMIC_ACQUIRE); left -= 0.01)
		usleep(10000);
	__atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < count; i++)
		pthread_join(thread[i], NULL);
	snest_thread_online();
	expect_right();
}

/* ---- The root ---------------------------------------------------------------------- */

/* Each needs a root of another height. */
static const uint64_t place[] = {0x5000, 0x200000 + 0x5000, 0x40000000 + 0x5000,
                                 0x8000000000 + 0x5000};
#define PLACES (sizeof(place) / sizeof(place[0]))

static struct snest_space *space;

static bool look_at(unsigned i)
{
	struct snest_translation t;
	bool right;

	snest_read_begin();
	right = !snest_space_translate(space, place[i], SNEST_READ, &t, NULL) &&
	        t.outcome == SNEST_WALK_HOST && t.host == GUEST_HOST + i * PAGE;
	snest_read_end();
	return right;
}

static void roots_reader(void)
{
	struct test_random random = {test_seed() + (uintptr_t)&random};

	while (!stopped()) {
		for (unsigned i = 0; i < 64; i++) {
			if (!look_at((unsigned)test_below(&random, PLACES)))
				complain("a lookup is wrong while the root changes");
		}
	}
}

/* From nothing to the highest, again and again: the old ones are freed, and used again. */
static void roots_writer(void)
{
	while (!stopped()) {
		snest_space_invalidate(space, 0, ALL, 0);
		for (unsigned i = 0; i < PLACES; i++) {
			if (!look_at(i))
				complain("a lookup is wrong while the root grows");
		}
	}
}

static void test_hazard_6_root_and_level_change_together(void **state)
{
	static void (*const fn[])(void) = {roots_reader, roots_reader, roots_writer};
	struct guest_options o = {.config = {guest_config("vtd-ss 4 levels")}};

	(void)state;
	guest_init(&guest, &o);
	for (unsigned i = 0; i < PLACES; i++)
		assert_int_equal(snest_table_map(guest.table[0].table, place[i], place[i] + 0xfff,
		                                 GUEST_DATA + i * PAGE, RW, 0,
		                                 SNEST_TABLE_PAGE(12)),
		                 0);
	space = guest_space(&guest, (struct snest_tag){1, 0}, 0, 0);
	race(fn, 3);
	snest_space_put(space);
	guest_fini(&guest);
}

/* ---- PASIDs and devices ---------------------------------------------------------------- */

#define SPACES 4u

static struct snest_space *spaces[SPACES];
static struct snest_device *device;

/* A few in the same leaf of the directory, and leaves that come one by one. */
static uint32_t some_pasid(struct test_random *random)
{
	return (uint32_t)test_below(random, 8) + (uint32_t)test_below(random, 256) * 4096;
}

/* Every PASID leads to the space of its last two bits, if it is bound. */
static void check_pasid(struct snest_device *d, uint32_t pasid)
{
	struct snest_space *found = snest_device_space(d, pasid);
	struct snest_translation t;
	struct snest_fault fault;

	if (found && found != spaces[pasid % SPACES])
		complain("a PASID leads to another's space");
	if (!snest_translate_pasid(d, pasid, place[0], SNEST_READ, &t, &fault)) {
		if (t.host != GUEST_HOST)
			complain("a PASID's space has another page");
	} else if (fault.reason != SNEST_FAULT_BLOCKED) {
		complain("a PASID's space has no page");
	}
}

static void pasids_reader(void)
{
	struct test_random random = {test_seed() + (uintptr_t)&random};

	while (!stopped()) {
		struct snest_device *other;

		snest_read_begin();
		for (unsigned i = 0; i < 16; i++)
			check_pasid(device, some_pasid(&random));
		other = snest_device_find(guest.vm, 7);
		if (other)
			check_pasid(other, 1);
		snest_read_end();
	}
}

static void pasids_writer(void)
{
	struct test_random random = {test_seed() + 3};

	for (uint64_t n = 0; !stopped(); n++) {
		uint32_t pasid = some_pasid(&random);
		struct snest_device *other;

		if (snest_device_bind(device, pasid,
		                      test_below(&random, 4) ? spaces[pasid % SPACES] : NULL))
			complain("binding failed");
		if (n % 64 == 0)
			snest_device_unbind_all(device, n & 64);
		if (n % 16 == 0) {
			if (snest_device_create(guest.vm, 7, NULL, NULL, &other) ||
			    snest_device_bind(other, 1, spaces[1])) {
				complain("no device");
				break;
			}
			snest_device_destroy(other);
		}
		snest_device_invalidate(device, SNEST_ANY_PASID, 0, ALL, 0);
	}
}

static void test_pasids_under_readers(void **state)
{
	static void (*const fn[])(void) = {pasids_reader, pasids_reader, pasids_writer};
	struct guest_options o = {.config = {guest_config("vtd-ss 3 levels")}};

	(void)state;
	guest_init(&guest, &o);
	guest_map(&guest, 0, place[0], place[0] + 0xfff, GUEST_DATA, RW, 0, 12, false);
	for (uint32_t i = 0; i < SPACES; i++)
		spaces[i] = guest_space(&guest, (struct snest_tag){1 + i, 0}, 0, 0);
	assert_int_equal(snest_device_create(guest.vm, 1, NULL, NULL, &device), 0);
	race(fn, 3);
	snest_device_destroy(device);
	for (unsigned i = 0; i < SPACES; i++)
		snest_space_put(spaces[i]);
	guest_fini(&guest);
}

/* ---- A mirror that comes and goes -------------------------------------------------------- */

#define PAGES 64u
#define VERSIONS 64u
#define BASE 0x1f8000ull /* across the end of a lowest table */

static struct sink sink;
static pthread_mutex_t guest_lock = PTHREAD_MUTEX_INITIALIZER; /* held around each command */
static uint64_t fresh[PAGES], now[PAGES];                      /* versions: completed, and begun */

/* Page p has another place for each of its latest versions. */
static void map_version(unsigned p, uint64_t version)
{
	uint64_t gpa = GUEST_DATA + (version % VERSIONS * PAGES + p) * PAGE;

	if (snest_table_map(guest.table[0].table, BASE + p * PAGE, BASE + p * PAGE + 0xfff, gpa, RW,
	                    0, SNEST_TABLE_REPLACE | SNEST_TABLE_PAGE(12)))
		complain("no room in the table");
}

static void mirror_guest(void)
{
	struct test_random random = {test_seed() + 4};

	while (!stopped()) {
		unsigned n = 1 + (unsigned)test_below(&random, 12);
		unsigned p = (unsigned)test_below(&random, PAGES - n + 1);

		snest_thread_offline();
		pthread_mutex_lock(&guest_lock);
		snest_thread_online();
		/* Sometimes nothing changes. */
		for (unsigned i = p; i < p + n && test_below(&random, 4); i++) {
			__atomic_store_n(&now[i], now[i] + 1, __ATOMIC_RELEASE);
			map_version(i, now[i]);
		}
		if (snest_space_invalidate(space, BASE + p * PAGE, BASE + (p + n) * PAGE - 1, 0))
			complain("the sink failed");
		for (unsigned i = p; i < p + n; i++)
			__atomic_store_n(&fresh[i], now[i], __ATOMIC_RELEASE);
		pthread_mutex_unlock(&guest_lock);
	}
}

static void mirror_reader(void)
{
	struct test_random random = {test_seed() + (uintptr_t)&random};

	while (!stopped()) {
		unsigned p = (unsigned)test_below(&random, PAGES);
		uint64_t from = __atomic_load_n(&fresh[p], __ATOMIC_ACQUIRE), to, page;
		struct snest_translation t;
		int ret;

		snest_read_begin();
		ret = snest_space_translate(space, BASE + p * PAGE, SNEST_READ, &t, NULL);
		to = __atomic_load_n(&now[p], __ATOMIC_ACQUIRE);
		snest_read_end();
		page = (t.host - GUEST_HOST) / PAGE;
		if (ret || page % PAGES != p)
			complain("not the page");
		else if (to - from < VERSIONS && (page / PAGES - from) % VERSIONS > to - from)
			complain("stale while a mirror comes and goes");
	}
}

/* The guest stands still, and has announced all that it did. */
static void compare(void)
{
	if (sink_bytes(&sink) != PAGES * PAGE)
		complain("the mirror has more or less than the tables");
	for (unsigned p = 0; p < PAGES; p++) {
		const struct sink_map *map = sink_find(&sink, BASE + p * PAGE);
		uint64_t host = GUEST_HOST + (now[p] % VERSIONS * PAGES + p) * PAGE;

		if (!map || map->host + (BASE + p * PAGE - map->first) != host)
			complain("the mirror differs from the tables");
	}
}

static void mirror_main(void)
{
	uint32_t flags = 0;

	while (!stopped()) {
		flags ^= SNEST_SINK_CAN_SPLIT;
		sink_init(&sink, flags);
		if (snest_space_mirror(space, &sink.sink))
			complain("attaching failed");
		rest(200000);
		snest_thread_offline();
		pthread_mutex_lock(&guest_lock);
		snest_thread_online();
		compare();
		pthread_mutex_unlock(&guest_lock);
		rest(200000);
		if (snest_space_unmirror(space) || sink.count)
			complain("detaching left something");
		rest(200000);
	}
}

/* The first is read in step with the shadow, and seen to be unchanged without a lock. */
static void test_mirror_comes_and_goes(void **state)
{
	static void (*const fn[])(void) = {mirror_guest, mirror_reader, mirror_main};
	static const char *const names[] = {"vtd-ss 3 levels", "amd-v1 mode 4"};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct guest_options o = {.config = {guest_config(names[i])}, .one_region = true};

		guest_init(&guest, &o);
		memset(fresh, 0, sizeof(fresh));
		memset(now, 0, sizeof(now));
		for (unsigned p = 0; p < PAGES; p++)
			map_version(p, 0);
		space = guest_space(&guest, (struct snest_tag){1, 0}, SNEST_SPACE_ANNOUNCED, 0);
		race(fn, 3);
		snest_space_put(space);
		guest_fini(&guest);
	}
}

/* ---- The first space of a VM --------------------------------------------------------------- */

static int made, ready;

static void together(void)
{
	__atomic_fetch_add(&ready, 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n(&ready, __ATOMIC_ACQUIRE) < 3)
		snest_thread_quiescent();
}

static void first_space(void)
{
	struct snest_space_config config = {.size = sizeof(config), .tag = {1, 0}};
	struct snest_translation t;
	struct snest_space *mine;

	together();
	if (snest_space_get(guest.vm, &config, &mine)) {
		complain("no space");
		return;
	}
	snest_read_begin();
	snest_space_translate(mine, GUEST_DATA, SNEST_READ, &t, NULL);
	snest_read_end();
	spaces[__atomic_fetch_add(&made, 1, __ATOMIC_ACQ_REL)] = mine;
}

static void memory_goes(void)
{
	together();
	if (snest_memory_remove(guest.vm, GUEST_DATA, GUEST_DATA + 0xfff))
		complain("no memory");
}

/* Whoever comes first: a page that is gone is in no shadow. */
static void test_hazard_8_memory_goes_while_a_shadow_is_made(void **state)
{
	static void (*const fn[])(void) = {first_space, first_space, memory_goes};

	(void)state;
	for (unsigned n = 0; n < 100; n++) {
		struct guest_options o = {.config = {NULL}};
		struct snest_translation t;
		pthread_t thread[3];

		guest_init(&guest, &o);
		made = ready = 0;
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(pthread_create(&thread[i], NULL, registered,
			                                (void *)(uintptr_t)&fn[i]),
			                 0);
		snest_thread_offline();
		for (unsigned i = 0; i < 3; i++)
			pthread_join(thread[i], NULL);
		snest_thread_online();
		expect_right();
		assert_int_equal(made, 2);
		assert_ptr_equal(spaces[0], spaces[1]);
		snest_read_begin();
		assert_int_equal(snest_space_translate(spaces[0], GUEST_DATA, SNEST_READ, &t, NULL),
		                 0);
		snest_read_end();
		assert_int_equal(t.outcome, SNEST_WALK_GPA);
		snest_space_put(spaces[0]);
		snest_space_put(spaces[1]);
		guest_fini(&guest);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hazard_6_root_and_level_change_together),
		cmocka_unit_test(test_pasids_under_readers),
		cmocka_unit_test(test_mirror_comes_and_goes),
		cmocka_unit_test(test_hazard_8_memory_goes_while_a_shadow_is_made),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
