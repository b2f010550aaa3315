/* SPDX-License-Identifier: MIT */
/*
 * A sink stops a command half-way, with the space's lock held, and others come
 * along: lookups that miss, a second command, the dirty log. So each of these
 * races happens, every time.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "support/guest.h"
#include "support/sink.h"

#define RW (SNEST_READ | SNEST_WRITE)
#define ALL UINT64_MAX
#define PAGE 4096ull
#define IOVA 0x400000ull

static struct guest guest;
static struct snest_space *space;
static struct sink *sink;
static int (*sink_apply)(void *, const struct snest_sink_op *, size_t, size_t *);

static int get(const int *flag)
{
	return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}

static void set(int *flag, int value)
{
	__atomic_store_n(flag, value, __ATOMIC_RELEASE);
}

/* For at most ten seconds; the thread holds nobody up meanwhile. */
static bool wait_for(const int *flag)
{
	snest_thread_offline();
	for (unsigned i = 0; i < 10000 && !get(flag); i++)
		usleep(1000);
	snest_thread_online();
	return get(flag);
}

struct thread {
	pthread_t thread;
	void (*fn)(void);
	int done;
};

static void *thread_main(void *arg)
{
	struct thread *t = arg;

	snest_thread_register();
	t->fn();
	set(&t->done, 1);
	snest_thread_unregister();
	return NULL;
}

static void thread_start(struct thread *t, void (*fn)(void))
{
	t->fn = fn;
	t->done = 0;
	assert_int_equal(pthread_create(&t->thread, NULL, thread_main, t), 0);
}

static void thread_join(struct thread *t)
{
	snest_thread_offline();
	pthread_join(t->thread, NULL);
	snest_thread_online();
}

/* Long enough for a thread to get as far as it can. */
static void pause_ms(unsigned ms)
{
	snest_thread_offline();
	usleep(ms * 1000);
	snest_thread_online();
}

/* What should have returned 0, in any thread. */
static int refused;

static void expect_ok(int ret)
{
	__atomic_fetch_or(&refused, ret, __ATOMIC_RELAXED);
}

/* ---- A sink that stops ------------------------------------------------------------------ */

static int stops, stopped, go;
static struct snest_sink_op stopped_at; /* the last operation that the sink was given then */

static int stopping_apply(void *opaque, const struct snest_sink_op *ops, size_t count, size_t *done)
{
	if (get(&stops)) {
		set(&stops, 0);
		stopped_at = ops[count - 1];
		set(&stopped, 1);
		for (unsigned i = 0; i < 10000 && !get(&go); i++)
			usleep(1000);
	}
	if (!sink) {
		*done = count;
		return 0;
	}
	return sink_apply(opaque, ops, count, done);
}

static void stop_next(void)
{
	set(&go, 0);
	set(&stopped, 0);
	set(&stops, 1);
}

static void begin(uint32_t flags)
{
	struct guest_options o = {.config = {guest_config("vtd-ss 3 levels")}, .one_region = true};

	guest_init(&guest, &o);
	space = guest_space(&guest, (struct snest_tag){1, 0}, SNEST_SPACE_ANNOUNCED, 0);
	sink = calloc(1, sizeof(*sink));
	sink_init(sink, flags);
	sink_apply = sink->sink.apply;
	sink->sink.apply = stopping_apply;
}

static void end(void)
{
	snest_space_put(space);
	guest_fini(&guest);
	free(sink);
	sink = NULL;
}

static void map_page(unsigned p, unsigned to)
{
	assert_int_equal(snest_table_map(guest.table[0].table, IOVA + p * PAGE,
	                                 IOVA + p * PAGE + 0xfff, GUEST_DATA + to * PAGE,
	                                 SNEST_RIGHTS, 0,
	                                 SNEST_TABLE_REPLACE | SNEST_TABLE_PAGE(12)),
	                 0);
}

