/* SPDX-License-Identifier: MIT */
/*
 * The dirty log against a model, which is two arrays of pages: by IOVA and by
 * GPA. A lookup for writing marks, a lookup for reading does not; a fetch
 * takes, a peek looks. Then with writers running: what all fetches found
 * together covers all that was written, checked with the data itself.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>
#include "support/fail.h"
#include "support/guest.h"
#include "support/sink.h"

#define PAGE 4096ull
#define PAGES 1024u /* IOVAs, of 4 MiB */
#define BASE 0x0ull /* a window of the guest's tables */
#define GPAS 0x800u /* pages of GUEST_DATA that are watched */
#define RW (SNEST_READ | SNEST_WRITE)

struct fixture {
	struct test_fail fail;
	struct guest guest;
	struct snest_space *space[2]; /* two views of the same tables */
	struct snest_device *device[2];
	bool by_iova[2][PAGES], by_gpa[GPAS];
	bool logging;
	struct test_random random;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct guest_options o = {.config = {guest_config("vtd-ss 3 levels")}};

	test_fail_init(&f->fail);
	f->fail.hooks.now_ns = NULL;
	f->random.state = test_seed();
	o.hooks = &f->fail.hooks;
	guest_init(&f->guest, &o);
	for (unsigned i = 0; i < 2; i++) {
		f->space[i] =
			guest_space(&f->guest, (struct snest_tag){1, i}, SNEST_SPACE_ANNOUNCED, 0);
		assert_int_equal(snest_device_create(f->guest.vm, i, NULL, NULL, &f->device[i]), 0);
		assert_int_equal(snest_device_bind(f->device[i], SNEST_NO_PASID, f->space[i]), 0);
	}
	/* A large page, many small ones, some read-only, some without memory. */
	guest_map(&f->guest, 0, 0, 0x1fffff, GUEST_DATA + 0x200000, RW, 0, 21, false);
	guest_map(&f->guest, 0, 0x200000, 0x2fffff, GUEST_DATA + 0x123000, RW, 0, 12, false);
	guest_map(&f->guest, 0, 0x300000, 0x37ffff, GUEST_DATA + 0x500000, SNEST_READ, 0, 12,
	          false);
	guest_map(&f->guest, 0, 0x380000, 0x3fffff, GUEST_HOLE, RW, 0, 12, false);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < 2; i++) {
		snest_device_destroy(f->device[i]);
		snest_space_put(f->space[i]);
	}
	guest_fini(&f->guest);
	assert_int_equal(f->fail.live_objects, 0);
	free(f);
	return 0;
}

static void look(struct fixture *f, unsigned view, uint64_t iova, uint32_t access)
{
	struct snest_translation t;
	struct guest_answer a;
	int ret;

	guest_answer(&f->guest, iova, false, &a);
	snest_read_begin();
	ret = snest_translate(f->device[view], iova, access, &t, NULL);
	snest_read_end();
	assert_int_equal(ret != 0, !a.present || (access & ~(uint32_t)a.rights));
	if (!ret && a.memory && (access & SNEST_WRITE)) {
		assert_true(t.host == a.host);
		/* Everything that this allows to be written is marked. */
		for (uint64_t at = iova; at - iova < t.length; at = (at | 4095) + 1) {
			f->by_iova[view][at / PAGE] = true;
			f->by_gpa[(a.gpa + (at - iova) - GUEST_DATA) / PAGE] = true;
		}
		assert_true(t.length <= PAGE || !f->logging);
	} else if (!ret && a.memory && (t.rights & SNEST_WRITE)) {
		/* Rights that were not asked for: only where the page is marked. */
		assert_true(f->by_iova[view][iova / PAGE] || !f->logging);
	}
}

static void check_iova(struct fixture *f, unsigned view, unsigned from, unsigned to, bool peek)
{
	uint64_t bitmap[PAGES / 64] = {0}, pages = 77, expected = 0;

	assert_int_equal(snest_space_dirty(f->space[view], from * PAGE, to * PAGE + 4095,
	                                   peek ? SNEST_DIRTY_PEEK : 0, bitmap, &pages),
	                 0);
	for (unsigned i = from; i <= to; i++) {
		bool bit = bitmap[(i - from) / 64] >> (i - from) % 64 & 1;

		if (bit != f->by_iova[view][i])
			fail_msg("IOVA page %u: log says %d", i, bit);
		expected += f->by_iova[view][i];
		f->by_iova[view][i] &= peek;
	}
	assert_int_equal(pages, expected);
	for (unsigned i = to - from + 1; i < PAGES; i++)
		assert_false(bitmap[i / 64] >> i % 64 & 1);
}

