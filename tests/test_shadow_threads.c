/* SPDX-License-Identifier: MIT */
/*
 * Everything at once: readers of four kinds, a guest that remaps and
 * invalidates, memory that comes and goes, a mirror and a dirty log.
 *
 * Readers check data, not addresses. The guest stamps a page with the IOVA it
 * is for and a version before it maps it; `fresh` of an IOVA is the version
 * whose invalidation has returned, `now` the one that the guest began to write.
 * A lookup that began after `fresh` was read must not find an older stamp, and
 * none ever finds a newer one than `now`. A page that was unmapped loses its
 * memory rights (mprotect) once a drain completed, so whoever still touches it
 * ends the test in the signal handler.
 *
 * SNEST_TEST_SECONDS says how long each run lasts.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "support/guest.h"
#include "support/sink.h"

#define PAGE 4096ull
#define PAGES 256u     /* IOVAs that the guest remaps */
#define POOL 1024u     /* pages of memory for them */
#define QUARANTINE 64u /* without rights */
#define BASE 0x40000000ull
#define PLUG_BASE 0x60000000ull /* IOVAs of memory that comes and goes */
#define PLUG 64u
#define RAM_TABLES (16ull << 20)
#define GPA_POOL 0x10000000ull
#define GPA_PLUG 0x20000000ull
#define SCRATCH 1024u /* where readers write in a page */

struct stamp {
	uint64_t page, version;
};

struct world {
	struct snest_vm *vm;
	struct snest_table *table[2];
	struct snest_stage list[2];
	unsigned stages;
	char *tables, *pool, *plug;
	uint64_t cut;
	/* Table pages that were freed: reused only after a drain, and full of data meanwhile. */
	void *free[64], *pending[64];
	unsigned frees, pendings;
	struct snest_space *space, *mirrored;
	struct snest_device *device;
	uint64_t fresh[PAGES], now[PAGES]; /* version * 2 + present */
	unsigned at[PAGES];                /* page of the pool */
	unsigned spare[POOL], spares, quarantine[POOL], quarantined;
	int stop, wrong;
	uint64_t lookups, faults, invalidations, plugs, fetches, pins;
	struct sink sink;
};

static struct world world;

/* ---- Memory --------------------------------------------------------------- */

static void on_fault(int signal)
{
	static const char text[] = "a page was touched after it was taken away\n";

	(void)signal;
	(void)!write(2, text, sizeof(text) - 1);
	_exit(99);
}

static struct stamp *stamp_of(struct world *w, unsigned page)
{
	return (struct stamp *)(void *)(w->pool + page * PAGE);
}

static void rights(char *page, size_t bytes, int prot)
{
	if (mprotect(page, bytes, prot))
		abort();
}

static void *table_alloc(void *opaque, unsigned lg2)
{
	struct world *w = opaque;
	char *page;

	assert_int_equal(lg2, 12);
	if (w->frees) {
		page = w->free[--w->frees];
		memset(page, 0, PAGE);
		return page;
	}
	page = w->tables + w->cut;
	w->cut += PAGE;
	assert_true(w->cut <= RAM_TABLES);
	return page;
}

static void table_free(void *opaque, void *page, unsigned lg2)
{
	struct world *w = opaque;

	(void)lg2;
	if (w->pendings < 64)
		w->pending[w->pendings++] = page;
}

/* After a drain: nobody walks them any more, and the guest puts data there. */
static void tables_drained(struct world *w)
{
	while (w->pendings && w->frees < 64) {
		void *page = w->pending[--w->pendings];

		memset(page, 0xff, PAGE);
		w->free[w->frees++] = page;
	}
}

static void *memory(size_t bytes)
{
	void *ptr = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(ptr != MAP_FAILED);
	return ptr;
}

static struct snest_region region(uint64_t gpa, void *ptr, size_t bytes)
{
	return (struct snest_region){.size = sizeof(struct snest_region),
	                             .first = gpa,
	                             .last = gpa + bytes - 1,
	                             .host = (uintptr_t)ptr,
	                             .mapping = ptr};
}

/* ---- Begin and end ----------------------------------------------------------- */

