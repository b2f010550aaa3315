/* SPDX-License-Identifier: MIT */
/* A sparse set of pages; see dirty_map.h. */
#include "shadow/dirty_map.h"
#include "core/vm.h"

#define BUCKET_BYTES (SN_DIRTY_BUCKETS * sizeof(struct sn_dirty_block *))
#define BLOCK_PAGES (SN_DIRTY_WORDS * 64u)

void sn_dirty_init(struct sn_dirty *dirty, struct snest_vm *vm)
{
	pthread_mutex_init(&dirty->lock, NULL);
	dirty->vm = vm;
	dirty->bucket = NULL;
	dirty->lost = false;
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
	dirty->lost = false;
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
	while (!dirty->lost) {
		struct sn_dirty_block *block = block_of(dirty, page / BLOCK_PAGES);
		unsigned bit = page % BLOCK_PAGES;

		if (!block) {
			dirty->lost = true;
			break;
		}
		block->word[bit / 64] |= 1ull << bit % 64;
		if (page++ == page_last)
			break;
	}
	pthread_mutex_unlock(&dirty->lock);
}

/* One block's pages in page..page_last, relative to page_first. */
static uint64_t collect_block(struct sn_dirty_block *block, uint64_t page, uint64_t page_last,
                              uint64_t page_first, bool clear, uint64_t *bitmap)
{
	uint64_t base = block->number * BLOCK_PAGES, found = 0;

	for (; page <= page_last; page++) {
		uint64_t bit = page - base, to = page - page_first;

		if (!block->word[bit / 64]) {
			page |= 63;
			continue;
		}
		if (!(block->word[bit / 64] >> bit % 64 & 1))
			continue;
		if (clear)
			block->word[bit / 64] &= ~(1ull << bit % 64);
		bitmap[to / 64] |= 1ull << to % 64;
		found++;
	}
	return found;
}

uint64_t sn_dirty_collect(struct sn_dirty *dirty, uint64_t first, uint64_t last, bool clear,
                          uint64_t *bitmap)
{
	uint64_t page_first = first >> 12, page_last = last >> 12, found = 0;

	pthread_mutex_lock(&dirty->lock);
	if (dirty->lost) {
		/* Known no better: all of it. A later clear of the whole space starts anew. */
		for (uint64_t i = 0; i <= page_last - page_first; i++)
			bitmap[i / 64] |= 1ull << i % 64;
		found = page_last - page_first + 1;
	} else {
		for (unsigned i = 0; dirty->bucket && i < SN_DIRTY_BUCKETS; i++) {
			for (struct sn_dirty_block *b = dirty->bucket[i]; b; b = b->next) {
				uint64_t from = b->number * BLOCK_PAGES;
				uint64_t to = from + BLOCK_PAGES - 1;

				if (from < page_first)
					from = page_first;
				if (to > page_last)
					to = page_last;
				if (from <= to)
					found += collect_block(b, from, to, page_first, clear,
					                       bitmap);
			}
		}
	}
	pthread_mutex_unlock(&dirty->lock);
	return found;
}