static void check_gpa(struct fixture *f, unsigned from, unsigned to, bool peek)
{
	uint64_t bitmap[GPAS / 64] = {0}, pages = 77, expected = 0;

	assert_int_equal(snest_vm_dirty(f->guest.vm, GUEST_DATA + from * PAGE,
	                                GUEST_DATA + to * PAGE + 4095, peek ? SNEST_DIRTY_PEEK : 0,
	                                bitmap, &pages),
	                 0);
	for (unsigned i = from; i <= to; i++) {
		bool bit = bitmap[(i - from) / 64] >> (i - from) % 64 & 1;

		if (bit != f->by_gpa[i])
			fail_msg("GPA page %u: log says %d", i, bit);
		expected += f->by_gpa[i];
		f->by_gpa[i] &= peek;
	}
	assert_int_equal(pages, expected);
}

static void test_random_lookups(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < 2000; i++)
		look(f, 0, test_below(&f->random, PAGES * PAGE), RW);
	memset(f->by_iova, 0, sizeof(f->by_iova));
	memset(f->by_gpa, 0, sizeof(f->by_gpa));
	assert_int_equal(snest_dirty_start(f->guest.vm), 0);
	f->logging = true;
	for (unsigned i = 0; i < 4000; i++) {
		static const uint32_t access[] = {SNEST_READ, SNEST_WRITE, RW, 0};
		unsigned view = (unsigned)test_below(&f->random, 2);
		unsigned from = (unsigned)test_below(&f->random, PAGES);
		unsigned to = from + (unsigned)test_below(&f->random, PAGES - from);

		look(f, view, test_below(&f->random, PAGES * PAGE),
		     access[test_below(&f->random, 4)]);
		switch (test_below(&f->random, 64)) {
		case 0:
			check_iova(f, view, from, to, test_below(&f->random, 2));
			break;
		case 1:
			check_gpa(f, from, to, test_below(&f->random, 2));
			break;
		case 2:
			check_gpa(f, 0, GPAS - 1, false);
			break;
		case 3:
			assert_int_equal(
				snest_vm_invalidate(f->guest.vm, from * PAGE, to * PAGE + 4095, 0),
				0);
			break;
		default:
			break;
		}
	}
	for (unsigned view = 0; view < 2; view++)
		check_iova(f, view, 0, PAGES - 1, false);
	check_gpa(f, 0, GPAS - 1, false);
	assert_int_equal(snest_dirty_stop(f->guest.vm), 0);
}

static void test_errors(void **state)
{
	struct fixture *f = *state;
	uint64_t bitmap[PAGES / 64] = {0};

	assert_int_equal(snest_dirty_stop(f->guest.vm), -ENOENT);
	assert_int_equal(snest_space_dirty(f->space[0], 0, 4095, 0, bitmap, NULL), -ENOENT);
	assert_int_equal(snest_vm_dirty(f->guest.vm, 0, 4095, 0, bitmap, NULL), -ENOENT);
	assert_int_equal(snest_dirty_start(f->guest.vm), 0);
	assert_int_equal(snest_dirty_start(f->guest.vm), -EBUSY);
	assert_int_equal(snest_space_dirty(f->space[0], 0, 4095, 0, bitmap, NULL), 0);
	assert_int_equal(snest_space_dirty(f->space[0], 1, 4095, 0, bitmap, NULL), -EINVAL);
	assert_int_equal(snest_space_dirty(f->space[0], 0, 4096, 0, bitmap, NULL), -EINVAL);
	assert_int_equal(snest_space_dirty(f->space[0], 4096, 4095, 0, bitmap, NULL), -EINVAL);
	assert_int_equal(snest_space_dirty(f->space[0], 0, 4095, 0x80, bitmap, NULL), -EINVAL);
	assert_int_equal(snest_vm_dirty(f->guest.vm, 0, 4095, 0, NULL, NULL), -EINVAL);
	/* The last page of all. */
	assert_int_equal(snest_vm_dirty(f->guest.vm, 0 - PAGE, UINT64_MAX, 0, bitmap, NULL), 0);
	if (strcmp(snest_rcu_flavour(), "qsbr")) {
		snest_read_begin();
		assert_int_equal(snest_space_dirty(f->space[0], 0, 4095, 0, bitmap, NULL),
		                 -EDEADLK);
		assert_int_equal(
			snest_space_dirty(f->space[0], 0, 4095, SNEST_DIRTY_PEEK, bitmap, NULL), 0);
		snest_read_end();
	}
	assert_int_equal(snest_dirty_stop(f->guest.vm), 0);
	assert_int_equal(snest_dirty_stop(f->guest.vm), -ENOENT);
}

