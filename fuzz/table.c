/* SPDX-License-Identifier: MIT */
/*
 * The writer: bytes become changes of one table of any format, held against an
 * array that says where each unit of a window leads. A unit is 1 to 2^15 pages,
 * so that windows reach from parts of one table to leaves of every level.
 *
 * Input: a header of 64 bytes (which table, where the window lies, whose memory,
 * which allocation fails, bits of the stage that are flipped), then actions of 8
 * bytes (actions.h). Properties, after every action where it changed something,
 * at the end everywhere: an enumeration finds exactly what the array says; what
 * failed changed nothing and had a reason to; the bytes in use are the pages
 * that were taken; a dirty flag that a device sets in a leaf that is being split
 * is not lost. At the end all pages were given back, and were zero. A stage with
 * flipped bits is refused by all calls alike.
 */
#include <errno.h>
#include <snest/table.h>
#include <snest/walk.h>
#include <sys/mman.h>
#include "actions.h"
#include "core/vm.h"
#include "support/configs.h"
#include "walkers/pt.h"

#define UNITS 256
/* How far around a change is looked at, in units. */
#define AROUND 4
#define ARENA_LG2 20
#define ARENA_GPA ((uint64_t)1 << 28)
#define OUT_GPA ((uint64_t)1 << 30)
/* Where the pool's memory is asked for, below what any format can address. */
#define POOL_AT 0x20000000ull
#define POOL_CHUNKS 4

enum {
	H_CONFIG = 0,
	H_FLAGS = 1,
	H_FAIL = 2, /* the allocation that fails, or pages of the pool's budget; 0: none */
	H_UNIT = 3, /* of 2^n pages */
	H_ENTRY = 8,
	H_BEND = 16, /* flips bits of the stage */
	H_BYTES = 64
};

#define FLAG_HIGH 0x1
#define FLAG_BEND 0x2
#define FLAG_POOL 0x4   /* pages of the VM's pool */
#define FLAG_DEVICE 0x8 /* a device writes while pages are being found */
#define FLAG_SETTLE 0x10

static const struct fuzz_actions shape = {.header = H_BYTES, .length = 8, .kinds = 8, .max = 12};

static struct snest_vm *vm, *empty; /* empty: without memory */
static char *pool_at;
static unsigned pool_taken; /* bit n: chunk n */
static uint64_t objects;    /* live, without chunks of the pool */
static _Alignas(1 << ARENA_LG2) char arena[1 << ARENA_LG2];
static size_t cut, in_use;
static unsigned allocations, failing;
static struct {
	void *page;
	unsigned lg2;
} spare[512];
static unsigned spares;

/* What the table should say: the output address and 1, or 0. */
static uint64_t model[UNITS];
static uint64_t base;
static unsigned unit; /* lg2 of its bytes */

/* What a device writes to, and in which tables; NULL: no device. */
static const struct snest_table *device;
static uint64_t device_at;
static bool device_wrote;
static unsigned settled;

/* ---- Memory --------------------------------------------------------------------- */

/* What a device does at any moment: it sets the dirty flag of what it writes to. */
static void device_write(void)
{
	struct snest_walk r;

	if (!device || device_wrote)
		return;
	fuzz_check(!snest_walk(vm, snest_table_stage(device), 1, device_at, SNEST_WRITE, 0, &r,
	                       NULL, NULL),
	           "a walk fails");
	device_wrote = r.outcome != SNEST_WALK_FAULT && (r.attr & SNEST_ATTR_DIRTY);
}

static void *page_alloc(void *opaque, unsigned lg2)
{
	size_t at = (cut + ((size_t)1 << lg2) - 1) & ~(((size_t)1 << lg2) - 1);

	(void)opaque;
	device_write();
	if (++allocations == failing)
		return NULL;
	for (unsigned i = 0; i < spares; i++) {
		if (spare[i].lg2 == lg2) {
			void *page = spare[i].page;

			spare[i] = spare[--spares];
			in_use += (size_t)1 << lg2;
			return page;
		}
	}
	if (at + ((size_t)1 << lg2) > sizeof(arena))
		return NULL;
	cut = at + ((size_t)1 << lg2);
	in_use += (size_t)1 << lg2;
	return arena + at;
}

