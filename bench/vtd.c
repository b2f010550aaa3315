/* SPDX-License-Identifier: MIT */
/*
 * The VT-d front end: what a guest's invalidation queue costs.
 *
 * Descriptors: the ring is full of page-selective commands for random pages of
 * a mirrored space, nothing has changed, and the tail is moved 255 at a time.
 * Waits: one command and one wait; from the tail's write to the interrupt that
 * says it is complete, with readers that look up all the time beside it. The
 * time of the write alone is how long a vCPU is held. The vCPU sleeps meanwhile,
 * so as not to take the core that has to complete it.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <snest/vtd.h>
#include "bench/families.h"
#include "bench/limits.h"

#define RID 0x18u
#define DOMAIN 7u
#define RING 256u

enum {
	R_GCMD = 0x18,
	R_GSTS = 0x1c,
	R_RTADDR = 0x20,
	R_IQH = 0x80,
	R_IQT = 0x88,
	R_IQA = 0x90,
	R_ICS = 0x9c,
	R_IECTL = 0xa0,
};
#define GCMD_TE (1u << 31)
#define GCMD_SRTP (1u << 30)
#define GCMD_QIE (1u << 26)

#define IOTLB_PAGES(domain) (2ull | 3ull << 4 | (uint64_t)(domain) << 16)
#define IOTLB_DOMAIN(domain) (2ull | 2ull << 4 | (uint64_t)(domain) << 16)
#define WAIT_STATUS(value) (5ull | 3ull << 4 | (uint64_t)(value) << 32) /* and interrupt */

struct vtd {
	struct guest *guest;
	struct snest_vtd *vtd;
	struct snest_device *device;
	uint64_t *ring;
	uint32_t *status, value;
	uint64_t tail;
	sem_t complete;
	uint64_t completed; /* when */
	bool stop;          /* atomic */
	unsigned reading;   /* readers that have begun; atomic */
};

static uint64_t gpa(const struct vtd *v, const void *ptr)
{
	return (uint64_t)((const char *)ptr - v->guest->ram.base);
}

static void *page(struct vtd *v)
{
	return v->guest->memory.alloc(v->guest->memory.opaque, 12);
}

static void reg_write(struct vtd *v, unsigned reg, unsigned size, uint64_t value)
{
	must(snest_vtd_write(v->vtd, reg, size, value), "register");
}

static uint64_t reg_read(struct vtd *v, unsigned reg, unsigned size)
{
	uint64_t value;

	must(snest_vtd_read(v->vtd, reg, size, &value), "register");
	return value;
}

static void command(struct vtd *v, uint32_t bit)
{
	uint32_t on = (uint32_t)reg_read(v, R_GSTS, 4) & ~GCMD_SRTP;

	reg_write(v, R_GCMD, 4, on | bit);
	while (!(reg_read(v, R_GSTS, 4) & bit))
		snest_thread_quiescent();
}

/* ---- Descriptors ---------------------------------------------------------------------- */

/* Moves the tail, and waits until the head has followed. */
static void ring_to(struct vtd *v, uint64_t tail)
{
	v->tail = tail;
	reg_write(v, R_IQT, 4, tail);
	while (reg_read(v, R_IQH, 4) != tail)
		snest_thread_quiescent();
}

static void fill_ring(struct vtd *v, uint64_t leaves)
{
	uint64_t seed = 3;

	for (unsigned i = 0; i < RING; i++) {
		v->ring[2 * i] = IOTLB_PAGES(DOMAIN);
		v->ring[2 * i + 1] = random_below(&seed, leaves) * PAGE;
	}
}

static void run_queue(struct gb_run *run, void *group, uint64_t arg)
{
	struct vtd *v = group;

	(void)arg;
	fill_ring(v, v->guest->shape.leaves);
	while (gb_next(run, RING - 1))
		ring_to(v, (v->tail + (RING - 1) * 16) % (RING * 16));
}

/* One at a time: a trap of its own for each. */
static void run_single(struct gb_run *run, void *group, uint64_t arg)
{
	struct vtd *v = group;

	(void)arg;
	fill_ring(v, v->guest->shape.leaves);
	while (gb_next(run, 1))
		ring_to(v, (v->tail + 16) % (RING * 16));
}

