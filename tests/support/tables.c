/* SPDX-License-Identifier: MIT */
/* See tables.h. */
#include "support/tables.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#define RAM_BYTES ((uint64_t)1 << TEST_RAM_LG2)
#define RAM_ALIGN ((uint64_t)1 << 22)

static void *page_alloc(void *opaque, unsigned lg2)
{
	struct test_tables *tt = opaque;
	uint64_t size = (uint64_t)1 << lg2;
	void **page;

	if (tt->fail_in && --tt->fail_in == 0) {
		tt->failed++;
		return NULL;
	}
	page = tt->free[lg2];
	if (page) {
		tt->free[lg2] = *page;
		*page = NULL;
	} else {
		tt->cut = (tt->cut + size - 1) & ~(size - 1);
		if (tt->cut + size > RAM_BYTES)
			return NULL;
		page = (void **)(tt->ram + tt->cut);
		tt->cut += size;
	}
	tt->live_pages++;
	tt->live_bytes += size;
	return page;
}

static void page_free(void *opaque, void *page, unsigned lg2)
{
	struct test_tables *tt = opaque;
	const char *bytes = page;
	size_t size = (size_t)1 << lg2;

	if (bytes[0] || memcmp(bytes, bytes + 1, size - 1))
		tt->unclean++;
	memset(page, 0, size);
	*(void **)page = tt->free[lg2];
	tt->free[lg2] = page;
	tt->live_pages--;
	tt->live_bytes -= size;
}

static void settle(void *opaque)
{
	struct test_tables *tt = opaque;

	tt->settled++;
}

void test_tables_init(struct test_tables *tt, const struct snest_hooks *hooks)
{
	struct snest_vm_config config = {.size = sizeof(config), .hooks = hooks};
	struct snest_region region = {.size = sizeof(region), .last = RAM_BYTES - 1};
	char *ram = mmap(NULL, RAM_BYTES + RAM_ALIGN, PROT_READ | PROT_WRITE,
	                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_true(ram != MAP_FAILED);
	memset(tt, 0, sizeof(*tt));
	tt->ram = (char *)(((uintptr_t)ram + RAM_ALIGN - 1) & ~(uintptr_t)(RAM_ALIGN - 1));
	munmap(ram, (size_t)(tt->ram - ram));
	munmap(tt->ram + RAM_BYTES, (size_t)(ram + RAM_ALIGN - tt->ram));
	/* GPA 0 stays unused, so that no table has address 0. */
	tt->cut = 4096;
	tt->memory = (struct snest_table_memory){
		.size = sizeof(tt->memory),
		.alloc = page_alloc,
		.free = page_free,
		.opaque = tt,
		.delta = 0 - (uint64_t)(uintptr_t)tt->ram,
		.settle = settle,
	};
	region.host = 0x100000000;
	region.mapping = tt->ram;
	assert_int_equal(snest_vm_create(&config, &tt->vm), 0);
	assert_int_equal(snest_memory_add(tt->vm, &region), 0);
}

void test_tables_fini(struct test_tables *tt)
{
	assert_int_equal(tt->live_pages, 0);
	assert_int_equal(tt->unclean, 0);
	snest_vm_destroy(tt->vm);
	munmap(tt->ram, RAM_BYTES);
}

void test_model_clear(struct test_model *model, uint64_t first, uint64_t last)
{
	static struct test_interval out[TEST_INTERVALS_MAX];
	unsigned n = 0;

	for (unsigned i = 0; i < model->count; i++) {
		struct test_interval a = model->at[i];

		assert_true(n + 2 < TEST_INTERVALS_MAX);
		if (a.last < first || a.first > last) {
			out[n++] = a;
			continue;
		}
		if (a.first < first) {
			out[n] = a;
			out[n++].last = first - 1;
		}
		if (a.last > last) {
			out[n] = a;
			out[n].first = last + 1;
			out[n++].addr = a.addr + (last + 1 - a.first);
		}
	}
	memcpy(model->at, out, n * sizeof(*out));
	model->count = n;
}

void test_model_set(struct test_model *model, uint64_t first, uint64_t last, uint64_t addr,
                    uint32_t rights)
{
	unsigned i;

	test_model_clear(model, first, last);
	for (i = 0; i < model->count && model->at[i].first < first; i++)
		;
	memmove(&model->at[i + 1], &model->at[i], (model->count - i) * sizeof(model->at[0]));
	model->at[i] = (struct test_interval){first, last, addr, rights};
	model->count++;
}

const struct test_interval *test_model_find(const struct test_model *model, uint64_t in)
{
	for (unsigned i = 0; i < model->count; i++) {
		if (model->at[i].first <= in && in <= model->at[i].last)
			return &model->at[i];
	}
	return NULL;
}

bool test_model_overlaps(const struct test_model *model, uint64_t first, uint64_t last)
{
	return test_model_bytes(model, first, last) != 0;
}

uint64_t test_model_bytes(const struct test_model *model, uint64_t first, uint64_t last)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < model->count; i++) {
		uint64_t from = model->at[i].first > first ? model->at[i].first : first;
		uint64_t to = model->at[i].last < last ? model->at[i].last : last;

		if (from <= to)
			bytes += to - from + 1;
	}
	return bytes;
}

void test_model_merge(struct test_model *model)
{
	unsigned n = 0;

	for (unsigned i = 0; i < model->count; i++) {
		struct test_interval *a = n ? &model->at[n - 1] : NULL, b = model->at[i];

		if (a && a->last + 1 == b.first && a->addr + (b.first - a->first) == b.addr &&
		    a->rights == b.rights)
			a->last = b.last;
		else
			model->at[n++] = b;
	}
	model->count = n;
}
