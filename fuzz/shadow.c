/* SPDX-License-Identifier: MIT */
/*
 * The shadow: bytes become a guest's maps and unmaps, invalidations, changes of
 * the memory map, pins, drains, a mirror whose sink fails, and allocations that
 * fail. After every action the shadow is compared with what fresh walks say.
 *
 * The model is plain: for each page of two windows, whether its translation
 * changed since an invalidation last covered it ("pending": the old answer is
 * legal). Every other page must be as a fresh walk finds it: in lookups, in what
 * the shadow holds, in the sink. A sink is the same as the shadow always.
 *
 * Input: one byte that chooses the stages, then actions of 8 bytes.
 */
#include <errno.h>
#include <snest/space.h>
#include <snest/table.h>
#include "actions.h"
#include "support/fail.h"

#define TABLES_BYTES (4u << 20) /* guest memory for tables, at GPA 0 */
#define DATA 0x40000000ull      /* guest memory that is mapped */
#define DATA_PAGES 1024u
#define DATA_HOST 0x7f0000000000ull
#define PAGES 2048u                                       /* of both windows */
#define WINDOW_HIGH (0x40000000ull - PAGES / 4 * 4096ull) /* around 1 GiB */
#define PINS 4
#define DRAINS 8
#define RID 0x0010
#define ACTIONS_MAX 64

enum action {
	A_MAP,
	A_UNMAP,
	A_INVALIDATE,
	A_INVALIDATE_ALL,
	A_LOOKUP,
	A_MEMORY,
	A_PIN,
	A_UNPIN,
	A_DRAIN,
	A_MIRROR,
	A_UNMIRROR,
	A_FAIL,
	A_SINK_FAIL,
	A_DIRTY,
	A_BEND,
	A_COUNT
};

struct page {
	uint64_t host;
	uint32_t map; /* of the sink: number of the map it came with */
	uint8_t rights;
};

static struct {
	struct test_fail fail;
	struct snest_vm *vm;
	struct snest_device *device;
	/* One input. */
	struct snest_space *space;
	struct snest_table *table;
	uint64_t cut; /* of the table memory */
	bool pending[PAGES], all_pending;
	struct snest_pin pin[PINS];
	bool pinned[PINS];
	struct snest_drain node[DRAINS];
	int done[DRAINS];         /* atomic: 0 not begun, 1 begun, 2 done */
	unsigned blocked[DRAINS]; /* bit n: pin n was held when it began */
	bool mirrored, incomplete, dirty, bent, moved;
	struct page sink[PAGES], shadow[PAGES];
	uint32_t maps;
	unsigned sink_fail; /* the n-th operation from now */
} f;

static _Alignas(4096) char tables[TABLES_BYTES];

static uint64_t iova_of(unsigned page)
{
	return page < PAGES / 2 ? page * 4096ull : WINDOW_HIGH + (page - PAGES / 2) * 4096ull;
}

/* The page of an IOVA, PAGES if it is in no window. */
static unsigned page_of(uint64_t iova)
{
	if (iova < PAGES / 2 * 4096ull)
		return (unsigned)(iova / 4096);
	iova -= WINDOW_HIGH;
	return iova < PAGES / 2 * 4096ull ? PAGES / 2 + (unsigned)(iova / 4096) : PAGES;
}

/* ---- The sink ----------------------------------------------------------------- */

static void sink_op(const struct snest_sink_op *op)
{
	unsigned first = page_of(op->first), last = page_of(op->last);
	unsigned after = last + 1;

	fuzz_check(first < PAGES && last < PAGES && first <= last, "a range 0x%llx-0x%llx",
	           (unsigned long long)op->first, (unsigned long long)op->last);
	if (!op->map) {
		/* Whole maps, as type 1 of VFIO wants it. */
		fuzz_check(!first || !f.sink[first].map ||
		                   f.sink[first - 1].map != f.sink[first].map,
		           "an unmap cuts a map");
		fuzz_check(after == PAGES || !f.sink[last].map ||
		                   f.sink[after].map != f.sink[last].map,
		           "an unmap cuts a map");
	}
	f.maps++;
	for (unsigned i = first; i <= last; i++) {
		if (op->map) {
			fuzz_check(!f.sink[i].map, "a map over a map");
			f.sink[i] = (struct page){op->host + (i - first) * 4096ull, f.maps,
			                          (uint8_t)op->rights};
		} else {
			f.sink[i] = (struct page){0};
		}
	}
}

