/* SPDX-License-Identifier: MIT */
/*
 * Write tracking on real memory: userfaultfd write-protects the guest's tables.
 *
 * Two guests' processors, which are threads here, write their tables with plain
 * stores. A store to a protected page stops its thread; the embedder opens the
 * page, and lets the store land. At the next doorbell it protects the page
 * again, and tells snest that it was written. After its doorbell each guest's
 * sink equals a fresh walk of its own tables, though the other goes on writing.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cmocka.h>
#include <snest/table.h>
#include <snest/track.h>
#include "support/sink.h"
#include "support/tables.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

#define GUESTS 2
#define STEPS 300
#define GUEST_BYTES ((uint64_t)2 << 20) /* of tables, each guest */
#define BYTES (GUESTS * GUEST_BYTES)
#define PAGES (BYTES >> 12)
#define ATTR (SNEST_ATTR_USER | SNEST_ATTR_ACCESSED | SNEST_ATTR_DIRTY)
#define DATA 0x40000000ull /* GPA of memory without tables, never read */

/* ---- The embedder ------------------------------------------------------------ */

struct embedder {
	struct snest_vm *vm;
	char *ram; /* GPA 0 */
	int fd;    /* of userfaultfd */
	int stop;  /* eventfd */
	pthread_t handler;
	pthread_mutex_t bell; /* one doorbell at a time: what another has taken up is done too */
	pthread_mutex_t lock; /* guards what follows; snest may hold locks of its own */
	bool tracked[PAGES];  /* snest asked for it */
	bool open[PAGES];     /* tracked, and open for writing */
	uint64_t faults, protects, unprotects;
};

static struct embedder embedder;

static int write_protect(struct embedder *e, uint64_t page, bool on)
{
	struct uffdio_writeprotect wp = {
		.range = {.start = (uintptr_t)e->ram + (page << 12), .len = 4096},
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	/* Taking protection away also wakes who waits. */
	return ioctl(e->fd, UFFDIO_WRITEPROTECT, &wp) ? -errno : 0;
}

static int protect(void *opaque, uint64_t gpa, uint64_t length)
{
	struct embedder *e = opaque;
	uint64_t page = gpa >> 12;
	int ret = -EINVAL;

	pthread_mutex_lock(&e->lock);
	if (length == 4096 && page < PAGES && !e->tracked[page])
		ret = write_protect(e, page, true);
	if (!ret) {
		e->tracked[page] = true;
		e->open[page] = false;
		e->protects++;
	}
	pthread_mutex_unlock(&e->lock);
	return ret;
}

static void unprotect(void *opaque, uint64_t gpa, uint64_t length)
{
	struct embedder *e = opaque;
	uint64_t page = gpa >> 12;

	(void)length;
	pthread_mutex_lock(&e->lock);
	e->tracked[page] = e->open[page] = false;
	write_protect(e, page, false);
	e->unprotects++;
	pthread_mutex_unlock(&e->lock);
}

/* Lets stores through. Never calls snest: a thread that is in it may wait for this one. */
static void *handle_faults(void *arg)
{
	struct embedder *e = arg;
	struct pollfd fds[2] = {{.fd = e->fd, .events = POLLIN}, {.fd = e->stop, .events = POLLIN}};

	for (;;) {
		struct uffd_msg msg;
		uint64_t page;

		poll(fds, 2, -1);
		if (fds[1].revents)
			return NULL;
		if (read(e->fd, &msg, sizeof(msg)) != sizeof(msg) ||
		    msg.event != UFFD_EVENT_PAGEFAULT)
			continue;
		page = (msg.arg.pagefault.address - (uintptr_t)e->ram) >> 12;
		pthread_mutex_lock(&e->lock);
		e->open[page] = e->tracked[page];
		write_protect(e, page, false);
		e->faults++;
		pthread_mutex_unlock(&e->lock);
	}
}

/* A guest waits for its IOMMU: all that was written before has to be seen. */
static int doorbell(struct embedder *e)
{
	int ret = 0, one;

	pthread_mutex_lock(&e->bell);
	for (uint64_t page = 0; page < PAGES; page++) {
		bool was_open;

		pthread_mutex_lock(&e->lock);
		was_open = e->open[page];
		if (was_open) {
			e->open[page] = false;
			/* Protected before it is read again, so that later stores stop again. */
			write_protect(e, page, true);
		}
		pthread_mutex_unlock(&e->lock);
		if (!was_open)
			continue;
		one = snest_table_written(e->vm, page << 12, 4096);
		ret = ret ? ret : one;
	}
	pthread_mutex_unlock(&e->bell);
	return ret;
}

/* False: this machine does not let us. */
static bool embedder_init(struct embedder *e)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP};
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_WP};

	memset(e, 0, sizeof(*e));
	e->fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (e->fd < 0) {
		print_message("userfaultfd is not permitted here: %s\n", strerror(errno));
		return false;
	}
	e->ram = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(e->ram != MAP_FAILED);
	/* A page that was never written has nothing that could be protected. */
	memset(e->ram, 0xff, BYTES);
	reg.range.start = (uintptr_t)e->ram;
	reg.range.len = BYTES;
	if (ioctl(e->fd, UFFDIO_API, &api) || ioctl(e->fd, UFFDIO_REGISTER, &reg) ||
	    !(reg.ioctls & 1ull << _UFFDIO_WRITEPROTECT)) {
		print_message("userfaultfd cannot write-protect here\n");
		munmap(e->ram, BYTES);
		close(e->fd);
		return false;
	}
	e->stop = eventfd(0, EFD_CLOEXEC);
	pthread_mutex_init(&e->bell, NULL);
	pthread_mutex_init(&e->lock, NULL);
	assert_int_equal(pthread_create(&e->handler, NULL, handle_faults, e), 0);
	return true;
}

