/* SPDX-License-Identifier: MIT */
/*
 * Page pool: see core/pool.h for what it promises.
 *
 * Sizes have separate free lists. A page comes from its own list, else from
 * the newest chunk's uncut part, else from a larger free page that is halved,
 * else from a new chunk. Halves are never joined again: the sizes that one VM
 * uses are few, so joining would cost locks and gain little.
 */
#include "core/pool.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "core/poison.h"
#include "core/vm.h"

#define UNIT_LG2 SN_POOL_RECORD_LG2
#define UNIT ((uintptr_t)1 << UNIT_LG2)

void sn_pool_init(struct sn_pool *pool, struct snest_vm *vm, uint64_t bytes_max)
{
	*pool = (struct sn_pool){.vm = vm, .bytes_max = bytes_max};
	pthread_mutex_init(&pool->lock, NULL);
}

void sn_pool_fini(struct sn_pool *pool)
{
	while (pool->chunks) {
		struct sn_chunk *chunk = pool->chunks;

		pool->chunks = chunk->next;
		SN_UNPOISON(chunk, SN_POOL_CHUNK);
		sn_vm_memory_free(pool->vm, chunk, SN_POOL_CHUNK);
	}
	pthread_mutex_destroy(&pool->lock);
}

/* Under the lock. Others only read the counter, so that the sum needs no atomic addition. */
static inline void count_used(struct sn_pool *pool, uint64_t bytes)
{
	uint64_t used = __atomic_load_n(&pool->bytes_used, __ATOMIC_RELAXED);

	__atomic_store_n(&pool->bytes_used, used + bytes, __ATOMIC_RELAXED);
}

static void put(struct sn_pool *pool, struct sn_page *page, unsigned lg2)
{
	page->lg2 = (uint8_t)lg2;
	page->next = pool->free[lg2];
	pool->free[lg2] = page;
}

/*
 * Puts what lies between the cut and `to` on the free lists, in the largest
 * naturally aligned pages that fit.
 */
static void put_uncut(struct sn_pool *pool, uintptr_t to)
{
	while (pool->cut < to) {
		unsigned lg2 = UNIT_LG2;
		struct sn_page *page = sn_pool_page((void *)pool->cut);

		while (lg2 < SN_POOL_MAX_LG2 && !(pool->cut & ((uintptr_t)1 << lg2)) &&
		       pool->cut + ((uintptr_t)2 << lg2) <= to)
			lg2++;
		page->flags = SN_PAGE_UNCLEAR;
		put(pool, page, lg2);
		pool->cut += (uintptr_t)1 << lg2;
	}
}

static bool add_chunk(struct sn_pool *pool)
{
	struct sn_chunk *chunk = sn_vm_memory_alloc(pool->vm, SN_POOL_CHUNK, SN_POOL_CHUNK);
	uintptr_t base = (uintptr_t)chunk;

	if (!chunk)
		return false;
	put_uncut(pool, pool->cut_last);
	/*
	 * Once tables fill more than a chunk, a lookup that misses the caches would
	 * miss the TLB as well, which costs more. A small VM keeps small pages, and
	 * with them the little memory that it touches.
	 */
	if (pool->chunks) {
		sn_vm_memory_prefer_huge(pool->vm, chunk, SN_POOL_CHUNK);
		/* The first one too, when the system gets round to it. */
		if (!pool->chunks->next)
			sn_vm_memory_prefer_huge(pool->vm, pool->chunks, SN_POOL_CHUNK);
	}
	memset(chunk, 0, sizeof(*chunk));
	chunk->pool = pool;
	chunk->next = pool->chunks;
	pool->chunks = chunk;
	pool->cut = (base + sizeof(*chunk) + UNIT - 1) & ~(UNIT - 1);
	pool->cut_last = base + SN_POOL_CHUNK;
	SN_POISON((void *)pool->cut, pool->cut_last - pool->cut);
	__atomic_fetch_add(&pool->bytes_held, SN_POOL_CHUNK, __ATOMIC_RELAXED);
	return true;
}