static void unmap_page(unsigned p)
{
	assert_int_equal(snest_table_unmap(guest.table[0].table, IOVA + p * PAGE,
	                                   IOVA + p * PAGE + 0xfff, 0, NULL),
	                 0);
}

static int look(uint32_t access)
{
	struct snest_translation t;
	int ret;

	snest_read_begin();
	ret = snest_space_translate(space, IOVA, access, &t, NULL);
	snest_read_end();
	return ret;
}

/* ---- Lookups ------------------------------------------------------------------------------- */

static void look_to_execute(void)
{
	/* Not in the shadow: the sink knows of no right to execute. */
	expect_ok(look(SNEST_EXEC));
}

static void attach(void)
{
	expect_ok(snest_space_mirror(space, &sink->sink));
}

static void test_lookups_do_not_wait_for_a_sink(void **state)
{
	struct thread command, reader;

	(void)state;
	begin(0);
	map_page(0, 0);
	stop_next();
	thread_start(&command, attach);
	assert_true(wait_for(&stopped));
	thread_start(&reader, look_to_execute);
	assert_true(wait_for(&reader.done));
	assert_false(get(&command.done));
	set(&go, 1);
	thread_join(&reader);
	thread_join(&command);
	assert_int_equal(refused, 0);
	end();
}

/* ---- Two commands ---------------------------------------------------------------------------- */

#define PAGES 200u

static void invalidate_all(void)
{
	expect_ok(snest_space_invalidate(space, 0, ALL, 0));
}

static void invalidate_stopped(void)
{
	expect_ok(snest_space_invalidate(space, stopped_at.last & ~0xfffull, stopped_at.last, 0));
}

/*
 * The first command has read a page's new entry, and has unmapped the old one. The
 * guest then unmaps the page. The shadow has nothing there, and nor has the guest,
 * but the second command is not complete: the first is about to map what it read.
 */
static void test_hazard_1_a_command_that_is_half_way(void **state)
{
	struct thread one, other;
	unsigned victim;

	(void)state;
	begin(0);
	/* Backwards, so that each is a map of its own. */
	for (unsigned p = 0; p < PAGES; p++)
		map_page(p, 1000 - 2 * p);
	assert_int_equal(snest_space_mirror(space, &sink->sink), 0);
	/* One operation for the first page, two for each other: a full batch ends with an unmap. */
	unmap_page(0);
	for (unsigned p = 1; p < PAGES; p++)
		map_page(p, 2000 - 2 * p);
	stop_next();
	refused = 0;
	thread_start(&one, invalidate_all);
	assert_true(wait_for(&stopped));
	assert_int_equal(stopped_at.map, 0);
	victim = (unsigned)((stopped_at.last - IOVA) / PAGE);
	unmap_page(victim);
	thread_start(&other, invalidate_stopped);
	pause_ms(20);
	set(&go, 1);
	thread_join(&other);
	thread_join(&one);
	assert_int_equal(refused, 0);
	assert_null(sink_find(sink, IOVA + victim * PAGE));
	assert_non_null(sink_find(sink, IOVA + (victim + 1) * PAGE));
	end();
}

/* ---- The dirty log ------------------------------------------------------------------------------ */

static void invalidate_elsewhere(void)
{
	expect_ok(snest_space_invalidate(space, 0, 0xfff, 0));
}

static void start_log(void)
{
	expect_ok(snest_dirty_start(guest.vm));
}

static void look_to_write(void)
{
	expect_ok(look(SNEST_WRITE));
}

static uint64_t fetch(void)
{
	uint64_t bitmap[1] = {0}, pages;

	assert_int_equal(snest_space_dirty(space, IOVA, IOVA + 0xfff, 0, bitmap, &pages), 0);
	return pages;
}

/*
 * A fill that found the log off, and then waits for its turn behind the log's
 * start, must not publish a right to write that nobody logs.
 */
