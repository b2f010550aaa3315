/* SPDX-License-Identifier: MIT */
/*
 * What the walker, the enumeration and the writer cost, in nanoseconds.
 *
 * Each line is the median of REPEATS runs, with the fastest and the slowest.
 * The writer's lines have a ratio to what cannot be avoided: the same release
 * stores to the same entries, without finding or checking anything. Pin it to
 * one quiet core (taskset) for numbers to compare.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <snest/table.h>
#include "walkers/walk.h"

#define REPEATS 15
#define RAM_BYTES ((uint64_t)1 << 30)
#define PAGES ((uint64_t)1 << 20)
#define PAGE 4096ull
#define MIB2 (2ull << 20)
#define GIB (1ull << 30)
#define ATTR (SNEST_ATTR_ACCESSED | SNEST_ATTR_DIRTY | SNEST_ATTR_USER)
#define RW (SNEST_READ | SNEST_WRITE)

/* RAM at GPA 0 that tables come from, page after page; pages given back are reused. */
struct ram {
	char *base;
	uint64_t cut;
	void *free;
};

struct bench {
	struct snest_vm *vm;
	struct ram ram;
	struct snest_table_memory memory;
	struct snest_table *table;
	struct sn_stages stages;
	uint64_t runs; /* counted by visitors */
	double stores; /* median of the last stores-only measurement */
};

static void check(int ret, const char *what)
{
	if (ret) {
		fprintf(stderr, "micro: %s: %s\n", what, strerror(-ret));
		exit(1);
	}
}

static void *ram_alloc(void *opaque, unsigned lg2)
{
	struct ram *ram = opaque;
	uint64_t size = (uint64_t)1 << lg2;
	void **page = ram->free;

	if (page && lg2 == 12) {
		ram->free = *page;
		*page = NULL;
		return page;
	}
	ram->cut = (ram->cut + size - 1) & ~(size - 1);
	ram->cut += size;
	return ram->cut > RAM_BYTES ? NULL : ram->base + ram->cut - size;
}

static void ram_free(void *opaque, void *page, unsigned lg2)
{
	struct ram *ram = opaque;

	if (lg2 != 12)
		return;
	*(void **)page = ram->free;
	ram->free = page;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Times `run` (which does `count` things) REPEATS times; prints and returns the median a thing. */
static double measure(struct bench *b, const char *name, void (*run)(struct bench *b, uint64_t n),
                      uint64_t count, bool ratio)
{
	double ns[REPEATS], start;

	run(b, count);
	for (unsigned i = 0; i < REPEATS; i++) {
		start = now();
		run(b, count);
		ns[i] = (now() - start) / (double)count;
	}
	qsort(ns, REPEATS, sizeof(ns[0]), by_value);
	printf("%-44s %9.2f ns  (%.2f .. %.2f)", name, ns[REPEATS / 2], ns[0], ns[REPEATS - 1]);
	if (ratio)
		printf("  %5.2f x stores", ns[REPEATS / 2] / b->stores);
	printf("\n");
	return ns[REPEATS / 2];
}

static void use_table(struct bench *b, const struct snest_stage *shape)
{
	snest_table_destroy(b->table);
	b->table = NULL;
	check(snest_table_create(b->vm, shape, &b->memory, &b->table), "table");
}

static void map(struct bench *b, uint64_t first, uint64_t bytes, uint64_t addr, uint32_t flags)
{
	check(snest_table_map(b->table, first, first + bytes - 1, addr, RW, ATTR, flags), "map");
}

/* ---- Walks -------------------------------------------------------------------- */

static const struct format {
	const char *name;
	struct snest_stage stage;
} formats[] = {
#define STAGE(...)                                              \
	{                                                       \
		.size = sizeof(struct snest_stage), __VA_ARGS__ \
	}
	{"x86-64, 4 levels", STAGE(.format = SNEST_FORMAT_X86_64, .levels = 4)},
	{"x86-64, 4 levels, A and D", STAGE(.format = SNEST_FORMAT_X86_64, .levels = 4,
                                            .flags = SNEST_STAGE_HW_A | SNEST_STAGE_HW_D)},
	{"x86-64, 5 levels", STAGE(.format = SNEST_FORMAT_X86_64, .levels = 5)},
	{"vtd-ss, 4 levels", STAGE(.format = SNEST_FORMAT_VTD_SS, .levels = 4)},
	{"amd-v1, 4 levels", STAGE(.format = SNEST_FORMAT_AMD_V1, .levels = 4)},
	{"amd-v2, 4 levels", STAGE(.format = SNEST_FORMAT_AMD_V2, .levels = 4)},
	{"arm-s1, 4 levels (4K, 48)",
         STAGE(.format = SNEST_FORMAT_ARM_S1, .granule_lg2 = 12, .ia_bits = 48)},
	{"arm-s2, 4 levels (4K, 48)",
         STAGE(.format = SNEST_FORMAT_ARM_S2, .granule_lg2 = 12, .ia_bits = 48)},
	{"riscv32, 2 levels (Sv32)", STAGE(.format = SNEST_FORMAT_RISCV32, .levels = 2)},
	{"riscv64, 4 levels (Sv48)", STAGE(.format = SNEST_FORMAT_RISCV64, .levels = 4)},
	{"riscv64, 4 levels (Sv48x4)",
         STAGE(.format = SNEST_FORMAT_RISCV64, .levels = 4, .flags = SNEST_STAGE_RISCV_X4)},
};

static void walk_prepared(struct bench *b, uint64_t n)
{
	struct sn_target target;
	struct sn_env env;

	for (uint64_t i = 0; i < n; i++) {
		sn_read_begin();
		sn_env_init(&env, b->vm, b->stages.pt, b->stages.count);
		if (sn_collapse(&env, 0, GIB + (i & 7) * PAGE, SNEST_READ, &target, NULL))
			abort();
		sn_read_end();
	}
}

static void walk_public(struct bench *b, uint64_t n)
{
	struct snest_walk w;

	for (uint64_t i = 0; i < n; i++) {
		check(snest_walk(b->vm, snest_table_stage(b->table), 1, GIB + (i & 7) * PAGE,
		                 SNEST_READ, 0, &w, NULL, NULL),
		      "walk");
		if (w.outcome == SNEST_WALK_FAULT)
			abort();
	}
}

static void walks(struct bench *b)
{
	char name[64];

	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		use_table(b, &formats[i].stage);
		map(b, GIB, 8 * PAGE, GIB + PAGE, SNEST_TABLE_PAGE(12));
		check(sn_stages_prepare(&b->stages, b->vm, snest_table_stage(b->table), 1),
		      "stage");
		snprintf(name, sizeof(name), "walk %s", formats[i].name);
		measure(b, name, walk_prepared, 1000000, false);
	}
	use_table(b, &formats[0].stage);
	map(b, GIB, 8 * PAGE, GIB + PAGE, SNEST_TABLE_PAGE(12));
	measure(b, "snest_walk x86-64, 4 levels", walk_public, 1000000, false);
}

