/* SPDX-License-Identifier: MIT */
/*
 * Everything at once: readers of four kinds, a guest that remaps and
 * invalidates, memory that comes and goes, bindings that change, a mirror and
 * a dirty log. Readers check data, not addresses (support/world.h).
 *
 * SNEST_TEST_SECONDS says how long it lasts.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>
#include "support/world.h"

static struct world world;

static void on_fault(int signal)
{
	static const char text[] = "a page was touched after it was taken away\n";

	(void)signal;
	(void)!write(2, text, sizeof(text) - 1);
	_exit(99);
}

/*
 * With more threads than processors a reader is mostly preempted inside a read
 * section, and everybody waits for it. Sleeping now and then prevents that.
 */
static void rest(struct test_random *random)
{
	if (test_below(random, 64) == 0)
		world_pause(20000);
}

/* ---- Readers ------------------------------------------------------------------------- */

static uint64_t fresh_of(struct world *w, uint64_t iova)
{
	return __atomic_load_n(&w->fresh[(iova - BASE) / PAGE], __ATOMIC_ACQUIRE);
}

/* Is this what may be there? */
static void check_stamp(struct world *w, uint64_t iova, uint64_t fresh, struct stamp s)
{
	unsigned p = (unsigned)((iova - BASE) / PAGE);
	uint64_t now = __atomic_load_n(&w->now[p], __ATOMIC_ACQUIRE);

	if (s.page != p)
		world_wrong(w, "the page of another IOVA", iova, s.page, p);
	else if (s.version < fresh / 2)
		world_wrong(w, "stale", iova, s.version, fresh / 2);
	else if (s.version > now / 2)
		world_wrong(w, "from the future", iova, s.version, now / 2);
}

/* Inside the read section of the lookup, or while the page is pinned. */
static void check_data(struct world *w, uint64_t iova, uint64_t fresh, uint64_t host)
{
	check_stamp(w, iova, fresh, *(const struct stamp *)(uintptr_t)(host & ~(PAGE - 1)));
}

static void check_fault(struct world *w, uint64_t iova, uint64_t fresh)
{
	uint64_t now = __atomic_load_n(&w->now[(iova - BASE) / PAGE], __ATOMIC_ACQUIRE);

	if ((fresh & 1) && fresh == now)
		world_wrong(w, "a fault where something is mapped", iova, fresh, now);
}

static uint64_t some_iova(struct test_random *random)
{
	return BASE + test_below(random, PAGES * PAGE);
}

/* Memory that comes and goes: what is found may be used. */
static void touch_plug(struct world *w, struct test_random *random, uint32_t access)
{
	uint64_t iova = PLUG_BASE + test_below(random, PLUG) * PAGE;
	struct snest_translation t;

	snest_read_begin();
	if (!snest_translate(w->device, iova, access, &t, NULL) && t.outcome == SNEST_WALK_HOST) {
		char *page = (char *)(uintptr_t)t.host;

		if (t.host != (uintptr_t)w->plug + (iova - PLUG_BASE))
			world_wrong(w, "not the page's memory", iova, t.host, (uintptr_t)w->plug);
		else if (access & SNEST_WRITE)
			__atomic_fetch_add((uint64_t *)(void *)(page + SCRATCH), 1,
			                   __ATOMIC_RELAXED);
		else
			__atomic_load_n((uint64_t *)(void *)(page + SCRATCH), __ATOMIC_RELAXED);
	}
	snest_read_end();
}

static void touch_big(struct world *w, struct test_random *random)
{
	uint64_t length = 1 + test_below(random, 4 * PAGE);
	uint64_t iova = BIG_BASE + test_below(random, BIG_BYTES - length), at = iova, done;
	uint64_t fresh = __atomic_load_n(&w->big_fresh, __ATOMIC_ACQUIRE), now;
	struct snest_host_range range[8];
	size_t n;

	snest_read_begin();
	n = snest_scatter(w->device, iova, length, SNEST_READ, range, 8, &done, NULL);
	for (size_t i = 0; i < n; i++) {
		for (uint64_t offset = 0; offset < range[i].length;) {
			uint64_t host = range[i].host + offset;
			struct stamp s = *(struct stamp *)(uintptr_t)(host & ~(PAGE - 1));

			now = __atomic_load_n(&w->big_now, __ATOMIC_ACQUIRE);
			if (s.page != PAGES + (at - BIG_BASE) / PAGE)
				world_wrong(w, "a wrong page of the area", at, s.page, 0);
			else if (s.version < fresh / 2 || s.version > now / 2)
				world_wrong(w, "a wrong version of the area", at, s.version,
				            fresh / 2);
			offset += PAGE - (host & (PAGE - 1));
			at += PAGE - (at & (PAGE - 1));
		}
	}
	/* It is always mapped, once it is; and each page goes over in one step. */
	if (fresh && done < length)
		world_wrong(w, "a hole in the area", iova + done, fresh, 0);
	snest_read_end();
}

