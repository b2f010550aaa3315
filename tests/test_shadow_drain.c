/* SPDX-License-Identifier: MIT */
/*
 * Drains and pins: what a drain waits for and what not, in which order drains
 * complete, and what a pin that is never released leads to.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include <snest/read_inline.h>
#include "support/fail.h"
#include "support/guest.h"

#define IOVA 0x1000ull
#define MS 1000000ull
#define DRAINS 16

struct fixture {
	struct test_fail fail;
	struct guest guest;
	struct snest_space *space;
	struct snest_device *device;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct guest_options o = {.config = {guest_config("vtd-ss 4 levels")}};

	test_fail_init(&f->fail);
	f->fail.hooks.now_ns = NULL;
	o.hooks = &f->fail.hooks;
	guest_init(&f->guest, &o);
	guest_map(&f->guest, 0, IOVA, IOVA + 0x3fff, GUEST_DATA, SNEST_READ | SNEST_WRITE, 0, 12,
	          false);
	f->space = guest_space(&f->guest, (struct snest_tag){1, 0}, 0, 0);
	assert_int_equal(snest_device_create(f->guest.vm, 0x42, NULL, NULL, &f->device), 0);
	assert_int_equal(snest_device_bind(f->device, SNEST_NO_PASID, f->space), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->device)
		snest_device_destroy(f->device);
	snest_space_put(f->space);
	guest_fini(&f->guest);
	assert_int_equal(f->fail.live_objects, 0);
	free(f);
	return 0;
}

static void pin(struct fixture *f, struct snest_pin *p)
{
	struct snest_fault fault;

	assert_int_equal(snest_pin(f->device, SNEST_NO_PASID, IOVA, 0x1000, SNEST_READ, p, &fault),
	                 0);
	assert_int_equal(p->translation.length, 0x1000);
}

static bool set(const int *flag)
{
	return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}

static void raise_flag(void *opaque)
{
	__atomic_store_n((int *)opaque, 1, __ATOMIC_RELEASE);
}

/* Waits for a flag, for at most `ms`; the thread holds nobody up meanwhile. */
static bool wait_for(const int *flag, unsigned ms)
{
	bool is_set;

	snest_thread_offline();
	for (unsigned i = 0; i < 10 * ms && !set(flag); i++)
		usleep(100);
	is_set = set(flag);
	snest_thread_online();
	return is_set;
}

/* ---- A thread with an open read section ----------------------------------------- */

struct reader {
	pthread_t thread;
	bool inlined;
	int open, go, closed;
};

static void *reader_main(void *arg)
{
	struct reader *r = arg;

	snest_thread_register();
	if (r->inlined)
		snest_read_begin_inline();
	else
		snest_read_begin();
	raise_flag(&r->open);
	while (!set(&r->go))
		usleep(100);
	raise_flag(&r->closed);
	if (r->inlined)
		snest_read_end_inline();
	else
		snest_read_end();
	snest_thread_unregister();
	return NULL;
}

static void reader_start_as(struct reader *r, bool inlined)
{
	memset(r, 0, sizeof(*r));
	r->inlined = inlined;
	assert_int_equal(pthread_create(&r->thread, NULL, reader_main, r), 0);
	assert_true(wait_for(&r->open, 10000));
}

static void reader_start(struct reader *r)
{
	reader_start_as(r, false);
}

static void reader_stop(struct reader *r)
{
	raise_flag(&r->go);
	snest_thread_offline();
	pthread_join(r->thread, NULL);
	snest_thread_online();
}

/* ---- Tests ------------------------------------------------------------------------ */

static void test_nothing_to_wait_for(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(snest_drain(f->guest.vm, 0), 0);
	assert_int_equal(snest_drain(f->guest.vm, 1000 * MS), 0);
}

static void test_hazard_2_waits_for_readers(void **state)
{
	struct fixture *f = *state;
	struct snest_drain node;
	struct reader reader;
	int done = 0;

	for (unsigned inlined = 0; inlined < 2; inlined++) {
		done = 0;
		reader_start_as(&reader, inlined);
		snest_drain_async(f->guest.vm, &node, raise_flag, &done);
		assert_false(wait_for(&done, 30));
		reader_stop(&reader);
		assert_true(wait_for(&done, 10000));
	}
}

static void test_hazard_2_waits_for_older_pins(void **state)
{
	struct fixture *f = *state;
	struct snest_pin old, other, new;
	struct snest_drain node;
	int done = 0;

	pin(f, &old);
	pin(f, &other);
	snest_drain_async(f->guest.vm, &node, raise_flag, &done);
	assert_false(wait_for(&done, 20));
	pin(f, &new);
	snest_unpin(&other);
	assert_false(wait_for(&done, 20));
	/* A pin that was made after the drain began does not hold it. */
	snest_unpin(&old);
	assert_true(wait_for(&done, 10000));
	snest_unpin(&new);
}