static void make_tables(struct world *w, const char *const names[2])
{
	struct snest_table_memory tables = {
		.size = sizeof(tables),
		.alloc = table_alloc,
		.free = table_free,
		.opaque = w,
		.delta = -(uint64_t)(uintptr_t)w->tables,
	};

	for (w->stages = 0; w->stages < 2 && names[w->stages]; w->stages++) {
		struct snest_stage shape = guest_config(names[w->stages])->stage;

		assert_int_equal(snest_table_create(w->vm, &shape, &tables, &w->table[w->stages]),
		                 0);
		w->list[w->stages] = *snest_table_stage(w->table[w->stages]);
	}
	/* A second stage maps everything to itself. */
	if (w->stages == 2)
		assert_int_equal(snest_table_map(w->table[1], 0, 0x3fffffff, 0,
		                                 SNEST_READ | SNEST_WRITE, SNEST_ATTR_USER, 0),
		                 0);
}

static void world_init(struct world *w, const char *const names[2])
{
	struct snest_space_config config = {.size = sizeof(config), .tag = {3, 0}};
	struct snest_memory_op op[3] = {
		{.kind = SNEST_MEMORY_ADD}, {.kind = SNEST_MEMORY_ADD}, {.kind = SNEST_MEMORY_ADD}};

	memset(w, 0, sizeof(*w));
	w->tables = memory(RAM_TABLES);
	w->cut = PAGE;
	w->pool = memory(POOL * PAGE);
	w->plug = memory(PLUG * PAGE);
	op[0].region = region(0, w->tables, RAM_TABLES);
	op[1].region = region(GPA_POOL, w->pool, POOL * PAGE);
	op[2].region = region(GPA_PLUG, w->plug, PLUG * PAGE);
	assert_int_equal(snest_vm_create(NULL, &w->vm), 0);
	assert_int_equal(snest_memory_update(w->vm, op, 3, NULL, NULL, NULL), 0);
	make_tables(w, names);
	assert_int_equal(snest_table_map(w->table[0], PLUG_BASE, PLUG_BASE + PLUG * PAGE - 1,
	                                 GPA_PLUG, SNEST_READ | SNEST_WRITE, SNEST_ATTR_USER,
	                                 SNEST_TABLE_PAGE(12)),
	                 0);
	for (unsigned i = 0; i < POOL; i++)
		w->spare[w->spares++] = i;
	config.stages = w->list;
	config.count = w->stages;
	assert_int_equal(snest_space_get(w->vm, &config, &w->space), 0);
	config.flags = SNEST_SPACE_ANNOUNCED;
	assert_int_equal(snest_space_get(w->vm, &config, &w->mirrored), 0);
	sink_init(&w->sink, SNEST_SINK_CAN_SPLIT);
	assert_int_equal(snest_space_mirror(w->mirrored, &w->sink.sink), 0);
	assert_int_equal(snest_device_create(w->vm, 1, NULL, NULL, &w->device), 0);
	assert_int_equal(snest_device_bind(w->device, SNEST_NO_PASID, w->space), 0);
}

static void world_fini(struct world *w)
{
	snest_space_put(w->space);
	snest_space_put(w->mirrored);
	assert_int_equal(w->sink.count, 0);
	for (unsigned k = 0; k < w->stages; k++)
		snest_table_destroy(w->table[k]);
	snest_vm_destroy(w->vm);
	munmap(w->tables, RAM_TABLES);
	munmap(w->pool, POOL * PAGE);
	munmap(w->plug, PLUG * PAGE);
}

static bool stopped(struct world *w)
{
	snest_thread_quiescent();
	return __atomic_load_n(&w->stop, __ATOMIC_ACQUIRE);
}

static void wrong(struct world *w, const char *what, uint64_t iova, uint64_t a, uint64_t b)
{
	fprintf(stderr, "%s: IOVA 0x%llx, %llu, %llu\n", what, (unsigned long long)iova,
	        (unsigned long long)a, (unsigned long long)b);
	__atomic_store_n(&w->wrong, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&w->stop, 1, __ATOMIC_RELEASE);
}

static void pause_ns(long ns)
{
	struct timespec t = {0, ns};

	snest_thread_offline();
	nanosleep(&t, NULL);
	snest_thread_online();
}

/* ---- The guest -------------------------------------------------------------------- */