static struct sn_page *take_free(struct sn_pool *pool, unsigned lg2)
{
	struct sn_page *page = pool->free[lg2];

	if (page)
		pool->free[lg2] = page->next;
	return page;
}

static struct sn_page *take_uncut(struct sn_pool *pool, unsigned lg2)
{
	uintptr_t mask = ((uintptr_t)1 << lg2) - 1;
	uintptr_t at = (pool->cut + mask) & ~mask;
	struct sn_page *page;

	if (!pool->cut || at + mask >= pool->cut_last)
		return NULL;
	put_uncut(pool, at);
	pool->cut = at + mask + 1;
	page = sn_pool_page((void *)at);
	page->flags = SN_PAGE_UNCLEAR;
	return page;
}

static struct sn_page *take_half(struct sn_pool *pool, unsigned lg2)
{
	struct sn_page *page = NULL;
	unsigned from = lg2;

	while (!page && from < SN_POOL_MAX_LG2)
		page = take_free(pool, ++from);
	while (page && from-- > lg2) {
		struct sn_page *half = page + ((uintptr_t)1 << (from - UNIT_LG2));

		half->flags = page->flags & SN_PAGE_UNCLEAR;
		put(pool, half, from);
	}
	return page;
}

/* A page of at least one unit, perhaps not clear. */
static struct sn_page *take(struct sn_pool *pool, unsigned lg2)
{
	struct sn_page *page = take_free(pool, lg2);

	if (!page)
		page = take_uncut(pool, lg2);
	if (!page)
		page = take_half(pool, lg2);
	if (!page && add_chunk(pool))
		page = take_uncut(pool, lg2);
	return page;
}

static void clear(struct sn_page *page, unsigned lg2)
{
	void *ptr = sn_pool_ptr(page);

	SN_UNPOISON(ptr, (size_t)1 << lg2);
	if (page->flags & SN_PAGE_UNCLEAR)
		memset(ptr, 0, (size_t)1 << lg2);
	page->next = NULL;
	page->used = 0;
	page->lg2 = (uint8_t)lg2;
	page->flags = 0;
	page->aux = 0;
}

/* Two 2 KiB pages share a record, which is on the free list while a half of it is free. */
static void *take_small(struct sn_pool *pool)
{
	struct sn_page *page = pool->free[SN_POOL_MIN_LG2];
	char *ptr;

	if (!page) {
		page = take(pool, UNIT_LG2);
		if (!page)
			return NULL;
		clear(page, UNIT_LG2);
		SN_POISON(sn_pool_ptr(page), UNIT);
		page->flags = SN_PAGE_HALF0 | SN_PAGE_HALF1;
		put(pool, page, SN_POOL_MIN_LG2);
	}
	ptr = sn_pool_ptr(page);
	if (page->flags & SN_PAGE_HALF0) {
		page->flags &= (uint8_t)~SN_PAGE_HALF0;
	} else {
		page->flags &= (uint8_t)~SN_PAGE_HALF1;
		ptr += UNIT / 2;
	}
	if (!page->flags)
		pool->free[SN_POOL_MIN_LG2] = page->next;
	SN_UNPOISON(ptr, UNIT / 2);
	return ptr;
}

static void put_small(struct sn_pool *pool, void *ptr)
{
	struct sn_page *page = sn_pool_page(ptr);
	bool listed = page->flags != 0;

	page->flags |= ((uintptr_t)ptr & (UNIT / 2)) ? SN_PAGE_HALF1 : SN_PAGE_HALF0;
	if (!listed)
		put(pool, page, SN_POOL_MIN_LG2);
}

static void check_zero(const void *ptr, unsigned lg2)
{
#ifndef NDEBUG
	const uint64_t *word = ptr;

	for (size_t i = 0; i < ((size_t)1 << lg2) / sizeof(*word); i++)
		assert(word[i] == 0);
#else
	(void)ptr;
	(void)lg2;
#endif
}

