/* SPDX-License-Identifier: MIT */
/*
 * Memory failure everywhere (hazard 28): a whole life of a VM, with spaces,
 * devices, lookups, a mirror, a dirty log, changes of memory, pins and drains,
 * is repeated with its first, second, third ... allocation failing, and then
 * with every budget of table memory from nothing upwards. Each call succeeds
 * or says what it lacks, every lookup is right, the sink is what the shadow
 * says, nothing is lost from the log, and nothing leaks.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "support/fail.h"
#include "support/guest.h"
#include "support/sink.h"

#define RW (SNEST_READ | SNEST_WRITE)
#define RAM (1ull << 20)
#define PAGES 48u
#define HOST 0x5000000000ull
#define DATA 0x10000000ull
#define ALL UINT64_MAX

/*
 * IOVAs all over the place, so that their leaves need tables of their own; the
 * builder is another VM, whose memory does not fail.
 */
struct life {
	struct test_fail fail;
	struct snest_vm *builder, *vm;
	struct snest_table *table;
	struct snest_stage stage;
	char *ram;
	uint64_t cut;
	uint64_t gpa[PAGES]; /* 0: not mapped */
	struct snest_space *space, *mirrored;
	struct snest_device *device;
	struct sink sink;
	bool starved; /* something was refused for lack of memory */
};

static uint64_t iova_of(unsigned page)
{
	return (uint64_t)page * 0x40201000;
}

static void *page_alloc(void *opaque, unsigned lg2)
{
	struct life *l = opaque;

	l->cut += (uint64_t)1 << lg2;
	assert_true(l->cut <= RAM);
	return l->ram + l->cut - ((uint64_t)1 << lg2);
}

static void page_free(void *opaque, void *page, unsigned lg2)
{
	(void)opaque, (void)page, (void)lg2;
}

static void set(struct life *l, unsigned page, uint64_t gpa)
{
	uint64_t iova = iova_of(page);

	if (gpa)
		assert_int_equal(snest_table_map(l->table, iova, iova + 0xfff, gpa, RW, 0,
		                                 SNEST_TABLE_REPLACE | SNEST_TABLE_PAGE(12)),
		                 0);
	else
		assert_int_equal(snest_table_unmap(l->table, iova, iova + 0xfff, 0, NULL), 0);
	l->gpa[page] = gpa;
}

static void build(struct life *l)
{
	struct snest_table_memory memory = {
		.size = sizeof(memory), .alloc = page_alloc, .free = page_free, .opaque = l};

	l->ram = aligned_alloc(4096, RAM);
	memset(l->ram, 0, RAM);
	l->cut = 4096;
	memory.delta = 0 - (uint64_t)(uintptr_t)l->ram;
	assert_int_equal(snest_vm_create(NULL, &l->builder), 0);
	assert_int_equal(snest_table_create(l->builder, &guest_config("vtd-ss no 2M")->stage,
	                                    &memory, &l->table),
	                 0);
	l->stage = *snest_table_stage(l->table);
	for (unsigned i = 0; i < PAGES; i++)
		set(l, i, DATA + i * 0x3000ull);
}

/* 0, or out of memory: anything else is wrong. */
static bool got(struct life *l, int ret)
{
	if (ret && ret != -ENOMEM && ret != -ENOSPC)
		fail_msg("returned %d", ret);
	l->starved |= ret != 0;
	return ret == 0;
}

static struct snest_region data_region(uint64_t host)
{
	return (struct snest_region){.size = sizeof(struct snest_region),
	                             .first = DATA,
	                             .last = DATA + 0xffffff,
	                             .host = host};
}

/* Every page, through the device: exactly what the tables say. */
static void look(struct life *l, struct snest_space *space, uint32_t access, uint64_t host)
{
	for (unsigned i = 0; i < PAGES; i++) {
		struct snest_translation t;
		struct snest_fault fault;
		int ret;

		snest_read_begin();
		ret = snest_space_translate(space, iova_of(i) + 8, access, &t, &fault);
		snest_read_end();
		assert_int_equal(ret, l->gpa[i] ? 0 : -EACCES);
		if (!ret)
			assert_true(t.host == host + (l->gpa[i] - DATA) + 8);
	}
}