/* Raw descriptors, for VMMs that emulate the registers themselves. */
static void run_raw(struct gb_run *run, void *group, uint64_t arg)
{
	struct vtd *v = group;
	enum snest_vtd_queue_error error;

	(void)arg;
	fill_ring(v, v->guest->shape.leaves);
	while (gb_next(run, RING)) {
		size_t count = RING;

		if (snest_vtd_invalidate(v->vtd, v->ring, 16, &count, &error) || count != RING)
			gb_fail(run, "a descriptor was refused");
	}
}

static void run_space(struct gb_run *run, void *group, uint64_t arg)
{
	struct vtd *v = group;
	struct snest_space *space;
	uint64_t seed = 3;

	(void)arg;
	snest_read_begin();
	space = snest_device_space(v->device, SNEST_NO_PASID);
	snest_read_end();
	while (gb_next(run, RING)) {
		for (unsigned i = 0; i < RING; i++) {
			uint64_t first = random_below(&seed, v->guest->shape.leaves) * PAGE;

			snest_space_invalidate(space, first, first + PAGE - 1, 0);
		}
	}
}

/* ---- Waits ------------------------------------------------------------------------------- */

static void *reader(void *opaque)
{
	struct vtd *v = opaque;
	struct snest_translation t;
	uint64_t seed = 5, warm = 4 * v->guest->shape.leaves;

	snest_thread_register();
	while (!__atomic_load_n(&v->stop, __ATOMIC_RELAXED)) {
		for (unsigned i = 0; i < 64; i++) {
			snest_read_begin();
			snest_translate(v->device,
			                random_below(&seed, v->guest->shape.leaves) * PAGE,
			                SNEST_READ, &t, NULL);
			snest_read_end();
		}
		snest_thread_quiescent();
		/* Busy is a reader that has the shadow in its caches. */
		if (warm) {
			warm -= 64;
			if (!warm)
				__atomic_fetch_add(&v->reading, 1, __ATOMIC_RELAXED);
		}
	}
	snest_thread_unregister();
	return NULL;
}

#define WRITE_ALONE 0x100u

