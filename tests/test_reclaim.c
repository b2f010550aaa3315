/* SPDX-License-Identifier: MIT */
/*
 * Deferred work: the guarantees that core/reclaim.h numbers, under every RCU
 * flavour.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
#include <snest/vm.h>

#include "core/rcu.h"
#include "core/reclaim.h"

#define NODES 1000

struct item {
	struct sn_reclaim_node node;
	struct sn_reclaim *reclaim;
	unsigned *counter;
	unsigned order; /* value of the counter when it ran, 1 is the first */
	unsigned again; /* times to queue itself */
};

static void count(struct sn_reclaim_node *node)
{
	struct item *item = (struct item *)node;

	item->order = __atomic_add_fetch(item->counter, 1, __ATOMIC_RELAXED);
	if (item->again) {
		item->again--;
		sn_reclaim_defer(item->reclaim, node, count);
	}
}

static int setup(void **state)
{
	struct sn_reclaim *reclaim = malloc(sizeof(*reclaim));

	*state = reclaim;
	return sn_reclaim_init(reclaim);
}

static int teardown(void **state)
{
	sn_reclaim_fini(*state);
	free(*state);
	return 0;
}

static void runs_in_order(void **state)
{
	static struct item item[NODES];
	unsigned counter = 0;

	for (unsigned i = 0; i < NODES; i++) {
		item[i].counter = &counter;
		sn_reclaim_defer(*state, &item[i].node, count);
	}
	sn_reclaim_barrier(*state);
	for (unsigned i = 0; i < NODES; i++)
		assert_int_equal(item[i].order, i + 1);
	assert_int_equal(sn_reclaim_pending(*state), 0);
}

struct reader {
	pthread_t thread;
	unsigned inside, leave, left; /* atomic */
};

static void *read_for_a_while(void *arg)
{
	struct reader *reader = arg;

	sn_thread_register();
	sn_read_begin();
	__atomic_store_n(&reader->inside, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&reader->leave, __ATOMIC_ACQUIRE))
		usleep(100);
	__atomic_store_n(&reader->left, 1, __ATOMIC_RELEASE);
	sn_read_end();
	sn_thread_unregister();
	return NULL;
}

static void start_reader(struct reader *reader)
{
	*reader = (struct reader){.inside = 0};
	assert_int_equal(pthread_create(&reader->thread, NULL, read_for_a_while, reader), 0);
	while (!__atomic_load_n(&reader->inside, __ATOMIC_ACQUIRE))
		usleep(100);
}

static void waits_for_readers(void **state)
{
	unsigned counter = 0;
	struct item item = {.counter = &counter};
	struct reader reader;

	start_reader(&reader);
	sn_reclaim_defer(*state, &item.node, count);
	usleep(50000);
	assert_int_equal(__atomic_load_n(&counter, __ATOMIC_RELAXED), 0);
	assert_int_equal(sn_reclaim_pending(*state), 1);
	__atomic_store_n(&reader.leave, 1, __ATOMIC_RELEASE);
	sn_reclaim_barrier(*state);
	assert_int_equal(__atomic_load_n(&reader.left, __ATOMIC_ACQUIRE), 1);
	assert_int_equal(counter, 1);
	pthread_join(reader.thread, NULL);
}

/* All that is queued while a grace period lasts shares the next one. */
static void batches(void **state)
{
	static struct item item[NODES];
	struct sn_reclaim *reclaim = *state;
	unsigned counter = 0;
	struct reader reader;
	uint64_t before;

	start_reader(&reader);
	before = __atomic_load_n(&reclaim->grace_periods, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < NODES; i++) {
		item[i].counter = &counter;
		sn_reclaim_defer(reclaim, &item[i].node, count);
	}
	__atomic_store_n(&reader.leave, 1, __ATOMIC_RELEASE);
	sn_reclaim_barrier(reclaim);
	assert_int_equal(counter, NODES);
	assert_true(__atomic_load_n(&reclaim->grace_periods, __ATOMIC_RELAXED) - before <= 2);
	pthread_join(reader.thread, NULL);
}

static void node_may_queue_itself(void **state)
{
	unsigned counter = 0;
	struct item item = {.counter = &counter, .reclaim = *state, .again = 5};

	sn_reclaim_defer(*state, &item.node, count);
	while (__atomic_load_n(&counter, __ATOMIC_RELAXED) < 6)
		sn_reclaim_barrier(*state);
	sn_reclaim_barrier(*state);
	assert_int_equal(counter, 6);
}

