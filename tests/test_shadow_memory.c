/* SPDX-License-Identifier: MIT */
/*
 * Changes of the memory map: before one returns it has reached every leaf of
 * every space, and when it is complete nobody uses what it took away.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "support/stopped.h"

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
static struct hosts leads_to(struct stopped *w, uint64_t first, uint64_t last)
{
	struct hosts h = {first, last, false, false};

	for (unsigned i = 0; i < SPACES; i++)
		assert_int_equal(snest_space_enumerate(w->space[i], 0, ALL, find_host, &h), 0);
	return h;
}

static void fill_all(struct stopped *w, uint64_t first, uint64_t bytes)
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
	struct stopped *w = begin("vtd-ss 3 levels");
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
	struct stopped *w = begin("vtd-ss 3 levels");
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
	struct stopped *w = begin("vtd-ss 3 levels");
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
	struct stopped *w = begin("vtd-ss 3 levels");
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
	struct stopped *w = begin("vtd-ss 3 levels");

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
	struct stopped *w;
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
	struct stopped *w = begin("vtd-ss 3 levels");
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