/* A binding that comes and goes: refused, or the same as any other. */
static void touch_binding(struct world *w, struct test_random *random)
{
	uint64_t iova = some_iova(random), fresh = fresh_of(w, iova);
	struct snest_translation t;
	struct snest_fault fault;

	snest_read_begin();
	if (!snest_translate_pasid(w->pasids, (uint32_t)test_below(random, 4), iova, SNEST_READ, &t,
	                           &fault))
		check_data(w, iova, fresh, t.host);
	else if (fault.reason != SNEST_FAULT_BLOCKED)
		check_fault(w, iova, fresh);
	snest_read_end();
}

static void *single_main(void *arg)
{
	struct test_random random = {1 + test_seed()};
	struct world *w = arg;
	uint64_t lookups = 0, faults = 0;

	snest_thread_register();
	while (!world_stopped(w)) {
		uint64_t iova = some_iova(&random), fresh = fresh_of(w, iova);
		struct snest_translation t;
		struct snest_fault fault;

		snest_read_begin();
		if (snest_translate(w->device, iova, SNEST_READ, &t, &fault)) {
			check_fault(w, iova, fresh);
			faults++;
		} else {
			check_data(w, iova, fresh, t.host);
		}
		snest_read_end();
		lookups++;
		touch_plug(w, &random, test_below(&random, 2) ? SNEST_READ : SNEST_WRITE);
		touch_big(w, &random);
		touch_binding(w, &random);
		rest(&random);
	}
	__atomic_fetch_add(&w->lookups, lookups, __ATOMIC_RELAXED);
	__atomic_fetch_add(&w->faults, faults, __ATOMIC_RELAXED);
	snest_thread_unregister();
	return NULL;
}

static void one_scatter(struct world *w, struct test_random *random)
{
	uint64_t length = 1 + test_below(random, 8 * PAGE), fresh[10], done, at, first;
	uint64_t iova = BASE + test_below(random, PAGES * PAGE - length);
	struct snest_host_range range[8];
	size_t n;

	first = iova & ~(PAGE - 1);
	for (at = first; at < iova + length; at += PAGE)
		fresh[(at - first) / PAGE] = fresh_of(w, at);
	snest_read_begin();
	n = snest_scatter(w->device, iova, length, SNEST_READ, range, 8, &done, NULL);
	at = iova;
	for (size_t i = 0; i < n; i++) {
		for (uint64_t offset = 0; offset < range[i].length;) {
			uint64_t host = range[i].host + offset;

			check_data(w, at, fresh[(at - first) / PAGE], host);
			offset += PAGE - (host & (PAGE - 1));
			at += PAGE - (at & (PAGE - 1));
		}
	}
	if (done < length && n < 8)
		check_fault(w, iova + done, fresh[(iova + done - first) / PAGE]);
	snest_read_end();
}

static void one_batch(struct world *w, struct test_random *random)
{
	struct snest_translation t[24];
	uint64_t iova[24], fresh[24];

	for (unsigned i = 0; i < 24; i++) {
		iova[i] = some_iova(random);
		fresh[i] = fresh_of(w, iova[i]);
	}
	snest_read_begin();
	snest_translate_batch(w->device, iova, 24, SNEST_READ, t);
	for (unsigned i = 0; i < 24; i++) {
		if (t[i].outcome == SNEST_WALK_HOST)
			check_data(w, iova[i], fresh[i], t[i].host);
		else
			check_fault(w, iova[i], fresh[i]);
	}
	snest_read_end();
}

static void *many_main(void *arg)
{
	struct test_random random = {2 + test_seed()};
	struct world *w = arg;

	snest_thread_register();
	while (!world_stopped(w)) {
		one_batch(w, &random);
		one_scatter(w, &random);
		rest(&random);
	}
	snest_thread_unregister();
	return NULL;
}

