/* SPDX-License-Identifier: MIT */
/*
 * The VM object: creating it with good and bad configurations, its hooks, its
 * log, its statistics, and every allocation of its life failed in turn.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/vm.h"
#include "support/fail.h"

static void defaults(void **state)
{
	struct snest_vm *vm = NULL;

	(void)state;
	assert_int_equal(snest_vm_create(NULL, &vm), 0);
	assert_non_null(vm);
	snest_vm_destroy(vm);
	snest_vm_destroy(NULL);
}

static void two_vms_share_nothing(void **state)
{
	struct snest_vm_stats stats = {.size = sizeof(stats)};
	struct snest_region region = {.size = sizeof(region), .last = 4095};
	struct snest_vm *a, *b;

	(void)state;
	assert_int_equal(snest_vm_create(NULL, &a), 0);
	assert_int_equal(snest_vm_create(NULL, &b), 0);
	assert_int_equal(snest_memory_add(a, &region), 0);
	assert_int_equal(snest_vm_stats(b, &stats), 0);
	assert_int_equal(stats.regions, 0);
	snest_vm_destroy(a);
	assert_int_equal(snest_memory_add(b, &region), 0);
	snest_vm_destroy(b);
}

static void bad_configurations(void **state)
{
	struct {
		struct snest_vm_config config;
		uint64_t tail;
	} newer = {.config.size = sizeof(newer)};
	struct snest_stage stage = {.size = sizeof(stage), .format = 0x7fff};
	struct snest_vm_config config = {.size = 0};
	struct snest_vm *vm = (struct snest_vm *)&stage;
	struct test_fail fail;

	(void)state;
	test_fail_init(&fail);
	assert_int_equal(snest_vm_create(&config, &vm), -EINVAL);
	config.size = sizeof(config);
	config.host_stage = &stage;
	assert_int_equal(snest_vm_create(&config, &vm), -EOPNOTSUPP);
	config.host_stage = NULL;
	newer.tail = 1;
	assert_int_equal(snest_vm_create(&newer.config, &vm), -E2BIG);
	config.hooks = &fail.hooks;
	fail.hooks.free = NULL;
	assert_int_equal(snest_vm_create(&config, &vm), -EINVAL);
	test_fail_init(&fail);
	fail.hooks.alloc = NULL;
	assert_int_equal(snest_vm_create(&config, &vm), -EINVAL);
	test_fail_init(&fail);
	fail.hooks.size = 3;
	assert_int_equal(snest_vm_create(&config, &vm), -EINVAL);
	/* A failed call leaves the result alone. */
	assert_ptr_equal(vm, &stage);

	newer.tail = 0;
	assert_int_equal(snest_vm_create(&newer.config, &vm), 0);
	snest_vm_destroy(vm);
}

static void older_caller(void **state)
{
	/* A caller that knows no more than the size and the hooks. */
	struct {
		size_t size;
		const struct snest_hooks *hooks;
	} older = {sizeof(older), NULL};
	struct snest_vm_config *config = malloc(sizeof(older));
	struct snest_vm *vm;

	(void)state;
	assert_non_null(config);
	memcpy(config, &older, sizeof(older));
	assert_int_equal(snest_vm_create(config, &vm), 0);
	free(config);
	snest_vm_destroy(vm);
}

static void hooks_are_copied(void **state)
{
	struct test_fail fail;
	struct snest_hooks *hooks = malloc(sizeof(*hooks));
	struct snest_vm_config config = {.size = sizeof(config), .hooks = hooks};
	struct snest_vm *vm;

	(void)state;
	test_fail_init(&fail);
	*hooks = fail.hooks;
	assert_int_equal(snest_vm_create(&config, &vm), 0);
	free(hooks);
	fail.now_ns = 77;
	assert_int_equal(sn_vm_now(vm), 77);
	assert_true(fail.live_bytes > 0);
	snest_vm_destroy(vm);
	assert_int_equal(fail.live_objects, 0);
}

