/* SPDX-License-Identifier: MIT */
/*
 * Lists of stages of mixed formats: one walk, and the enumeration, through all
 * of them must equal single walks of each stage, one after the other, and a
 * look into a plain list of regions.
 *
 * Two VMs share the tables. In the tested one, the tables of stage k lie
 * behind the stages after it. In the flat one, the memory map shows them where
 * stage k's entries say they are, so that each stage can be walked alone.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "support/tables.h"

#define ATTR (SNEST_ATTR_ACCESSED | SNEST_ATTR_DIRTY | SNEST_ATTR_USER)
#define RWX SNEST_RIGHTS
#define PAGE 4096ull
#define TABLES_BYTES (64ull << 20) /* of RAM, that later stages map */
#define WINDOW_BYTES (4ull << 20)  /* of inputs, that a stage maps at random */
#define MIB (1ull << 20)

/* Where stage k finds the tables of stage k - 1, and its window of data. */
#define TABLES_AT(k) (((uint64_t)(k) + 1) << 33)
#define DATA_AT(k) (TABLES_AT(k) + (1ull << 32))

#define STAGE(format_, ...)                                                                       \
	{                                                                                         \
		.size = sizeof(struct snest_stage), .format = SNEST_FORMAT_##format_, __VA_ARGS__ \
	}

struct list {
	const char *name;
	unsigned count;
	struct snest_stage stage[4];
};

static const struct list lists[] = {
	{"x86-64", 1, {STAGE(X86_64, .levels = 4)}},
	{"x86-64 over vtd-ss", 2, {STAGE(X86_64, .levels = 4), STAGE(VTD_SS, .levels = 3)}},
	{"amd-v2 over amd-v1",
         2,
         {STAGE(AMD_V2, .levels = 5, .flags = SNEST_STAGE_X86_NX), STAGE(AMD_V1, .levels = 4)}},
	{"arm-s1 over arm-s2",
         2,
         {STAGE(ARM_S1, .ia_bits = 48, .granule_lg2 = 12),
          STAGE(ARM_S2, .ia_bits = 40, .granule_lg2 = 16)}},
	{"riscv Sv39 over Sv39x4",
         2,
         {STAGE(RISCV64, .levels = 3, .flags = SNEST_STAGE_RISCV_SVNAPOT),
          STAGE(RISCV64, .levels = 3, .flags = SNEST_STAGE_RISCV_X4)}},
	{"vtd-ss over x86-64 over amd-v1",
         3,
         {STAGE(VTD_SS, .levels = 4), STAGE(X86_64, .levels = 4), STAGE(AMD_V1, .levels = 6)}},
	{"arm-s2 over riscv Sv48 over vtd-ss",
         3,
         {STAGE(ARM_S2, .ia_bits = 44, .granule_lg2 = 14),
          STAGE(RISCV64, .levels = 4, .flags = SNEST_STAGE_BIG_ENDIAN),
          STAGE(VTD_SS, .levels = 5, .flags = SNEST_STAGE_NO_1G | SNEST_STAGE_NO_2M)}},
	{"x86-64 over arm-s2 over riscv Sv48x4 over amd-v1",
         4,
         {STAGE(X86_64, .levels = 5), STAGE(ARM_S2, .ia_bits = 48, .granule_lg2 = 12),
          STAGE(RISCV64, .levels = 4, .flags = SNEST_STAGE_RISCV_X4), STAGE(AMD_V1, .levels = 4)}},
	{"amd-v1 over amd-v1 over amd-v1 over amd-v1",
         4,
         {STAGE(AMD_V1, .levels = 4), STAGE(AMD_V1, .levels = 5), STAGE(AMD_V1, .levels = 6),
          STAGE(AMD_V1, .levels = 4)}},
};

struct fixture {
	const struct list *list;
	struct test_tables tt; /* its VM is the tested one */
	struct snest_vm *flat;
	struct snest_table *table[4];
	struct snest_stage stage[4];
	struct test_random random;
};