/* Bits that were set stay; nothing is left over from the time before. */
static void test_bitmap_is_only_added_to(void **state)
{
	struct fixture *f = *state;
	uint64_t bitmap[PAGES / 64] = {0x8000000000000000};

	assert_int_equal(snest_dirty_start(f->guest.vm), 0);
	look(f, 0, 0x201000, SNEST_WRITE);
	assert_int_equal(snest_space_dirty(f->space[0], 0x200000, 0x23ffff, 0, bitmap, NULL), 0);
	assert_true(bitmap[0] == 0x8000000000000002);
	look(f, 0, 0x202000, SNEST_WRITE);
	assert_int_equal(snest_dirty_stop(f->guest.vm), 0);
	assert_int_equal(snest_dirty_start(f->guest.vm), 0);
	memset(bitmap, 0, sizeof(bitmap));
	assert_int_equal(snest_space_dirty(f->space[0], 0x200000, 0x23ffff, 0, bitmap, NULL), 0);
	assert_true(bitmap[0] == 0);
	assert_int_equal(snest_dirty_stop(f->guest.vm), 0);
}

/* Held for writing: dirty at every fetch, until a fetch after the release. */
static void test_pins(void **state)
{
	struct fixture *f = *state;
	struct snest_pin before, during, reading;
	uint64_t bitmap[1], pages;

	assert_int_equal(snest_pin(f->device[0], SNEST_NO_PASID, 0x200800, 0x1000, SNEST_WRITE,
	                           &before, NULL),
	                 0);
	assert_int_equal(snest_dirty_start(f->guest.vm), 0);
	assert_int_equal(snest_pin(f->device[0], SNEST_NO_PASID, 0x205000, 1, RW, &during, NULL),
	                 0);
	assert_int_equal(
		snest_pin(f->device[0], SNEST_NO_PASID, 0x207000, 1, SNEST_READ, &reading, NULL),
		0);
	for (unsigned i = 0; i < 3; i++) {
		bitmap[0] = 0;
		assert_int_equal(snest_space_dirty(f->space[0], 0x200000, 0x23ffff,
		                                   i == 1 ? SNEST_DIRTY_PEEK : 0, bitmap, &pages),
		                 0);
		assert_true(bitmap[0] == 0x21 && pages == 2);
		bitmap[0] = 0;
		assert_int_equal(snest_vm_dirty(f->guest.vm, GUEST_DATA + 0x123000,
		                                GUEST_DATA + 0x162fff, 0, bitmap, &pages),
		                 0);
		assert_true(bitmap[0] == 0x21 && pages == 2);
	}
	snest_unpin(&before);
	snest_unpin(&during);
	snest_unpin(&reading);
	for (unsigned i = 0; i < 2; i++) {
		bitmap[0] = 0;
		assert_int_equal(
			snest_space_dirty(f->space[0], 0x200000, 0x23ffff, 0, bitmap, &pages), 0);
		assert_true(bitmap[0] == (i ? 0 : 0x21));
	}
	assert_int_equal(snest_dirty_stop(f->guest.vm), 0);
}

/* A pin over many pages, from the time before the log. */
static void test_a_long_pin(void **state)
{
	struct fixture *f = *state;
	uint64_t bitmap[512 / 64] = {0}, pages;
	struct snest_pin pin;

	assert_int_equal(
		snest_pin(f->device[0], SNEST_NO_PASID, 0x10000, 0x100000, SNEST_WRITE, &pin, NULL),
		0);
	assert_int_equal(pin.translation.length, 0x100000);
	assert_int_equal(snest_dirty_start(f->guest.vm), 0);
	assert_int_equal(snest_space_dirty(f->space[0], 0, 0x1fffff, 0, bitmap, &pages), 0);
	assert_int_equal(pages, 256);
	for (unsigned i = 0; i < 512; i++)
		assert_int_equal(bitmap[i / 64] >> i % 64 & 1, i >= 16 && i < 272);
	snest_unpin(&pin);
	assert_int_equal(snest_dirty_stop(f->guest.vm), 0);
}