static void object_memory(void **state)
{
	struct snest_vm_stats before = {.size = sizeof(before)}, after = before;
	struct test_fail fail;
	struct snest_vm_config config = {.size = sizeof(config), .hooks = &fail.hooks};
	struct snest_vm *vm;
	char *ptr;

	(void)state;
	test_fail_init(&fail);
	assert_int_equal(snest_vm_create(&config, &vm), 0);
	assert_int_equal(snest_vm_stats(vm, &before), 0);
	assert_int_equal(before.object_bytes, fail.live_bytes);
	ptr = sn_vm_alloc(vm, 1000);
	assert_non_null(ptr);
	assert_int_equal((uintptr_t)ptr % 64, 0);
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(ptr[i], 0);
	assert_int_equal(snest_vm_stats(vm, &after), 0);
	assert_int_equal(after.object_bytes, fail.live_bytes);
	assert_true(after.object_bytes >= before.object_bytes + 1000);
	sn_vm_free(vm, ptr, 1000);
	assert_int_equal(snest_vm_stats(vm, &after), 0);
	assert_int_equal(after.object_bytes, before.object_bytes);
	sn_vm_free(vm, NULL, 1000);
	assert_null(sn_vm_alloc(vm, SIZE_MAX));
	assert_null(sn_vm_alloc(vm, SIZE_MAX - 100));
	snest_vm_destroy(vm);
}

static void every_allocation_fails(void **state)
{
	struct test_fail fail;
	struct snest_vm_config config = {.size = sizeof(config), .hooks = &fail.hooks};
	struct snest_vm *vm;
	uint64_t n;

	(void)state;
	test_fail_init(&fail);
	for (n = 1;; n++) {
		int ret;

		test_fail_arm(&fail, n);
		ret = snest_vm_create(&config, &vm);
		if (!test_fail_disarm(&fail)) {
			assert_int_equal(ret, 0);
			break;
		}
		assert_int_equal(ret, -ENOMEM);
		assert_int_equal(fail.live_objects, 0);
	}
	assert_true(n > 2);
	snest_vm_destroy(vm);
	assert_int_equal(fail.live_objects, 0);
}

static void log_burst_is_limited(void **state)
{
	const uint64_t second = 1000000000;
	struct test_fail fail;
	struct snest_vm_config config = {.size = sizeof(config), .hooks = &fail.hooks};
	struct snest_vm *vm;
	uint64_t burst, before;

	(void)state;
	test_fail_init(&fail);
	assert_int_equal(snest_vm_create(&config, &vm), 0);
	for (unsigned i = 0; i < 10000; i++)
		sn_log_guest(vm, SNEST_LOG_WARNING, "line %u", i);
	burst = fail.log_lines;
	assert_in_range(burst, 5, 50);

	/* A minute of a guest that does nothing else: a few lines a second. */
	for (unsigned ms = 0; ms < 60000; ms++) {
		fail.now_ns = second + ms * (second / 1000);
		sn_log_guest(vm, SNEST_LOG_WARNING, "line");
	}
	/* Two lines each time: what was held back, and the new one. */
	assert_in_range(fail.log_lines - burst, 60, 60 * 20);

	/* What was held back is said once. */
	fail.now_ns += 100 * second;
	sn_log_guest(vm, SNEST_LOG_WARNING, "after");
	before = fail.log_lines;
	sn_log_guest(vm, SNEST_LOG_WARNING, "again");
	assert_int_equal(fail.log_lines, before + 1);

	/* A clock that goes back gives nothing. */
	fail.now_ns = 0;
	before = fail.log_lines;
	for (unsigned i = 0; i < 10000; i++)
		sn_log_guest(vm, SNEST_LOG_WARNING, "line");
	assert_in_range(fail.log_lines - before, 0, 50);

	/* What the host causes is not limited. */
	before = fail.log_lines;
	for (unsigned i = 0; i < 1000; i++)
		sn_log(vm, SNEST_LOG_ERROR, "%s", "host");
	assert_int_equal(fail.log_lines, before + 1000);
	snest_vm_destroy(vm);
}