/* What the last stage's output leads to: the regions behind the data window. */
static const struct {
	uint64_t first, last; /* in the window */
	uint64_t host;        /* of the window's beginning, if it went on */
	bool readonly;
} regions[] = {
	{0, MIB - 1, 1ull << 45, false},
	{MIB, MIB + PAGE - 1, 1ull << 45, false}, /* goes on where the one before ends */
	/* a hole */
	{2 * MIB, 3 * MIB - 1, 3ull << 44, true},
	{3 * MIB, 3 * MIB + 64 * PAGE - 1, 3ull << 44, false},
};

#define REGIONS (sizeof(regions) / sizeof(regions[0]))

static void add_regions(struct fixture *f)
{
	uint64_t window = DATA_AT(f->list->count);

	for (unsigned i = 0; i < REGIONS; i++) {
		struct snest_region region = {
			.size = sizeof(region),
			.first = window + regions[i].first,
			.last = window + regions[i].last,
			.host = regions[i].host + regions[i].first,
			.flags = regions[i].readonly ? SNEST_REGION_READONLY : 0,
		};

		assert_int_equal(snest_memory_add(f->tt.vm, &region), 0);
	}
}

/* Shows all RAM at `first`. */
static void show_ram(struct snest_vm *vm, struct test_tables *tt, uint64_t first)
{
	struct snest_region region = {
		.size = sizeof(region),
		.first = first,
		.last = first + (1ull << TEST_RAM_LG2) - 1,
		.host = first,
		.mapping = tt->ram,
	};

	assert_int_equal(snest_memory_add(vm, &region), 0);
}

static uint64_t any_addr(struct fixture *f, unsigned k, uint64_t page, uint64_t offset)
{
	/* Often where the input is in its window, so that contiguous ranges meet. */
	if (test_below(&f->random, 2))
		return DATA_AT(k + 1) + offset;
	return DATA_AT(k + 1) + test_below(&f->random, WINDOW_BYTES / page - 40) * page;
}

static void build_stage(struct fixture *f, unsigned k)
{
	static const uint32_t rights[] = {RWX, RWX, SNEST_READ | SNEST_WRITE, SNEST_READ};
	struct snest_table_memory memory = f->tt.memory;
	bool last = k + 1 == f->list->count;
	uint64_t page;

	if (!last)
		memory.delta += TABLES_AT(k + 1);
	assert_int_equal(snest_table_create(f->tt.vm, &f->list->stage[k], &memory, &f->table[k]),
	                 0);
	page = snest_table_page_sizes(f->table[k]);
	page &= -page;
	if (k)
		assert_int_equal(snest_table_map(f->table[k], TABLES_AT(k),
		                                 TABLES_AT(k) + TABLES_BYTES - 1,
		                                 last ? 0 : TABLES_AT(k + 1), RWX, ATTR, 0),
		                 0);
	assert_int_equal(snest_table_map(f->table[k], DATA_AT(k), DATA_AT(k) + WINDOW_BYTES - 1,
	                                 DATA_AT(k + 1), RWX, ATTR, 0),
	                 0);
	for (unsigned i = 0; i < 60; i++) {
		uint64_t offset = test_below(&f->random, WINDOW_BYTES / page - 40) * page;
		uint64_t first = DATA_AT(k) + offset;
		uint64_t end = first + (1 + test_below(&f->random, 40)) * page - 1;

		if (test_below(&f->random, 3) == 0)
			assert_int_equal(snest_table_unmap(f->table[k], first, end, 0, NULL), 0);
		else
			assert_int_equal(snest_table_map(f->table[k], first, end,
			                                 any_addr(f, k, page, offset),
			                                 rights[test_below(&f->random, 4)], ATTR,
			                                 SNEST_TABLE_REPLACE),
			                 0);
	}
	f->stage[k] = *snest_table_stage(f->table[k]);
}

static struct fixture *begin(const struct list *list, uint64_t seed)
{
	static struct fixture fixture;
	struct fixture *f = &fixture;

