/* SPDX-License-Identifier: MIT */
/* See plant.h. */
#include "plant.h"

#include <string.h>

static uint64_t page_cut; /* what the writer has taken of the scratch memory */
static _Alignas(65536) char scratch[IMAGE_BYTES];

static void *page_alloc(void *opaque, unsigned lg2)
{
	uint64_t size = 1ull << lg2, at = (page_cut + size - 1) & ~(size - 1);

	(void)opaque;
	if (at + size > PLANT_BYTES)
		return NULL;
	page_cut = at + size;
	return scratch + at;
}

static void page_free(void *opaque, void *page, unsigned lg2)
{
	(void)opaque;
	(void)page;
	(void)lg2;
}

/* An address that the table translates, mostly in the first megabytes: the memory is small. */
static uint64_t any_input(const struct snest_stage *shape, struct fuzz_random *r)
{
	unsigned bits = shape->ia_bits ? shape->ia_bits : 12 + 9u * shape->levels;
	uint64_t iova = fuzz_random(r);

	if (fuzz_below(r, 4))
		iova &= 0x1ffffff;
	iova &= bits < 64 ? (1ull << bits) - 1 : UINT64_MAX;
	if (fuzz_below(r, 8) == 0)
		iova |= 0xffffull << 48;
	return iova;
}

static bool map_one(struct snest_table *table, uint64_t first, uint64_t last, uint64_t addr,
                    uint32_t rights)
{
	uint32_t attr = SNEST_ATTR_USER | SNEST_ATTR_ACCESSED;

	/* Not every format can say these rights. */
	return !snest_table_map(table, first, last, addr, rights, attr, 0) ||
	       !snest_table_map(table, first, last, addr, SNEST_READ | SNEST_WRITE,
	                        attr | SNEST_ATTR_DIRTY, 0) ||
	       !snest_table_map(table, first, last, addr, SNEST_READ, 0, 0);
}

size_t fuzz_plant(struct snest_vm *vm, const struct snest_stage *shape, uint64_t base,
                  struct fuzz_random *r, uint8_t *records, size_t max_size,
                  struct fuzz_planted *planted)
{
	struct snest_table_memory memory = {
		.size = sizeof(memory),
		.alloc = page_alloc,
		.free = page_free,
		.delta = base - (uintptr_t)scratch,
	};
	struct snest_table *table;
	size_t size = 0;
	uint64_t sizes;

	memset(planted, 0, sizeof(*planted));
	/* The first page stays free: a table at 0 is one that nobody has placed. */
	page_cut = 4096;
	memset(scratch, 0, sizeof(scratch));
	if (snest_table_create(vm, shape, &memory, &table))
		return 0;
	sizes = snest_table_page_sizes(table);
	for (unsigned i = 0; i < PLANT_RANGES; i++) {
		unsigned page = (unsigned)__builtin_ctzll(sizes);
		uint64_t first = any_input(shape, r), addr, last;
		uint32_t rights = 1 + (uint32_t)fuzz_below(r, 7);

		while (fuzz_below(r, 3) == 0 && sizes >> page > 1)
			page += 1 + (unsigned)__builtin_ctzll(sizes >> (page + 1));
		first &= ~((1ull << page) - 1);
		addr = fuzz_below(r, IMAGE_BYTES) & ~((1ull << page) - 1);
		last = first + ((1 + fuzz_below(r, 4)) << page) - 1;
		if (!map_one(table, first, last, addr, rights))
			continue;
		planted->range[planted->count].first = first;
		planted->range[planted->count++].last = last;
	}
	planted->root = snest_table_stage(table)->root;
	planted->root_high = snest_table_stage(table)->root_high;
	for (size_t i = 0; i < page_cut / 8; i++) {
		uint64_t word;

		memcpy(&word, scratch + i * 8, 8);
		if (word)
			size = fuzz_record_add(records, size, max_size, i, word);
	}
	snest_table_destroy(table);
	return size;
}

uint64_t fuzz_point(uint64_t word, uint64_t addr)
{
	return (word & ~0x000ffffffffff000ull) | (addr & 0x000ffffffffff000ull);
}

uint64_t fuzz_point_riscv(uint64_t word, uint64_t addr)
{
	return (word & ~0x003ffffffffffc00ull) | (addr >> 2 & 0x003ffffffffffc00ull);
}
