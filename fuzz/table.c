/* SPDX-License-Identifier: MIT */
/*
 * The writer: bytes become changes of one table of any format, held against an
 * array that says where each page of a window leads.
 *
 * Input: a header of 64 bytes (which table, where the window lies, which
 * allocation fails, bits of the stage that are flipped), then actions of 8 bytes
 * (actions.h). Properties, after every fourth action: an enumeration finds exactly what
 * the array says; what failed changed nothing and had a reason to; the bytes in
 * use are the pages that were taken. At the end all pages were given back, and
 * were zero. A stage with flipped bits is refused by all calls alike.
 */
#include <errno.h>
#include <snest/table.h>
#include <snest/walk.h>
#include "actions.h"
#include "support/configs.h"

#define PAGES 1024
#define ARENA_LG2 20
#define ARENA_GPA ((uint64_t)1 << 31)
#define OUT_GPA ((uint64_t)1 << 30)

enum {
	H_CONFIG = 0,
	H_FLAGS = 1,
	H_FAIL = 2, /* the allocation that fails; 0: none */
	H_ENTRY = 8,
	H_BEND = 16, /* flips bits of the stage */
	H_BYTES = 64
};

#define FLAG_HIGH 0x1
#define FLAG_BEND 0x2

static const struct fuzz_actions shape = {.header = H_BYTES, .length = 8, .kinds = 8, .max = 32};

static struct snest_vm *vm;
static _Alignas(1 << ARENA_LG2) char arena[1 << ARENA_LG2];
static size_t cut, in_use;
static unsigned allocations, failing;
static struct {
	void *page;
	unsigned lg2;
} spare[512];
static unsigned spares;

/* What the table should say: the output page and 1, or 0. */
static uint64_t model[PAGES];
static uint64_t base;
static unsigned granule;

/* ---- Memory --------------------------------------------------------------------- */

