/* SPDX-License-Identifier: MIT */
/*
 * Hooks for tests: an allocator that fails where a test wants it to and that
 * knows what is still allocated, a clock that a test turns, and a log that it
 * reads. Any thread may use the hooks; the functions below are for the test's
 * own thread.
 *
 * An nth-failure sweep repeats a scenario and fails its first, second, ...
 * allocation until it passes untouched:
 *
 *     for (uint64_t n = 1;; n++) {
 *             test_fail_arm(&fail, n);
 *             ret = scenario();
 *             if (!test_fail_disarm(&fail))
 *                     break;
 *             ... ret is -ENOMEM, nothing changed, nothing leaked ...
 *     }
 */
#ifndef SN_TESTS_FAIL_H
#define SN_TESTS_FAIL_H

#include <snest/vm.h>

struct test_fail {
	struct snest_hooks hooks; /* hand these to snest_vm_create */
	/* All atomic. */
	uint64_t calls;        /* allocations asked for, the failed ones included */
	uint64_t fail_call;    /* number of the call that fails; 0: none */
	uint64_t fired;        /* calls that failed */
	uint64_t live_objects; /* allocated and not freed */
	uint64_t live_bytes;
	uint64_t now_ns;
	uint64_t log_lines;
	char log_last[256]; /* not atomic: for tests that log from one thread */
};

/* No failures, time 0. */
void test_fail_init(struct test_fail *fail);

/* The nth allocation from now fails; 1 is the next one. */
void test_fail_arm(struct test_fail *fail, uint64_t nth);

/* No more failures. Whether one happened since test_fail_arm. */
bool test_fail_disarm(struct test_fail *fail);

/*
 * A VM on such hooks, as *state of a cmocka test. The teardown fails when
 * anything that the VM allocated is still there.
 */
struct test_vm {
	struct test_fail fail;
	struct snest_vm *vm;
};

int test_vm_setup(void **state);
int test_vm_teardown(void **state);

#endif