static void collapses(struct bench *b)
{
	struct snest_stage stages[2];
	struct snest_table *outer;

	/* The first stage's tables lie behind the second, which maps all of RAM with 4 KiB pages. */
	use_table(b, &formats[3].stage);
	outer = b->table;
	b->table = NULL;
	check(snest_table_map(outer, 0, RAM_BYTES + 2 * GIB - 1, 0, RW, ATTR, SNEST_TABLE_PAGE(12)),
	      "map");
	use_table(b, &formats[0].stage);
	map(b, GIB, 8 * PAGE, PAGE, SNEST_TABLE_PAGE(12));
	stages[0] = *snest_table_stage(b->table);
	stages[1] = *snest_table_stage(outer);
	check(sn_stages_prepare(&b->stages, b->vm, stages, 2), "stage");
	measure(b, "collapse x86-64 over vtd-ss, 4K and 4K", walk_prepared, 200000, false);

	check(snest_table_map(outer, 0, RAM_BYTES + 2 * GIB - 1, 0, RW, ATTR, SNEST_TABLE_REPLACE),
	      "map");
	measure(b, "collapse x86-64 over vtd-ss, 4K and 1G", walk_prepared, 200000, false);
	snest_table_destroy(outer);
}

/* ---- Enumeration ------------------------------------------------------------------ */

static int count_run(void *opaque, const struct snest_run *run)
{
	(void)run;
	++*(uint64_t *)opaque;
	return 0;
}

static void range(struct bench *b, uint64_t n)
{
	struct snest_walk_range r = {.size = sizeof(r), .last = n * PAGE - 1};

	b->runs = 0;
	check(snest_walk_range(b->vm, snest_table_stage(b->table), 1, &r, count_run, &b->runs),
	      "walk_range");
}

static void ranges(struct bench *b)
{
	use_table(b, &formats[0].stage);
	map(b, 0, PAGES * PAGE, GIB, SNEST_TABLE_PAGE(12));
	measure(b, "walk_range, a page of 1M contiguous", range, PAGES, false);
	use_table(b, &formats[0].stage);
	for (uint64_t i = 0; i < PAGES; i++)
		map(b, i * PAGE, PAGE, GIB + (i * 1234567 % PAGES) * PAGE, 0);
	measure(b, "walk_range, a page of 1M scattered", range, PAGES, false);
	if (b->runs != PAGES)
		abort();
}

/* ---- Writing ---------------------------------------------------------------------- */

static uint64_t entries[512] __attribute__((aligned(4096)));

static void stores_one(struct bench *b, uint64_t n)
{
	(void)b;
	for (uint64_t i = 0; i < n; i++) {
		__atomic_store_n(&entries[i & 255], i | 3, __ATOMIC_RELEASE);
		__atomic_store_n(&entries[i & 255], 0, __ATOMIC_RELEASE);
	}
}