static void test_a_pin_is_listed_before_its_section_closes(void **state)
{
	struct fixture *f = *state;
	struct snest_pin p;

	/* The last of many short-lived pins always holds the drain that follows it. */
	for (unsigned i = 0; i < 100; i++) {
		struct snest_drain node;
		int done = 0;

		pin(f, &p);
		snest_drain_async(f->guest.vm, &node, raise_flag, &done);
		if (i % 20 == 0)
			assert_false(wait_for(&done, 2));
		assert_false(set(&done));
		snest_unpin(&p);
		assert_true(wait_for(&done, 10000));
	}
}

struct ordered {
	struct snest_drain node;
	struct order *order;
	unsigned number;
};

struct order {
	struct ordered drain[DRAINS];
	unsigned next;
	pthread_t thread;
	int wrong, done;
};

static void ordered_done(void *opaque)
{
	struct ordered *d = opaque;
	struct order *order = d->order;

	if (!order->next)
		order->thread = pthread_self();
	order->wrong |= order->next != d->number || !pthread_equal(order->thread, pthread_self());
	order->next++;
	if (order->next == DRAINS)
		raise_flag(&order->done);
}

/* Complete in the order of the calls, on one thread that is not the unpinning one. */
static void test_order(void **state)
{
	struct fixture *f = *state;
	struct order *order = calloc(1, sizeof(*order));
	struct snest_pin p[DRAINS];

	for (unsigned i = 0; i < DRAINS; i++) {
		order->drain[i].order = order;
		order->drain[i].number = i;
		if (i % 3 == 0)
			pin(f, &p[i]);
		snest_drain_async(f->guest.vm, &order->drain[i].node, ordered_done,
		                  &order->drain[i]);
	}
	for (unsigned i = DRAINS; i--;) {
		if (i % 3 == 0)
			snest_unpin(&p[i]);
	}
	assert_true(wait_for(&order->done, 10000));
	assert_false(order->wrong);
	assert_false(pthread_equal(order->thread, pthread_self()));
	free(order);
}

static void test_one_grace_period_for_all(void **state)
{
	struct fixture *f = *state;
	struct snest_vm_stats before = {.size = sizeof(before)}, after = before;
	struct order *order = calloc(1, sizeof(*order));
	struct reader reader;

	reader_start(&reader);
	assert_int_equal(snest_vm_stats(f->guest.vm, &before), 0);
	for (unsigned i = 0; i < DRAINS; i++) {
		order->drain[i].order = order;
		order->drain[i].number = i;
		snest_drain_async(f->guest.vm, &order->drain[i].node, ordered_done,
		                  &order->drain[i]);
	}
	assert_false(wait_for(&order->done, 5));
	reader_stop(&reader);
	assert_true(wait_for(&order->done, 10000));
	assert_int_equal(snest_vm_stats(f->guest.vm, &after), 0);
	/* One may have begun before the last of them was asked for. */
	assert_in_range(after.grace_periods - before.grace_periods, 1, 2);
	assert_false(order->wrong);
	free(order);
}

static void test_a_pin_that_stays_is_reported(void **state)
{
	struct fixture *f = *state;
	struct snest_pin p;

	pin(f, &p);
	assert_int_equal(f->fail.log_lines, 0);
	assert_int_equal(snest_drain(f->guest.vm, 20 * MS), -ETIME);
	assert_int_equal(f->fail.log_lines, 1);
	assert_non_null(strstr(f->fail.log_last, "pin"));
	assert_non_null(strstr(f->fail.log_last, "0x1000"));
	snest_unpin(&p);
	assert_int_equal(snest_drain(f->guest.vm, 1000 * MS), 0);
}

/* Readers are slower than the timeout, and then a pin is still there. */
static void *stop_later(void *arg)
{
	struct reader *r = arg;

	usleep(60000);
	raise_flag(&r->go);
	return NULL;
}

static void test_a_pin_behind_slow_readers(void **state)
{
	struct fixture *f = *state;
	struct reader reader;
	struct snest_pin p;
	pthread_t thread;

	pin(f, &p);
	reader_start(&reader);
	pthread_create(&thread, NULL, stop_later, &reader);
	assert_int_equal(snest_drain(f->guest.vm, 20 * MS), -ETIME);
	assert_true(set(&reader.closed));
	pthread_join(thread, NULL);
	reader_stop(&reader);
	snest_unpin(&p);
}

static void *unpin_later(void *arg)
{
	usleep(30000);
	snest_thread_register();
	snest_unpin(arg);
	snest_thread_unregister();
	return NULL;
}

static void test_blocking_waits_for_a_pin(void **state)
{
	struct fixture *f = *state;
	struct snest_pin p;
	pthread_t thread;

	pin(f, &p);
	pthread_create(&thread, NULL, unpin_later, &p);
	assert_int_equal(snest_drain(f->guest.vm, 0), 0);
	pthread_join(thread, NULL);
}

struct nested {
	struct snest_vm *vm;
	int ret, done;
};

static void drain_inside(void *opaque)
{
	struct nested *n = opaque;

	n->ret = snest_drain(n->vm, 0);
	raise_flag(&n->done);
}

