/* SPDX-License-Identifier: MIT */
/*
 * Copying guest memory: across regions, within rights, through accessors.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
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

static int read_accessor(void *opaque, uint64_t addr, void *buf, size_t length)
{
	for (size_t i = 0; i < length; i++)
		((unsigned char *)buf)[i] = (unsigned char)(addr + i);
	return opaque ? 0 : -EIO;
}

static uint64_t written_addr;
static size_t written_length;

static int write_accessor(void *opaque, uint64_t addr, const void *buf, size_t length)
{
	(void)opaque;
	(void)buf;
	written_addr = addr;
	written_length = length;
	return 0;
}

static void copies_cross_regions(void **state)
{
	enum {
		SIZE = 3 * 4096
	};
	struct test_vm *f = *state;
	unsigned char *ram = aligned_alloc(4096, SIZE), *expected = malloc(SIZE);
	unsigned char *buf = malloc(SIZE);
	uint64_t seed = 3;

	assert_true(ram && expected && buf);
	/* Backwards in host memory, so that a copy that forgets to switch region shows. */
	for (unsigned i = 0; i < 3; i++) {
		struct snest_region region = plain(i * PAGE, i * PAGE + PAGE - 1, 0);

		region.mapping = ram + (2 - i) * PAGE;
		assert_int_equal(snest_memory_add(f->vm, &region), 0);
	}
	for (unsigned i = 0; i < SIZE; i++) {
		expected[i] = (unsigned char)next_random(&seed);
		ram[(2 - i / PAGE) * PAGE + i % PAGE] = expected[i];
	}
	for (unsigned round = 0; round < 2000; round++) {
		size_t first = next_random(&seed) % SIZE;
		size_t length = next_random(&seed) % (round % 2 ? 40 : SIZE);
		size_t fits = length < SIZE - first ? length : SIZE - first;

		memset(buf, 0, SIZE);
		assert_int_equal(snest_guest_read(f->vm, first, buf, length),
		                 fits == length ? 0 : -EFAULT);
		assert_memory_equal(buf, expected + first, fits);
		for (size_t i = 0; i < fits; i++)
			buf[i] = expected[first + i] = (unsigned char)next_random(&seed);
		assert_int_equal(snest_guest_write(f->vm, first, buf, fits), 0);
	}
	for (unsigned i = 0; i < SIZE; i++)
		assert_int_equal(ram[(2 - i / PAGE) * PAGE + i % PAGE], expected[i]);
	assert_int_equal(snest_guest_read(f->vm, UINT64_MAX, buf, 2), -EFAULT);
	assert_int_equal(snest_guest_read(f->vm, 0, buf, SIZE_MAX), -EFAULT);
	free(ram);
	free(expected);
	free(buf);
}

static void copies_respect_rights(void **state)
{
	struct test_vm *f = *state;
	static char page[8192] __attribute__((aligned(4096)));
	struct snest_region region = plain(0, 4095, 0);
	char byte = 1;

	region.mapping = page;
	region.flags = SNEST_REGION_READONLY;
	assert_int_equal(snest_memory_add(f->vm, &region), 0);
	assert_int_equal(snest_guest_read(f->vm, 4095, &byte, 1), 0);
	assert_int_equal(snest_guest_write(f->vm, 4095, &byte, 1), -EFAULT);
	assert_int_equal(snest_guest_write(f->vm, 4095, &byte, 0), 0);
	region = plain(4096, 8191, 0); /* neither mapping nor accessors */
	assert_int_equal(snest_memory_add(f->vm, &region), 0);
	assert_int_equal(snest_guest_read(f->vm, 4096, &byte, 1), -EFAULT);
	assert_int_equal(snest_guest_write(f->vm, 4096, &byte, 1), -EFAULT);
}

static void copies_through_accessors(void **state)
{
	struct test_vm *f = *state;
	struct snest_accessors accessors = {.read = read_accessor, .opaque = f};
	struct snest_region region = plain(PAGE, 3 * PAGE - 1, 0);
	unsigned char buf[16];

	region.accessors = &accessors;
	assert_int_equal(snest_memory_add(f->vm, &region), 0);
	memset(&accessors, 0, sizeof(accessors)); /* it was copied */
	assert_int_equal(snest_guest_read(f->vm, PAGE + 5, buf, sizeof(buf)), 0);
	for (unsigned i = 0; i < sizeof(buf); i++)
		assert_int_equal(buf[i], (PAGE + 5 + i) & 0xff);
	assert_int_equal(snest_guest_write(f->vm, PAGE + 5, buf, sizeof(buf)), -EFAULT);

	accessors = (struct snest_accessors){.read = read_accessor, .write = write_accessor};
	assert_int_equal(snest_memory_replace(f->vm, &region), 0);
	assert_int_equal(snest_guest_read(f->vm, PAGE, buf, 1), -EFAULT); /* it refuses */
	assert_int_equal(snest_guest_write(f->vm, PAGE + 8, buf, 9), 0);
	assert_int_equal(written_addr, PAGE + 8);
	assert_int_equal(written_length, 9);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, test_vm_setup, test_vm_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(copies_cross_regions),
		TEST(copies_respect_rights),
		TEST(copies_through_accessors),
	};
	int ret;

	/* Registered, so that every blocking call also shows that it is safe then. */
	snest_thread_register();
	ret = cmocka_run_group_tests_name("memory_copy", tests, NULL, NULL);
	snest_thread_unregister();
	return ret;
}