/* The shadow of a mirrored space is the sink's: lookups through it are logged all the same. */
static void test_mirrored_space(void **state)
{
	struct fixture *f = *state;
	struct sink *sink = calloc(1, sizeof(*sink));

	sink_init(sink, 0);
	assert_int_equal(snest_space_mirror(f->space[0], &sink->sink), 0);
	sink_reset(sink);
	assert_int_equal(snest_dirty_start(f->guest.vm), 0);
	f->logging = true;
	for (unsigned i = 0; i < 1000; i++) {
		look(f, 0, test_below(&f->random, PAGES * PAGE), i & 1 ? SNEST_READ : SNEST_WRITE);
		if (i % 100 == 99) {
			check_iova(f, 0, 0, PAGES - 1, false);
			check_gpa(f, 0, GPAS - 1, false);
			assert_int_equal(snest_space_invalidate(f->space[0], 0, UINT64_MAX, 0), 0);
		}
	}
	assert_int_equal(snest_dirty_stop(f->guest.vm), 0);
	assert_int_equal(snest_space_invalidate(f->space[0], 0, UINT64_MAX, 0), 0);
	/* None of this is the sink's business. */
	assert_int_equal(sink->maps + sink->unmaps, 0);
	assert_int_equal(snest_space_unmirror(f->space[0]), 0);
	free(sink);
}

/* A log that cannot be kept says more than was written, never less, and recovers. */
static void test_hazard_28_no_memory_for_the_log(void **state)
{
	struct fixture *f = *state;
	uint64_t bitmap[1] = {0}, pages;

	assert_int_equal(snest_dirty_start(f->guest.vm), 0);
	for (uint64_t n = 1;; n++) {
		test_fail_arm(&f->fail, n);
		look(f, 0, 0x203000, SNEST_WRITE);
		if (!test_fail_disarm(&f->fail))
			break;
		bitmap[0] = 0;
		assert_int_equal(
			snest_space_dirty(f->space[0], 0x200000, 0x23ffff, 0, bitmap, &pages), 0);
		assert_true(bitmap[0] & 8);
		bitmap[0] = 0;
		assert_int_equal(snest_vm_dirty(f->guest.vm, GUEST_DATA + 0x123000,
		                                GUEST_DATA + 0x162fff, 0, bitmap, &pages),
		                 0);
		assert_true(bitmap[0] & 8);
		/* Fetched is fetched. */
		assert_int_equal(
			snest_space_dirty(f->space[0], 0x200000, 0x23ffff, 0, bitmap, &pages), 0);
		assert_int_equal(pages, 0);
		assert_int_equal(snest_vm_dirty(f->guest.vm, GUEST_DATA + 0x123000,
		                                GUEST_DATA + 0x162fff, 0, bitmap, &pages),
		                 0);
		assert_int_equal(pages, 0);
		assert_int_equal(snest_dirty_stop(f->guest.vm), 0);
		assert_int_equal(snest_dirty_start(f->guest.vm), 0);
	}
	assert_int_equal(snest_dirty_stop(f->guest.vm), 0);
}

/* ---- With writers ----------------------------------------------------------------- */

#define RACE_PAGES 64u
#define WRITERS 2u

struct race {
	struct snest_vm *vm;
	struct snest_space *space;
	struct snest_device *device;
	uint64_t *ram;
	int stop;
	uint64_t copy[2][RACE_PAGES * 512]; /* what a migration would have sent: by IOVA, by GPA */
};