static void change_page(struct world *w, struct test_random *random, unsigned p)
{
	uint64_t iova = BASE + p * PAGE, version = w->now[p] / 2 + 1;
	bool present = w->spares && test_below(random, 8);
	unsigned old = w->at[p];
	bool was = w->now[p] & 1;

	if (present) {
		w->at[p] = w->spare[--w->spares];
		*stamp_of(w, w->at[p]) = (struct stamp){p, version};
	}
	/* Release: whoever finds the new version in the tables has seen this too. */
	__atomic_store_n(&w->now[p], version * 2 + present, __ATOMIC_RELEASE);
	if (present)
		assert_int_equal(snest_table_map(w->table[0], iova, iova + PAGE - 1,
		                                 GPA_POOL + w->at[p] * PAGE,
		                                 SNEST_READ | SNEST_WRITE, SNEST_ATTR_USER,
		                                 SNEST_TABLE_REPLACE | SNEST_TABLE_PAGE(12)),
		                 0);
	else
		assert_int_equal(snest_table_unmap(w->table[0], iova, iova + PAGE - 1, 0, NULL), 0);
	if (was)
		w->quarantine[w->quarantined++] = old;
}

static int invalidate(struct world *w, struct test_random *random, unsigned p, unsigned n)
{
	uint64_t first = BASE + p * PAGE, last = first + n * PAGE - 1;
	struct snest_tag tag = {3, SNEST_ANY_SPACE};

	__atomic_fetch_add(&w->invalidations, 1, __ATOMIC_RELAXED);
	switch (test_below(random, 8)) {
	case 0:
		return snest_tag_invalidate(w->vm, tag, 1, 0, 0);
	case 1:
		return snest_vm_invalidate(w->vm, 0, UINT64_MAX, 0);
	case 2:
		return snest_tag_invalidate(w->vm, tag, first & ~0x1fffffull, last | 0x1fffff, 0);
	default:
		return snest_tag_invalidate(w->vm, tag, first, last, 0);
	}
}

/* Takes the rights from what was unmapped, gives some of it back to the spares. */
static void drained(struct world *w, unsigned from)
{
	unsigned keep = w->quarantined < QUARANTINE ? w->quarantined : QUARANTINE;
	unsigned back = w->quarantined - keep;

	tables_drained(w);
	for (unsigned i = from; i < w->quarantined; i++)
		rights(w->pool + w->quarantine[i] * PAGE, PAGE, PROT_NONE);
	for (unsigned i = 0; i < back; i++) {
		rights(w->pool + w->quarantine[i] * PAGE, PAGE, PROT_READ | PROT_WRITE);
		w->spare[w->spares++] = w->quarantine[i];
	}
	memmove(w->quarantine, w->quarantine + back, keep * sizeof(w->quarantine[0]));
	w->quarantined = keep;
}

static void *guest_main(void *arg)
{
	struct test_random random = {42};
	struct world *w = arg;

	snest_thread_register();
	for (unsigned p = 0; p < PAGES; p++)
		change_page(w, &random, p);
	while (!stopped(w)) {
		unsigned from = w->quarantined;

		for (unsigned commands = 1 + (unsigned)test_below(&random, 16); commands;
		     commands--) {
			unsigned n = 1 + (unsigned)test_below(&random, 8);
			unsigned p = (unsigned)test_below(&random, PAGES - n + 1);

			for (unsigned i = p; i < p + n; i++)
				change_page(w, &random, i);
			if (invalidate(w, &random, p, n))
				wrong(w, "the sink failed", BASE + p * PAGE, 0, 0);
			for (unsigned i = p; i < p + n; i++)
				__atomic_store_n(&w->fresh[i], w->now[i], __ATOMIC_RELEASE);
		}
		/* The guest's wait command. */
		assert_int_equal(snest_drain(w->vm, 0), 0);
		drained(w, from);
	}
	snest_thread_unregister();
	return NULL;
}

/*
 * With more threads than processors a reader is mostly preempted inside a read
 * section, and everybody waits for it. Sleeping now and then prevents that.
 */
static void rest(struct test_random *random)
{
	if (test_below(random, 64) == 0)
		pause_ns(20000);
}

/* ---- Readers ------------------------------------------------------------------------- */

static uint64_t fresh_of(struct world *w, uint64_t iova)
{
	return __atomic_load_n(&w->fresh[(iova - BASE) / PAGE], __ATOMIC_ACQUIRE);
}