/* One command and its wait, to the end. Returns the time that is asked for. */
static uint64_t wait_once(struct vtd *v, bool write_alone)
{
	uint64_t at = v->tail / 8, start, written;

	v->ring[at] = IOTLB_PAGES(DOMAIN);
	v->ring[at + 1] = v->value % v->guest->shape.leaves * PAGE;
	at = (at + 2) % (RING * 2);
	v->ring[at] = WAIT_STATUS(++v->value);
	v->ring[at + 1] = gpa(v, v->status);
	v->tail = (v->tail + 32) % (RING * 16);
	start = now_ns();
	reg_write(v, R_IQT, 4, v->tail);
	written = now_ns();
	while (sem_wait(&v->complete))
		continue;
	reg_write(v, R_ICS, 4, 1);
	return (write_alone ? written : v->completed) - start;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/*
 * arg: number of readers, EACH_CORE: one for each; WRITE_ALONE: only the register write is timed. What
 * counts is the median of WAITS: a thread that loses its core in the middle of a
 * read section holds everybody up until it has it back.
 */
#define WAITS 31u
#define EACH_CORE 0x200u
#define READERS_MAX 64u

static void run_wait(struct gb_run *run, void *group, uint64_t arg)
{
	struct vtd *v = group;
	unsigned readers = arg & 0xff;
	uint64_t ns[WAITS];
	pthread_t thread[READERS_MAX];

	if (arg & EACH_CORE)
		readers = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	if (readers > READERS_MAX)
		readers = READERS_MAX;
	v->stop = false;
	v->reading = 0;
	for (unsigned i = 0; i < readers; i++)
		must(-pthread_create(&thread[i], NULL, reader, v), "thread");
	while (__atomic_load_n(&v->reading, __ATOMIC_RELAXED) < readers)
		usleep(100);
	/* A vCPU is no reader. */
	snest_thread_offline();
	while (gb_next(run, 1)) {
		for (unsigned i = 0; i < WAITS; i++)
			ns[i] = wait_once(v, arg & WRITE_ALONE);
		qsort(ns, WAITS, sizeof(ns[0]), by_value);
		gb_manual(run, ns[WAITS / 2]);
	}
	if (*v->status != v->value)
		gb_fail(run, "the status is not that of the last wait");
	snest_thread_online();
	__atomic_store_n(&v->stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < readers; i++)
		pthread_join(thread[i], NULL);
}

/* ---- Groups -------------------------------------------------------------------------------- */

static void interrupt(void *opaque, uint64_t address, uint32_t data)
{
	struct vtd *v = opaque;

	(void)address;
	(void)data;
	v->completed = now_ns();
	sem_post(&v->complete);
}

static int sink_apply(void *opaque, const struct snest_sink_op *ops, size_t count, size_t *done)
{
	(void)opaque;
	(void)ops;
	*done = count;
	return 0;
}

static void *setup(const uint64_t *arg)
{
	const struct guest_shape shape = {.leaves = arg[0], .lg2 = 12};
	struct snest_sink sink = {
		.size = sizeof(sink),
		.flags = SNEST_SINK_CAN_SPLIT,
		.apply = sink_apply,
	};
	struct snest_vtd_hooks hooks = {.size = sizeof(hooks), .msi = interrupt};
	struct snest_vtd_config config = {
		.size = sizeof(config),
		.features = SNEST_VTD_QUEUE | SNEST_VTD_CACHING_MODE,
		.hooks = &hooks,
	};
	struct vtd *v = must_alloc(sizeof(*v), 64);
	uint64_t *root, *context;
	const char *why = "";

	memset(v, 0, sizeof(*v));
	v->guest = guest_create(&shape);
	hooks.opaque = v;
	must(-sem_init(&v->complete, 0, 0), "semaphore");
	must(snest_vtd_create(v->guest->vm, &config, &v->vtd, &why), why);
	root = page(v);
	context = page(v);
	v->ring = page(v);
	v->status = page(v);
	root[0] = gpa(v, context) | 1;
	context[2 * (RID & 0xff)] = snest_table_stage(v->guest->table)->root | 1;
	context[2 * (RID & 0xff) + 1] = 2 | DOMAIN << 8;
	reg_write(v, R_RTADDR, 8, gpa(v, root));
	command(v, GCMD_SRTP);
	reg_write(v, R_IQA, 8, gpa(v, v->ring));
	command(v, GCMD_QIE);
	command(v, GCMD_TE);
	reg_write(v, R_IECTL, 4, 0);
	must(snest_vtd_device(v->vtd, RID, &v->device), "device");
	must(snest_vtd_mirror(v->vtd, RID, SNEST_NO_PASID, &sink), "mirror");
	return v;
}

static void teardown(void *group)
{
	struct vtd *v = group;

	snest_vtd_unmirror(v->vtd, RID, SNEST_NO_PASID);
	snest_vtd_destroy(v->vtd);
	guest_destroy(v->guest);
	free(v);
}

static const struct gb_member queue_members[] = {
	{"invalidate", GB_LIMIT, .run = run_space},
	{"raw", .run = run_raw},
	{"queue", .run = run_queue},
	{"queue, one at a time", .run = run_single},
};

static const struct gb_member wait_members[] = {
	{"no reader", .flags = GB_MANUAL, .iterations = 5, .run = run_wait, .arg = 0},
	{"1 reader", .flags = GB_MANUAL, .iterations = 5, .run = run_wait, .arg = 1},
	{"a reader a core", .flags = GB_MANUAL, .iterations = 5, .run = run_wait, .arg = EACH_CORE},
	{"vCPU, no reader", .flags = GB_MANUAL, .iterations = 5, .run = run_wait,
         .arg = WRITE_ALONE},
	{"vCPU, 1 reader", .flags = GB_MANUAL, .iterations = 5, .run = run_wait,
         .arg = 1 | WRITE_ALONE},
};

void vtd_add(struct gb_suite *suite)
{
	struct gb_group group = {.setup = setup, .teardown = teardown};

	group_name(&group, "vtd/page-selective");
	group.arg[0] = 64 * KIB;
	group.members = queue_members;
	group.count = 4;
	gb_add(suite, &group);

	group_name(&group, "vtd/wait %s", snest_rcu_flavour());
	group.members = wait_members;
	group.by_flavour = true;
	group.count = 5;
	gb_add(suite, &group);
}
