/* SPDX-License-Identifier: MIT */
/*
 * A change of the memory map lets go of what it removed only when no pin from
 * before the change is held any more, whether the caller waits or is called.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include <snest/space.h>

#define MAX_TRIES 5000

struct fixture {
	struct snest_vm *vm;
	struct snest_space *space; /* pass-through */
	struct snest_device *device;
	unsigned calls; /* atomic: of done */
	bool returned;  /* atomic: the waiting thread is through */
};

static struct fixture f;

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static struct snest_memory_op add(uint64_t first, uint64_t host)
{
	return (struct snest_memory_op){.kind = SNEST_MEMORY_ADD,
	                                .region = {.size = sizeof(struct snest_region),
	                                           .first = first,
	                                           .last = first + 0xffff,
	                                           .host = host}};
}

static int setup(void **state)
{
	struct snest_memory_op ops[2] = {add(0, 0x100000), add(0x10000, 0x200000)};
	struct snest_space_config config = {.size = sizeof(config)};

	(void)state;
	memset(&f, 0, sizeof(f));
	assert_int_equal(snest_vm_create(NULL, &f.vm), 0);
	assert_int_equal(snest_memory_update(f.vm, ops, 2, NULL, NULL, NULL), 0);
	assert_int_equal(snest_space_get(f.vm, &config, &f.space), 0);
	assert_int_equal(snest_device_create(f.vm, 1, NULL, NULL, &f.device), 0);
	assert_int_equal(snest_device_bind(f.device, SNEST_NO_PASID, f.space), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	snest_space_put(f.space);
	snest_vm_destroy(f.vm);
	return 0;
}

static void hold(struct snest_pin *pin, uint64_t iova)
{
	assert_int_equal(snest_pin(f.device, SNEST_NO_PASID, iova, 4096, SNEST_READ, pin, NULL), 0);
	assert_int_equal(pin->translation.outcome, SNEST_WALK_HOST);
}

static void count(void *opaque)
{
	(void)opaque;
	__atomic_fetch_add(&f.calls, 1, __ATOMIC_RELEASE);
}

static unsigned calls(void)
{
	return __atomic_load_n(&f.calls, __ATOMIC_ACQUIRE);
}

static void remove_async(uint64_t first)
{
	struct snest_memory_op op = {
		.kind = SNEST_MEMORY_REMOVE, .first = first, .last = first + 0xffff};

	assert_int_equal(snest_memory_update(f.vm, &op, 1, NULL, count, NULL), 0);
}

static void *remove_waiting(void *arg)
{
	snest_thread_register();
	if (snest_memory_remove(f.vm, 0, 0xffff) == 0)
		__atomic_store_n(&f.returned, true, __ATOMIC_RELEASE);
	snest_thread_unregister();
	return arg;
}

static bool gone(uint64_t iova)
{
	struct snest_translation t;
	bool is_gone;

	snest_read_begin();
	is_gone = snest_translate(f.device, iova, SNEST_READ, &t, NULL) ||
	          t.outcome != SNEST_WALK_HOST;
	snest_read_end();
	return is_gone;
}

/* The change is there at once; its end waits for the pin. */
static void test_waits_for_a_pin(void **state)
{
	struct snest_pin pin;
	pthread_t thread;

	(void)state;
	hold(&pin, 0x1000);
	assert_int_equal(pthread_create(&thread, NULL, remove_waiting, NULL), 0);
	for (unsigned i = 0; i < MAX_TRIES && !gone(0x1000); i++)
		nap();
	assert_true(gone(0x1000));
	snest_thread_quiescent();
	for (unsigned i = 0; i < 30; i++) {
		nap();
		snest_thread_quiescent();
	}
	assert_false(__atomic_load_n(&f.returned, __ATOMIC_ACQUIRE));
	snest_unpin(&pin);
	snest_thread_offline();
	pthread_join(thread, NULL);
	snest_thread_online();
	assert_true(f.returned);
}

/* The callback comes behind the pin, and in the order of the changes. */
static void test_calls_after_a_pin(void **state)
{
	struct snest_pin pin, later;

	(void)state;
	hold(&pin, 0x1000);
	remove_async(0);
	assert_true(gone(0x1000));
	/* One grace period, so that what follows was pinned after the change settled. */
	for (unsigned i = 0; i < 30; i++) {
		nap();
		snest_thread_quiescent();
	}
	hold(&later, 0x10000);
	remove_async(0x10000);
	for (unsigned i = 0; i < 30; i++) {
		nap();
		snest_thread_quiescent();
	}
	assert_int_equal(calls(), 0);
	snest_unpin(&pin);
	for (unsigned i = 0; i < MAX_TRIES && calls() < 1; i++) {
		nap();
		snest_thread_quiescent();
	}
	/* The second waits for the later pin, the first does not. */
	assert_int_equal(calls(), 1);
	snest_unpin(&later);
	for (unsigned i = 0; i < MAX_TRIES && calls() < 2; i++) {
		nap();
		snest_thread_quiescent();
	}
	assert_int_equal(calls(), 2);
}

/* Nothing pinned: nothing to wait for. */
static void test_no_pins(void **state)
{
	struct snest_pin pin;

	(void)state;
	hold(&pin, 0x1000);
	snest_unpin(&pin);
	assert_int_equal(snest_memory_remove(f.vm, 0, 0xffff), 0);
	remove_async(0x10000);
	for (unsigned i = 0; i < MAX_TRIES && calls() < 1; i++) {
		nap();
		snest_thread_quiescent();
	}
	assert_int_equal(calls(), 1);
}

static int register_thread(void **state)
{
	(void)state;
	snest_thread_register();
	return 0;
}

static int unregister_thread(void **state)
{
	(void)state;
	snest_thread_unregister();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_waits_for_a_pin, setup, teardown),
		cmocka_unit_test_setup_teardown(test_calls_after_a_pin, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_pins, setup, teardown),
	};

	return cmocka_run_group_tests(tests, register_thread, unregister_thread);
}