static void one_pin(struct world *w, struct test_random *random)
{
	bool plug = test_below(random, 4) == 0;
	uint64_t iova = plug ? PLUG_BASE + test_below(random, PLUG) * PAGE : some_iova(random);
	uint64_t fresh = plug ? 0 : fresh_of(w, iova);
	uint32_t access = test_below(random, 2) ? SNEST_READ : SNEST_WRITE;
	struct snest_pin pin;
	char *page;

	if (snest_pin(w->device, SNEST_NO_PASID, iova, 1, access, &pin, NULL)) {
		if (!plug)
			check_fault(w, iova, fresh);
		return;
	}
	page = (char *)(uintptr_t)(pin.translation.host & ~(PAGE - 1));
	/* As asynchronous I/O does: outside any read section, and not at once. */
	if (test_below(random, 16) == 0)
		world_pause(20000);
	snest_thread_quiescent();
	if (pin.translation.outcome == SNEST_WALK_HOST) {
		if (!plug)
			check_data(w, iova, fresh, pin.translation.host);
		if (access & SNEST_WRITE)
			__atomic_fetch_add((uint64_t *)(void *)(page + SCRATCH), 1,
			                   __ATOMIC_RELAXED);
		else
			__atomic_load_n((uint64_t *)(void *)(page + SCRATCH), __ATOMIC_RELAXED);
	}
	snest_unpin(&pin);
	__atomic_fetch_add(&w->pins, 1, __ATOMIC_RELAXED);
}

static void one_dma(struct world *w, struct test_random *random)
{
	uint64_t iova = some_iova(random) & ~(PAGE - 1), fresh = fresh_of(w, iova), word = 1;
	struct snest_fault fault;
	struct stamp s;
	size_t done;

	if (snest_dma_read(w->device, SNEST_NO_PASID, iova, &s, sizeof(s), &done, &fault))
		check_fault(w, iova, fresh);
	else
		check_stamp(w, iova, fresh, s);
	snest_dma_write(w->device, SNEST_NO_PASID, iova + SCRATCH + 64, &word, sizeof(word), NULL,
	                NULL);
}

static void *pin_main(void *arg)
{
	struct test_random random = {3 + test_seed()};
	struct world *w = arg;

	snest_thread_register();
	while (!world_stopped(w)) {
		one_pin(w, &random);
		if (test_below(&random, 4) == 0)
			one_dma(w, &random);
		rest(&random);
	}
	snest_thread_unregister();
	return NULL;
}

/* ---- What the host does ------------------------------------------------------------------ */

static void *plug_main(void *arg)
{
	struct test_random random = {4 + test_seed()};
	struct world *w = arg;

	snest_thread_register();
	while (!world_stopped(w)) {
		unsigned n = 1 + (unsigned)test_below(&random, 16);
		unsigned p = (unsigned)test_below(&random, PLUG - n + 1);
		uint64_t first = GPA_PLUG + p * PAGE, last = first + n * PAGE - 1;
		struct snest_region back = world_region(first, w->plug + p * PAGE, n * PAGE);

		if (test_below(&random, 2)) {
			assert_int_equal(snest_memory_remove(w->vm, first, last), 0);
			world_rights(w->plug + p * PAGE, n * PAGE, PROT_NONE);
			world_pause(20000);
			world_rights(w->plug + p * PAGE, n * PAGE, PROT_READ | PROT_WRITE);
			assert_int_equal(snest_memory_add(w->vm, &back), 0);
		} else {
			assert_int_equal(
				snest_memory_protect(w->vm, first, last, SNEST_REGION_READONLY), 0);
			world_rights(w->plug + p * PAGE, n * PAGE, PROT_READ);
			world_pause(20000);
			world_rights(w->plug + p * PAGE, n * PAGE, PROT_READ | PROT_WRITE);
			assert_int_equal(snest_memory_protect(w->vm, first, last, 0), 0);
		}
		__atomic_fetch_add(&w->plugs, 1, __ATOMIC_RELAXED);
		world_pause(100000);
	}
	snest_thread_unregister();
	return NULL;
}

/* Spaces and devices come and go; requests are bound to spaces, and to others. */
static void *bind_main(void *arg)
{
	struct test_random random = {5 + test_seed()};
	struct world *w = arg;
	struct snest_space_config config = {
		.size = sizeof(config), .stages = w->list, .count = w->stages};

	snest_thread_register();
	while (!world_stopped(w)) {
		uint32_t pasid = (uint32_t)test_below(&random, 4);
		struct snest_device *device;
		struct snest_space *space;

		config.tag = (struct snest_tag){3, 1 + (uint32_t)test_below(&random, 2)};
		if (snest_space_get(w->vm, &config, &space) ||
		    snest_device_bind(w->pasids, pasid, test_below(&random, 3) ? space : NULL) ||
		    snest_device_create(w->vm, 3, NULL, NULL, &device) ||
		    snest_device_bind(device, pasid, space) ||
		    snest_device_invalidate(device, SNEST_ANY_PASID, 0, UINT64_MAX, 0))
			world_wrong(w, "binding failed", 0, 0, 0);
		else
			snest_device_destroy(device);
		snest_space_put(space);
		if (test_below(&random, 8) == 0)
			snest_device_unbind_all(w->pasids, true);
		world_pause(200000);
	}
	snest_thread_unregister();
	return NULL;
}

