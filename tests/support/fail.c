/* SPDX-License-Identifier: MIT */
/*
 * Hooks for tests: see tests/support/fail.h.
 *
 * Memory is handed out full of garbage, so that a missing clear shows, and
 * has a header before it, so that a wrong size or a second free shows.
 */
#include "support/fail.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC 0x736e657374666169ull

struct header {
	uint64_t magic;
	void *raw;
	size_t size;
	size_t unused;
};

static void *hook_alloc(void *opaque, size_t size, size_t align)
{
	struct test_fail *fail = opaque;
	uint64_t call = __atomic_add_fetch(&fail->calls, 1, __ATOMIC_RELAXED);
	struct header *header;
	uintptr_t at;
	char *raw;

	if (call == __atomic_load_n(&fail->fail_call, __ATOMIC_RELAXED)) {
		__atomic_add_fetch(&fail->fired, 1, __ATOMIC_RELAXED);
		return NULL;
	}
	if (!size || !align || (align & (align - 1))) {
		fprintf(stderr, "alloc hook: size %zu, align %zu\n", size, align);
		abort();
	}
	raw = malloc(size + align + sizeof(*header));
	if (!raw)
		return NULL;
	at = ((uintptr_t)raw + sizeof(*header) + align - 1) & ~(uintptr_t)(align - 1);
	header = (struct header *)at - 1;
	*header = (struct header){.magic = MAGIC, .raw = raw, .size = size};
	memset((void *)at, 0xa5, size);
	__atomic_add_fetch(&fail->live_objects, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&fail->live_bytes, size, __ATOMIC_RELAXED);
	return (void *)at;
}

static void hook_free(void *opaque, void *ptr, size_t size)
{
	struct test_fail *fail = opaque;
	struct header *header = (struct header *)ptr - 1;

	if (header->magic != MAGIC || header->size != size) {
		fprintf(stderr, "free hook: not allocated, or not with size %zu\n", size);
		abort();
	}
	header->magic = 0;
	memset(ptr, 0x5a, size);
	__atomic_sub_fetch(&fail->live_objects, 1, __ATOMIC_RELAXED);
	__atomic_sub_fetch(&fail->live_bytes, size, __ATOMIC_RELAXED);
	free(header->raw);
}

static void hook_log(void *opaque, enum snest_log_level level, const char *line)
{
	struct test_fail *fail = opaque;

	(void)level;
	__atomic_add_fetch(&fail->log_lines, 1, __ATOMIC_RELAXED);
	snprintf(fail->log_last, sizeof(fail->log_last), "%s", line);
}

static uint64_t hook_now_ns(void *opaque)
{
	struct test_fail *fail = opaque;

	return __atomic_load_n(&fail->now_ns, __ATOMIC_RELAXED);
}

void test_fail_init(struct test_fail *fail)
{
	*fail = (struct test_fail){
		.hooks =
			{
				.size = sizeof(fail->hooks),
				.opaque = fail,
				.alloc = hook_alloc,
				.free = hook_free,
				.log = hook_log,
				.now_ns = hook_now_ns,
			},
	};
}

void test_fail_arm(struct test_fail *fail, uint64_t nth)
{
	uint64_t calls = __atomic_load_n(&fail->calls, __ATOMIC_RELAXED);

	__atomic_store_n(&fail->fired, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&fail->fail_call, calls + nth, __ATOMIC_RELAXED);
}

bool test_fail_disarm(struct test_fail *fail)
{
	__atomic_store_n(&fail->fail_call, 0, __ATOMIC_RELAXED);
	return __atomic_load_n(&fail->fired, __ATOMIC_RELAXED) != 0;
}

int test_vm_setup(void **state)
{
	struct test_vm *test = calloc(1, sizeof(*test));
	struct snest_vm_config config = {.size = sizeof(config)};

	if (!test)
		return -1;
	test_fail_init(&test->fail);
	config.hooks = &test->fail.hooks;
	*state = test;
	return snest_vm_create(&config, &test->vm);
}

int test_vm_teardown(void **state)
{
	struct test_vm *test = *state;
	bool leaked;

	snest_vm_destroy(test->vm);
	leaked = test->fail.live_objects || test->fail.live_bytes;
	free(test);
	return leaked ? -1 : 0;
}