/* Is this what may be there? */
static void check_stamp(struct world *w, uint64_t iova, uint64_t fresh, struct stamp s)
{
	unsigned p = (unsigned)((iova - BASE) / PAGE);
	uint64_t now = __atomic_load_n(&w->now[p], __ATOMIC_ACQUIRE);

	if (s.page != p)
		wrong(w, "the page of another IOVA", iova, s.page, p);
	else if (s.version < fresh / 2)
		wrong(w, "stale", iova, s.version, fresh / 2);
	else if (s.version > now / 2)
		wrong(w, "from the future", iova, s.version, now / 2);
}

/* Inside the read section of the lookup, or while the page is pinned. */
static void check_data(struct world *w, uint64_t iova, uint64_t fresh, uint64_t host)
{
	check_stamp(w, iova, fresh, *(const struct stamp *)(uintptr_t)(host & ~(PAGE - 1)));
}

static void check_fault(struct world *w, uint64_t iova, uint64_t fresh)
{
	uint64_t now = __atomic_load_n(&w->now[(iova - BASE) / PAGE], __ATOMIC_ACQUIRE);

	if ((fresh & 1) && fresh == now)
		wrong(w, "a fault where something is mapped", iova, fresh, now);
}

static uint64_t some_iova(struct test_random *random)
{
	return BASE + test_below(random, PAGES * PAGE);
}

/* Memory that comes and goes: what is found may be used. */
static void touch_plug(struct world *w, struct test_random *random, uint32_t access)
{
	uint64_t iova = PLUG_BASE + test_below(random, PLUG) * PAGE;
	struct snest_translation t;

	snest_read_begin();
	if (!snest_translate(w->device, iova, access, &t, NULL) && t.outcome == SNEST_WALK_HOST) {
		char *page = (char *)(uintptr_t)t.host;

		if (t.host != (uintptr_t)w->plug + (iova - PLUG_BASE))
			wrong(w, "not the page's memory", iova, t.host, (uintptr_t)w->plug);
		else if (access & SNEST_WRITE)
			__atomic_fetch_add((uint64_t *)(void *)(page + SCRATCH), 1,
			                   __ATOMIC_RELAXED);
		else
			__atomic_load_n((uint64_t *)(void *)(page + SCRATCH), __ATOMIC_RELAXED);
	}
	snest_read_end();
}

static void *single_main(void *arg)
{
	struct test_random random = {1};
	struct world *w = arg;
	uint64_t lookups = 0, faults = 0;

	snest_thread_register();
	while (!stopped(w)) {
		uint64_t iova = some_iova(&random), fresh = fresh_of(w, iova);
		struct snest_translation t;
		struct snest_fault fault;

		snest_read_begin();
		if (snest_translate(w->device, iova, SNEST_READ, &t, &fault)) {
			check_fault(w, iova, fresh);
			faults++;
		} else {
			check_data(w, iova, fresh, t.host);
		}
		snest_read_end();
		lookups++;
		touch_plug(w, &random, test_below(&random, 2) ? SNEST_READ : SNEST_WRITE);
		rest(&random);
	}
	__atomic_fetch_add(&w->lookups, lookups, __ATOMIC_RELAXED);
	__atomic_fetch_add(&w->faults, faults, __ATOMIC_RELAXED);
	snest_thread_unregister();
	return NULL;
}

static void one_scatter(struct world *w, struct test_random *random)
{
	uint64_t length = 1 + test_below(random, 8 * PAGE), fresh[10], done, at, first;
	uint64_t iova = BASE + test_below(random, PAGES * PAGE - length);
	struct snest_host_range range[8];
	size_t n;

	first = iova & ~(PAGE - 1);
	for (at = first; at < iova + length; at += PAGE)
		fresh[(at - first) / PAGE] = fresh_of(w, at);
	snest_read_begin();
	n = snest_scatter(w->device, iova, length, SNEST_READ, range, 8, &done, NULL);
	at = iova;
	for (size_t i = 0; i < n; i++) {
		for (uint64_t offset = 0; offset < range[i].length;) {
			uint64_t host = range[i].host + offset;

			check_data(w, at, fresh[(at - first) / PAGE], host);
			offset += PAGE - (host & (PAGE - 1));
			at += PAGE - (at & (PAGE - 1));
		}
	}
	if (done < length && n < 8)
		check_fault(w, iova + done, fresh[(iova + done - first) / PAGE]);
	snest_read_end();
}

