/* SPDX-License-Identifier: MIT */
/*
 * The memory map with threads: completion after readers, readers while the map
 * changes, changes at the same time.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/vm.h"
#include "support/fail.h"

#define PAGE 4096ull

static uint64_t next_random(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return *seed >> 33;
}

static struct snest_region plain(uint64_t first, uint64_t last, uint64_t host)
{
	return (struct snest_region){
		.size = sizeof(struct snest_region),
		.first = first,
		.last = last,
		.host = host,
	};
}

static const struct sn_region *find(struct test_vm *f, uint64_t addr)
{
	return sn_memory_find(f->vm->memory.map, addr);
}

struct reader {
	pthread_t thread;
	struct snest_vm *vm;
	unsigned inside, leave, left; /* atomic */
};

static void *stay_inside(void *arg)
{
	struct reader *reader = arg;

	snest_thread_register();
	snest_read_begin();
	__atomic_store_n(&reader->inside, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&reader->leave, __ATOMIC_ACQUIRE))
		usleep(100);
	__atomic_store_n(&reader->left, 1, __ATOMIC_RELEASE);
	snest_read_end();
	snest_thread_unregister();
	return NULL;
}

struct completion {
	struct reader *reader;
	unsigned calls; /* atomic */
	bool reader_had_left;
	int blocking_call;
	struct snest_vm *vm;
};

static void complete(void *opaque)
{
	struct completion *completion = opaque;

	completion->reader_had_left = __atomic_load_n(&completion->reader->left, __ATOMIC_ACQUIRE);
	completion->blocking_call = snest_memory_remove(completion->vm, 0, 4095);
	__atomic_add_fetch(&completion->calls, 1, __ATOMIC_RELEASE);
}

static void done_comes_after_readers(void **state)
{
	struct test_vm *f = *state;
	struct snest_memory_op ops[2] = {
		{.kind = SNEST_MEMORY_ADD, .region = plain(0, 4095, 0)},
		{.kind = SNEST_MEMORY_REMOVE, .last = 4095},
	};
	struct reader reader = {.vm = f->vm};
	struct completion completion = {.reader = &reader, .vm = f->vm};

	assert_int_equal(snest_memory_update(f->vm, ops, 1, NULL, NULL, NULL), 0);
	assert_int_equal(pthread_create(&reader.thread, NULL, stay_inside, &reader), 0);
	while (!__atomic_load_n(&reader.inside, __ATOMIC_ACQUIRE))
		usleep(100);
	assert_int_equal(snest_memory_update(f->vm, &ops[1], 1, NULL, complete, &completion), 0);
	/* The change itself does not wait. */
	assert_null(find(f, 0));
	usleep(30000);
	assert_int_equal(__atomic_load_n(&completion.calls, __ATOMIC_ACQUIRE), 0);
	__atomic_store_n(&reader.leave, 1, __ATOMIC_RELEASE);
	snest_thread_offline();
	pthread_join(reader.thread, NULL);
	snest_thread_online();
	sn_reclaim_barrier(&f->vm->reclaim);
	assert_int_equal(completion.calls, 1);
	assert_true(completion.reader_had_left);
	assert_int_equal(completion.blocking_call, -EDEADLK);
}

static void blocking_call_waits_for_readers(void **state)
{
	struct test_vm *f = *state;
	struct snest_region region = plain(0, 4095, 0);
	struct reader reader = {.vm = f->vm};
	int ret;

	assert_int_equal(snest_memory_add(f->vm, &region), 0);
	assert_int_equal(pthread_create(&reader.thread, NULL, stay_inside, &reader), 0);
	while (!__atomic_load_n(&reader.inside, __ATOMIC_ACQUIRE))
		usleep(100);
	__atomic_store_n(&reader.leave, 1, __ATOMIC_RELEASE);
	assert_int_equal(snest_memory_remove(f->vm, 0, 4095), 0);
	assert_int_equal(__atomic_load_n(&reader.left, __ATOMIC_ACQUIRE), 1);
	pthread_join(reader.thread, NULL);
#ifndef SNEST_RCU_QSBR
	snest_read_begin();
	ret = snest_memory_add(f->vm, &region);
	snest_read_end();
	assert_int_equal(ret, -EDEADLK);
#else
	(void)ret;
#endif
}

/*
 * Region i leads to a page that says so in every word. After a removal has
 * returned the page is overwritten: a reader that still used it would see that,
 * and ThreadSanitizer would report it. Even regions change, odd ones stay.
 */
enum {
	SLOTS = 8,
	WORDS = 512
};

