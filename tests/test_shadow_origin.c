/* SPDX-License-Identifier: MIT */
/*
 * A guest's page that is larger than the leaves it is shadowed with: an
 * invalidation of any part of it reaches all of it (hazard 10), also of a part
 * that the shadow never held, and of one beyond what its tables reach.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <snest/space.h>
#include <snest/table.h>

#define RAM_SIZE (16u << 20)
#define TABLES 0xc00000u
/* Of the guest's 4 MiB page only this much has host memory, skewed by a page. */
#define BACKED 0x200000u

struct world {
	struct snest_vm *vm;
	unsigned char *ram;
	size_t used;
	struct snest_table *table;
	struct snest_space *space;
};

static void *page_alloc(void *opaque, unsigned lg2)
{
	struct world *w = opaque;

	w->used += (size_t)1 << lg2;
	return w->used <= RAM_SIZE - TABLES ? w->ram + TABLES + w->used - ((size_t)1 << lg2) : NULL;
}

static void page_free(void *opaque, void *page, unsigned lg2)
{
	(void)opaque;
	(void)page;
	(void)lg2;
}

/* GPAs 0x400000..0x5fffff and the tables are memory; 0x600000..0x7fffff is not. */
static void world_init(struct world *w)
{
	struct snest_region data = {
		.size = sizeof(data),
		.first = 0x400000,
		.last = 0x400000 + BACKED - 1,
		.host = 0x10001000,
	};
	struct snest_region tables = {
		.size = sizeof(tables),
		.first = TABLES,
		.last = RAM_SIZE - 1,
		.host = 0x20000000,
	};
	struct snest_stage shape = {
		.size = sizeof(shape),
		.format = SNEST_FORMAT_AMD_V1,
		.levels = 3,
	};
	struct snest_table_memory memory = {
		.size = sizeof(memory),
		.alloc = page_alloc,
		.free = page_free,
		.opaque = w,
	};
	struct snest_space_config config = {.size = sizeof(config), .count = 1};

	memset(w, 0, sizeof(*w));
	w->ram = aligned_alloc(1 << 21, RAM_SIZE);
	assert_non_null(w->ram);
	memset(w->ram, 0, RAM_SIZE);
	memory.delta = -(uint64_t)(uintptr_t)w->ram;
	tables.mapping = w->ram + TABLES;
	assert_int_equal(snest_vm_create(NULL, &w->vm), 0);
	assert_int_equal(snest_memory_add(w->vm, &data), 0);
	assert_int_equal(snest_memory_add(w->vm, &tables), 0);
	assert_int_equal(snest_table_create(w->vm, &shape, &memory, &w->table), 0);
	assert_int_equal(snest_table_map(w->table, 0, (4u << 20) - 1, 0x400000,
	                                 SNEST_READ | SNEST_WRITE, 0, SNEST_TABLE_PAGE(22)),
	                 0);
	config.stages = snest_table_stage(w->table);
	assert_int_equal(snest_space_get(w->vm, &config, &w->space), 0);
}

static void world_fini(struct world *w)
{
	snest_space_put(w->space);
	snest_table_destroy(w->table);
	snest_vm_destroy(w->vm);
	free(w->ram);
}

static int look(struct world *w, uint64_t iova)
{
	struct snest_translation t;
	int ret;

	snest_read_begin();
	ret = snest_space_translate(w->space, iova, SNEST_READ, &t, NULL);
	snest_read_end();
	return ret;
}

/* Fills one leaf, takes the page away, invalidates first..last: the leaf must be gone. */
static void gone_after(uint64_t filled, uint64_t first, uint64_t last)
{
	struct world w;

	world_init(&w);
	assert_int_equal(look(&w, filled), 0);
	assert_int_equal(snest_table_unmap(w.table, 0, (4u << 20) - 1, 0, NULL), 0);
	assert_int_equal(look(&w, filled), 0);
	assert_int_equal(snest_space_invalidate(w.space, first, last, 0), 0);
	assert_int_equal(look(&w, filled), -EACCES);
	world_fini(&w);
}

static void a_part_beside_it(void **state)
{
	(void)state;
	gone_after(0x5000, 0x6000, 0x6fff);
}

static void a_part_never_shadowed(void **state)
{
	(void)state;
	gone_after(0x5000, 0x1ff000, 0x1fffff);
}

static void a_part_beyond_the_root(void **state)
{
	(void)state;
	gone_after(0x5000, 0x300000, 0x300fff);
}

static void a_range_that_begins_beyond_the_root(void **state)
{
	(void)state;
	gone_after(0x5000, 0x3ff000, 0x7fffffff);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_part_beside_it),
		cmocka_unit_test(a_part_never_shadowed),
		cmocka_unit_test(a_part_beyond_the_root),
		cmocka_unit_test(a_range_that_begins_beyond_the_root),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