static void test_would_wait_for_itself(void **state)
{
	struct fixture *f = *state;
	struct nested nested = {.vm = f->guest.vm};
	struct snest_drain node;

	if (strcmp(snest_rcu_flavour(), "qsbr")) {
		snest_read_begin();
		assert_int_equal(snest_drain(f->guest.vm, 0), -EDEADLK);
		snest_read_end();
	}
	snest_drain_async(f->guest.vm, &node, drain_inside, &nested);
	assert_true(wait_for(&nested.done, 10000));
	assert_int_equal(nested.ret, -EDEADLK);
}

/* Unpinning is allowed inside a read section, where nobody may be waited for. */
static void test_unpin_inside_a_section(void **state)
{
	struct fixture *f = *state;
	struct snest_drain node;
	struct snest_pin p;
	int done = 0;

	pin(f, &p);
	snest_drain_async(f->guest.vm, &node, raise_flag, &done);
	wait_for(&done, 5);
	snest_read_begin();
	snest_unpin(&p);
	snest_read_end();
	assert_true(wait_for(&done, 10000));
}

/* What is pinned stays, whoever lets go of the space and of the device. */
static void test_a_pin_outlives_bindings(void **state)
{
	struct fixture *f = *state;
	struct snest_pin p;

	pin(f, &p);
	assert_int_equal(snest_device_bind(f->device, SNEST_NO_PASID, NULL), 0);
	snest_device_destroy(f->device);
	f->device = NULL;
	snest_space_put(f->space);
	f->space = NULL;
	assert_int_equal(snest_drain(f->guest.vm, 10 * MS), -ETIME);
	snest_unpin(&p);
	assert_int_equal(snest_drain(f->guest.vm, 0), 0);
}

static void test_pin_errors(void **state)
{
	struct fixture *f = *state;
	struct snest_fault fault;
	struct snest_pin p;

	assert_int_equal(snest_pin(f->device, SNEST_NO_PASID, IOVA, 0, SNEST_READ, &p, NULL),
	                 -EINVAL);
	assert_int_equal(snest_pin(f->device, SNEST_NO_PASID, 0x900000, 1, SNEST_READ, &p, &fault),
	                 -EACCES);
	assert_int_equal(fault.reason, SNEST_FAULT_NOT_PRESENT);
	assert_int_equal(snest_pin(f->device, 5, IOVA, 1, SNEST_READ, &p, &fault), -EACCES);
	assert_int_equal(fault.reason, SNEST_FAULT_BLOCKED);
	assert_int_equal(snest_pin(f->device, 5, IOVA, 1, SNEST_READ, &p, NULL), -EACCES);
	/* None of them is held. */
	assert_int_equal(snest_drain(f->guest.vm, 1000 * MS), 0);
	/* As far as one leaf goes. */
	assert_int_equal(
		snest_pin(f->device, SNEST_NO_PASID, IOVA + 1, 0x100000, SNEST_READ, &p, NULL), 0);
	assert_int_equal(p.translation.length, 0xfff);
	assert_int_equal(p.translation.host, GUEST_HOST + 1);
	snest_unpin(&p);
}

/* Destroying the VM completes what was asked for. */
static void test_destroyed_with_drains(void **state)
{
	struct snest_drain node[DRAINS];
	int done[DRAINS] = {0};
	struct snest_vm *vm;

	(void)state;
	assert_int_equal(snest_vm_create(NULL, &vm), 0);
	for (unsigned i = 0; i < DRAINS; i++)
		snest_drain_async(vm, &node[i], raise_flag, &done[i]);
	snest_vm_destroy(vm);
	for (unsigned i = 0; i < DRAINS; i++)
		assert_true(set(&done[i]));
}

/* The first drain allocates what a VM keeps of drains: without it one completes all the same. */
static void test_drain_without_memory(void **state)
{
	struct snest_vm_config config = {.size = sizeof(config)};
	struct snest_drain node;
	struct test_fail fail;
	struct snest_vm *vm;
	int done = 0;

	(void)state;
	test_fail_init(&fail);
	config.hooks = &fail.hooks;
	assert_int_equal(snest_vm_create(&config, &vm), 0);
	test_fail_arm(&fail, 1);
	assert_int_equal(snest_drain(vm, 0), -ENOMEM);
	test_fail_arm(&fail, 1);
	snest_drain_async(vm, &node, raise_flag, &done);
	assert_true(wait_for(&done, 10000));
	assert_true(test_fail_disarm(&fail));
	assert_int_equal(snest_drain(vm, 0), 0);
	snest_vm_destroy(vm);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_nothing_to_wait_for),
		TEST(test_hazard_2_waits_for_readers),
		TEST(test_hazard_2_waits_for_older_pins),
		TEST(test_a_pin_is_listed_before_its_section_closes),
		TEST(test_order),
		TEST(test_one_grace_period_for_all),
		TEST(test_a_pin_that_stays_is_reported),
		TEST(test_a_pin_behind_slow_readers),
		TEST(test_blocking_waits_for_a_pin),
		TEST(test_would_wait_for_itself),
		TEST(test_unpin_inside_a_section),
		TEST(test_a_pin_outlives_bindings),
		TEST(test_pin_errors),
		cmocka_unit_test(test_destroyed_with_drains),
		cmocka_unit_test(test_drain_without_memory),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
