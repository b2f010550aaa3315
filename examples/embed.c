/* SPDX-License-Identifier: MIT */
/*
 * A whole embedder: guest memory, a guest's table in it, a device whose
 * requests are translated by several threads at once, and the guest changing
 * its mind: it maps its buffer elsewhere, invalidates, and waits, after which
 * no thread writes to the old place any more.
 */
#include <inttypes.h>
#include <pthread.h>
#include <snest/space.h>
#include <snest/table.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RAM_SIZE ((size_t)16 << 20)
#define THREADS 2
#define BUFFER UINT64_C(0xffff0000) /* IOVA of 64 KiB, which lead to ... */
#define HERE UINT64_C(0x200000)     /* ... this GPA first, */
#define THERE UINT64_C(0x300000)    /* and this one later */
#define LENGTH 0x10000

static _Alignas(4096) unsigned char ram[RAM_SIZE]; /* GPA 0 is ram[0] */
static size_t used = RAM_SIZE / 2;                 /* the upper half is for table pages */
static struct snest_device *nic;
static atomic_bool stop;

/* ---- What the guest does: a table in its own memory ------------------- */

static void *page_alloc(void *opaque, unsigned lg2)
{
	(void)opaque;
	used += (size_t)1 << lg2;
	return used <= RAM_SIZE ? ram + used - ((size_t)1 << lg2) : NULL;
}

static void page_free(void *opaque, void *page, unsigned lg2)
{
	(void)opaque, (void)page, (void)lg2;
}

static int guest_map(struct snest_table *table, uint64_t gpa)
{
	return snest_table_map(table, BUFFER, BUFFER + LENGTH - 1, gpa, SNEST_READ | SNEST_WRITE, 0,
	                       SNEST_TABLE_REPLACE);
}

/* ---- What the device does: DMA, in any thread of the VMM -------------------- */

/* A packet arrives: 2 KiB somewhere in the buffer, copied in place. */
static void receive(uint64_t iova, unsigned char fill)
{
	struct snest_host_range part[4];
	struct snest_fault fault;
	uint64_t done;
	size_t n;

	snest_read_begin();
	n = snest_scatter(nic, iova, 2048, SNEST_WRITE, part, 4, &done, &fault);
	for (size_t i = 0; i < n; i++)
		memset((void *)(uintptr_t)part[i].host, fill, part[i].length);
	if (done < 2048)
		fprintf(stderr, "DMA to 0x%" PRIx64 " faults: %s\n", iova + done,
		        snest_fault_reason_name(fault.reason));
	snest_read_end();
	snest_thread_quiescent(); /* needed with one flavour of RCU, and free with the others */
}

static void *device_thread(void *arg)
{
	unsigned char fill = (unsigned char)(uintptr_t)arg;

	snest_thread_register();
	/* Each thread has a half of the buffer. */
	for (uint64_t at = 0; !atomic_load(&stop); at = (at + 2048) % (LENGTH / THREADS))
		receive(BUFFER + (fill - 1u) * (LENGTH / THREADS) + at, fill);
	snest_thread_unregister();
	return NULL;
}

static int check(int ret, const char *what)
{
	if (ret) {
		fprintf(stderr, "%s: %s\n", what, strerror(-ret));
		exit(EXIT_FAILURE);
	}
	return ret;
}

int main(void)
{
	struct snest_region region = {
		.size = sizeof(region),
		.last = RAM_SIZE - 1,
		.host = (uintptr_t)ram, /* what lookups yield: here, pointers */
		.mapping = ram,         /* where snest itself reads the tables */
	};
	struct snest_table_memory memory = {
		.size = sizeof(memory),
		.alloc = page_alloc,
		.free = page_free,
		.delta = -(uint64_t)(uintptr_t)ram, /* entries hold GPAs */
	};
	struct snest_stage shape = {
		.size = sizeof(shape), .format = SNEST_FORMAT_VTD_SS, .levels = 4};
	struct snest_space_config config = {.size = sizeof(config), .count = 1, .tag = {42, 0}};
	static const unsigned char zero[LENGTH];
	struct snest_table *table;
	struct snest_space *space;
	pthread_t thread[THREADS];
	struct snest_vm *vm;

	snest_thread_register();
	check(snest_vm_create(NULL, &vm), "VM");
	check(snest_memory_add(vm, &region), "memory");
	check(snest_table_create(vm, &shape, &memory, &table), "table");
	check(guest_map(table, HERE), "map");

	config.stages = snest_table_stage(table);
	check(snest_space_get(vm, &config, &space), "space");
	check(snest_device_create(vm, 0x0300, NULL, NULL, &nic), "device");
	check(snest_device_bind(nic, SNEST_NO_PASID, space), "bind");
	for (uintptr_t i = 0; i < THREADS; i++)
		check(-pthread_create(&thread[i], NULL, device_thread, (void *)(i + 1)), "thread");

	/* The guest moves its buffer, and waits for its invalidation to complete. */
	check(guest_map(table, THERE), "map");
	check(snest_tag_invalidate(vm, config.tag, BUFFER, BUFFER + LENGTH - 1, 0), "invalidate");
	check(snest_drain(vm, 0), "drain");
	/* From here on the old place is the guest's again: nobody writes to it. */
	memset(ram + HERE, 0, LENGTH);

	for (unsigned i = 0; i < 1000; i++)
		check(memcmp(ram + HERE, zero, LENGTH), "the old buffer was written");
	atomic_store(&stop, true);
	snest_thread_offline(); /* holds nobody up while it waits */
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	snest_thread_online();
	printf("new buffer: %u and %u\n", ram[THERE], ram[THERE + LENGTH - 1]);

	snest_device_destroy(nic);
	snest_space_put(space);
	snest_table_destroy(table);
	snest_vm_destroy(vm);
	snest_thread_unregister();
	return EXIT_SUCCESS;
}