static void one_batch(struct world *w, struct test_random *random)
{
	struct snest_translation t[24];
	uint64_t iova[24], fresh[24];

	for (unsigned i = 0; i < 24; i++) {
		iova[i] = some_iova(random);
		fresh[i] = fresh_of(w, iova[i]);
	}
	snest_read_begin();
	snest_translate_batch(w->device, iova, 24, SNEST_READ, t);
	for (unsigned i = 0; i < 24; i++) {
		if (t[i].outcome == SNEST_WALK_HOST)
			check_data(w, iova[i], fresh[i], t[i].host);
		else
			check_fault(w, iova[i], fresh[i]);
	}
	snest_read_end();
}

static void *many_main(void *arg)
{
	struct test_random random = {2};
	struct world *w = arg;

	snest_thread_register();
	while (!stopped(w)) {
		one_batch(w, &random);
		one_scatter(w, &random);
		rest(&random);
	}
	snest_thread_unregister();
	return NULL;
}

static void one_pin(struct world *w, struct test_random *random)
{
	bool plug = test_below(random, 4) == 0;
	uint64_t iova = plug ? PLUG_BASE + test_below(random, PLUG) * PAGE : some_iova(random);
	uint64_t fresh = plug ? 0 : fresh_of(w, iova);
	uint32_t access = test_below(random, 2) ? SNEST_READ : SNEST_WRITE;
	struct snest_pin pin;
	char *page;

	if (snest_pin(w->device, SNEST_NO_PASID, iova, 1, access, &pin, NULL)) {
		if (!plug)
			check_fault(w, iova, fresh);
		return;
	}
	page = (char *)(uintptr_t)(pin.translation.host & ~(PAGE - 1));
	/* As asynchronous I/O does: outside any read section, and not at once. */
	if (test_below(random, 16) == 0)
		pause_ns(20000);
	snest_thread_quiescent();
	if (pin.translation.outcome == SNEST_WALK_HOST) {
		if (!plug)
			check_data(w, iova, fresh, pin.translation.host);
		if (access & SNEST_WRITE)
			__atomic_fetch_add((uint64_t *)(void *)(page + SCRATCH), 1,
			                   __ATOMIC_RELAXED);
		else
			__atomic_load_n((uint64_t *)(void *)(page + SCRATCH), __ATOMIC_RELAXED);
	}
	snest_unpin(&pin);
	__atomic_fetch_add(&w->pins, 1, __ATOMIC_RELAXED);
}

static void one_dma(struct world *w, struct test_random *random)
{
	uint64_t iova = some_iova(random) & ~(PAGE - 1), fresh = fresh_of(w, iova), word = 1;
	struct snest_fault fault;
	struct stamp s;
	size_t done;

	if (snest_dma_read(w->device, SNEST_NO_PASID, iova, &s, sizeof(s), &done, &fault))
		check_fault(w, iova, fresh);
	else
		check_stamp(w, iova, fresh, s);
	snest_dma_write(w->device, SNEST_NO_PASID, iova + SCRATCH + 64, &word, sizeof(word), NULL,
	                NULL);
}

static void *pin_main(void *arg)
{
	struct test_random random = {3};
	struct world *w = arg;

	snest_thread_register();
	while (!stopped(w)) {
		one_pin(w, &random);
		if (test_below(&random, 4) == 0)
			one_dma(w, &random);
		rest(&random);
	}
	snest_thread_unregister();
	return NULL;
}

/* ---- What the host does ------------------------------------------------------------------ */

static void *plug_main(void *arg)
{
	struct test_random random = {4};
	struct world *w = arg;

	snest_thread_register();
	while (!stopped(w)) {
		unsigned n = 1 + (unsigned)test_below(&random, 16);
		unsigned p = (unsigned)test_below(&random, PLUG - n + 1);
		uint64_t first = GPA_PLUG + p * PAGE, last = first + n * PAGE - 1;
		struct snest_region back = region(first, w->plug + p * PAGE, n * PAGE);

		if (test_below(&random, 2)) {
			assert_int_equal(snest_memory_remove(w->vm, first, last), 0);
			rights(w->plug + p * PAGE, n * PAGE, PROT_NONE);
			pause_ns(20000);
			rights(w->plug + p * PAGE, n * PAGE, PROT_READ | PROT_WRITE);
			assert_int_equal(snest_memory_add(w->vm, &back), 0);
		} else {
			assert_int_equal(
				snest_memory_protect(w->vm, first, last, SNEST_REGION_READONLY), 0);
			rights(w->plug + p * PAGE, n * PAGE, PROT_READ);
			pause_ns(20000);
			rights(w->plug + p * PAGE, n * PAGE, PROT_READ | PROT_WRITE);
			assert_int_equal(snest_memory_protect(w->vm, first, last, 0), 0);
		}
		__atomic_fetch_add(&w->plugs, 1, __ATOMIC_RELAXED);
		pause_ns(100000);
	}
	snest_thread_unregister();
	return NULL;
}