FUZZ_FAST static bool is_zero(const uint64_t *words, size_t count)
{
	uint64_t any = 0;

	for (size_t i = 0; i < count; i++)
		any |= words[i];
	return !any;
}

static void page_free(void *opaque, void *page, unsigned lg2)
{
	(void)opaque;
	fuzz_check(is_zero(page, ((size_t)1 << lg2) / 8), "a page comes back that is not zero");
	fuzz_check(in_use >= (size_t)1 << lg2, "a page comes back twice");
	in_use -= (size_t)1 << lg2;
	if (spares < sizeof(spare) / sizeof(spare[0])) {
		spare[spares].page = page;
		spare[spares++].lg2 = lg2;
	}
}

static void settle(void *opaque)
{
	(void)opaque;
	settled++;
}

/* The VM's memory: chunks of the pool, and large roots, where every format can point to them. */
static void *vm_alloc(void *opaque, size_t size, size_t align)
{
	void *ptr;

	(void)opaque;
	if (align > (size_t)1 << SN_POOL_MAX_LG2) {
		for (unsigned i = 0; i < POOL_CHUNKS; i++) {
			if (!(pool_taken >> i & 1)) {
				pool_taken |= 1u << i;
				return pool_at + i * SN_POOL_CHUNK;
			}
		}
		return NULL;
	}
	if (posix_memalign(&ptr, align < 16 ? 16 : align, size))
		return NULL;
	objects++;
	return ptr;
}

static void vm_free(void *opaque, void *ptr, size_t size)
{
	uintptr_t at = (uintptr_t)ptr - (uintptr_t)pool_at;

	(void)opaque;
	(void)size;
	if (at < POOL_CHUNKS * SN_POOL_CHUNK) {
		pool_taken &= ~(1u << at / SN_POOL_CHUNK);
		return;
	}
	objects--;
	free(ptr);
}