static int sink_apply(void *opaque, const struct snest_sink_op *ops, size_t count, size_t *done)
{
	(void)opaque;
	for (*done = 0; *done < count; ++*done) {
		/* Unmaps do not fail: what a sink cannot take back stays. */
		if (ops[*done].map && f.sink_fail && --f.sink_fail == 0)
			return -ENOSPC;
		sink_op(&ops[*done]);
	}
	return 0;
}

static void sink_failed(void *opaque, uint64_t first, uint64_t last, int error)
{
	(void)opaque;
	fuzz_check(error < 0, "failed with %d", error);
	fuzz_check(first <= last, "failed for an empty range");
	f.incomplete = true;
}

/* ---- Checks --------------------------------------------------------------------- */

static int see_run(void *opaque, const struct snest_run *run)
{
	(void)opaque;
	fuzz_check(run->outcome == SNEST_WALK_HOST, "the shadow holds an address without memory");
	for (uint64_t at = run->first;; at += 4096) {
		unsigned page = page_of(at);

		if (page < PAGES)
			f.shadow[page] =
				(struct page){run->addr + (at - run->first), 0, run->rights};
		else
			fuzz_check(f.bent, "the shadow holds 0x%llx", (unsigned long long)at);
		if (run->last - at < 4096 || (f.bent && page == PAGES))
			return 0;
	}
}

static void fresh(uint64_t iova, uint32_t access, struct snest_walk *walk)
{
	const struct snest_stage *stage = snest_table_stage(f.table);
	int ret = snest_walk(f.vm, stage, 1, iova, access, SNEST_WALK_NO_UPDATE, walk, NULL, NULL);

	fuzz_check(!ret, "snest_walk: %d", ret);
}

static void check_page(unsigned i)
{
	const struct page *page = &f.shadow[i];
	struct snest_walk walk;

	if (f.mirrored) {
		const struct page *sink = &f.sink[i];
		uint8_t rights = page->rights & (SNEST_READ | SNEST_WRITE);

		fuzz_check(sink->rights == rights && (!rights || sink->host == page->host),
		           "page 0x%llx: sink 0x%llx rights %u, shadow 0x%llx rights %u",
		           (unsigned long long)iova_of(i), (unsigned long long)sink->host,
		           sink->rights, (unsigned long long)page->host, page->rights);
	}
	if (f.all_pending || f.pending[i])
		return;
	if (!page->rights && (!f.mirrored || f.incomplete))
		return;
	fresh(iova_of(i), 0, &walk);
	if (!page->rights) {
		fuzz_check(walk.outcome != SNEST_WALK_HOST ||
		                   !(walk.rights & (SNEST_READ | SNEST_WRITE)),
		           "page 0x%llx is not mirrored", (unsigned long long)iova_of(i));
		return;
	}
	fuzz_check(walk.outcome == SNEST_WALK_HOST && walk.host == page->host &&
	                   !(page->rights & ~walk.rights),
	           "page 0x%llx: shadow 0x%llx rights %u; walk 0x%llx rights %u outcome %u",
	           (unsigned long long)iova_of(i), (unsigned long long)page->host, page->rights,
	           (unsigned long long)walk.host, walk.rights, walk.outcome);
}