	memset(f, 0, sizeof(*f));
	f->list = list;
	f->random.state = seed;
	test_tables_init(&f->tt, NULL);
	assert_int_equal(snest_vm_create(NULL, &f->flat), 0);
	show_ram(f->flat, &f->tt, 0);
	for (unsigned k = 0; k < list->count; k++) {
		if (k)
			show_ram(f->flat, &f->tt, TABLES_AT(k));
		build_stage(f, k);
	}
	add_regions(f);
	assert_true(f->tt.cut <= TABLES_BYTES);
	return f;
}

static void end(struct fixture *f)
{
	for (unsigned k = 0; k < f->list->count; k++)
		snest_table_destroy(f->table[k]);
	snest_vm_destroy(f->flat);
	test_tables_fini(&f->tt);
}

/* Where one input leads, found out stage by stage. False: a stage faults. */
static bool compose(struct fixture *f, uint64_t in, struct snest_run *run)
{
	uint64_t window = DATA_AT(f->list->count);
	struct snest_walk w;

	*run = (struct snest_run){
		.first = in,
		.rights = RWX,
		.lg2 = 64,
		.outcome = SNEST_WALK_GPA,
	};
	for (unsigned k = 0; k < f->list->count; k++) {
		assert_int_equal(snest_walk(f->flat, &f->stage[k], 1, in, 0, SNEST_WALK_NO_UPDATE,
		                            &w, NULL, NULL),
		                 0);
		if (w.outcome == SNEST_WALK_FAULT)
			return false;
		assert_int_equal(w.outcome, SNEST_WALK_GPA);
		in = w.gpa;
		run->rights &= w.rights;
		if (run->lg2 > w.lg2)
			run->lg2 = w.lg2;
	}
	run->addr = in;
	for (unsigned i = 0; i < REGIONS; i++) {
		if (in < window + regions[i].first || in > window + regions[i].last)
			continue;
		run->outcome = SNEST_WALK_HOST;
		run->addr = regions[i].host + (in - window);
		if (regions[i].readonly)
			run->rights &= (uint8_t)~SNEST_WRITE;
	}
	return true;
}

static void check_walk(struct fixture *f, uint64_t in)
{
	uint32_t access = (uint32_t)test_below(&f->random, 8);
	struct snest_run run;
	bool leads = compose(f, in, &run);
	struct snest_walk w;

	assert_int_equal(
		snest_walk(f->tt.vm, f->stage, f->list->count, in, access, 0, &w, NULL, NULL), 0);
	if (!leads || (access & ~run.rights)) {
		assert_int_equal(w.outcome, SNEST_WALK_FAULT);
		return;
	}
	assert_int_equal(w.outcome, run.outcome);
	assert_int_equal(run.outcome == SNEST_WALK_HOST ? w.host : w.gpa, run.addr);
	assert_int_equal(w.rights, run.rights);
	assert_true(w.lg2 >= 12 && w.lg2 <= run.lg2);
}

#define RUNS_MAX (WINDOW_BYTES / PAGE)

struct runs {
	unsigned count;
	struct snest_run at[RUNS_MAX];
};

static struct runs want, got;

static int collect(void *opaque, const struct snest_run *run)
{
	struct runs *runs = opaque;

	assert_true(runs->count < RUNS_MAX);
	runs->at[runs->count++] = *run;
	return 0;
}

static void compose_all(struct fixture *f)
{
	want.count = 0;
	for (uint64_t in = DATA_AT(0); in < DATA_AT(0) + WINDOW_BYTES; in += PAGE) {
		struct snest_run run, *before = want.count ? &want.at[want.count - 1] : NULL;

		if (!compose(f, in, &run) || !run.rights)
			continue;
		run.last = in + PAGE - 1;
		if (before && before->last + 1 == in && before->rights == run.rights &&
		    before->outcome == run.outcome &&
		    before->addr + (in - before->first) == run.addr)
			before->last = run.last;
		else
			want.at[want.count++] = run;
	}
}