static int see_run(void *opaque, const struct snest_run *run)
{
	struct life *l = opaque;
	const struct sink_map *map = sink_find(&l->sink, run->first);

	assert_non_null(map);
	assert_true(map->host + (run->first - map->first) == run->addr);
	l->sink.failures += run->last - run->first + 1;
	return 0;
}

/* The shadow says what the sink holds, and nothing in it is wrong. */
static void check_sink(struct life *l, uint64_t host, int ret)
{
	uint64_t wanted = 0;

	l->sink.failures = 0;
	assert_int_equal(snest_space_enumerate(l->mirrored, 0, ALL, see_run, l), 0);
	assert_true(l->sink.failures == sink_bytes(&l->sink));
	for (unsigned i = 0; i < PAGES; i++) {
		const struct sink_map *map = sink_find(&l->sink, iova_of(i));

		wanted += l->gpa[i] ? 0x1000 : 0;
		if (map)
			assert_true(l->gpa[i] && map->host == host + (l->gpa[i] - DATA));
	}
	if (ret)
		assert_true(l->sink.told > 0);
	else
		assert_true(sink_bytes(&l->sink) == wanted);
}

static void live_mirror(struct life *l)
{
	int ret;

	sink_init(&l->sink, 0);
	ret = snest_space_mirror(l->mirrored, &l->sink.sink);
	if (!got(l, ret)) {
		assert_int_equal(l->sink.count, 0);
		return;
	}
	check_sink(l, HOST, 0);
	look(l, l->mirrored, SNEST_READ, HOST);
	for (unsigned i = 0; i < PAGES; i += 3) {
		set(l, i, i & 1 ? 0 : DATA + 0x100000 + i * 0x2000ull);
		l->sink.told = 0;
		ret = snest_space_invalidate(l->mirrored, iova_of(i), iova_of(i) + 0xfff, 0);
		got(l, ret);
	}
	sink_reset(&l->sink);
	ret = snest_space_invalidate(l->mirrored, 0, ALL, 0);
	got(l, ret);
	check_sink(l, HOST, ret);
	look(l, l->mirrored, SNEST_READ, HOST);
}

static void live_dirty(struct life *l)
{
	uint64_t bitmap[64] = {0};

	if (!got(l, snest_dirty_start(l->vm)))
		return;
	look(l, l->space, SNEST_WRITE, HOST);
	assert_int_equal(snest_vm_dirty(l->vm, DATA, DATA + 0xffffff, 0, bitmap, NULL), 0);
	for (unsigned i = 0; i < PAGES; i++) {
		uint64_t bit = (l->gpa[i] - DATA) >> 12;

		if (l->gpa[i])
			assert_true(bitmap[bit / 64] >> bit % 64 & 1);
	}
	assert_int_equal(snest_dirty_stop(l->vm), 0);
	look(l, l->space, SNEST_WRITE, HOST);
}

static void count_done(void *opaque)
{
	__atomic_fetch_add((unsigned *)opaque, 1, __ATOMIC_RELEASE);
}

static void live_memory(struct life *l)
{
	struct snest_region region = data_region(HOST + 0x80000000);
	unsigned done = 0, calls = 0;
	struct snest_drain node;
	struct snest_pin pin;
	uint64_t host = HOST;

	if (got(l, snest_memory_replace(l->vm, &region)))
		host = region.host;
	look(l, l->space, SNEST_READ, host);
	look(l, l->mirrored, SNEST_READ, host);
	if (l->sink.count)
		check_sink(l, host, -ENOMEM * (l->sink.told > 0));
	snest_drain_async(l->vm, &node, count_done, &done);
	calls++;
	got(l, snest_drain(l->vm, 0));
	if (l->device &&
	    !snest_pin(l->device, SNEST_NO_PASID, iova_of(1), 8, SNEST_WRITE, &pin, NULL))
		snest_unpin(&pin);
	got(l, snest_drain(l->vm, 0));
	while (__atomic_load_n(&done, __ATOMIC_ACQUIRE) != calls)
		snest_thread_quiescent();
}