static void check_shadow(unsigned turn)
{
	int ret;

	memset(f.shadow, 0, sizeof(f.shadow));
	ret = snest_space_enumerate(f.space, 0, UINT64_MAX, see_run, NULL);
	fuzz_check(!ret, "snest_space_enumerate: %d", ret);
	/* Whether an empty page should be empty is asked of each in turn: walks are slow. */
	for (unsigned i = 0; i < PAGES; i++) {
		if (f.shadow[i].rights || f.sink[i].map || (f.mirrored && i % 32 == turn % 32))
			check_page(i);
	}
}

static void lookup(unsigned page, unsigned offset, uint32_t access)
{
	uint64_t iova = iova_of(page) + offset;
	struct snest_translation t;
	struct snest_fault fault;
	struct snest_walk walk;
	int ret;

	snest_read_begin();
	ret = snest_translate(f.device, iova, access, &t, &fault);
	snest_read_end();
	if (f.all_pending || f.pending[page])
		return;
	fresh(iova, access, &walk);
	if (ret) {
		fuzz_check(ret == -EACCES && walk.outcome == SNEST_WALK_FAULT &&
		                   fault.reason == walk.fault.reason,
		           "0x%llx access %u: %d, reason %u; walk outcome %u, reason %u",
		           (unsigned long long)iova, access, ret, fault.reason, walk.outcome,
		           walk.fault.reason);
		return;
	}
	fuzz_check(t.outcome == walk.outcome && !(access & SNEST_RIGHTS & ~t.rights) &&
	                   !(t.rights & ~(uint32_t)walk.rights) && t.length &&
	                   t.host == (walk.outcome == SNEST_WALK_HOST ? walk.host : walk.gpa),
	           "0x%llx access %u: 0x%llx rights %u; walk 0x%llx rights %u outcome %u",
	           (unsigned long long)iova, access, (unsigned long long)t.host, t.rights,
	           (unsigned long long)walk.host, walk.rights, walk.outcome);
}

static void check_drains(void)
{
	for (unsigned i = 0; i < DRAINS; i++) {
		if (__atomic_load_n(&f.done[i], __ATOMIC_ACQUIRE) == 2)
			fuzz_check(!f.blocked[i], "a drain ended before a pin");
	}
}

/* ---- Actions --------------------------------------------------------------------- */

static void drained(void *opaque)
{
	__atomic_store_n((int *)opaque, 2, __ATOMIC_RELEASE);
}

static void nothing(void *opaque)
{
	(void)opaque;
}

static void unpin(unsigned i)
{
	if (!f.pinned[i])
		return;
	/* Before: the drain may end within the call. */
	for (unsigned j = 0; j < DRAINS; j++)
		f.blocked[j] &= ~(1u << i);
	snest_unpin(&f.pin[i]);
	f.pinned[i] = false;
}

static void drain(unsigned i)
{
	if (__atomic_load_n(&f.done[i], __ATOMIC_ACQUIRE) == 1)
		return;
	f.blocked[i] = 0;
	for (unsigned j = 0; j < PINS; j++)
		f.blocked[i] |= (unsigned)f.pinned[j] << j;
	f.done[i] = 1;
	snest_drain_async(f.vm, &f.node[i], drained, &f.done[i]);
}

static void set_pending(unsigned page, unsigned count, bool pending)
{
	for (unsigned i = page; i < page + count && i < PAGES; i++)
		f.pending[i] = pending;
}

/* Pages page..page + count - 1 of one window. */
static unsigned clip(unsigned page, unsigned count)
{
	unsigned left = page < PAGES / 2 ? PAGES / 2 - page : PAGES - page;

	return count < left ? count : left;
}