/* Enumerates the window with a budget; 0: none. */
static void check_runs(struct fixture *f, uint64_t budget)
{
	struct snest_walk_range range = {
		.size = sizeof(range),
		.first = DATA_AT(0),
		.last = DATA_AT(0) + WINDOW_BYTES - 1,
	};
	unsigned n = 0;
	int ret;

	got.count = 0;
	do {
		uint64_t first = range.first;

		range.budget = budget;
		ret = snest_walk_range(f->tt.vm, f->stage, f->list->count, &range, collect, &got);
		assert_true(ret == 0 || ret == -EAGAIN);
		assert_true(ret == 0 || range.first > first);
	} while (ret);
	/* Runs that a budget cut in two are one. */
	for (unsigned i = 1; i < got.count && budget; i++) {
		struct snest_run *a = &got.at[n], b = got.at[i];

		if (a->last + 1 == b.first && a->rights == b.rights && a->outcome == b.outcome &&
		    a->addr + (b.first - a->first) == b.addr)
			a->last = b.last;
		else
			got.at[++n] = b;
	}
	if (budget && got.count)
		got.count = n + 1;
	assert_int_equal(got.count, want.count);
	for (unsigned i = 0; i < got.count; i++) {
		assert_int_equal(got.at[i].first, want.at[i].first);
		assert_int_equal(got.at[i].last, want.at[i].last);
		assert_int_equal(got.at[i].addr, want.at[i].addr);
		assert_int_equal(got.at[i].rights, want.at[i].rights);
		assert_int_equal(got.at[i].outcome, want.at[i].outcome);
	}
}

static int read_ram(void *opaque, uint64_t addr, void *buf, size_t length)
{
	struct test_tables *tt = opaque;

	memcpy(buf, tt->ram + addr, length);
	return 0;
}

/* From now on, tables are read through a callback. */
static void hide_ram(struct fixture *f)
{
	struct snest_accessors accessors = {.read = read_ram, .opaque = &f->tt};
	struct snest_region region = {
		.size = sizeof(region),
		.last = (1ull << TEST_RAM_LG2) - 1,
		.host = 1ull << 32,
		.accessors = &accessors,
	};

	assert_int_equal(snest_memory_replace(f->tt.vm, &region), 0);
}

static void for_each_list(void (*test)(struct fixture *f))
{
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		print_message("# %s\n", lists[i].name);
		for (uint64_t seed = 1; seed <= 3; seed++) {
			struct fixture *f = begin(&lists[i], seed);

			test(f);
			end(f);
		}
	}
}

static void walks(struct fixture *f)
{
	for (unsigned i = 0; i < 3000; i++)
		check_walk(f, DATA_AT(0) + test_below(&f->random, WINDOW_BYTES));
	check_walk(f, DATA_AT(0) - 1);
	check_walk(f, DATA_AT(0) + WINDOW_BYTES);
}

static void walks_equal_single_walks(void **state)
{
	(void)state;
	for_each_list(walks);
}

static void ranges(struct fixture *f)
{
	compose_all(f);
	assert_true(want.count > 4);
	check_runs(f, 0);
	check_runs(f, 300);
	check_runs(f, 1001);
	check_runs(f, 5000);
}

static void ranges_equal_single_walks(void **state)
{
	(void)state;
	for_each_list(ranges);
}

static void behind_callbacks(struct fixture *f)
{
	compose_all(f);
	hide_ram(f);
	check_runs(f, 0);
	check_runs(f, 1001);
	for (unsigned i = 0; i < 300; i++)
		check_walk(f, DATA_AT(0) + test_below(&f->random, WINDOW_BYTES));
}

static void tables_behind_callbacks_read_the_same(void **state)
{
	(void)state;
	for_each_list(behind_callbacks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(walks_equal_single_walks),
		cmocka_unit_test(ranges_equal_single_walks),
		cmocka_unit_test(tables_behind_callbacks_read_the_same),
	};
	int failed;

	snest_thread_register();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	snest_thread_unregister();
	return failed;
}
