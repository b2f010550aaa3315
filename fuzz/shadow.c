/* SPDX-License-Identifier: MIT */
/*
 * The shadow: bytes become a guest's maps and unmaps, invalidations, changes of
 * the memory map, lookups of every kind, pins, drains, mirrors and observers
 * whose sinks fail, write tracking, the dirty log, and allocations that fail.
 *
 * The address space of the guest is cut into segments, single pages and wide
 * ones, so that everything an action does begins and ends with one. The model
 * keeps for each what the guest's tables say (asked of the reference walker) and
 * what they said since an invalidation last covered it. After every action:
 *   - every leaf of the shadow is one of these, with the memory map of now;
 *   - a mirror has all that is mapped, but for what its sink was told it lacks;
 *   - every account is counted again, and the sink holds what the shadow does
 *     (shadow_count.h);
 *   - drains end after the pins they wait for, the dirty log is exact.
 *
 * Input: two bytes that choose the stages, the space and its end, then actions of 8 bytes.
 */
#include <sys/mman.h>
#include "actions.h"
#include "shadow_act.h"

/* ---- One input ---------------------------------------------------------- */

static void *page_alloc(void *opaque, unsigned lg2)
{
	uint64_t size = 1ull << lg2, at = (f.cut + size - 1) & ~(size - 1);

	(void)opaque;
	if (at + size > TABLES_BYTES)
		return NULL;
	f.cut = at + size;
	return tables + at;
}

static void page_free(void *opaque, void *page, unsigned lg2)
{
	(void)opaque;
	(void)page;
	(void)lg2;
}

static void reset_memory(void)
{
	struct snest_memory_op op[2] = {{.kind = SNEST_MEMORY_REPLACE},
	                                {.kind = SNEST_MEMORY_REPLACE}};

	op[0].region = (struct snest_region){
		.size = sizeof(struct snest_region),
		.last = LOOSE * 4096 - 1,
		.host = MEMORY_HOST,
		.mapping = memory,
	};
	op[1].region = (struct snest_region){
		.size = sizeof(struct snest_region),
		.first = LOOSE * 4096,
		.last = MEMORY_BYTES - 1,
		.host = MEMORY_HOST + LOOSE * 4096,
		.mapping = memory + LOOSE * 4096,
	};
	/* Twice: a map's size follows that of the one before. */
	for (unsigned i = 0; i < 2; i++) {
		if (snest_memory_update(f.fuzz.vm, op, 2, NULL, NULL, NULL))
			fuzz_check(0, "no memory");
	}
}

static const struct snest_tracker tracker = {
	.size = sizeof(tracker),
	.protect = hook_protect,
	.unprotect = hook_unprotect,
};

static void create(void)
{
	make_segments();
	memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE,
	              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		fuzz_check(0, "no memory");
	tables = memory + TABLES;
	fuzz_vm_create(&f.fuzz);
	if (snest_vm_track(f.fuzz.vm, &tracker) || snest_vm_track(f.fuzz.vm, NULL))
		fuzz_check(0, "no VM");
	reset_memory();
	fuzz_vm_mark(&f.fuzz);
}

static const struct snest_stage shapes[] = {
	{.size = sizeof(struct snest_stage), .format = SNEST_FORMAT_VTD_SS, .levels = 4},
	{.size = sizeof(struct snest_stage), .format = SNEST_FORMAT_X86_64, .levels = 4},
	{.size = sizeof(struct snest_stage), .format = SNEST_FORMAT_AMD_V1, .levels = 4},
	{.size = sizeof(struct snest_stage),
         .format = SNEST_FORMAT_RISCV64,
         .levels = 4,
         .flags = SNEST_STAGE_RISCV_SVNAPOT},
};