static void embedder_fini(struct embedder *e)
{
	assert_int_equal(eventfd_write(e->stop, 1), 0);
	pthread_join(e->handler, NULL);
	pthread_mutex_destroy(&e->lock);
	pthread_mutex_destroy(&e->bell);
	close(e->stop);
	close(e->fd);
	munmap(e->ram, BYTES);
}

/* ---- A guest ---------------------------------------------------------------------- */

struct vcpu {
	struct embedder *embedder;
	struct test_random random;
	char *memory; /* its part of the ram */
	uint64_t cut;
	char *free[GUEST_BYTES >> 12]; /* all tables are of one size */
	unsigned free_count;
	struct snest_table *table;
	struct snest_space *space;
	struct sink sink;
	uint64_t bytes;      /* that a walk finds */
	uint64_t mismatches; /* pages that the sink has otherwise, and failed calls */
};

static struct vcpu vcpus[GUESTS];

/* As processors write: word by word, whoever may be reading. */
static void write_words(uint64_t *word, unsigned lg2, uint64_t value)
{
	for (size_t i = 0; i < (size_t)1 << lg2 >> 3; i++)
		__atomic_store_n(&word[i], value, __ATOMIC_RELAXED);
}

static void *page_alloc(void *opaque, unsigned lg2)
{
	struct vcpu *v = opaque;
	char *page;

	if (v->free_count) {
		page = v->free[--v->free_count];
	} else {
		if (v->cut + (1ull << lg2) > GUEST_BYTES)
			return NULL;
		page = v->memory + v->cut;
		v->cut += 1ull << lg2;
	}
	write_words((uint64_t *)(void *)page, lg2, 0);
	return page;
}

/* No table any more: the page is used for something else at once. */
static void page_free(void *opaque, void *page, unsigned lg2)
{
	struct vcpu *v = opaque;

	write_words(page, lg2, test_random(&v->random));
	v->free[v->free_count++] = page;
}

/* Before a table's memory is used for something else, as drivers do. */
static void settle(void *opaque)
{
	struct vcpu *v = opaque;

	v->mismatches += doorbell(v->embedder) != 0;
}

static int compare_run(void *opaque, const struct snest_run *r)
{
	struct vcpu *v = opaque;

	v->bytes += r->last - r->first + 1;
	for (uint64_t at = r->first; at < r->last; at += 4096) {
		const struct sink_map *map = sink_find(&v->sink, at);

		if (!map || map->host + (at - map->first) != r->addr + (at - r->first) ||
		    map->rights != (r->rights & 3u))
			v->mismatches++;
	}
	return 0;
}

static void compare(struct vcpu *v)
{
	struct snest_walk_range range = {.size = sizeof(range), .last = UINT64_MAX};

	v->bytes = 0;
	if (snest_walk_range(v->embedder->vm, snest_table_stage(v->table), 1, &range, compare_run,
	                     v) ||
	    v->bytes != sink_bytes(&v->sink))
		v->mismatches++;
}