static void *dirty_main(void *arg)
{
	uint64_t bitmap[POOL / 64], pages;
	struct world *w = arg;

	snest_thread_register();
	while (!stopped(w)) {
		assert_int_equal(snest_dirty_start(w->vm), 0);
		for (unsigned i = 0; i < 10 && !stopped(w); i++) {
			memset(bitmap, 0, sizeof(bitmap));
			assert_int_equal(snest_vm_dirty(w->vm, GPA_POOL, GPA_POOL + POOL * PAGE - 1,
			                                0, bitmap, &pages),
			                 0);
			assert_int_equal(snest_space_dirty(w->space, BASE, BASE + PAGES * PAGE - 1,
			                                   i & 1, bitmap, &pages),
			                 0);
			assert_true(pages <= PAGES);
			__atomic_fetch_add(&w->fetches, 1, __ATOMIC_RELAXED);
			pause_ns(500000);
		}
		assert_int_equal(snest_dirty_stop(w->vm), 0);
		pause_ns(1000000);
	}
	snest_thread_unregister();
	return NULL;
}

/* ---- Runs -------------------------------------------------------------------------------- */

static int compare(void *opaque, const struct snest_run *run)
{
	struct world *w = opaque;

	for (uint64_t at = run->first; at < run->last; at += PAGE) {
		const struct sink_map *map = sink_find(&w->sink, at);

		if (!map || map->host + (at - map->first) != run->addr + (at - run->first) ||
		    map->rights != (run->rights & (SNEST_READ | SNEST_WRITE)))
			wrong(w, "the mirror differs from the tables", at, 0, 0);
	}
	return 0;
}

static double seconds(void)
{
	const char *text = getenv("SNEST_TEST_SECONDS");

	return text ? atof(text) : 3;
}

static void everything(const char *first, const char *second)
{
	static void *(*const mains[])(void *) = {guest_main, single_main, many_main,
	                                         pin_main,   plug_main,   dirty_main};
	const char *const names[2] = {first, second};
	struct snest_walk_range range = {.size = sizeof(range), .last = UINT64_MAX};
	struct world *w = &world;
	struct sigaction action = {.sa_handler = on_fault};
	pthread_t thread[6];

	/* In here: cmocka has set its own. */
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	world_init(w, names);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, mains[i], w), 0);
	snest_thread_offline();
	for (double left = seconds() / 3; left > 0 && !__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE);
	     left -= 0.05)
		usleep(50000);
	__atomic_store_n(&w->stop, 1, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < 6; i++)
		pthread_join(thread[i], NULL);
	snest_thread_online();
	assert_int_equal(snest_walk_range(w->vm, w->list, w->stages, &range, compare, w), 0);
	assert_int_equal(w->wrong, 0);
	assert_true(w->lookups && w->invalidations && w->plugs && w->fetches && w->pins);
	if (getenv("SNEST_TEST_VERBOSE"))
		print_message("%llu lookups, %llu faults, %llu invalidations, %llu pins, "
		              "%llu memory changes, %llu fetches\n",
		              (unsigned long long)w->lookups, (unsigned long long)w->faults,
		              (unsigned long long)w->invalidations, (unsigned long long)w->pins,
		              (unsigned long long)w->plugs, (unsigned long long)w->fetches);
	for (unsigned i = 0; i < w->quarantined; i++)
		rights(w->pool + w->quarantine[i] * PAGE, PAGE, PROT_READ | PROT_WRITE);
	world_fini(w);
}

static void test_second_level_tables(void **state)
{
	(void)state;
	everything("vtd-ss 3 levels", NULL);
}

static void test_tables_with_dirty_flags(void **state)
{
	(void)state;
	everything("x86-64 5 levels", NULL);
}

static void test_two_stages(void **state)
{
	(void)state;
	everything("x86-64 4 levels", "vtd-ss 4 levels");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_second_level_tables),
		cmocka_unit_test(test_tables_with_dirty_flags),
		cmocka_unit_test(test_two_stages),
	};
	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