static void long_log_line_is_cut(void **state)
{
	struct test_fail fail;
	struct snest_vm_config config = {.size = sizeof(config), .hooks = &fail.hooks};
	struct snest_vm *vm;
	char text[2000];

	(void)state;
	test_fail_init(&fail);
	assert_int_equal(snest_vm_create(&config, &vm), 0);
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = 0;
	sn_log(vm, SNEST_LOG_ERROR, "%s", text);
	assert_in_range(strlen(fail.log_last), 100, 255);
	snest_vm_destroy(vm);
}

static void statistics(void **state)
{
	struct snest_vm_stats stats = {.size = 0};
	struct snest_region region = {.size = sizeof(region), .last = 4095};
	struct snest_vm *vm;
	void *page;

	(void)state;
	assert_int_equal(snest_vm_create(NULL, &vm), 0);
	assert_int_equal(snest_vm_stats(vm, &stats), -EINVAL);
	stats.size = sizeof(stats);
	assert_int_equal(snest_vm_stats(vm, &stats), 0);
	assert_int_equal(stats.size, sizeof(stats));
	assert_int_equal(stats.table_bytes, 0);
	assert_int_equal(stats.regions, 0);
	assert_int_equal(snest_memory_add(vm, &region), 0);
	page = sn_pool_alloc(&vm->pool, 12, NULL);
	assert_int_equal(snest_vm_stats(vm, &stats), 0);
	assert_int_equal(stats.regions, 1);
	assert_int_equal(stats.memory_changes, 1);
	assert_int_equal(stats.table_bytes, 4096);
	assert_int_equal(stats.deferred, 0);
	assert_true(stats.pool_bytes >= stats.table_bytes);
	assert_true(stats.grace_periods >= 1);
	sn_pool_free(&vm->pool, page, 12);
	snest_vm_destroy(vm);
}

static void names(void **state)
{
	unsigned a, b, c;

	(void)state;
	for (unsigned i = 0; i <= SNEST_FAULT_BLOCKED; i++) {
		assert_string_not_equal(snest_fault_reason_name(i), "unknown fault");
		for (unsigned j = 0; j < i; j++)
			assert_string_not_equal(snest_fault_reason_name(i),
			                        snest_fault_reason_name(j));
	}
	assert_string_equal(snest_fault_reason_name(SNEST_FAULT_BLOCKED + 1), "unknown fault");
	assert_string_equal(snest_fault_reason_name(UINT32_MAX), "unknown fault");
	assert_int_equal(sscanf(snest_version(), "%u.%u.%u", &a, &b, &c), 3);
#if defined(SNEST_RCU_QSBR)
	assert_string_equal(snest_rcu_flavour(), "qsbr");
#elif defined(SNEST_RCU_MEMB)
	assert_string_equal(snest_rcu_flavour(), "memb");
#else
	assert_string_equal(snest_rcu_flavour(), "bp");
#endif
}

static void sections_nest(void **state)
{
	(void)state;
	snest_read_begin();
	snest_read_begin();
	snest_read_end();
	snest_read_end();
	snest_thread_quiescent();
	snest_thread_offline();
	snest_thread_online();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(two_vms_share_nothing),
		cmocka_unit_test(bad_configurations),
		cmocka_unit_test(older_caller),
		cmocka_unit_test(hooks_are_copied),
		cmocka_unit_test(object_memory),
		cmocka_unit_test(every_allocation_fails),
		cmocka_unit_test(log_burst_is_limited),
		cmocka_unit_test(long_log_line_is_cut),
		cmocka_unit_test(statistics),
		cmocka_unit_test(names),
		cmocka_unit_test(sections_nest),
	};
	int ret;

	snest_thread_register();
	ret = cmocka_run_group_tests_name("vm", tests, NULL, NULL);
	snest_thread_unregister();
	return ret;
}