static void live(struct life *l, uint64_t budget)
{
	struct snest_vm_config config = {
		.size = sizeof(config), .hooks = &l->fail.hooks, .table_bytes_max = budget};
	struct snest_space_config sc = {.size = sizeof(sc), .stages = &l->stage, .count = 1};
	struct snest_region tables = {
		.size = sizeof(tables), .last = RAM - 1, .host = 0x1000, .mapping = l->ram};
	struct snest_region data = data_region(HOST);

	l->vm = NULL;
	l->space = l->mirrored = NULL;
	l->device = NULL;
	memset(&l->sink, 0, offsetof(struct sink, map));
	if (!got(l, snest_vm_create(&config, &l->vm)))
		return;
	if (!got(l, snest_memory_add(l->vm, &tables)) || !got(l, snest_memory_add(l->vm, &data)) ||
	    !got(l, snest_space_get(l->vm, &sc, &l->space)))
		goto out;
	sc.flags = SNEST_SPACE_ANNOUNCED;
	if (!got(l, snest_space_get(l->vm, &sc, &l->mirrored)))
		goto out;
	if (!got(l, snest_device_create(l->vm, 1, NULL, NULL, &l->device)))
		goto out;
	assert_int_equal(snest_device_bind(l->device, SNEST_NO_PASID, l->space), 0);
	for (uint32_t pasid = 0; pasid < 4; pasid++)
		got(l, snest_device_bind(l->device, pasid << 18, l->mirrored));
	look(l, l->space, SNEST_READ, HOST);
	look(l, l->space, SNEST_READ, HOST);
	live_mirror(l);
	assert_int_equal(snest_space_invalidate(l->space, 0, ALL, 0), 0);
	look(l, l->space, SNEST_WRITE, HOST);
	live_dirty(l);
	live_memory(l);
	snest_device_unbind_all(l->device, true);
out:
	if (l->device)
		snest_device_destroy(l->device);
	snest_space_put(l->space);
	snest_space_put(l->mirrored);
	snest_vm_destroy(l->vm);
	assert_int_equal(l->sink.count, 0);
}

static void test_hazard_28_every_allocation_fails_once(void **state)
{
	struct life *l = calloc(1, sizeof(*l));
	uint64_t n = 1;

	(void)state;
	test_fail_init(&l->fail);
	l->fail.hooks.now_ns = NULL;
	build(l);
	for (;; n++) {
		bool fired;

		l->starved = false;
		test_fail_arm(&l->fail, n);
		live(l, 0);
		fired = test_fail_disarm(&l->fail);
		assert_int_equal(l->fail.live_objects, 0);
		if (!fired)
			break;
	}
	assert_false(l->starved);
	assert_true(n > 12);
	snest_table_destroy(l->table);
	snest_vm_destroy(l->builder);
	free(l->ram);
	free(l);
}

static void test_hazard_28_every_budget(void **state)
{
	struct life *l = calloc(1, sizeof(*l));
	uint64_t budget = 1, step = 4096;

	(void)state;
	test_fail_init(&l->fail);
	l->fail.hooks.now_ns = NULL;
	build(l);
	for (;; budget += step, step += step / 4 & ~4095ull) {
		l->starved = false;
		live(l, budget);
		assert_int_equal(l->fail.live_objects, 0);
		if (!l->starved)
			break;
		assert_true(budget < 64ull << 20);
	}
	assert_true(budget > 65536);
	snest_table_destroy(l->table);
	snest_vm_destroy(l->builder);
	free(l->ram);
	free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hazard_28_every_allocation_fails_once),
		cmocka_unit_test(test_hazard_28_every_budget),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