static void begin(unsigned kind, unsigned more)
{
	struct snest_table_memory memory_of_tables = {
		.size = sizeof(memory_of_tables),
		.alloc = page_alloc,
		.free = page_free,
		.delta = 0,
	};
	struct snest_space_config config = {
		.size = sizeof(config),
		.count = 1,
		.flags = kind & 4 ? SNEST_SPACE_ANNOUNCED : 0,
		.tag = {7, 3},
		.table_bytes_max = kind & 8 ? 5 * 4096 : 128 * 4096,
		.sync_entries_max = kind & 0x40 ? 1200 : 6000,
	};

	if (!f.fuzz.vm)
		create();
	memory_of_tables.delta = 0 - (uint64_t)(uintptr_t)memory;
	f.format = shapes[kind % 4].format;
	f.announced = kind & 4;
	f.split = kind & 0x10;
	f.tracking = kind & 0x20;
	if (f.tracking && snest_vm_track(f.fuzz.vm, &tracker))
		fuzz_check(0, "no tracking");
	if (snest_table_create(f.fuzz.vm, &shapes[kind % 4], &memory_of_tables, &f.table))
		fuzz_check(0, "no table");
	config.stages = snest_table_stage(f.table);
	if (snest_space_get(f.fuzz.vm, &config, &f.space) ||
	    snest_device_create(f.fuzz.vm, RID, NULL, NULL, &f.device) ||
	    snest_device_bind(f.device, SNEST_NO_PASID, f.space))
		fuzz_check(0, "no space");
	f.clear = more % 4 != 1;
	for (unsigned i = 0; i < SEGMENTS; i++)
		memset(&segments[i].now, 0, sizeof(segments[i]) - offsetof(struct segment, now));
}

static void finish(void)
{
	f.fuzz.fail = 0;
	f.sink.fail_map = f.sink.fail_unmap = 0;
	for (unsigned i = 0; i < PINS; i++)
		unpin(i);
	if (f.dirty)
		snest_dirty_stop(f.fuzz.vm);
	snest_device_unbind_all(f.device, true);
	snest_device_destroy(f.device);
	snest_space_put(f.space);
	sn_reclaim_help(&f.fuzz.vm->reclaim);
	for (unsigned i = 0; i < DRAINS; i++)
		fuzz_check(f.done[i] != 1, "a drain is lost");
	fuzz_check(!f.sink.count || !f.mirrored || f.sink.refused, "a map is left in the sink");
	fuzz_check(!f.protected, "a page is left protected");
	if (f.tracking && snest_vm_track(f.fuzz.vm, NULL))
		fuzz_check(0, "tracking is left on");
	/* Clearing is quicker than a search for what is mapped, and bent entries must go. */
	if (f.bent || f.clear)
		memset(tables, 0, f.cut);
	snest_table_destroy(f.table);
	memset(tables, 0, f.cut);
	/* An input begins with memory of zeros: a bent entry may lead anywhere. */
	if (f.wrote)
		fuzz_check(!madvise(memory, TABLES, MADV_DONTNEED), "no memory");
	if (f.loosened)
		reset_memory();
	sn_reclaim_help(&f.fuzz.vm->reclaim);
	fuzz_vm_check_clean(&f.fuzz);
	f.fuzz.failed = false;
	memset(&f.device, 0, sizeof(f) - offsetof(__typeof__(f), device));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	begin(size ? data[0] : 0, size > 1 ? data[1] : 0);
	count.work = 0;
	for (size_t at = HEADER, n = 0; at + 8 <= size && n < ACTIONS_MAX && count.work < WORK_MAX;
	     at += 8, n++) {
		act(data + at);
		check();
	}
	f.fuzz.fail = 0;
	f.sink.fail_map = f.sink.fail_unmap = 0;
	f.deny = false;
	check();
	check_enumeration();
	invalidate_all(0);
	check();
	for (unsigned i = size % 8; i < SEGMENTS; i += 9)
		lookup(&segments[i], segments[i].first, SNEST_READ);
	check();
	finish();
	return 0;
}

/* ---- Making inputs ------------------------------------------------------ */

static const struct fuzz_actions shape = {
	.header = HEADER, .length = 8, .kinds = A_COUNT, .max = ACTIONS_MAX};

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
	return fuzz_actions_mutate(&shape, data, size, max_size, seed);
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1, const uint8_t *data2,
                                 size_t size2, uint8_t *out, size_t max_out, unsigned seed)
{
	return fuzz_actions_cross(&shape, data1, size1, data2, size2, out, max_out, seed);
}

/*
 * Lives that chance seldom leads: segments 51 to 67 are 2 MiB, which may be one
 * page of the guest, and 3 is a page whose memory can change.
 */
