/* SPDX-License-Identifier: MIT */
/*
 * Every combination of what matters, as kvm-unit-tests does for x86: for each
 * format and each level a leaf can be at, every setting of the leaf's telling
 * bits and of those of the table entry above it, asked with every kind of
 * access, with and without updates of the accessed and dirty flags. The
 * reference walker (tests/ref) predicts; result and memory must be equal.
 *
 * The starting point is a good mapping made by the writer; bits are toggled in
 * memory from there. Which bits are telling is listed here by format, from the
 * manuals.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <snest/table.h>
#include <snest/walk.h>
#include "ref/ref_walk.h"
#include "support/configs.h"

#define RAM_BASE 0x200000ull
#define RAM_SIZE 0x400000ull
#define BITS_MAX 12

struct bits {
	unsigned count;
	uint8_t bit[BITS_MAX];
};

/* Present and type, rights, privilege, flags, one reserved or misplaced address bit. */
static const struct bits leaf_bits[SNEST_FORMAT_COUNT] = {
	[SNEST_FORMAT_X86_64] = {10, {0, 1, 2, 5, 6, 7, 10, 13, 51, 63}},
	[SNEST_FORMAT_VTD_SS] = {9, {0, 1, 2, 7, 8, 9, 11, 51, 62}},
	[SNEST_FORMAT_AMD_V1] = {10, {0, 5, 6, 9, 10, 11, 58, 60, 61, 62}},
	[SNEST_FORMAT_AMD_V2] = {9, {0, 1, 2, 5, 6, 7, 13, 51, 63}},
	[SNEST_FORMAT_ARM_S1] = {10, {0, 1, 6, 7, 10, 11, 47, 51, 53, 54}},
	[SNEST_FORMAT_ARM_S2] = {10, {0, 1, 6, 7, 10, 11, 47, 51, 53, 54}},
	[SNEST_FORMAT_RISCV32] = {8, {0, 1, 2, 3, 4, 6, 7, 10}},
	[SNEST_FORMAT_RISCV64] = {12, {0, 1, 2, 3, 4, 6, 7, 13, 54, 60, 61, 63}},
};

static const struct bits table_bits[SNEST_FORMAT_COUNT] = {
	[SNEST_FORMAT_X86_64] = {7, {0, 1, 2, 5, 7, 51, 63}},
	[SNEST_FORMAT_VTD_SS] = {6, {0, 1, 7, 8, 11, 62}},
	[SNEST_FORMAT_AMD_V1] = {7, {0, 5, 9, 10, 60, 61, 62}},
	[SNEST_FORMAT_AMD_V2] = {6, {0, 1, 2, 5, 7, 63}},
	[SNEST_FORMAT_ARM_S1] = {7, {0, 1, 47, 59, 60, 61, 62}},
	[SNEST_FORMAT_ARM_S2] = {4, {0, 1, 10, 47}},
	[SNEST_FORMAT_RISCV32] = {7, {0, 1, 2, 3, 4, 6, 7}},
	[SNEST_FORMAT_RISCV64] = {9, {0, 1, 2, 3, 4, 6, 7, 61, 63}},
};

struct place {
	uint64_t addr;
	uint64_t good; /* the entry as the writer made it */
};

struct world {
	const struct test_config *config;
	struct snest_vm *vm;
	struct snest_stage stage;
	unsigned entry_lg2;
	unsigned char *ours, *theirs; /* guest memory, as each walker leaves it */
	size_t used;
	uint64_t asked;
};

/* ---- Memory ------------------------------------------------------------------ */

static void *page_alloc(void *opaque, unsigned lg2)
{
	struct world *w = opaque;
	size_t size = (size_t)1 << lg2;

	w->used = (w->used + size - 1) & ~(size - 1);
	if (w->used + size > RAM_SIZE)
		return NULL;
	w->used += size;
	return w->ours + w->used - size;
}

static void page_free(void *opaque, void *page, unsigned lg2)
{
	(void)opaque;
	(void)page;
	(void)lg2;
}

static bool ref_read(void *opaque, uint64_t addr, unsigned bytes, uint64_t *value)
{
	struct world *w = opaque;

	if (addr - RAM_BASE >= RAM_SIZE)
		return false;
	*value = 0;
	memcpy(value, w->theirs + (addr - RAM_BASE), bytes);
	return true;
}