static void stores_many(struct bench *b, uint64_t n)
{
	(void)b;
	for (uint64_t i = 0; i < n; i++) {
		for (uint64_t k = 0; k < 256; k++)
			__atomic_store_n(&entries[k], i + (k << 12), __ATOMIC_RELEASE);
		for (uint64_t k = 0; k < 256; k++)
			__atomic_store_n(&entries[k], 0, __ATOMIC_RELEASE);
	}
}

/* Map and unmap again; with `keep` mapped nearby, so that the leaf table stays. */
static void write_again(struct bench *b, uint64_t n, uint64_t bytes)
{
	for (uint64_t i = 0; i < n; i++) {
		uint64_t first = GIB + (bytes == PAGE ? (i & 255) * PAGE : 0);

		map(b, first, bytes, 2 * GIB + first, 0);
		check(snest_table_unmap(b->table, first, first + bytes - 1, 0, NULL), "unmap");
	}
}

static void write_page(struct bench *b, uint64_t n)
{
	write_again(b, n, PAGE);
}

static void write_pages(struct bench *b, uint64_t n)
{
	write_again(b, n, 256 * PAGE);
}

static void write_2m(struct bench *b, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		map(b, 2 * GIB, MIB2, 4 * GIB, 0);
		check(snest_table_unmap(b->table, 2 * GIB, 2 * GIB + MIB2 - 1, 0, NULL), "unmap");
	}
}

static void write_1g(struct bench *b, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		map(b, 4 * GIB, GIB, 4 * GIB, 0);
		check(snest_table_unmap(b->table, 4 * GIB, 5 * GIB - 1, 0, NULL), "unmap");
	}
}

/* Pages 512 GiB apart, each of which needs three new tables. */
static void write_cold(struct bench *b, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		map(b, (1 + i) << 39, PAGE, GIB, 0);
}

static void write_from(struct bench *b, const char *where)
{
	char name[64];

	map(b, GIB + 511 * PAGE, PAGE, GIB, 0);
	map(b, 2 * GIB + 511 * MIB2, MIB2, GIB, 0);
	snprintf(name, sizeof(name), "map + unmap 4K, %s", where);
	b->stores = measure(b, "stores of 4K", stores_one, 1000000, false);
	measure(b, name, write_page, 1000000, true);
	snprintf(name, sizeof(name), "map + unmap 2M, %s", where);
	measure(b, name, write_2m, 200000, true);
	snprintf(name, sizeof(name), "map + unmap 1G, %s", where);
	measure(b, name, write_1g, 200000, true);
	snprintf(name, sizeof(name), "map + unmap 256 x 4K, %s", where);
	b->stores = measure(b, "stores of 256 x 4K", stores_many, 20000, false);
	measure(b, name, write_pages, 20000, true);
}

/* Only the mapping is timed; the tables are taken down between the runs. */
static void cold_from(struct bench *b, const char *where, const struct snest_table_memory *memory)
{
	double ns[REPEATS], start;
	char name[64];

	for (unsigned i = 0; i <= REPEATS; i++) {
		struct snest_table *table;

		check(snest_table_create(b->vm, &formats[0].stage, memory, &table), "table");
		snest_table_destroy(b->table);
		b->table = table;
		start = now();
		write_cold(b, 200);
		if (i)
			ns[i - 1] = (now() - start) / 200;
	}
	qsort(ns, REPEATS, sizeof(ns[0]), by_value);
	snprintf(name, sizeof(name), "map with three new tables, %s", where);
	printf("%-44s %9.2f ns  (%.2f .. %.2f)\n", name, ns[REPEATS / 2], ns[0], ns[REPEATS - 1]);
}

static void writes(struct bench *b)
{
	use_table(b, &formats[0].stage);
	write_from(b, "caller's memory");
	cold_from(b, "caller's memory", &b->memory);
	snest_table_destroy(b->table);
	b->table = NULL;
	check(snest_table_create(b->vm, &formats[0].stage, NULL, &b->table), "table");
	write_from(b, "pool");
	cold_from(b, "pool", NULL);
}

int main(void)
{
	static struct bench b;
	struct snest_region region = {.size = sizeof(region), .last = RAM_BYTES - 1};

	b.ram.base = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE,
	                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (b.ram.base == MAP_FAILED)
		return 1;
	b.ram.cut = PAGE;
	b.memory = (struct snest_table_memory){
		.size = sizeof(b.memory),
		.alloc = ram_alloc,
		.free = ram_free,
		.opaque = &b.ram,
		.delta = 0 - (uint64_t)(uintptr_t)b.ram.base,
	};
	region.mapping = b.ram.base;
	region.host = 1ull << 40;
	snest_thread_register();
	check(snest_vm_create(NULL, &b.vm), "vm");
	check(snest_memory_add(b.vm, &region), "region");
	walks(&b);
	collapses(&b);
	ranges(&b);
	writes(&b);
	snest_table_destroy(b.table);
	snest_vm_destroy(b.vm);
	snest_thread_unregister();
	return 0;
}