static void *page_alloc(void *opaque, unsigned lg2)
{
	size_t at = (cut + ((size_t)1 << lg2) - 1) & ~(((size_t)1 << lg2) - 1);

	(void)opaque;
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

static void page_free(void *opaque, void *page, unsigned lg2)
{
	(void)opaque;
	for (size_t i = 0; i < ((size_t)1 << lg2) / 8; i++)
		fuzz_check(!((uint64_t *)page)[i], "a page comes back that is not zero");
	fuzz_check(in_use >= (size_t)1 << lg2, "a page comes back twice");
	in_use -= (size_t)1 << lg2;
	if (spares < sizeof(spare) / sizeof(spare[0])) {
		spare[spares].page = page;
		spare[spares++].lg2 = lg2;
	}
}

static void create_vm(void)
{
	struct snest_region region = {
		.size = sizeof(region),
		.first = ARENA_GPA,
		.last = ARENA_GPA + sizeof(arena) - 1,
		.host = ARENA_GPA,
		.mapping = arena,
	};

	if (snest_vm_create(NULL, &vm) || snest_memory_add(vm, &region))
		fuzz_check(0, "no VM");
}

/* ---- Checks --------------------------------------------------------------------- */

static int compare_run(void *opaque, const struct snest_run *run)
{
	uint64_t *next = opaque;
	uint64_t first = (run->first - base) >> granule, last = (run->last - base) >> granule;

	for (; *next < first; ++*next)
		fuzz_check(!model[*next], "page %llu is lost", (unsigned long long)*next);
	for (; *next <= last; ++*next) {
		uint64_t addr = run->addr + ((*next - first) << granule);

		fuzz_check(model[*next] == (addr | 1), "page %llu leads to 0x%llx, not 0x%llx",
		           (unsigned long long)*next, (unsigned long long)addr,
		           (unsigned long long)model[*next]);
	}
	return 0;
}

static void check_all(const struct snest_table *table)
{
	struct snest_walk_range range = {
		.size = sizeof(range),
		.first = base,
		.last = base + ((uint64_t)PAGES << granule) - 1,
	};
	uint64_t next = 0;
	int ret = snest_walk_range(vm, snest_table_stage(table), 1, &range, compare_run, &next);

	fuzz_check(!ret, "snest_walk_range: %d", ret);
	for (; next < PAGES; next++)
		fuzz_check(!model[next], "page %llu is lost", (unsigned long long)next);
	fuzz_check(snest_table_bytes(table) == in_use, "%llu bytes in use, %zu taken",
	           (unsigned long long)snest_table_bytes(table), in_use);
}

/* Pages near the range that went with it. */
static void forget_whole(const struct snest_table *table)
{
	for (size_t i = 0; i < PAGES; i++) {
		struct snest_walk r;

		if (!model[i])
			continue;
		if (!snest_walk(vm, snest_table_stage(table), 1, base + (i << granule), 0,
		                SNEST_WALK_NO_UPDATE, &r, NULL, NULL) &&
		    r.outcome == SNEST_WALK_FAULT)
			model[i] = 0;
	}
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
	ret2 = snest_walk(vm, &u.stage, 1, 0, 0, SNEST_WALK_NO_UPDATE, &r, NULL, NULL);
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
	uint64_t at, count; /* pages of the window */
	uint64_t first, last;
};

static struct span span_of(const uint8_t *action)
{
	struct span s = {.at = fuzz_get(action + 1, 2) % PAGES};
	unsigned lg2 = action[3] & 15;

	/* Round numbers, mostly: large leaves need them. */
	if (lg2 < 12)
		s.at = s.at >> lg2 << lg2;
	s.count = 1 + (action[3] & 0x80 ? action[4] : ((uint64_t)1 << lg2 % 12) - 1);
	if (s.count > PAGES - s.at)
		s.count = PAGES - s.at;
	s.first = base + (s.at << granule);
	s.last = s.first + (s.count << granule) - 1;
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
	addr = OUT_GPA + ((action[5] & 0x20 ? fuzz_get(action + 6, 2) % PAGES : s.at) << granule);
	if (action[5] & 0x40) {
		unsigned lg2 = (unsigned)__builtin_ctzll(sizes);

		for (unsigned n = action[6] & 3; n && sizes >> (lg2 + 1); n--)
			lg2 += 1 + (unsigned)__builtin_ctzll(sizes >> (lg2 + 1));
		flags |= SNEST_TABLE_PAGE(lg2);
	}
	ret = snest_table_map(table, s.first, s.last, addr, rights, attr, flags);
	fuzz_check(!ret || ret == -EINVAL || ret == -EEXIST || ret == -ENOMEM, "map: %d", ret);
	fuzz_check(ret != -EEXIST || (any_mapped(&s) && !(flags & SNEST_TABLE_REPLACE)),
	           "nothing is there");
	if (ret)
		return;
	fuzz_check(flags & SNEST_TABLE_REPLACE || !any_mapped(&s), "mapped twice");
	for (uint64_t i = 0; i < s.count; i++)
		model[s.at + i] = (addr + (i << granule)) | 1;
}

static void unmap(struct snest_table *table, const uint8_t *action, uint32_t flags)
{
	struct span s = span_of(action);
	uint64_t bytes = 0, mapped = 0;
	int ret = snest_table_unmap(table, s.first, s.last, flags, &bytes);

	fuzz_check(!ret || ret == -EINVAL || (ret == -ENOMEM && !flags), "unmap: %d", ret);
	if (ret)
		return;
	for (uint64_t i = 0; i < s.count; i++) {
		mapped += model[s.at + i] ? 1 : 0;
		model[s.at + i] = 0;
	}
	if (flags)
		forget_whole(table);
	else
		fuzz_check(bytes == mapped << granule, "%llu bytes unmapped, %llu pages",
		           (unsigned long long)bytes, (unsigned long long)mapped);
}

static void act(struct snest_table *table, const uint8_t *action)
{
	struct span s = span_of(action);
	int ret = 0;

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
	fuzz_check(!ret || ret == -EINVAL || ret == -ENOMEM, "%u: %d", action[0], ret);
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
	bool high;
	int ret;

	if (!vm)
		create_vm();
	memcpy(header, data, size < H_BYTES ? size : H_BYTES);
	config = config_of(header[H_CONFIG]);
	/* What the stage takes away by itself would look like a page that is lost. */
	stage = config->stage;
	stage.rights = 0;
	if (stage.format == SNEST_FORMAT_ARM_S1)
		stage.flags &= ~(SNEST_STAGE_ARM_EPD0 | SNEST_STAGE_ARM_EPD1);
	memset(arena, 0, cut);
	memset(model, 0, sizeof(model));
	cut = in_use = 0;
	allocations = spares = 0;
	failing = 0;
	if (header[H_FLAGS] & FLAG_BEND)
		try_bent(&config->stage, &memory, header);
	allocations = 0;
	failing = header[H_FAIL];
	high = (header[H_FLAGS] & FLAG_HIGH) && config->stage.ia_bits_high;
	granule = test_config_granule_lg2(&config->stage, high);
	base = high ? 0 - ((uint64_t)PAGES << granule) : 0;
	ret = snest_table_create(vm, &stage, &memory, &table);
	fuzz_check(!ret || ret == -ENOMEM || ret == -EINVAL, "create: %d", ret);
	for (size_t at = H_BYTES, n = 0; !ret && at + 8 <= size && n < shape.max; at += 8, n++) {
		act(table, data + at);
		/* It costs more than an action. */
		if (n % 4 == 3 || at + 16 > size)
			check_all(table);
	}
	if (!ret)
		snest_table_destroy(table);
	fuzz_check(!in_use, "%zu bytes are lost", in_use);
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
	struct fuzz_random r = {n};
	size_t size = H_BYTES;

	if (n >= 2 * test_configs_count)
		return 0;
	memset(data, 0, H_BYTES);
	data[H_CONFIG] = (uint8_t)(n / 2);
	data[H_FLAGS] = (uint8_t)(n % 2 ? FLAG_HIGH | FLAG_BEND : 0);
	if (n % 2) {
		data[H_BEND + n / 2 % 32] = (uint8_t)(1u << fuzz_below(&r, 8));
		data[H_FAIL] = (uint8_t)fuzz_below(&r, 12);
		fuzz_put(data + H_ENTRY, 8, fuzz_random(&r));
	}
	for (unsigned i = 0; i < 24 && size + 8 <= max_size; i++, size += 8) {
		fuzz_put(data + size, 8, fuzz_random(&r) & 0x1fffff07ff07ull);
		if (i == 0)
			fuzz_put(data + size, 8, 0x3f000a000000ull);
		data[size + 3] = (uint8_t)fuzz_below(&r, 12);
	}
	return size;
}