static bool ref_write(void *opaque, uint64_t addr, unsigned bytes, uint64_t value)
{
	struct world *w = opaque;

	if (addr - RAM_BASE >= RAM_SIZE)
		return false;
	memcpy(w->theirs + (addr - RAM_BASE), &value, bytes);
	return true;
}

static void put(struct world *w, uint64_t addr, uint64_t value)
{
	size_t at = addr - RAM_BASE, bytes = (size_t)1 << w->entry_lg2;

	if (w->stage.flags & SNEST_STAGE_BIG_ENDIAN)
		value = bytes == 8 ? __builtin_bswap64(value) : __builtin_bswap32((uint32_t)value);
	memcpy(w->ours + at, &value, bytes);
	memcpy(w->theirs + at, &value, bytes);
}

/* ---- One question ------------------------------------------------------------- */

static void ask(struct world *w, const struct place *leaf, uint64_t iova, uint32_t access,
                bool update)
{
	struct ref_memory memory = {ref_read, ref_write, w};
	struct ref_result ref;
	struct snest_walk r;
	bool same;

	assert_int_equal(snest_walk(w->vm, &w->stage, 1, iova, access,
	                            update ? 0 : SNEST_WALK_NO_UPDATE, &r, NULL, NULL),
	                 0);
	ref_walk(&w->stage, &memory, iova, access, update, &ref);
	w->asked++;
	if (r.outcome == SNEST_WALK_FAULT)
		same = !ref.ok && r.fault.reason == ref.reason && r.fault.level == ref.level &&
		       r.fault.entry_addr == ref.entry_addr && r.fault.entry == ref.entry;
	else
		same = ref.ok && r.stage[0].output == ref.out && r.stage[0].lg2 == ref.lg2 &&
		       r.stage[0].rights == ref.rights;
	if (!same || memcmp(w->ours + (leaf->addr - RAM_BASE), w->theirs + (leaf->addr - RAM_BASE),
	                    (size_t)1 << w->entry_lg2))
		fail_msg("%s: leaf 0x%llx access 0x%x update %d: snest outcome %u reason %u level "
		         "%u rights %u lg2 %u; reference ok %d reason %u level %u rights %u lg2 %u",
		         w->config->name, (unsigned long long)ref.entry, access, update, r.outcome,
		         r.fault.reason, r.fault.level, r.stage[0].rights, r.stage[0].lg2, ref.ok,
		         ref.reason, ref.level, ref.rights, ref.lg2);
}

static uint64_t toggled(uint64_t entry, const struct bits *bits, unsigned combination)
{
	for (unsigned i = 0; i < bits->count; i++)
		entry ^= combination >> i & 1 ? (uint64_t)1 << bits->bit[i] : 0;
	return entry;
}

/* Every kind of access to one setting of leaf and table entry. */
static void ask_all(struct world *w, const struct place *leaf, uint64_t leaf_entry,
                    const struct place *table, uint64_t table_entry, uint64_t iova)
{
	bool updates = w->stage.flags & SNEST_STAGE_HW_A;

	for (uint32_t access = 0; access < 16; access++) {
		put(w, leaf->addr, leaf_entry);
		if (table)
			put(w, table->addr, table_entry);
		ask(w, leaf, iova, access, false);
		if (updates)
			ask(w, leaf, iova, access, true);
	}
}

/* ---- One mapping ---------------------------------------------------------------- */

static void enumerate(struct world *w, const struct place *leaf, const struct place *table,
                      uint64_t iova)
{
	const struct bits *lower = &leaf_bits[w->stage.format];
	const struct bits *upper = &table_bits[w->stage.format];

	for (unsigned i = 0; i < 1u << lower->count; i++)
		ask_all(w, leaf, toggled(leaf->good, lower, i), table, table ? table->good : 0,
		        iova);
	/* Of the leaf's settings, those of its first bits go with every setting above. */
	for (unsigned i = 0; table && i < 1u << upper->count; i++) {
		for (unsigned j = 0; j < 32; j++)
			ask_all(w, leaf, toggled(leaf->good, lower, j), table,
			        toggled(table->good, upper, i), iova);
	}
}

/* The most that the format can say, at iova. */
static int map_one(struct snest_table *table, unsigned lg2, uint64_t iova)
{
	uint32_t attr = SNEST_ATTR_USER | SNEST_ATTR_ACCESSED | SNEST_ATTR_DIRTY;
	uint64_t last = iova + (((uint64_t)1 << lg2) - 1);
	int ret = -1;

	for (uint32_t rights = SNEST_RIGHTS; ret && rights; rights--) {
		ret = snest_table_map(table, iova, last, 0, rights, attr, SNEST_TABLE_PAGE(lg2));
		if (ret)
			ret = snest_table_map(table, iova, last, 0, rights, 0,
			                      SNEST_TABLE_PAGE(lg2));
	}
	return ret;
}