static void change_memory(unsigned kind, unsigned page, unsigned count, uint64_t host)
{
	struct snest_memory_op op = {.first = DATA + page % DATA_PAGES * 4096ull};
	size_t bad;
	int ret;

	count = 1 + count % 32;
	if (page % DATA_PAGES + count > DATA_PAGES)
		count = DATA_PAGES - page % DATA_PAGES;
	op.last = op.first + count * 4096ull - 1;
	switch (kind % 3) {
	case 0:
		op.kind = SNEST_MEMORY_REMOVE;
		break;
	case 1:
		op.kind = SNEST_MEMORY_PROTECT;
		op.flags = host & 1 ? SNEST_REGION_READONLY : 0;
		break;
	default:
		op.kind = SNEST_MEMORY_REPLACE;
		op.region = (struct snest_region){
			.size = sizeof(op.region),
			.first = op.first,
			.last = op.last,
			.host = DATA_HOST + host * 4096,
		};
	}
	f.moved = true;
	/* Pins may be held: it would wait for them. */
	ret = snest_memory_update(f.vm, &op, 1, &bad, nothing, NULL);
	fuzz_check(!ret || ret == -ENOENT || ret == -ENOMEM, "snest_memory_update: %d", ret);
}

static void mirror(void)
{
	struct snest_sink sink = {
		.size = sizeof(sink),
		.apply = sink_apply,
		.failed = sink_failed,
	};
	int ret;

	if (f.bent)
		return;
	if (!f.mirrored)
		f.incomplete = false;
	ret = snest_space_mirror(f.space, &sink);
	if (!ret) {
		fuzz_check(!f.mirrored, "mirrored twice");
		f.mirrored = true;
		/* Populated from the tables as they are. */
		memset(f.pending, 0, sizeof(f.pending));
		f.all_pending = false;
		return;
	}
	fuzz_check(ret == -EBUSY || ret == -ENOMEM || ret == -ENOSPC || ret == -EOPNOTSUPP,
	           "snest_space_mirror: %d", ret);
	if (f.mirrored)
		return;
	for (unsigned i = 0; i < PAGES; i++)
		fuzz_check(!f.sink[i].map, "a mirror that failed leaves a map");
}

static void invalidate_all(unsigned kind)
{
	struct snest_tag tag = {7, 3};

	switch (kind % 4) {
	case 0:
		snest_space_invalidate(f.space, 0, UINT64_MAX, 0);
		break;
	case 1:
		snest_tag_invalidate(f.vm, tag, 1, 0, 0);
		break;
	case 2:
		snest_device_invalidate(f.device, SNEST_ANY_PASID, 0, UINT64_MAX, 0);
		break;
	default:
		snest_vm_invalidate(f.vm, 0, UINT64_MAX, SNEST_INVALIDATE_LEAF);
	}
	memset(f.pending, 0, sizeof(f.pending));
	f.all_pending = false;
}

static void fetch_dirty(unsigned kind)
{
	uint64_t bitmap[PAGES / 2 / 64] = {0};
	int ret;

	if (kind % 3 == 0) {
		ret = f.dirty ? snest_dirty_stop(f.vm) : snest_dirty_start(f.vm);
		if (!ret)
			f.dirty = !f.dirty;
		return;
	}
	ret = snest_space_dirty(f.space, 0, PAGES / 2 * 4096ull - 1,
	                        kind & 4 ? SNEST_DIRTY_PEEK : 0, bitmap, NULL);
	fuzz_check(ret == (f.dirty ? 0 : -ENOENT), "snest_space_dirty: %d", ret);
}