static const uint8_t lives[][ACTIONS_MAX][8] = {
	/* Written through a pin, before and after a fetch of the log. */
	{{A_MAP, 3, 0, 0, 0x85, 0, 3},
         {A_DIRTY},
         {A_PIN, 3, 0, 0, 0, 0, 2, 1},
         {A_DIRTY, 0, 0, 0, 0, 0, 0, 2},
         {A_UNPIN, 0, 0, 0, 0, 0, 0, 1},
         {A_DIRTY, 0, 0, 0, 0, 0, 0, 2},
         {A_LOOKUP, 3, 0, 0, 0, 0, 2},
         {A_DIRTY, 0, 0, 0, 0, 0, 0, 2}},
	/* A large page goes, and a part of it is invalidated: mirrored, */
	{{A_MIRROR},
         {A_MAP, 51, 16, 0, 1, 0, 3},
         {A_INVALIDATE, 51, 16},
         {A_UNMAP, 51, 16},
         {A_INVALIDATE, 55},
         {A_INVALIDATE_ALL}},
	/* looked up, */
	{{A_MAP, 51, 16, 0, 1, 0, 3},
         {A_LOOKUP, 51, 0, 0, 0, 0, 1},
         {A_LOOKUP, 60, 0, 0, 0, 0, 1},
         {A_UNMAP, 51, 16},
         {A_INVALIDATE, 55},
         {A_LOOKUP, 60, 0, 0, 0, 0, 1}},
	/* or is cut and merged; */
	{{A_MIRROR},
         {A_MAP, 51, 16, 0, 1, 0, 3},
         {A_INVALIDATE, 51, 16},
         {A_SHAPE, 55, 0, 0, 0, 0, 0, 1},
         {A_MAP, 56, 0, 0, 0x83, 0, 1, 1},
         {A_INVALIDATE, 56},
         {A_MAP, 56, 0, 0, 1, 0, 3, 1},
         {A_SHAPE, 55},
         {A_INVALIDATE, 55}},
	/* its memory moves away, */
	{{A_MIRROR, 0, 0, 0, 0, 0, 0, 1},
         {A_MAP, 0, 15, 0, 0x80, 0, 3},
         {A_LOOKUP, 3, 0, 0, 0, 0, 3},
         {A_MEMORY, 3, 2, 0, 0, 0, 5, 2},
         {A_LOOKUP, 3, 0, 0, 0, 0, 1},
         {A_MEMORY, 3, 0, 0, 0, 0, 1, 1},
         {A_LOOKUP, 3, 0, 0, 0, 0, 2},
         {A_MEMORY, 3}},
	/* a sink fails, */
	{{A_MIRROR},
         {A_MAP, 2, 5, 0, 0x82, 0, 3},
         {A_SINK_FAIL, 0, 0, 0, 0, 0, 0, 2},
         {A_INVALIDATE, 0, 15},
         {A_UNMAP, 3, 1},
         {A_SINK_FAIL, 0, 0, 0, 0, 0, 0, 0x81},
         {A_INVALIDATE, 0, 15},
         {A_INVALIDATE_ALL}},
	/* a pin outlives what it pins. */
	{{A_MAP, 3, 0, 0, 0x85, 0, 3},
         {A_PIN, 3, 0, 0, 0, 0, 1},
         {A_UNMAP, 3},
         {A_INVALIDATE, 3},
         {A_DRAIN},
         {A_DRAIN, 0, 0, 0, 0, 0, 0, 0x10},
         {A_UNPIN},
         {A_DRAIN, 0, 0, 0, 0, 0, 0, 0x10}},
};
#define LIVES (sizeof(lives) / sizeof(lives[0]))

/* Each life with each format, announced and not, tracked and not. */
static size_t seed_life(unsigned n, uint8_t *data, size_t max_size)
{
	if (n >= LIVES * 16 || max_size < HEADER + sizeof(lives[0]))
		return 0;
	data[0] = (uint8_t)(n % 4 | (n & 4) << 3 | (n & 8) >> 1);
	data[1] = 0;
	memcpy(data + HEADER, lives[n / 16], sizeof(lives[0]));
	return HEADER + sizeof(lives[0]);
}

size_t fuzz_seed(unsigned n, uint8_t *data, size_t max_size)
{
	static const uint8_t usual[] = {A_MAP,  A_LOOKUP, A_UNMAP, A_INVALIDATE,    A_MAP, A_LOOKUP,
	                                A_COPY, A_DIRTY,  A_SHAPE, A_INVALIDATE_ALL};
	struct fuzz_random r = {n};
	size_t actions = 6 + n % 11;

	if (n >= 192)
		return seed_life(n - 192, data, max_size);
	if (max_size < HEADER + actions * 8)
		return 0;
	data[0] = (uint8_t)n;
	data[1] = 0;
	for (size_t i = 0; i < actions; i++) {
		uint8_t *at = data + HEADER + i * 8;

		fuzz_action_random(&shape, at, &r);
		/* Every other one is of the usual life; a mirror comes early. */
		if (i == 1)
			at[0] = A_MIRROR;
		else if (i % 2 == 0 && n < 128)
			at[0] = usual[(i / 2 + n) % sizeof(usual)];
	}
	return HEADER + actions * 8;
}
