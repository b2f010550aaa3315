/* SPDX-License-Identifier: MIT */
/* A sparse set of pages; see dirty_map.h. */
#include "shadow/dirty_map.h"
#include "core/vm.h"

#define BUCKET_BYTES (SN_DIRTY_BUCKETS * sizeof(struct sn_dirty_block *))
#define BLOCK_PAGES (SN_DIRTY_WORDS * 64u)

static void spill_none(struct sn_dirty *dirty)
{
	dirty->spill_first = UINT64_MAX;
	dirty->spill_last = 0;
}

void sn_dirty_init(struct sn_dirty *dirty, struct snest_vm *vm)
{
	pthread_mutex_init(&dirty->lock, NULL);
	dirty->vm = vm;
	dirty->bucket = NULL;
	spill_none(dirty);
}

void sn_dirty_reset(struct sn_dirty *dirty)
{
	pthread_mutex_lock(&dirty->lock);
	for (unsigned i = 0; dirty->bucket && i < SN_DIRTY_BUCKETS; i++) {
		while (dirty->bucket[i]) {
			struct sn_dirty_block *block = dirty->bucket[i];

			dirty->bucket[i] = block->next;
			sn_vm_free(dirty->vm, block, sizeof(*block));
		}
	}
	sn_vm_free(dirty->vm, dirty->bucket, BUCKET_BYTES);
	dirty->bucket = NULL;
	spill_none(dirty);
	pthread_mutex_unlock(&dirty->lock);
}

void sn_dirty_fini(struct sn_dirty *dirty)
{
	sn_dirty_reset(dirty);
	pthread_mutex_destroy(&dirty->lock);
}

static struct sn_dirty_block **place(struct sn_dirty *dirty, uint64_t number)
{
	struct sn_dirty_block **at =
		&dirty->bucket[(number ^ number >> 8 ^ number >> 16) % SN_DIRTY_BUCKETS];

	while (*at && (*at)->number != number)
		at = &(*at)->next;
	return at;
}

/* The block of this number, made if need be; NULL: out of memory. */
static struct sn_dirty_block *block_of(struct sn_dirty *dirty, uint64_t number)
{
	struct sn_dirty_block **at;

	if (!dirty->bucket)
		dirty->bucket = sn_vm_alloc(dirty->vm, BUCKET_BYTES);
	if (!dirty->bucket)
		return NULL;
	at = place(dirty, number);
	if (!*at) {
		*at = sn_vm_alloc(dirty->vm, sizeof(**at));
		if (*at)
			(*at)->number = number;
	}
	return *at;
}

void sn_dirty_add(struct sn_dirty *dirty, uint64_t first, uint64_t last)
{
	uint64_t page = first >> 12, page_last = last >> 12;

	pthread_mutex_lock(&dirty->lock);
	for (;; page++) {
		struct sn_dirty_block *block = block_of(dirty, page / BLOCK_PAGES);
		unsigned bit = page % BLOCK_PAGES;

		if (!block) {
			if (dirty->spill_first > page)
				dirty->spill_first = page;
			if (dirty->spill_last < page_last)
				dirty->spill_last = page_last;
			break;
		}
		block->word[bit / 64] |= 1ull << bit % 64;
		if (page == page_last)
			break;
	}
	pthread_mutex_unlock(&dirty->lock);
}

/* What is asked for: pages page_first..page_last, bit 0 of bitmap for the first. */
struct collect {
	const struct sn_dirty *dirty;
	uint64_t page_first, page_last;
	bool clear;
	uint64_t *bitmap;
	uint64_t found;
};

static void collect_page(struct collect *c, uint64_t page)
{
	uint64_t to = page - c->page_first;

	c->bitmap[to / 64] |= 1ull << to % 64;
	c->found++;
}

/* One block's pages, but for those that count as spilt. */
static void collect_block(struct collect *c, struct sn_dirty_block *block)
{
	uint64_t base = block->number * BLOCK_PAGES, page = base,
		 page_last = base + BLOCK_PAGES - 1;

	if (page < c->page_first)
		page = c->page_first;
	if (page_last > c->page_last)
		page_last = c->page_last;
	for (; page <= page_last; page++) {
		uint64_t bit = page - base;

		if (!block->word[bit / 64]) {
			page |= 63;
			continue;
		}
		if (!(block->word[bit / 64] >> bit % 64 & 1))
			continue;
		if (c->clear)
			block->word[bit / 64] &= ~(1ull << bit % 64);
		if (page < c->dirty->spill_first || page > c->dirty->spill_last)
			collect_page(c, page);
	}
}

/* The interval; taking a part out of its middle leaves it as it is. */
static void collect_spill(struct collect *c, struct sn_dirty *dirty)
{
	uint64_t first = dirty->spill_first, last = dirty->spill_last;

	if (first < c->page_first)
		first = c->page_first;
	if (last > c->page_last)
		last = c->page_last;
	if (first > last)
		return;
	for (uint64_t page = first; page <= last; page++)
		collect_page(c, page);
	if (!c->clear)
		return;
	if (first == dirty->spill_first && last == dirty->spill_last)
		spill_none(dirty);
	else if (first == dirty->spill_first)
		dirty->spill_first = last + 1;
	else if (last == dirty->spill_last)
		dirty->spill_last = first - 1;
}

uint64_t sn_dirty_collect(struct sn_dirty *dirty, uint64_t first, uint64_t last, bool clear,
                          uint64_t *bitmap)
{
	struct collect c = {dirty, first >> 12, last >> 12, clear, bitmap, 0};

	pthread_mutex_lock(&dirty->lock);
	for (unsigned i = 0; dirty->bucket && i < SN_DIRTY_BUCKETS; i++) {
		for (struct sn_dirty_block *b = dirty->bucket[i]; b; b = b->next)
			collect_block(&c, b);
	}
	collect_spill(&c, dirty);
	pthread_mutex_unlock(&dirty->lock);
	return c.found;
}