static void act(const uint8_t *a)
{
	unsigned page = (unsigned)fuzz_get(a + 1, 2) % PAGES;
	unsigned count = clip(page, 1 + a[3]);
	uint64_t first = iova_of(page), last = first + count * 4096ull - 1, word;
	unsigned gpa_page = (unsigned)fuzz_get(a + 4, 2);
	uint32_t access = a[6] & (SNEST_READ | SNEST_WRITE);
	uint64_t unmapped;

	/* The writer trusts its tables: it changes none that somebody else has written to. */
	if (f.bent && a[0] % A_COUNT <= A_UNMAP)
		return;
	switch (a[0] % A_COUNT) {
	case A_MAP:
		/* Some lead to where there is no memory. */
		set_pending(page, count, true);
		snest_table_map(f.table, first, last, DATA + gpa_page % (DATA_PAGES + 64) * 4096ull,
		                access ? access : SNEST_READ,
		                SNEST_ATTR_USER | SNEST_ATTR_ACCESSED | SNEST_ATTR_DIRTY,
		                a[7] & 1 ? SNEST_TABLE_REPLACE : 0);
		break;
	case A_UNMAP:
		set_pending(page, count, true);
		snest_table_unmap(f.table, first, last, 0, &unmapped);
		break;
	case A_INVALIDATE:
		snest_space_invalidate(f.space, first, last, a[7] & 1);
		set_pending(page, count, false);
		break;
	case A_INVALIDATE_ALL:
		invalidate_all(a[7]);
		break;
	case A_LOOKUP:
		for (unsigned i = 0; i < 1 + a[3] % 8u; i++)
			lookup((page + i) % PAGES, gpa_page % 4096, access);
		break;
	case A_MEMORY:
		change_memory(a[7], gpa_page, a[3], a[6]);
		break;
	case A_PIN:
		if (!f.pinned[a[7] % PINS])
			f.pinned[a[7] % PINS] = !snest_pin(f.device, SNEST_NO_PASID, first, 1,
			                                   access, &f.pin[a[7] % PINS], NULL);
		break;
	case A_UNPIN:
		unpin(a[7] % PINS);
		break;
	case A_DRAIN:
		drain(a[7] % DRAINS);
		break;
	case A_MIRROR:
		mirror();
		break;
	case A_UNMIRROR:
		if (f.mirrored) {
			snest_space_unmirror(f.space);
			f.mirrored = false;
		}
		for (unsigned i = 0; i < PAGES; i++)
			fuzz_check(!f.sink[i].map, "a map is left in the sink");
		break;
	case A_FAIL:
		test_fail_arm(&f.fail, 1 + a[7] % 16);
		break;
	case A_SINK_FAIL:
		f.sink_fail = a[7] % 16;
		break;
	case A_DIRTY:
		fetch_dirty(a[7]);
		break;
	default:
		/* A bit of an entry. What it maps then is anybody's guess. */
		if (f.mirrored || !f.cut)
			break;
		f.bent = f.all_pending = true;
		memcpy(&word, tables + gpa_page % (f.cut / 8) * 8, 8);
		word ^= 1ull << a[7] % 64;
		memcpy(tables + gpa_page % (f.cut / 8) * 8, &word, 8);
	}
}

/* ---- One input ---------------------------------------------------------------- */

static void *page_alloc(void *opaque, unsigned lg2)
{
	uint64_t size = 1ull << lg2;
	void *page = tables + f.cut;

	(void)opaque;
	if (f.cut + size > TABLES_BYTES)
		return NULL;
	f.cut += size;
	return page;
}

static void page_free(void *opaque, void *page, unsigned lg2)
{
	(void)opaque;
	(void)page;
	(void)lg2;
}

static void reset_memory(void)
{
	struct snest_region region = {
		.size = sizeof(region),
		.first = DATA,
		.last = DATA + DATA_PAGES * 4096ull - 1,
		.host = DATA_HOST,
	};

	if (snest_memory_replace(f.vm, &region))
		fuzz_check(0, "no memory");
}

static void create(void)
{
	struct snest_region region = {
		.size = sizeof(region),
		.last = TABLES_BYTES - 1,
		.host = DATA_HOST + (1ull << 40),
		.mapping = tables,
	};
	struct snest_vm_config config = {.size = sizeof(config)};

	test_fail_init(&f.fail);
	config.hooks = &f.fail.hooks;
	if (snest_vm_create(&config, &f.vm) || snest_memory_add(f.vm, &region) ||
	    snest_device_create(f.vm, RID, NULL, NULL, &f.device))
		fuzz_check(0, "no VM");
	reset_memory();
}

static const struct snest_stage shapes[] = {
	{.size = sizeof(struct snest_stage), .format = SNEST_FORMAT_VTD_SS, .levels = 4},
	{.size = sizeof(struct snest_stage), .format = SNEST_FORMAT_X86_64, .levels = 4},
	{.size = sizeof(struct snest_stage), .format = SNEST_FORMAT_AMD_V1, .levels = 3},
	{.size = sizeof(struct snest_stage),
         .format = SNEST_FORMAT_RISCV64,
         .levels = 3,
         .flags = SNEST_STAGE_RISCV_SVNAPOT},
};