static void fini_runs_everything(void **state)
{
	struct sn_reclaim reclaim;
	unsigned counter = 0;
	struct item item = {.counter = &counter, .reclaim = &reclaim, .again = 20};

	(void)state;
	assert_int_equal(sn_reclaim_init(&reclaim), 0);
	sn_reclaim_defer(&reclaim, &item.node, count);
	sn_reclaim_fini(&reclaim);
	assert_int_equal(counter, 21);
}

static void fini_without_work(void **state)
{
	struct sn_reclaim reclaim;

	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(sn_reclaim_init(&reclaim), 0);
		sn_reclaim_fini(&reclaim);
	}
}

struct suspect {
	struct sn_reclaim_node node;
	struct sn_reclaim *reclaim;
	bool answer;
};

static void ask(struct sn_reclaim_node *node)
{
	struct suspect *suspect = (struct suspect *)node;

	suspect->answer = sn_reclaim_would_deadlock(suspect->reclaim);
}

static void knows_deadlock(void **state)
{
	struct suspect suspect = {.reclaim = *state};

	assert_false(sn_reclaim_would_deadlock(*state));
	sn_reclaim_defer(*state, &suspect.node, ask);
	sn_reclaim_barrier(*state);
	assert_true(suspect.answer);
#ifndef SNEST_RCU_QSBR
	sn_read_begin();
	assert_true(sn_reclaim_would_deadlock(*state));
	sn_read_end();
#endif
}

static void *barriers(void *arg)
{
	struct sn_reclaim *reclaim = arg;
	unsigned counter = 0;

	sn_thread_register();
	for (unsigned i = 0; i < 50; i++) {
		struct item item = {.counter = &counter};

		sn_reclaim_defer(reclaim, &item.node, count);
		sn_reclaim_barrier(reclaim);
		/* The node is on this stack: it must not be touched any more. */
		if (item.order != i + 1)
			abort();
	}
	sn_thread_unregister();
	return NULL;
}

/* Registered threads that wait at the same time must not hold each other up. */
static void many_wait(void **state)
{
	pthread_t thread[4];

	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, barriers, *state), 0);
	sn_thread_offline();
	for (unsigned i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	sn_thread_online();
}

/* What a reader read before it left and what is freed after it: no race, also for TSan. */
struct victim {
	struct sn_reclaim_node node;
	uint64_t value;
};

struct victims {
	struct victim *shared; /* RCU */
	unsigned stop;         /* atomic */
};

static void destroy(struct sn_reclaim_node *node)
{
	struct victim *victim = (struct victim *)node;

	victim->value = 0;
	free(victim);
}

static void *use_victims(void *arg)
{
	struct victims *victims = arg;

	sn_thread_register();
	while (!__atomic_load_n(&victims->stop, __ATOMIC_RELAXED)) {
		for (unsigned i = 0; i < 100; i++) {
			sn_read_begin();
			if (sn_deref(&victims->shared)->value != 42)
				abort();
			sn_read_end();
		}
		snest_thread_quiescent();
	}
	sn_thread_unregister();
	return NULL;
}

static struct victim *make_victim(void)
{
	struct victim *victim = malloc(sizeof(*victim));

	assert_non_null(victim);
	victim->value = 42;
	return victim;
}

static void readers_keep_objects(void **state)
{
	struct victims victims = {.shared = make_victim()};
	pthread_t thread[2];

	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, use_victims, &victims), 0);
	for (unsigned i = 0; i < 300; i++) {
		struct victim *old = victims.shared;

		sn_publish(&victims.shared, make_victim());
		sn_reclaim_defer(*state, &old->node, destroy);
		if (i % 8 == 0)
			sn_reclaim_barrier(*state);
	}
	__atomic_store_n(&victims.stop, 1, __ATOMIC_RELAXED);
	sn_thread_offline();
	for (unsigned i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	sn_thread_online();
	sn_reclaim_defer(*state, &victims.shared->node, destroy);
}

/* ---- Without blocking ---------------------------------------------------------- */

#ifdef SNEST_RCU_QSBR
static void poll_waits_for_readers(void **state)
{
	struct reader reader;

	(void)state;
	/* The thread of the tests is a reader itself. */
	snest_thread_online();
	assert_false(sn_rcu_poll());
	snest_thread_offline();
	assert_true(sn_rcu_poll());
	start_reader(&reader);
	assert_false(sn_rcu_poll());
	assert_false(sn_rcu_poll());
	__atomic_store_n(&reader.leave, 1, __ATOMIC_RELEASE);
	pthread_join(reader.thread, NULL);
	assert_true(sn_rcu_poll());
	snest_thread_online();
}