static void *writer(void *arg)
{
	struct race *r = arg;
	struct test_random random = {(uintptr_t)&random};

	snest_thread_register();
	while (!__atomic_load_n(&r->stop, __ATOMIC_RELAXED)) {
		uint64_t iova =
			test_below(&random, RACE_PAGES) * PAGE + 8 * test_below(&random, 512);
		struct snest_translation t;
		struct snest_pin pin;

		if (test_below(&random, 16)) {
			snest_read_begin();
			if (!snest_translate(r->device, iova, SNEST_WRITE, &t, NULL))
				__atomic_fetch_add((uint64_t *)(uintptr_t)t.host, 1,
				                   __ATOMIC_RELAXED);
			snest_read_end();
		} else if (!snest_pin(r->device, SNEST_NO_PASID, iova, 8, SNEST_WRITE, &pin,
		                      NULL)) {
			snest_thread_offline();
			usleep(20);
			snest_thread_online();
			__atomic_fetch_add((uint64_t *)(uintptr_t)pin.translation.host, 1,
			                   __ATOMIC_RELAXED);
			snest_unpin(&pin);
		}
		snest_thread_quiescent();
	}
	snest_thread_unregister();
	return NULL;
}

/* Sends what is dirty: copies it after the fetch, as a migration does. */
static void fetch(struct race *r, unsigned by_gpa)
{
	uint64_t bitmap[RACE_PAGES / 64] = {0};

	if (by_gpa)
		assert_int_equal(snest_vm_dirty(r->vm, 0x100000, 0x100000 + RACE_PAGES * PAGE - 1,
		                                0, bitmap, NULL),
		                 0);
	else
		assert_int_equal(
			snest_space_dirty(r->space, 0, RACE_PAGES * PAGE - 1, 0, bitmap, NULL), 0);
	for (unsigned i = 0; i < RACE_PAGES * 512; i++) {
		if (bitmap[i / 512 / 64] >> i / 512 % 64 & 1)
			r->copy[by_gpa][i] = __atomic_load_n(&r->ram[i], __ATOMIC_RELAXED);
	}
}

static void test_no_write_is_missed(void **state)
{
	static struct race race;
	struct race *r = &race;
	struct snest_region region = {.size = sizeof(region), .first = 0x100000};
	struct fixture *f = *state;
	pthread_t thread[WRITERS];

	memset(r, 0, sizeof(*r));
	r->vm = f->guest.vm;
	r->space = f->space[0];
	r->device = f->device[0];
	/* The writers' memory, in place of some that no table has used. */
	r->ram = mmap(NULL, RACE_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
	              -1, 0);
	assert_true(r->ram != MAP_FAILED && f->guest.cut < 0x100000);
	region.last = region.first + RACE_PAGES * PAGE - 1;
	region.host = (uintptr_t)r->ram;
	region.mapping = r->ram;
	assert_int_equal(snest_memory_replace(r->vm, &region), 0);
	guest_map(&f->guest, 0, 0, RACE_PAGES * PAGE - 1, 0x100000, RW, 0, 12, true);
	assert_int_equal(snest_vm_invalidate(r->vm, 0, UINT64_MAX, 0), 0);

	for (unsigned i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, writer, r), 0);
	for (unsigned round = 0; round < 3; round++) {
		assert_int_equal(snest_dirty_start(r->vm), 0);
		/* The first pass sends everything. */
		for (unsigned i = 0; i < RACE_PAGES * 512; i++)
			r->copy[0][i] = r->copy[1][i] =
				__atomic_load_n(&r->ram[i], __ATOMIC_RELAXED);
		for (unsigned pass = 0; pass < 30; pass++) {
			fetch(r, pass & 1);
			snest_thread_offline();
			usleep(500);
			snest_thread_online();
			if (pass % 8 == 0)
				assert_int_equal(snest_vm_invalidate(r->vm, 0, UINT64_MAX, 0), 0);
		}
		if (round < 2)
			assert_int_equal(snest_dirty_stop(r->vm), 0);
	}
	/* The guest stops; the last pass. */
	__atomic_store_n(&r->stop, 1, __ATOMIC_RELAXED);
	snest_thread_offline();
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(thread[i], NULL);
	snest_thread_online();
	fetch(r, 0);
	fetch(r, 1);
	assert_int_equal(snest_dirty_stop(r->vm), 0);
	assert_memory_equal(r->copy[0], r->ram, RACE_PAGES * PAGE);
	assert_memory_equal(r->copy[1], r->ram, RACE_PAGES * PAGE);
	munmap(r->ram, RACE_PAGES * PAGE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_random_lookups),
		TEST(test_errors),
		TEST(test_bitmap_is_only_added_to),
		TEST(test_pins),
		TEST(test_a_long_pin),
		TEST(test_mirrored_space),
		TEST(test_hazard_28_no_memory_for_the_log),
		TEST(test_no_write_is_missed),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