static void begin(unsigned kind)
{
	struct snest_table_memory memory = {
		.size = sizeof(memory),
		.alloc = page_alloc,
		.free = page_free,
		.delta = 0 - (uint64_t)(uintptr_t)tables,
	};
	struct snest_space_config config = {
		.size = sizeof(config),
		.count = 1,
		.flags = kind & 4 ? SNEST_SPACE_ANNOUNCED : 0,
		.tag = {7, 3},
		.table_bytes_max = kind & 8 ? 32768 : 0,
	};

	if (!f.vm)
		create();
	if (snest_table_create(f.vm, &shapes[kind % 4], &memory, &f.table))
		fuzz_check(0, "no table");
	config.stages = snest_table_stage(f.table);
	if (snest_space_get(f.vm, &config, &f.space) ||
	    snest_device_bind(f.device, SNEST_NO_PASID, f.space))
		fuzz_check(0, "no space");
}

static void finish(void)
{
	uint64_t until = 0;

	test_fail_disarm(&f.fail);
	f.sink_fail = 0;
	for (unsigned i = 0; i < PINS; i++)
		unpin(i);
	if (f.dirty)
		snest_dirty_stop(f.vm);
	snest_device_bind(f.device, SNEST_NO_PASID, NULL);
	snest_space_put(f.space);
	snest_drain(f.vm, 0);
	for (unsigned i = 0; i < DRAINS; i++)
		fuzz_check(__atomic_load_n(&f.done[i], __ATOMIC_ACQUIRE) != 1, "a drain is lost");
	for (unsigned i = 0; i < PAGES; i++)
		until += f.sink[i].map;
	fuzz_check(!until, "a map is left in the sink");
	/* The table's own pages are all cleared here, bent ones too. */
	memset(tables, 0, f.cut);
	snest_table_destroy(f.table);
	memset(tables, 0, f.cut);
	if (f.moved)
		reset_memory();
	memset(&f.space, 0, sizeof(f) - offsetof(__typeof__(f), space));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	begin(size ? data[0] : 0);
	for (size_t at = 1, n = 0; at + 8 <= size && n < ACTIONS_MAX; at += 8, n++) {
		act(data + at);
		check_drains();
		check_shadow((unsigned)n);
	}
	test_fail_disarm(&f.fail);
	invalidate_all(0);
	check_shadow(0);
	for (unsigned i = 0; i < PAGES && !f.bent; i += 1 + i / 16)
		lookup(i, 0, SNEST_READ);
	check_shadow(1);
	finish();
	return 0;
}

/* ---- Making inputs -------------------------------------------------------------- */

static const struct fuzz_actions shape = {
	.header = 1, .length = 8, .kinds = A_COUNT, .max = ACTIONS_MAX};

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
	return fuzz_actions_mutate(&shape, data, size, max_size, seed);
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1, const uint8_t *data2,
                                 size_t size2, uint8_t *out, size_t max_out, unsigned seed)
{
	return fuzz_actions_cross(&shape, data1, size1, data2, size2, out, max_out, seed);
}

size_t fuzz_seed(unsigned n, uint8_t *data, size_t max_size)
{
	struct fuzz_random r = {n};
	size_t count = 4 + n % 28;

	if (n >= 48 || max_size < 1 + count * 8)
		return 0;
	data[0] = (uint8_t)n;
	for (size_t i = 0; i < count; i++) {
		uint8_t *at = data + 1 + i * 8;

		fuzz_action_random(&shape, at, &r);
		/* Every other one is of the usual life: map, look, unmap, invalidate. */
		if (i % 2 == 0)
			at[0] = (uint8_t)(i / 2 % 5);
		at[2] &= 7;
	}
	return 1 + count * 8;
}