#define CELLS 4

struct cells {
	uint64_t *current, cell[CELLS];
	bool stop;
	unsigned reading; /* threads that have begun; atomic */
	uint64_t reads, wrong;
};

static void *read_cells(void *arg)
{
	struct cells *cells = arg;
	uint64_t reads = 0, wrong = 0;

	snest_thread_register();
	__atomic_fetch_add(&cells->reading, 1, __ATOMIC_RELAXED);
	while (!__atomic_load_n(&cells->stop, __ATOMIC_RELAXED)) {
		for (unsigned i = 0; i < 16; i++) {
			uint64_t *cell;

			snest_read_begin();
			cell = sn_deref(&cells->current);
			for (unsigned k = 0; k < 4; k++)
				wrong += !__atomic_load_n(cell, __ATOMIC_RELAXED);
			snest_read_end();
			reads++;
		}
		if (reads % 64) {
			snest_thread_quiescent();
		} else {
			snest_thread_offline();
			snest_thread_online();
		}
		if (reads % 4096 == 0) {
			snest_thread_unregister();
			snest_thread_register();
		}
	}
	snest_thread_unregister();
	__atomic_fetch_add(&cells->reads, reads, __ATOMIC_RELAXED);
	__atomic_fetch_add(&cells->wrong, wrong, __ATOMIC_RELAXED);
	return NULL;
}

/* Nobody sees a cell that was taken away before a poll that said yes. */
static void poll_ends_what_was_open(void **state)
{
	struct cells cells = {.cell = {1}};
	unsigned polled = 0;
	pthread_t thread[2];

	(void)state;
	cells.current = cells.cell;
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, read_cells, &cells), 0);
	snest_thread_offline();
	while (__atomic_load_n(&cells.reading, __ATOMIC_RELAXED) < 2)
		usleep(100);
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t *old = cells.current, *next = &cells.cell[(i + 1) % CELLS];

		__atomic_store_n(next, 1, __ATOMIC_RELAXED);
		sn_publish(&cells.current, next);
		if (sn_rcu_poll())
			polled++;
		else
			sn_rcu_synchronize();
		__atomic_store_n(old, 0, __ATOMIC_RELAXED);
	}
	__atomic_store_n(&cells.stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	snest_thread_online();
	assert_int_equal(cells.wrong, 0);
	assert_true(cells.reads > 0);
	assert_true(polled > 0);
}

static void *read_once(void *arg)
{
	(void)arg;
	urcu_qsbr_register_thread();
	snest_read_begin();
	snest_read_end();
	urcu_qsbr_unregister_thread();
	return NULL;
}

/* The last test: a thread that is registered elsewhere ends all polling. */
static void poll_gives_up_with_an_outsider(void **state)
{
	pthread_t thread;

	(void)state;
	snest_thread_offline();
	/* A thread that is no reader at all is no outsider. */
	snest_thread_unregister();
	snest_read_begin();
	snest_read_end();
	assert_true(sn_rcu_poll());
	snest_thread_register();
	snest_thread_offline();
	assert_int_equal(pthread_create(&thread, NULL, read_once, NULL), 0);
	pthread_join(thread, NULL);
	assert_false(sn_rcu_poll());
	snest_thread_online();
}
#else
static void poll_says_no(void **state)
{
	(void)state;
	assert_false(sn_rcu_poll());
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(runs_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(waits_for_readers, setup, teardown),
		cmocka_unit_test_setup_teardown(batches, setup, teardown),
		cmocka_unit_test_setup_teardown(node_may_queue_itself, setup, teardown),
		cmocka_unit_test(fini_runs_everything),
		cmocka_unit_test(fini_without_work),
		cmocka_unit_test_setup_teardown(knows_deadlock, setup, teardown),
		cmocka_unit_test_setup_teardown(many_wait, setup, teardown),
		cmocka_unit_test_setup_teardown(readers_keep_objects, setup, teardown),
#ifdef SNEST_RCU_QSBR
		cmocka_unit_test(poll_waits_for_readers),
		cmocka_unit_test(poll_ends_what_was_open),
		cmocka_unit_test(poll_gives_up_with_an_outsider),
#else
		cmocka_unit_test(poll_says_no),
#endif
	};
	int ret;

	/* Registered, so that every test also shows that blocking calls are safe then. */
	sn_thread_register();
	ret = cmocka_run_group_tests_name("reclaim", tests, NULL, NULL);
	sn_thread_unregister();
	return ret;
}
