/* SPDX-License-Identifier: MIT */
/*
 * Linking snest changes no allocator of the program: malloc and its family
 * stay the C library's, also while a VM allocates from its own arena.
 */
#include <dlfcn.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <snest/vm.h>

#include "core/vm.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAVE_SANITIZER 1
#endif
#endif

/* Looks up by name, as any other library in the process would. */
static void names_are_libc(void **state)
{
	static const char *const names[] = {
		"malloc",        "calloc",         "realloc",  "free",
		"aligned_alloc", "posix_memalign", "memalign", "malloc_usable_size"};
	Dl_info libc, found;

	(void)state;
#ifdef HAVE_SANITIZER
	skip(); /* the sanitizer has replaced them */
#endif
	assert_true(dladdr(dlsym(RTLD_DEFAULT, "strlen"), &libc));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		void *symbol = dlsym(RTLD_DEFAULT, names[i]);

		assert_non_null(symbol);
		assert_true(dladdr(symbol, &found));
		assert_string_equal(found.dli_fname, libc.dli_fname);
	}
	assert_null(dlsym(RTLD_DEFAULT, "mallocx"));
	assert_null(dlsym(RTLD_DEFAULT, "sn_je_mallocx"));
}

/* Whatever name resolution says: the C library's counters must see our malloc. */
static void counters_move(void **state)
{
	const size_t size = 64 << 20;
	struct mallinfo2 before, after;
	void *ptr;

	(void)state;
#ifdef HAVE_SANITIZER
	skip();
#endif
	before = mallinfo2();
	ptr = malloc(size);
	assert_non_null(ptr);
	memset(ptr, 1, size);
	after = mallinfo2();
	free(ptr);
	assert_true(after.uordblks + after.hblkhd >= before.uordblks + before.hblkhd + size);
}

static void arena_is_separate(void **state)
{
#ifdef SNEST_JEMALLOC
	struct snest_vm_stats stats = {.size = sizeof(stats)};
	struct mallinfo2 before, after;
	struct snest_vm *vm;
	void *page;

	(void)state;
	before = mallinfo2();
	assert_int_equal(snest_vm_create(NULL, &vm), 0);
	page = sn_pool_alloc(&vm->pool, 12, NULL);
	assert_non_null(page);
	after = mallinfo2();
	assert_int_equal(snest_vm_stats(vm, &stats), 0);
	assert_true(stats.arena_bytes >= stats.pool_bytes + stats.object_bytes);
	assert_true(stats.pool_bytes >= (2 << 20));
	/* The C library gave a thread, perhaps, but no chunk. */
	assert_true(after.uordblks + after.hblkhd < before.uordblks + before.hblkhd + (1 << 20));
	snest_vm_destroy(vm);
#else
	(void)state;
	skip();
#endif
}

/* Each VM has its own arena, and an arena's number can be had again. */
static void many_vms(void **state)
{
	struct snest_vm *vm[20];

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 20; i++)
			assert_int_equal(snest_vm_create(NULL, &vm[i]), 0);
		for (unsigned i = 0; i < 20; i++) {
			void *page = sn_pool_alloc(&vm[i]->pool, 12, NULL);

			assert_non_null(page);
			for (unsigned j = 0; j < i; j++)
				assert_true(!vm[i]->arena || vm[i]->arena != vm[j]->arena);
		}
		for (unsigned i = 0; i < 20; i++)
			snest_vm_destroy(vm[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_libc),
		cmocka_unit_test(counters_move),
		cmocka_unit_test(arena_is_separate),
		cmocka_unit_test(many_vms),
	};

	return cmocka_run_group_tests_name("malloc", tests, NULL, NULL);
}