static void *dirty_main(void *arg)
{
	uint64_t bitmap[POOL / 64], pages;
	struct world *w = arg;

	snest_thread_register();
	while (!world_stopped(w)) {
		assert_int_equal(snest_dirty_start(w->vm), 0);
		for (unsigned i = 0; i < 10 && !world_stopped(w); i++) {
			memset(bitmap, 0, sizeof(bitmap));
			assert_int_equal(snest_vm_dirty(w->vm, GPA_POOL, GPA_POOL + POOL * PAGE - 1,
			                                0, bitmap, &pages),
			                 0);
			assert_int_equal(snest_space_dirty(w->space, BASE, BASE + PAGES * PAGE - 1,
			                                   i & 1, bitmap, &pages),
			                 0);
			assert_true(pages <= PAGES);
			__atomic_fetch_add(&w->fetches, 1, __ATOMIC_RELAXED);
			world_pause(500000);
		}
		assert_int_equal(snest_dirty_stop(w->vm), 0);
		world_pause(1000000);
	}
	snest_thread_unregister();
	return NULL;
}

/* ---- Runs -------------------------------------------------------------------------------- */

static int compare(void *opaque, const struct snest_run *run)
{
	struct world *w = opaque;

	for (uint64_t at = run->first; at < run->last; at += PAGE) {
		const struct sink_map *map = sink_find(&w->sink, at);

		if (!map || map->host + (at - map->first) != run->addr + (at - run->first) ||
		    map->rights != (run->rights & (SNEST_READ | SNEST_WRITE)))
			world_wrong(w, "the mirror differs from the tables", at, 0, 0);
	}
	return 0;
}

static void everything(const char *first, const char *second)
{
	static void *(*const mains[])(void *) = {world_guest, single_main, many_main, pin_main,
	                                         bind_main,   plug_main,   dirty_main};
	const char *const names[2] = {first, second};
	struct snest_walk_range range = {.size = sizeof(range), .last = UINT64_MAX};
	struct world *w = &world;
	struct sigaction action = {.sa_handler = on_fault};
	pthread_t thread[7];

	/* In here: cmocka has set its own. */
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	world_init(w, names);
	for (unsigned i = 0; i < 7; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, mains[i], w), 0);
	snest_thread_offline();
	for (double left = test_seconds(3) / 3;
	     left > 0 && !__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE); left -= 0.05)
		usleep(50000);
	__atomic_store_n(&w->stop, 1, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < 7; i++)
		pthread_join(thread[i], NULL);
	snest_thread_online();
	assert_int_equal(snest_walk_range(w->vm, w->list, w->stages, &range, compare, w), 0);
	assert_int_equal(w->wrong, 0);
	assert_true(w->lookups && w->invalidations && w->plugs && w->fetches && w->pins);
	if (getenv("SNEST_TEST_VERBOSE"))
		print_message("%llu lookups, %llu faults, %llu invalidations, %llu pins, "
		              "%llu memory changes, %llu fetches\n",
		              (unsigned long long)w->lookups, (unsigned long long)w->faults,
		              (unsigned long long)w->invalidations, (unsigned long long)w->pins,
		              (unsigned long long)w->plugs, (unsigned long long)w->fetches);
	for (unsigned i = 0; i < w->quarantined; i++)
		world_rights(w->pool + w->quarantine[i] * PAGE, PAGE, PROT_READ | PROT_WRITE);
	world_fini(w);
}

static void test_second_level_tables(void **state)
{
	(void)state;
	everything("vtd-ss 3 levels", NULL);
}

static void test_tables_with_dirty_flags(void **state)
{
	(void)state;
	everything("x86-64 5 levels", NULL);
}

static void test_two_stages(void **state)
{
	(void)state;
	everything("x86-64 4 levels", "vtd-ss 4 levels");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_second_level_tables),
		cmocka_unit_test(test_tables_with_dirty_flags),
		cmocka_unit_test(test_two_stages),
	};
	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