struct churn {
	struct snest_vm *vm;
	uint64_t *ram[SLOTS];
	unsigned stop; /* atomic */
};

static void *use_memory(void *arg)
{
	struct churn *churn = arg;
	uint64_t seed = (uintptr_t)&churn, hits = 0;

	snest_thread_register();
	/* At least once, also where the changes are over before this thread runs. */
	do {
		for (unsigned i = 0; i < 50; i++) {
			uint64_t slot = next_random(&seed) % SLOTS;
			uint64_t addr = slot * PAGE + next_random(&seed) % WORDS * 8;
			const struct sn_region *region;
			uint64_t word;

			snest_read_begin();
			region = sn_memory_find(sn_deref(&churn->vm->memory.map), addr);
			if (!region && slot % 2)
				abort();
			if (region) {
				if (*(uint64_t *)(region->mapping + addr) != slot)
					abort();
				hits++;
			}
			snest_read_end();
			if (!snest_guest_read(churn->vm, addr, &word, 8) && word != slot)
				abort();
		}
		snest_thread_quiescent();
	} while (!__atomic_load_n(&churn->stop, __ATOMIC_RELAXED));
	snest_thread_unregister();
	return (void *)(uintptr_t)(hits != 0);
}

static void fill(uint64_t *page, uint64_t value)
{
	for (unsigned i = 0; i < WORDS; i++)
		page[i] = value;
}

static void readers_while_changing(void **state)
{
	struct test_vm *f = *state;
	struct churn churn = {.vm = f->vm};
	pthread_t thread[2];
	uint64_t seed = 5;

	for (uint64_t i = 0; i < SLOTS; i++) {
		struct snest_region region = plain(i * PAGE, i * PAGE + PAGE - 1, 0);

		region.mapping = churn.ram[i] = aligned_alloc(4096, 4096);
		assert_non_null(region.mapping);
		fill(churn.ram[i], i);
		assert_int_equal(snest_memory_add(f->vm, &region), 0);
	}
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, use_memory, &churn), 0);
	for (unsigned round = 0; round < 200; round++) {
		uint64_t i = next_random(&seed) % (SLOTS / 2) * 2;
		struct snest_region region = plain(i * PAGE, i * PAGE + PAGE - 1, 0);

		assert_int_equal(snest_memory_remove(f->vm, region.first, region.last), 0);
		fill(churn.ram[i], ~i);
		fill(churn.ram[i], i);
		region.mapping = churn.ram[i];
		assert_int_equal(snest_memory_add(f->vm, &region), 0);
	}
	__atomic_store_n(&churn.stop, 1, __ATOMIC_RELAXED);
	snest_thread_offline();
	for (unsigned i = 0; i < 2; i++) {
		void *hits;

		pthread_join(thread[i], &hits);
		assert_non_null(hits);
	}
	snest_thread_online();
	for (unsigned i = 0; i < SLOTS; i++)
		free(churn.ram[i]);
}

struct changer {
	pthread_t thread;
	struct snest_vm *vm;
	uint64_t slot;
};

static void *change_own_slot(void *arg)
{
	struct changer *changer = arg;
	struct snest_region region = plain(changer->slot * PAGE, changer->slot * PAGE + 4095, 0);

	snest_thread_register();
	for (unsigned i = 0; i < 60; i++) {
		if (snest_memory_add(changer->vm, &region) ||
		    snest_memory_add(changer->vm, &region) != -EEXIST ||
		    snest_memory_remove(changer->vm, region.first, region.last))
			abort();
	}
	snest_thread_unregister();
	return NULL;
}

static void many_changers(void **state)
{
	struct test_vm *f = *state;
	struct changer changer[4];

	for (unsigned i = 0; i < 4; i++) {
		changer[i] = (struct changer){.vm = f->vm, .slot = i};
		assert_int_equal(
			pthread_create(&changer[i].thread, NULL, change_own_slot, &changer[i]), 0);
	}
	snest_thread_offline();
	for (unsigned i = 0; i < 4; i++)
		pthread_join(changer[i].thread, NULL);
	snest_thread_online();
	assert_int_equal(f->vm->memory.changes, 480);
	assert_int_equal(f->vm->memory.map->count, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, test_vm_setup, test_vm_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(done_comes_after_readers),
		TEST(blocking_call_waits_for_readers),
		TEST(readers_while_changing),
		TEST(many_changers),
	};
	int ret;

	/* Registered, so that every blocking call also shows that it is safe then. */
	snest_thread_register();
	ret = cmocka_run_group_tests_name("memory_readers", tests, NULL, NULL);
	snest_thread_unregister();
	return ret;
}