static void one_size(struct world *w, struct snest_table *table, unsigned lg2)
{
	/* The second entry of a table, where the input is wide enough for one. */
	uint64_t iova = (uint64_t)1 << lg2;
	struct snest_walk_step step[8];
	struct place leaf, above;
	size_t steps = 8;
	struct snest_walk r;

	/* Else the first; else, where a size is only in the upper half, the last of that. */
	if (map_one(table, lg2, iova)) {
		iova = 0;
		if (map_one(table, lg2, iova)) {
			iova = -((uint64_t)1 << lg2);
			if (map_one(table, lg2, iova))
				fail_msg("%s: no leaf of 2^%u bytes", w->config->name, lg2);
		}
	}
	w->stage.root = snest_table_stage(table)->root;
	w->stage.root_high = snest_table_stage(table)->root_high;
	assert_int_equal(
		snest_walk(w->vm, &w->stage, 1, iova, 0, SNEST_WALK_NO_UPDATE, &r, step, &steps),
		0);
	assert_int_not_equal(r.outcome, SNEST_WALK_FAULT);
	assert_in_range(steps, 1, 8);
	leaf = (struct place){step[steps - 1].entry_addr, step[steps - 1].entry};
	if (steps > 1)
		above = (struct place){step[steps - 2].entry_addr, step[steps - 2].entry};
	memcpy(w->theirs, w->ours, RAM_SIZE);
	enumerate(w, &leaf, steps > 1 ? &above : NULL, iova);
	put(w, leaf.addr, leaf.good);
	if (steps > 1)
		put(w, above.addr, above.good);
	assert_int_equal(snest_table_unmap(table, iova, iova + (((uint64_t)1 << lg2) - 1), 0, NULL),
	                 0);
}

static uint64_t one_config(const struct test_config *config)
{
	struct world w = {
		.config = config,
		.stage = config->stage,
		.entry_lg2 = test_config_entry_lg2(&config->stage),
	};
	struct snest_table_memory memory = {
		.size = sizeof(memory),
		.alloc = page_alloc,
		.free = page_free,
		.opaque = &w,
	};
	struct snest_region region = {
		.size = sizeof(region),
		.first = RAM_BASE,
		.last = RAM_BASE + RAM_SIZE - 1,
	};
	struct snest_table *table;
	uint64_t sizes;

	w.ours = aligned_alloc(RAM_BASE, RAM_SIZE);
	w.theirs = aligned_alloc(RAM_BASE, RAM_SIZE);
	assert_non_null(w.ours);
	assert_non_null(w.theirs);
	memset(w.ours, 0, RAM_SIZE);
	region.mapping = w.ours;
	memory.delta = RAM_BASE - (uint64_t)(uintptr_t)w.ours;
	assert_int_equal(snest_vm_create(NULL, &w.vm), 0);
	assert_int_equal(snest_memory_add(w.vm, &region), 0);
	assert_int_equal(snest_table_create(w.vm, &config->stage, &memory, &table), 0);
	sizes = snest_table_page_sizes(table);
	for (unsigned lg2 = 11; lg2 < 48; lg2++) {
		if (!(sizes >> lg2 & 1) || (config->stage.flags & SNEST_STAGE_ARM_EPD0))
			continue;
		/* Groups of equal entries are for other tests: one entry is toggled here. */
		if (config->stage.format == SNEST_FORMAT_AMD_V1 && (lg2 - 12) % 9)
			continue;
		if (config->stage.format == SNEST_FORMAT_RISCV64 && lg2 == 16)
			continue;
		one_size(&w, table, lg2);
	}
	snest_table_destroy(table);
	snest_vm_destroy(w.vm);
	free(w.ours);
	free(w.theirs);
	return w.asked;
}

static void every_combination(void **state)
{
	uint64_t asked = 0;

	(void)state;
	for (size_t i = 0; i < test_configs_count; i++) {
		if (test_configs[i].stage.format < SNEST_FORMAT_COUNT)
			asked += one_config(&test_configs[i]);
	}
	print_message("%llu walks predicted\n", (unsigned long long)asked);
	assert_true(asked > 1000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_combination),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
