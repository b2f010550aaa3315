/* SPDX-License-Identifier: MIT */
/*
 * Lists of one to four stages, formats mixed, against naive composition: the
 * reference walker is asked for one stage after the other, and its reads of a
 * stage's tables are themselves translated by the stages behind, by recursion.
 *
 * Every stage maps the memory that tables lie in to itself, page by page, with
 * holes and read-only pages here and there, so that tables of earlier stages
 * are sometimes not to be read, or their flags not to be written.
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
#include "support/tables.h"

#define STAGES_MAX 4u
#define RAM_SIZE (16ull << 20)   /* GPAs from 0; the last quarter is read-only */
#define TABLES_SIZE (8ull << 20) /* of it, where tables lie */
#define WINDOW (1ull << 30)      /* inputs that stages map at random begin here */
#define WINDOW_PAGES 64u

struct world {
	struct test_random random;
	struct snest_vm *vm;
	unsigned char *ours, *theirs;
	size_t used;
	unsigned count;
	struct snest_stage stage[STAGES_MAX];
	struct snest_table *table[STAGES_MAX];
};

/* ---- Naive composition ----------------------------------------------------------- */

struct prediction {
	bool fault;
	uint8_t reason, stage, for_stage;
	uint64_t gpa;
	unsigned rights, lg2;
};

struct nested {
	struct world *w;
	unsigned stage;           /* whose tables are read */
	struct prediction *fault; /* what kept them from being read */
};

static struct prediction predict(struct world *w, unsigned k, uint64_t in, uint32_t access,
                                 bool update, unsigned for_stage);

/* A byte range of stage n->stage's tables, through the stages behind it. */
static bool table_access(struct nested *n, uint64_t addr, uint32_t access, uint64_t *gpa)
{
	struct prediction p = predict(n->w, n->stage + 1, addr, access, true, n->stage);

	if (p.fault) {
		*n->fault = p;
		return false;
	}
	*gpa = p.gpa;
	return p.gpa < RAM_SIZE;
}

static bool table_read(void *opaque, uint64_t addr, unsigned bytes, uint64_t *value)
{
	struct nested *n = opaque;
	uint64_t gpa;

	if (!table_access(n, addr, SNEST_READ, &gpa))
		return false;
	*value = 0;
	memcpy(value, n->w->theirs + gpa, bytes);
	return true;
}

static bool table_write(void *opaque, uint64_t addr, unsigned bytes, uint64_t value)
{
	struct nested *n = opaque;
	uint64_t gpa;

	if (!table_access(n, addr, SNEST_WRITE, &gpa))
		return false;
	memcpy(n->w->theirs + gpa, &value, bytes);
	return true;
}

static struct prediction predict(struct world *w, unsigned k, uint64_t in, uint32_t access,
                                 bool update, unsigned for_stage)
{
	struct prediction p = {.rights = SNEST_RIGHTS, .lg2 = 64, .gpa = in};

	for (unsigned s = k; s < w->count; s++) {
		struct prediction inner = {.fault = false};
		struct nested n = {w, s, &inner};
		struct ref_memory memory = {table_read, table_write, &n};
		struct ref_result r;

		ref_walk(&w->stage[s], &memory, p.gpa, access, update, &r);
		if (!r.ok) {
			/* Memory's own refusal is the stage's: its update failed. */
			if (inner.fault && inner.stage < w->count)
				return inner;
			return (struct prediction){.fault = true,
			                           .reason = r.reason,
			                           .stage = (uint8_t)s,
			                           .for_stage = (uint8_t)for_stage};
		}
		p.gpa = r.out;
		p.rights &= r.rights;
		if (p.lg2 > r.lg2)
			p.lg2 = r.lg2;
	}
	if (p.gpa >= RAM_SIZE / 4 * 3 && p.gpa < RAM_SIZE) {
		if (access & SNEST_WRITE)
			return (struct prediction){.fault = true,
			                           .reason = SNEST_FAULT_WRITE,
			                           .stage = (uint8_t)w->count,
			                           .for_stage = (uint8_t)for_stage};
		p.rights &= ~SNEST_WRITE;
	}
	return p;
}

/* ---- Tables ----------------------------------------------------------------------- */