/* Some pages in one of a few places, so that tables come and go. */
static void step(struct vcpu *v)
{
	uint64_t first = test_below(&v->random, 4) << 30 | test_below(&v->random, 8) << 21 |
	                 test_below(&v->random, 512) << 12;
	uint64_t last = first + (test_below(&v->random, 40) << 12) + 4095;
	uint64_t out = DATA + (test_below(&v->random, 256) << 12);

	if (test_below(&v->random, 8) == 0)
		last = first + (1ull << 30) - 1;
	if (test_below(&v->random, 3) && last - first < 1ull << 20)
		snest_table_map(v->table, first, last, out, SNEST_READ | SNEST_WRITE, ATTR,
		                SNEST_TABLE_REPLACE | SNEST_TABLE_PAGE(12));
	else
		snest_table_unmap(v->table, first, last, 0, NULL);
}

static void *run_vcpu(void *arg)
{
	struct vcpu *v = arg;

	snest_thread_register();
	for (unsigned i = 0; i < STEPS; i++) {
		for (uint64_t n = test_below(&v->random, 4); n; n--)
			step(v);
		v->mismatches += doorbell(v->embedder) != 0;
		compare(v);
		snest_thread_quiescent();
	}
	snest_thread_unregister();
	return NULL;
}

static void vcpu_init(struct vcpu *v, struct embedder *e, unsigned i)
{
	struct snest_stage shape = {
		.size = sizeof(shape), .format = SNEST_FORMAT_RISCV64, .levels = 3};
	struct snest_table_memory memory = {
		.size = sizeof(memory),
		.alloc = page_alloc,
		.free = page_free,
		.settle = settle,
		.opaque = v,
		.delta = 0 - (uint64_t)(uintptr_t)e->ram,
	};
	struct snest_space_config config = {.size = sizeof(config), .count = 1, .tag = {i, 0}};

	memset(v, 0, sizeof(*v));
	v->embedder = e;
	v->random.state = i;
	v->memory = e->ram + i * GUEST_BYTES;
	assert_int_equal(snest_table_create(e->vm, &shape, &memory, &v->table), 0);
	config.stages = snest_table_stage(v->table);
	assert_int_equal(snest_space_get(e->vm, &config, &v->space), 0);
	sink_init(&v->sink, i & 1 ? SNEST_SINK_CAN_SPLIT : 0);
	assert_int_equal(snest_space_mirror(v->space, &v->sink.sink), 0);
}

static void test_userfaultfd(void **state)
{
	struct embedder *e = &embedder;
	struct snest_tracker tracker = {
		.size = sizeof(tracker), .opaque = e, .protect = protect, .unprotect = unprotect};
	struct snest_region tables = {.size = sizeof(tables), .last = BYTES - 1};
	struct snest_region data = {.size = sizeof(data),
	                            .first = DATA,
	                            .last = DATA + (1 << 24) - 1,
	                            .host = 1ull << 40};
	pthread_t thread[GUESTS];

	(void)state;
	if (!embedder_init(e))
		skip();
	tables.mapping = e->ram;
	assert_int_equal(snest_vm_create(NULL, &e->vm), 0);
	assert_int_equal(snest_memory_add(e->vm, &tables), 0);
	assert_int_equal(snest_memory_add(e->vm, &data), 0);
	assert_int_equal(snest_vm_track(e->vm, &tracker), 0);
	for (unsigned i = 0; i < GUESTS; i++)
		vcpu_init(&vcpus[i], e, i);
	for (unsigned i = 0; i < GUESTS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, run_vcpu, &vcpus[i]), 0);
	snest_thread_offline();
	for (unsigned i = 0; i < GUESTS; i++)
		pthread_join(thread[i], NULL);
	snest_thread_online();
	for (unsigned i = 0; i < GUESTS; i++) {
		assert_int_equal(vcpus[i].mismatches, 0);
		assert_true(vcpus[i].sink.maps > STEPS / 2);
		assert_int_equal(snest_space_unmirror(vcpus[i].space), 0);
		assert_int_equal(vcpus[i].sink.count, 0);
		snest_space_put(vcpus[i].space);
		snest_table_destroy(vcpus[i].table);
	}
	assert_true(e->faults > STEPS / 2);
	assert_true(e->protects == e->unprotects);
	for (unsigned i = 0; i < PAGES; i++)
		assert_false(e->tracked[i]);
	snest_vm_destroy(e->vm);
	print_message("%" PRIu64 " stores stopped, %" PRIu64 " pages protected\n", e->faults,
	              e->protects);
	embedder_fini(e);
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
		cmocka_unit_test(test_userfaultfd),
	};

	return cmocka_run_group_tests(tests, register_thread, unregister_thread);
}