static void test_a_fill_behind_the_start_of_the_log(void **state)
{
	struct snest_sink observer = {
		.size = sizeof(observer), .flags = SNEST_SINK_UNMAP_ONLY, .apply = stopping_apply};
	struct thread command, log, reader;

	(void)state;
	begin(0);
	free(sink);
	sink = NULL;
	map_page(0, 0);
	assert_int_equal(snest_space_mirror(space, &observer), 0);
	stop_next();
	refused = 0;
	thread_start(&command, invalidate_elsewhere);
	assert_true(wait_for(&stopped));
	thread_start(&log, start_log);
	pause_ms(20);
	thread_start(&reader, look_to_write);
	pause_ms(20);
	set(&go, 1);
	thread_join(&command);
	thread_join(&reader);
	thread_join(&log);
	assert_int_equal(look(SNEST_WRITE), 0);
	assert_int_equal(fetch(), 1);
	assert_int_equal(refused, 0);
	assert_int_equal(snest_dirty_stop(guest.vm), 0);
	end();
}

/* ---- Who waits for readers --------------------------------------------------------------------- */

static int inside, leave;

static void stay_inside(void)
{
	struct snest_translation t;

	snest_read_begin();
	expect_ok(snest_space_translate(space, IOVA, SNEST_WRITE, &t, NULL));
	set(&inside, 1);
	for (unsigned i = 0; i < 10000 && !get(&leave); i++)
		usleep(1000);
	snest_read_end();
}

static void fetch_space(void)
{
	uint64_t bitmap[1];

	expect_ok(snest_space_dirty(space, IOVA, IOVA + 0xfff, 0, bitmap, NULL));
}

static void fetch_vm(void)
{
	uint64_t bitmap[1];

	expect_ok(snest_vm_dirty(guest.vm, GUEST_DATA, GUEST_DATA + 0xfff, 0, bitmap, NULL));
}

/* What a lookup allowed to be written has been written when a start or a fetch returns. */
static void test_the_log_waits_for_readers(void **state)
{
	void (*const fn[])(void) = {start_log, fetch_space, fetch_vm};

	(void)state;
	begin(0);
	map_page(0, 0);
	refused = 0;
	for (unsigned i = 0; i < 3; i++) {
		struct thread reader, log;

		set(&inside, 0);
		set(&leave, 0);
		thread_start(&reader, stay_inside);
		assert_true(wait_for(&inside));
		thread_start(&log, fn[i]);
		pause_ms(20);
		assert_false(get(&log.done));
		set(&leave, 1);
		thread_join(&reader);
		thread_join(&log);
	}
	assert_int_equal(refused, 0);
	assert_int_equal(snest_dirty_stop(guest.vm), 0);
	end();
}

/* By GPA alone, too: nobody else has marked what is pinned. */
static void test_pins_by_gpa(void **state)
{
	struct snest_device *device;
	struct snest_pin pin;

	(void)state;
	begin(0);
	map_page(0, 0);
	assert_int_equal(snest_device_create(guest.vm, 1, NULL, NULL, &device), 0);
	assert_int_equal(snest_device_bind(device, SNEST_NO_PASID, space), 0);
	assert_int_equal(snest_pin(device, SNEST_NO_PASID, IOVA, 1, SNEST_WRITE, &pin, NULL), 0);
	assert_int_equal(snest_dirty_start(guest.vm), 0);
	for (unsigned i = 0; i < 5; i++) {
		uint64_t bitmap[1] = {0}, pages;

		if (i == 3)
			snest_unpin(&pin);
		assert_int_equal(
			snest_vm_dirty(guest.vm, GUEST_DATA, GUEST_DATA + 0xfff, 0, bitmap, &pages),
			0);
		assert_int_equal(pages, i < 4);
	}
	assert_int_equal(snest_dirty_stop(guest.vm), 0);
	snest_device_destroy(device);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lookups_do_not_wait_for_a_sink),
		cmocka_unit_test(test_hazard_1_a_command_that_is_half_way),
		cmocka_unit_test(test_a_fill_behind_the_start_of_the_log),
		cmocka_unit_test(test_the_log_waits_for_readers),
		cmocka_unit_test(test_pins_by_gpa),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