static void *page_alloc(void *opaque, unsigned lg2)
{
	struct world *w = opaque;
	size_t size = (size_t)1 << lg2;

	w->used = (w->used + size - 1) & ~(size - 1);
	if (w->used + size > TABLES_SIZE)
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

static bool suitable(const struct snest_stage *stage)
{
	/* Wide enough for the window, and not of a kind that says no to everything. */
	switch (stage->format) {
	case SNEST_FORMAT_RISCV32:
	case SNEST_FORMAT_NONE:
		return false;
	case SNEST_FORMAT_ARM_S1:
	case SNEST_FORMAT_ARM_S2:
		return stage->ia_bits > 32 && !(stage->flags & SNEST_STAGE_ARM_EPD0);
	case SNEST_FORMAT_AMD_V1:
		return stage->levels >= 3;
	default:
		return stage->format < SNEST_FORMAT_COUNT &&
		       (!stage->ia_bits || stage->ia_bits > 32) && !stage->rights;
	}
}

static void map(struct world *w, unsigned s, uint64_t in, uint64_t out, unsigned lg2,
                uint32_t rights)
{
	uint64_t last = in + (((uint64_t)1 << lg2) - 1);
	uint32_t attr = test_below(&w->random, 8) ? SNEST_ATTR_USER : 0;

	attr |= test_below(&w->random, 2) ? SNEST_ATTR_ACCESSED : 0;
	if (snest_table_map(w->table[s], in, last, out, rights, attr, 0))
		snest_table_map(w->table[s], in, last, out, SNEST_RIGHTS, SNEST_ATTR_USER, 0);
}

static void build_stage(struct world *w, unsigned s)
{
	struct snest_table_memory memory = {
		.size = sizeof(memory),
		.alloc = page_alloc,
		.free = page_free,
		.opaque = w,
		.delta = -(uint64_t)(uintptr_t)w->ours,
	};
	const struct test_config *config;
	unsigned page;

	do {
		config = &test_configs[test_below(&w->random, test_configs_count)];
	} while (!suitable(&config->stage));
	assert_int_equal(snest_table_create(w->vm, &config->stage, &memory, &w->table[s]), 0);
	w->stage[s] = *snest_table_stage(w->table[s]);
	page = test_config_granule_lg2(&config->stage, 0);
	for (uint64_t at = 0; at < TABLES_SIZE; at += 1ull << page) {
		/* Long lists read so many tables that holes have to be rarer. */
		unsigned luck = (unsigned)test_below(&w->random, 64u << 2 * w->count);

		if (luck)
			map(w, s, at, at, page, luck < 8 ? SNEST_READ | SNEST_EXEC : SNEST_RIGHTS);
	}
	for (unsigned i = 0; i < WINDOW_PAGES; i++) {
		static const uint32_t rights[] = {SNEST_READ, SNEST_READ | SNEST_WRITE,
		                                  SNEST_RIGHTS, SNEST_READ | SNEST_EXEC};
		/* Into the window of the next stage, or for the last into memory and beyond. */
		uint64_t to = s + 1 < w->count
		                      ? WINDOW + (test_below(&w->random, WINDOW_PAGES + 4) << page)
		                      : test_below(&w->random, RAM_SIZE * 9 / 8) >> page << page;

		if (test_below(&w->random, 8))
			map(w, s, WINDOW + ((uint64_t)i << page), to, page,
			    rights[test_below(&w->random, 4)]);
	}
}

static void world_init(struct world *w, uint64_t seed, unsigned count)
{
	struct snest_region low = {
		.size = sizeof(low),
		.last = RAM_SIZE / 4 * 3 - 1,
	};
	struct snest_region high = {
		.size = sizeof(high),
		.first = RAM_SIZE / 4 * 3,
		.last = RAM_SIZE - 1,
		.host = RAM_SIZE / 4 * 3,
		.flags = SNEST_REGION_READONLY,
	};

	memset(w, 0, sizeof(*w));
	w->random.state = seed;
	w->count = count;
	w->ours = aligned_alloc(1 << 21, RAM_SIZE);
	w->theirs = malloc(RAM_SIZE);
	assert_non_null(w->ours);
	assert_non_null(w->theirs);
	memset(w->ours, 0, RAM_SIZE);
	low.mapping = w->ours;
	high.mapping = w->ours + high.first;
	assert_int_equal(snest_vm_create(NULL, &w->vm), 0);
	assert_int_equal(snest_memory_add(w->vm, &low), 0);
	assert_int_equal(snest_memory_add(w->vm, &high), 0);
	for (unsigned s = 0; s < count; s++)
		build_stage(w, s);
	memcpy(w->theirs, w->ours, RAM_SIZE);
}

static void world_fini(struct world *w)
{
	for (unsigned s = 0; s < w->count; s++)
		snest_table_destroy(w->table[s]);
	snest_vm_destroy(w->vm);
	free(w->ours);
	free(w->theirs);
}

/* ---- Comparison ---------------------------------------------------------------------- */

static void ask(struct world *w, uint64_t iova, uint32_t access, unsigned *translated)
{
	struct prediction p = predict(w, 0, iova, access, true, SNEST_NO_STAGE);
	struct snest_walk r;
	bool same;

	assert_int_equal(snest_walk(w->vm, w->stage, w->count, iova, access, 0, &r, NULL, NULL), 0);
	if (p.fault) {
		same = r.outcome == SNEST_WALK_FAULT && r.fault.reason == p.reason &&
		       r.fault.stage == p.stage && r.fault.for_stage == p.for_stage;
	} else {
		bool ram = p.gpa < RAM_SIZE;

		same = r.outcome == (ram ? SNEST_WALK_HOST : SNEST_WALK_GPA) && r.gpa == p.gpa &&
		       r.rights == p.rights && (!ram || r.host == p.gpa) && r.lg2 <= p.lg2;
		*translated += 1;
	}
	if (!same || memcmp(w->ours, w->theirs, w->used))
		fail_msg(
			"%u stages (formats %u %u %u %u), IOVA 0x%llx access 0x%x: snest outcome %u "
			"gpa 0x%llx rights %u, reason %u stage %u for %u; naive fault %d gpa "
			"0x%llx rights %u, reason %u stage %u for %u",
			w->count, w->stage[0].format, w->stage[1].format, w->stage[2].format,
			w->stage[3].format, (unsigned long long)iova, access, r.outcome,
			(unsigned long long)r.gpa, r.rights, r.fault.reason, r.fault.stage,
			r.fault.for_stage, p.fault, (unsigned long long)p.gpa, p.rights, p.reason,
			p.stage, p.for_stage);
}

static void lists_of(unsigned count, unsigned rounds)
{
	unsigned translated = 0;

	for (unsigned round = 0; round < rounds; round++) {
		struct world w;
		unsigned page;

		world_init(&w, round * 977 + count, count);
		page = test_config_granule_lg2(&w.stage[0], 0);
		for (unsigned i = 0; i < 300; i++) {
			uint64_t iova = WINDOW + (test_below(&w.random, WINDOW_PAGES) << page) +
			                test_below(&w.random, 1ull << page);

			ask(&w, iova, (uint32_t)test_below(&w.random, 16), &translated);
		}
		world_fini(&w);
	}
	/* A comparison of nothing but faults would prove little. */
	assert_true(translated > rounds * 5);
}

static void one_stage(void **state)
{
	(void)state;
	lists_of(1, 60);
}

static void two_stages(void **state)
{
	(void)state;
	lists_of(2, 60);
}

static void three_stages(void **state)
{
	(void)state;
	lists_of(3, 40);
}

static void four_stages(void **state)
{
	(void)state;
	lists_of(4, 25);
}

/* ---- Sizes ----------------------------------------------------------------------- */

static int never_read(void *opaque, uint64_t addr, void *buf, size_t length)
{
	(void)opaque;
	(void)addr;
	(void)buf;
	(void)length;
	return -1;
}

/* The largest aligned block around gpa that lies in the region, and whose host block is aligned. */
static unsigned plain_lg2(const struct snest_region *region, uint64_t gpa)
{
	for (unsigned lg2 = 64;; lg2--) {
		uint64_t mask = lg2 < 64 ? (1ull << lg2) - 1 : UINT64_MAX;

		if ((gpa & ~mask) >= region->first && (gpa | mask) <= region->last &&
		    !((region->host - region->first) & mask))
			return lg2;
	}
}

/* Without stages, the size of a translation is what the region allows, block by block. */
static void sizes_of_regions(void **state)
{
	const struct snest_accessors accessors = {.read = never_read};
	struct test_random random = {7};
	unsigned sizes[65] = {0}, many = 0;

	(void)state;
	for (unsigned round = 0; round < 4000; round++) {
		struct snest_region region = {.size = sizeof(region), .accessors = &accessors};
		unsigned lg2 = 12 + (unsigned)test_below(&random, 45);
		struct snest_vm *vm;

		/* Round sizes and places, and some that are a page off. */
		region.first = test_below(&random, 1ull << 57) & ~((1ull << lg2) - 1);
		if (test_below(&random, 4) == 0)
			region.first = 0;
		region.last = region.first + ((1 + test_below(&random, 3)) << lg2) - 1 -
		              (lg2 > 12 ? test_below(&random, 2) << 12 : 0);
		if (test_below(&random, 4) == 0)
			region.last = (1ull << 57) - 1;
		region.host = region.first;
		if (test_below(&random, 3))
			region.host += 1ull << (12 + test_below(&random, 46));
		assert_int_equal(snest_vm_create(NULL, &vm), 0);
		if (!snest_memory_add(vm, &region)) {
			for (unsigned i = 0; i < 20; i++) {
				uint64_t bytes = region.last - region.first + 1;
				uint64_t gpa = region.first + test_below(&random, bytes);
				struct snest_walk r;

				if (i < 2)
					gpa = i ? region.last : region.first;
				assert_int_equal(snest_walk(vm, NULL, 0, gpa, 0, 0, &r, NULL, NULL),
				                 0);
				assert_int_equal(r.outcome, SNEST_WALK_HOST);
				assert_int_equal(r.lg2, plain_lg2(&region, gpa));
				sizes[r.lg2]++;
			}
		}
		snest_vm_destroy(vm);
	}
	for (unsigned i = 12; i <= 57; i++)
		many += sizes[i] > 0;
	assert_true(many > 40);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_stage),        cmocka_unit_test(two_stages),
		cmocka_unit_test(three_stages),     cmocka_unit_test(four_stages),
		cmocka_unit_test(sizes_of_regions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
