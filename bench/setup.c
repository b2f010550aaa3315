/* SPDX-License-Identifier: MIT */
/* The guest of the benchmarks; see setup.h. */
#include "bench/setup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

/* Room for the guest's tables behind its data. */
#define TABLES (GIB / 2)
/* The budget of a shadow: for twice what the largest guest maps. */
#define TABLES_MAX GIB

void must(int ret, const char *what)
{
	if (ret) {
		fprintf(stderr, "bench: %s: %s\n", what, strerror(-ret));
		exit(1);
	}
}

void *must_alloc(size_t size, size_t align)
{
	void *memory = aligned_alloc(align, (size + align - 1) & ~(align - 1));

	if (!memory)
		must(-ENOMEM, "memory");
	return memory;
}

/* Address space in huge pages, as far as the kernel has some: aligned to them. */
static void *reserve(size_t size)
{
	size_t huge = 2 * MIB, before;
	char *memory = mmap(NULL, size + huge, PROT_READ | PROT_WRITE,
	                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		must(-errno, "mmap");
	before = -(uintptr_t)memory & (huge - 1);
	munmap(memory, before);
	munmap(memory + before + size, huge - before);
	madvise(memory + before, size, MADV_HUGEPAGE);
	return memory + before;
}

void *must_map(size_t size)
{
	void *memory = reserve(size);

	/* Not the zero page: everything is there before it is timed. */
	memset(memory, 1, size);
	memset(memory, 0, size);
	return memory;
}

void unmap(void *memory, size_t size)
{
	munmap(memory, size);
}

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* ---- RAM ------------------------------------------------------------------------ */

static void *ram_alloc(void *opaque, unsigned lg2)
{
	struct ram *ram = opaque;
	uint64_t size = (uint64_t)1 << lg2;
	void **page = ram->free;

	if (page && size == PAGE) {
		ram->free = *page;
		*page = NULL;
		return page;
	}
	if (ram->cut - size < ram->last)
		return NULL;
	ram->cut = (ram->cut - size) & ~(size - 1);
	return ram->base + ram->cut;
}

static void ram_free(void *opaque, void *page, unsigned lg2)
{
	struct ram *ram = opaque;

	if (lg2 != 12)
		return;
	*(void **)page = ram->free;
	ram->free = page;
}

static void ram_create(struct guest *g, uint64_t data)
{
	struct snest_region region = {.size = sizeof(region)};

	g->ram.bytes = data + TABLES;
	g->ram.base = reserve(g->ram.bytes);
	g->ram.cut = g->ram.bytes;
	g->ram.last = data;
	region.last = g->ram.bytes - 1;
	region.mapping = g->ram.base;
	region.host = (uint64_t)(uintptr_t)g->ram.base;
	must(snest_memory_add(g->vm, &region), "region");
	g->memory = (struct snest_table_memory){
		.size = sizeof(g->memory),
		.alloc = ram_alloc,
		.free = ram_free,
		.opaque = &g->ram,
		.delta = 0 - (uint64_t)(uintptr_t)g->ram.base,
	};
}

/* ---- Tables ----------------------------------------------------------------------- */

struct snest_stage guest_stage(unsigned format)
{
	struct snest_stage stage = {
		.size = sizeof(stage),
		.format = (uint16_t)format,
		.levels = 4,
	};

	if (format == SNEST_FORMAT_ARM_S1 || format == SNEST_FORMAT_ARM_S2) {
		stage.granule_lg2 = 12;
		stage.ia_bits = 48;
	} else if (format == SNEST_FORMAT_RISCV32) {
		stage.levels = 2;
	}
	return stage;
}

/* Sattolo's way to a permutation of exactly one cycle. */
static void permute(uint32_t *frame, uint64_t n)
{
	uint64_t seed = 42;

	for (uint64_t i = 0; i < n; i++)
		frame[i] = (uint32_t)i;
	for (uint64_t i = n; i-- > 1;) {
		uint64_t j = random_below(&seed, i);
		uint32_t swap = frame[i];

		frame[i] = frame[j];
		frame[j] = swap;
	}
}

static void map_all(struct guest *g)
{
	uint64_t mask = ((uint64_t)1 << g->shape.lg2) - 1;

	for (uint64_t i = 0; i < g->shape.leaves; i++) {
		uint64_t iova = guest_iova(g, i);

		must(snest_table_map(g->table, iova, iova + mask, guest_gpa(g, i), RW, FLAGS_RW,
		                     SNEST_TABLE_PAGE(g->shape.lg2)),
		     "map");
	}
}

uint64_t *guest_entry(const struct guest *g, uint64_t leaf)
{
	uint64_t iova = guest_iova(g, leaf), table = snest_table_stage(g->table)->root;

	for (unsigned shift = 39;; shift -= 9) {
		uint64_t *entry = (uint64_t *)(uintptr_t)(g->ram.base + (table & ~(PAGE - 1))) +
		                  (iova >> shift & 511);

		if (shift == g->shape.lg2)
			return entry;
		table = *entry;
	}
}

/* ---- Space ------------------------------------------------------------------------ */

static int sink_apply(void *opaque, const struct snest_sink_op *ops, size_t count, size_t *done)
{
	struct guest *g = opaque;

	(void)ops;
	g->sink_ops += count;
	*done = count;
	return 0;
}

void guest_mirror(struct guest *g)
{
	struct snest_sink sink = {
		.size = sizeof(sink),
		.flags = SNEST_SINK_CAN_SPLIT,
		.opaque = g,
		.apply = sink_apply,
	};

	must(snest_space_mirror(g->space, &sink), "mirror");
	g->mirrored = true;
}

void guest_settle(struct guest *g)
{
	struct snest_vm_stats stats = {.size = sizeof(stats)};

	do {
		must(snest_drain(g->vm, 0), "drain");
		must(snest_vm_stats(g->vm, &stats), "statistics");
	} while (stats.table_bytes);
}

void guest_fill(struct guest *g)
{
	struct snest_translation t;

	for (uint64_t i = 0; i < g->shape.leaves; i++) {
		snest_read_begin();
		must(snest_translate(g->device, guest_iova(g, i), RW, &t, NULL), "translate");
		snest_read_end();
		if (t.host != guest_host(g, i))
			must(-EINVAL, "a translation is wrong");
	}
}

/* What a shape leaves out, it has by default. */
static struct guest_shape shape_whole(const struct guest_shape *shape)
{
	struct guest_shape whole = *shape;

	if (!whole.format)
		whole.format = SNEST_FORMAT_VTD_SS;
	if (!whole.spread)
		whole.spread = 1;
	return whole;
}

struct guest *guest_create(const struct guest_shape *shape)
{
	struct guest *g = must_alloc(sizeof(*g), 64);
	struct snest_stage stage;
	struct snest_space_config config = {
		.size = sizeof(config),
		.count = 1,
		.flags = SNEST_SPACE_ANNOUNCED,
		.tag = {.domain = 1},
	};
	struct snest_vm_config vm = {.size = sizeof(vm)};
	uint64_t frames;

	memset(g, 0, sizeof(*g));
	g->shape = shape_whole(shape);
	frames = shape->ram_leaves ? shape->ram_leaves : shape->leaves;
	vm.table_bytes_max = TABLES_MAX;
	must(snest_vm_create(&vm, &g->vm), "vm");
	ram_create(g, frames << shape->lg2);
	stage = guest_stage(g->shape.format);
	must(snest_table_create(g->vm, &stage, &g->memory, &g->table), "table");

	g->frame = must_alloc(shape->leaves * sizeof(*g->frame), 64);
	if (shape->contiguous || frames != shape->leaves) {
		for (uint64_t i = 0; i < shape->leaves; i++)
			g->frame[i] = (uint32_t)(i % frames);
	} else {
		permute(g->frame, shape->leaves);
	}
	map_all(g);

	config.stages = snest_table_stage(g->table);
	must(snest_space_get(g->vm, &config, &g->space), "space");
	must(snest_device_create(g->vm, 8, NULL, NULL, &g->device), "device");
	must(snest_device_bind(g->device, SNEST_NO_PASID, g->space), "bind");
	return g;
}

void guest_destroy(struct guest *g)
{
	if (g->mirrored)
		snest_space_unmirror(g->space);
	snest_device_destroy(g->device);
	snest_space_put(g->space);
	snest_table_destroy(g->table);
	snest_vm_destroy(g->vm);
	unmap(g->ram.base, g->ram.bytes);
	free(g->frame);
	free(g);
}

/* ---- Put away ------------------------------------------------------------------------ */

static struct guest *away;

static bool same_shape(const struct guest_shape *a, const struct guest_shape *b)
{
	return a->leaves == b->leaves && a->lg2 == b->lg2 && a->contiguous == b->contiguous &&
	       a->spread == b->spread && a->ram_leaves == b->ram_leaves && a->format == b->format;
}

struct guest *guest_get(const struct guest_shape *shape)
{
	struct guest_shape whole = shape_whole(shape);

	for (struct guest **at = &away; *at; at = &(*at)->next) {
		struct guest *g = *at;

		if (!same_shape(&g->shape, &whole))
			continue;
		*at = g->next;
		return g;
	}
	return guest_create(shape);
}

void guest_put(struct guest *g)
{
	if (g->mirrored)
		snest_space_unmirror(g->space);
	g->mirrored = false;
	must(snest_space_invalidate(g->space, 0, UINT64_MAX, 0), "invalidate");
	guest_settle(g);
	g->next = away;
	away = g;
}

void guests_forget(void)
{
	while (away) {
		struct guest *g = away;

		away = g->next;
		guest_destroy(g);
	}
}