static void create_vm(void)
{
	struct snest_hooks hooks = {.size = sizeof(hooks), .alloc = vm_alloc, .free = vm_free};
	struct snest_vm_config config = {.size = sizeof(config), .hooks = &hooks};
	struct snest_region region = {
		.size = sizeof(region),
		.first = ARENA_GPA,
		.last = ARENA_GPA + sizeof(arena) - 1,
		.host = ARENA_GPA,
		.mapping = arena,
	};

	pool_at = mmap((void *)(uintptr_t)POOL_AT, (POOL_CHUNKS + 1) * SN_POOL_CHUNK,
	               PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fuzz_check(pool_at != MAP_FAILED, "no memory");
	pool_at += -(uintptr_t)pool_at & (SN_POOL_CHUNK - 1);
	sn_reclaim_threadless = true;
	if (snest_vm_create(&config, &vm) || snest_vm_create(NULL, &empty) ||
	    snest_memory_add(vm, &region))
		fuzz_check(0, "no VM");
	region.first = region.host = (uintptr_t)pool_at;
	region.last = region.first + POOL_CHUNKS * SN_POOL_CHUNK - 1;
	region.mapping = pool_at;
	fuzz_check(!snest_memory_add(vm, &region), "no VM");
	sn_reclaim_help(&vm->reclaim);
}

/* ---- Checks --------------------------------------------------------------------- */

static int compare_run(void *opaque, const struct snest_run *run)
{
	uint64_t *next = opaque;
	uint64_t first = (run->first - base) >> unit, last = (run->last - base) >> unit;

	fuzz_check(!((run->first - base) & sn_mask(unit)) &&
	                   ((run->last - base) & sn_mask(unit)) == sn_mask(unit),
	           "a part of a unit: 0x%llx-0x%llx", (unsigned long long)run->first,
	           (unsigned long long)run->last);
	for (; *next < first; ++*next)
		fuzz_check(!model[*next], "unit %llu is lost", (unsigned long long)*next);
	for (; *next <= last; ++*next) {
		uint64_t addr = run->addr + ((*next - first) << unit);

		fuzz_check(model[*next] == (addr | 1), "unit %llu leads to 0x%llx, not 0x%llx",
		           (unsigned long long)*next, (unsigned long long)addr,
		           (unsigned long long)model[*next]);
	}
	return 0;
}

/* Units first..last. */
static void check_units(const struct snest_table *table, uint64_t first, uint64_t last)
{
	struct snest_walk_range range = {
		.size = sizeof(range),
		.first = base + (first << unit),
		.last = base + (last << unit) + sn_mask(unit),
	};
	uint64_t next = first;
	int ret = snest_walk_range(vm, snest_table_stage(table), 1, &range, compare_run, &next);

	fuzz_check(!ret, "snest_walk_range: %d", ret);
	for (; next <= last; next++)
		fuzz_check(!model[next], "unit %llu is lost", (unsigned long long)next);
}

/* A root that is larger than the pool's pages is counted elsewhere. */
static void check_bytes(const struct snest_table *table, bool pooled, uint64_t beside)
{
	if (pooled)
		sn_reclaim_help(&vm->reclaim);
	fuzz_check(snest_table_bytes(table) == (pooled ? vm->pool.bytes_used + beside : in_use),
	           "%llu bytes in use, %llu taken", (unsigned long long)snest_table_bytes(table),
	           (unsigned long long)(pooled ? vm->pool.bytes_used + beside : in_use));
}

/* A large leaf that sticks out of the units at..last went with them. Returns whether it did. */
static bool went(const struct snest_table *table, uint64_t i)
{
	struct snest_walk r;

	if (!model[i])
		return false;
	fuzz_check(!snest_walk(vm, snest_table_stage(table), 1, base + (i << unit), 0,
	                       SNEST_WALK_NO_UPDATE, &r, NULL, NULL),
	           "a walk fails");
	if (r.outcome != SNEST_WALK_FAULT)
		return false;
	model[i] = 0;
	return true;
}

/* A stage that is mostly wrong: every call says the same. */
static void try_bent(const struct snest_stage *shape_of, const struct snest_table_memory *memory,
                     const uint8_t *header)
{
	/* A size that is too large reaches into what is behind. */
	union {
		struct snest_stage stage;
		uint8_t room[256];
	} u = {.stage = *shape_of};
	struct snest_table *table = NULL;
	const char *why = NULL;
	struct snest_walk r;
	char text[128];
	int ret, ret2;

	for (size_t i = 0; i < sizeof(u.stage) && H_BEND + i < H_BYTES; i++)
		u.room[i] ^= header[H_BEND + i];
	u.stage.size &= 0xff;
	ret = snest_stage_check(&u.stage, &why);
	fuzz_check(!ret || ret == -EINVAL || ret == -EOPNOTSUPP || ret == -E2BIG,
	           "snest_stage_check: %d", ret);
	/* A bent root may lead to pages of the pool that nobody owns. */
	ret2 = snest_walk(empty, &u.stage, 1, 0, 0, SNEST_WALK_NO_UPDATE, &r, NULL, NULL);
	fuzz_check(ret == ret2, "check says %d, walk %d", ret, ret2);
	/* A table makes its own root. */
	u.stage.root = u.stage.root_high = 0;
	ret = snest_stage_check(&u.stage, &why);
	ret2 = snest_table_create(vm, &u.stage, memory, &table);
	fuzz_check(!ret || ret2, "a table of a stage that is wrong");
	if (!ret2)
		snest_table_destroy(table);
	if (u.stage.size == sizeof(u.stage)) {
		uint64_t entry = fuzz_get(header + H_ENTRY, 8);
		int n = snest_format_describe(&u.stage, header[H_FAIL] % 8, entry, text,
		                              sizeof(text));

		fuzz_check(n > 0 && snest_format_level_name(&u.stage, header[H_FAIL]),
		           "an entry without a description");
	}
}

/* ---- Actions -------------------------------------------------------------------- */

struct span {
	uint64_t at, count; /* units of the window */
	uint64_t first, last;
};

static struct span span_of(const uint8_t *action)
{
	struct span s = {.at = fuzz_get(action + 1, 2) % UNITS};
	unsigned lg2 = action[3] & 15;

	/* Round numbers, mostly: large leaves need them. */
	if (lg2 < 10)
		s.at = s.at >> lg2 << lg2;
	s.count = 1 + (action[3] & 0x80 ? action[4] : ((uint64_t)1 << lg2 % 10) - 1);
	if (s.count > UNITS - s.at)
		s.count = UNITS - s.at;
	s.first = base + (s.at << unit);
	s.last = s.first + (s.count << unit) - 1;
	return s;
}

static bool any_mapped(const struct span *s)
{
	for (uint64_t i = 0; i < s->count; i++) {
		if (model[s->at + i])
			return true;
	}
	return false;
}

/* Memory is short: the target's own, or the pool's budget. */
static bool no_room(int ret)
{
	return ret == -ENOMEM || (ret == -ENOSPC && vm->pool.bytes_max);
}

static void map(struct snest_table *table, const uint8_t *action, uint32_t flags)
{
	struct span s = span_of(action);
	uint32_t attr = SNEST_ATTR_USER | SNEST_ATTR_ACCESSED;
	uint32_t rights = SNEST_READ | (action[5] & (SNEST_WRITE | SNEST_EXEC));
	uint64_t sizes = snest_table_page_sizes(table);
	uint64_t addr;
	int ret;

	attr |= action[5] & 0x8 ? SNEST_ATTR_DIRTY : 0;
	attr |= action[5] & 0x10 ? SNEST_ATTR_SNOOP | SNEST_ATTR_GLOBAL : 0;
	/* Where it is in the window, so that neighbours merge; or elsewhere. */
	addr = OUT_GPA + ((action[5] & 0x20 ? fuzz_get(action + 6, 2) % UNITS : s.at) << unit);
	if (action[5] & 0x40) {
		unsigned lg2 = (unsigned)__builtin_ctzll(sizes);

		for (unsigned n = action[6] & 3; n && sizes >> (lg2 + 1); n--)
			lg2 += 1 + (unsigned)__builtin_ctzll(sizes >> (lg2 + 1));
		flags |= SNEST_TABLE_PAGE(lg2);
	}
	ret = snest_table_map(table, s.first, s.last, addr, rights, attr, flags);
	fuzz_check(!ret || ret == -EINVAL || ret == -EEXIST || no_room(ret), "map: %d", ret);
	fuzz_check(ret != -EEXIST || (any_mapped(&s) && !(flags & SNEST_TABLE_REPLACE)),
	           "nothing is there");
	if (ret)
		return;
	fuzz_check(flags & SNEST_TABLE_REPLACE || !any_mapped(&s), "mapped twice");
	for (uint64_t i = 0; i < s.count; i++)
		model[s.at + i] = (addr + (i << unit)) | 1;
}

static void unmap(struct snest_table *table, const uint8_t *action, uint32_t flags)
{
	struct span s = span_of(action);
	uint64_t bytes = 0, mapped = 0;
	int ret = snest_table_unmap(table, s.first, s.last, flags, &bytes);

	fuzz_check(!ret || ret == -EINVAL || (no_room(ret) && !flags), "unmap: %d", ret);
	if (ret)
		return;
	for (uint64_t i = 0; i < s.count; i++) {
		mapped += model[s.at + i] ? 1 : 0;
		model[s.at + i] = 0;
	}
	if (flags) {
		/* A leaf that stuck out of the range went whole. */
		for (uint64_t i = s.at; i && went(table, i - 1); i--)
			mapped++;
		for (uint64_t i = s.at + s.count; i < UNITS && went(table, i); i++)
			mapped++;
		/* What lies outside of the window, if anything, is unknown. */
		fuzz_check(bytes >= mapped << unit, "%llu bytes unmapped, %llu units",
		           (unsigned long long)bytes, (unsigned long long)mapped);
		return;
	}
	fuzz_check(bytes == mapped << unit, "%llu bytes unmapped, %llu units",
	           (unsigned long long)bytes, (unsigned long long)mapped);
}

/* What a device wrote to is dirty, whatever became of its leaf meanwhile. */
static void check_device(const struct snest_table *table, const struct span *s)
{
	struct snest_walk r;
	uint64_t i = (device_at - base) >> unit;

	if (!device_wrote || i - s->at < s->count)
		return;
	fuzz_check(!snest_walk(vm, snest_table_stage(table), 1, device_at, 0, SNEST_WALK_NO_UPDATE,
	                       &r, NULL, NULL),
	           "a walk fails");
	fuzz_check(r.outcome == SNEST_WALK_FAULT || (r.attr & SNEST_ATTR_DIRTY),
	           "a dirty flag is lost at 0x%llx", (unsigned long long)device_at);
}

static void act(struct snest_table *table, const uint8_t *action)
{
	struct span s = span_of(action);
	uint64_t last = s.at + s.count - 1 + AROUND;
	int ret = 0;

	/* Beside the range, where its leaf may reach. */
	device_wrote = false;
	device_at = base + ((s.at + (action[7] & 0x80 ? s.count : -1ull)) % UNITS << unit);
	switch (action[0] % 8) {
	case 0:
	case 1:
		map(table, action, 0);
		break;
	case 2:
		map(table, action, SNEST_TABLE_REPLACE);
		break;
	case 3:
	case 4:
		unmap(table, action, 0);
		break;
	case 5:
		unmap(table, action, SNEST_TABLE_WHOLE);
		break;
	case 6:
		ret = snest_table_cut(table, s.first);
		break;
	default:
		ret = snest_table_merge(table, s.first, s.last);
	}
	fuzz_check(!ret || ret == -EINVAL || no_room(ret), "%u: %d", action[0], ret);
	check_units(table, s.at < AROUND ? 0 : s.at - AROUND, last < UNITS ? last : UNITS - 1);
	check_device(table, &s);
}

static const struct test_config *config_of(unsigned n)
{
	const struct test_config *config = &test_configs[n % test_configs_count];

	/* The mock format has tables that no other has. */
	return config->stage.format >= SNEST_FORMAT_COUNT ? &test_configs[0] : config;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct snest_table_memory memory = {
		.size = sizeof(memory),
		.alloc = page_alloc,
		.free = page_free,
		.delta = ARENA_GPA - (uint64_t)(uintptr_t)arena,
	};
	uint8_t header[H_BYTES] = {0};
	const struct test_config *config;
	struct snest_table *table;
	struct snest_stage stage;
	uint64_t before, beside;
	bool high, pooled;
	int ret;

	if (!vm)
		create_vm();
	memcpy(header, data, size < H_BYTES ? size : H_BYTES);
	config = config_of(header[H_CONFIG]);
	/* What the stage takes away by itself would look like a unit that is lost. */
	stage = config->stage;
	stage.rights = 0;
	if (stage.format == SNEST_FORMAT_ARM_S1)
		stage.flags &= ~(SNEST_STAGE_ARM_EPD0 | SNEST_STAGE_ARM_EPD1);
	memset(model, 0, sizeof(model));
	cut = in_use = 0;
	allocations = spares = 0;
	failing = 0;
	device = NULL;
	vm->pool.bytes_max = 0;
	before = objects;
	if (header[H_FLAGS] & FLAG_BEND)
		try_bent(&config->stage, &memory, header);
	memory.settle = header[H_FLAGS] & FLAG_SETTLE ? settle : NULL;
	pooled = header[H_FLAGS] & FLAG_POOL;
	allocations = 0;
	failing = pooled ? 0 : header[H_FAIL];
	vm->pool.bytes_max = pooled ? (uint64_t)header[H_FAIL] << 12 : 0;
	high = (header[H_FLAGS] & FLAG_HIGH) && config->stage.ia_bits_high;
	unit = test_config_granule_lg2(&config->stage, high) + header[H_UNIT] % 16;
	base = high ? 0 - ((uint64_t)UNITS << unit) : 0;
	ret = snest_table_create(vm, &stage, pooled ? NULL : &memory, &table);
	fuzz_check(!ret || ret == -EINVAL || no_room(ret), "create: %d", ret);
	if (!ret) {
		beside = snest_table_bytes(table) - vm->pool.bytes_used;
		device = header[H_FLAGS] & FLAG_DEVICE ? table : NULL;
		for (size_t at = H_BYTES, n = 0; at + 8 <= size && n < shape.max; at += 8, n++) {
			act(table, data + at);
			check_bytes(table, pooled, beside);
		}
		check_units(table, 0, UNITS - 1);
		device = NULL;
		snest_table_destroy(table);
	}
	sn_reclaim_help(&vm->reclaim);
	fuzz_check(!in_use && !vm->pool.bytes_used, "%zu bytes are lost", in_use);
	fuzz_check(objects == before, "%llu objects are lost",
	           (unsigned long long)(objects - before));
	return 0;
}

/* ---- Making inputs -------------------------------------------------------------- */

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
	struct fuzz_random r = {seed};

	if (size >= H_BYTES && fuzz_below(&r, 4) == 0) {
		size_t at = fuzz_below(&r, 3) ? fuzz_below(&r, H_BEND)
		                              : H_BEND + fuzz_below(&r, H_BYTES - H_BEND);

		data[at] ^= (uint8_t)(1u << fuzz_below(&r, 8));
		if (fuzz_below(&r, 2))
			data[H_FAIL] = (uint8_t)fuzz_below(&r, 12);
		return size;
	}
	return fuzz_actions_mutate(&shape, data, size, max_size, seed);
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1, const uint8_t *data2,
                                 size_t size2, uint8_t *out, size_t max_out, unsigned seed)
{
	return fuzz_actions_cross(&shape, data1, size1, data2, size2, out, max_out, seed);
}