void *sn_pool_alloc(struct sn_pool *pool, unsigned lg2, int *error)
{
	uint64_t size, used;
	struct sn_page *page;
	void *ptr = NULL;
	int ret = -ENOMEM;

	if (lg2 < SN_POOL_MIN_LG2 || lg2 > SN_POOL_MAX_LG2) {
		if (error)
			*error = -EOPNOTSUPP;
		return NULL;
	}
	size = (uint64_t)1 << lg2;
	pthread_mutex_lock(&pool->lock);
	used = __atomic_load_n(&pool->bytes_used, __ATOMIC_RELAXED);
	if (pool->bytes_max && (used > pool->bytes_max || pool->bytes_max - used < size)) {
		ret = -ENOSPC;
	} else if (lg2 < UNIT_LG2) {
		ptr = take_small(pool);
	} else {
		page = take(pool, lg2);
		/*
		 * Clearing under the lock costs little: it happens once in the
		 * life of a page.
		 */
		if (page) {
			clear(page, lg2);
			ptr = sn_pool_ptr(page);
		}
	}
	if (ptr)
		count_used(pool, size);
	pthread_mutex_unlock(&pool->lock);
	if (!ptr && error)
		*error = ret;
	return ptr;
}

struct sn_page *sn_pool_alloc_chain(struct sn_pool *pool, unsigned lg2, uint64_t count, int *error)
{
	uint64_t used, left = count, size = count << lg2;
	struct sn_page *chain = NULL;
	int ret = -ENOMEM;

	assert(lg2 >= UNIT_LG2 && lg2 <= SN_POOL_MAX_LG2);
	pthread_mutex_lock(&pool->lock);
	used = __atomic_load_n(&pool->bytes_used, __ATOMIC_RELAXED);
	if (pool->bytes_max && (count > UINT64_MAX >> lg2 || used > pool->bytes_max ||
	                        pool->bytes_max - used < size)) {
		ret = -ENOSPC;
	} else {
		/* Without a budget an absurd count ends where memory does. */
		for (; left; left--) {
			struct sn_page *page = take(pool, lg2);

			if (!page)
				break;
			clear(page, lg2);
			page->next = chain;
			chain = page;
		}
	}
	if (left) {
		while (chain) {
			struct sn_page *page = chain;

			chain = page->next;
			SN_POISON(sn_pool_ptr(page), (size_t)1 << lg2);
			put(pool, page, lg2);
		}
	} else {
		count_used(pool, size);
	}
	pthread_mutex_unlock(&pool->lock);
	if (!chain && error)
		*error = ret;
	return chain;
}

void sn_pool_free(struct sn_pool *pool, void *ptr, unsigned lg2)
{
	check_zero(ptr, lg2);
	SN_POISON(ptr, (size_t)1 << lg2);
	pthread_mutex_lock(&pool->lock);
	if (lg2 < UNIT_LG2)
		put_small(pool, ptr);
	else
		put(pool, sn_pool_page(ptr), lg2);
	count_used(pool, 0 - ((uint64_t)1 << lg2));
	pthread_mutex_unlock(&pool->lock);
}

void sn_pool_free_chain(struct sn_pool *pool, struct sn_page *first)
{
	struct sn_page *last = NULL;
	uint64_t bytes = 0;

	for (struct sn_page *page = first; page; page = page->next) {
		check_zero(sn_pool_ptr(page), UNIT_LG2);
		SN_POISON(sn_pool_ptr(page), UNIT);
		bytes += UNIT;
		last = page;
	}
	if (!last)
		return;
	pthread_mutex_lock(&pool->lock);
	last->next = pool->free[UNIT_LG2];
	pool->free[UNIT_LG2] = first;
	count_used(pool, 0 - bytes);
	pthread_mutex_unlock(&pool->lock);
}