size_t fuzz_seed(unsigned n, uint8_t *data, size_t max_size)
{
	static const uint8_t flags[] = {0, FLAG_HIGH | FLAG_BEND, FLAG_POOL,
	                                FLAG_DEVICE | FLAG_SETTLE};
	struct fuzz_random r = {n};
	size_t size = H_BYTES;

	if (n >= 4 * test_configs_count)
		return 0;
	memset(data, 0, H_BYTES);
	data[H_CONFIG] = (uint8_t)(n / 4);
	data[H_FLAGS] = flags[n % 4];
	data[H_UNIT] = (uint8_t)fuzz_below(&r, 12);
	if (data[H_FLAGS] & FLAG_BEND) {
		data[H_BEND + n / 4 % 32] = (uint8_t)(1u << fuzz_below(&r, 8));
		data[H_FAIL] = (uint8_t)fuzz_below(&r, 12);
		fuzz_put(data + H_ENTRY, 8, fuzz_random(&r));
	}
	for (unsigned i = 0; i < 12 && size + 8 <= max_size; i++, size += 8) {
		fuzz_put(data + size, 8, fuzz_random(&r) & 0x1fffff07ff07ull);
		if (i == 0)
			fuzz_put(data + size, 8, 0x3f000a000000ull);
		data[size + 3] = (uint8_t)fuzz_below(&r, 9);
	}
	return size;
}
