/* SPDX-License-Identifier: MIT */
/*
 * Page pool: memory for tables, always zero when handed out.
 *
 * Pages of 2^lg2 bytes, 11 <= lg2 <= 16, naturally aligned, are cut from 2 MiB
 * chunks. A table that is freed has had all its entries cleared, so a page
 * that comes back is already zero and reuse clears nothing; debug builds check
 * that. Each page has a small record beside its chunk's other records, found
 * from the page's address alone: it chains pages that wait for readers, and
 * counts a table's used entries, so that removing never allocates.
 *
 * The pool is counted against a budget. Chunks stay until the VM goes. Under
 * AddressSanitizer the bytes of free pages are poisoned. Locking: one mutex, a
 * leaf. Any thread.
 */
#ifndef SN_CORE_POOL_H
#define SN_CORE_POOL_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#define SN_POOL_CHUNK_LG2 21
#define SN_POOL_CHUNK ((uintptr_t)1 << SN_POOL_CHUNK_LG2)
#define SN_POOL_MIN_LG2 11
#define SN_POOL_MAX_LG2 16
#define SN_POOL_RECORD_LG2 12 /* one record for each 4 KiB of a chunk */

struct snest_vm;

/*
 * The owner of a page of 4 KiB or more may use next, used and aux as it likes;
 * the pool uses them while the page is free. lg2 and flags are the pool's.
 */
struct sn_page {
	struct sn_page *next;
	uint16_t used; /* by convention: entries in use in this table; 0 when handed out */
	uint8_t lg2;
	uint8_t flags; /* SN_PAGE_* */
	uint32_t aux;
};

#define SN_PAGE_HALF0 0x1u   /* first 2 KiB free; on the free list of lg2 11 if any half is */
#define SN_PAGE_HALF1 0x2u   /* second 2 KiB free */
#define SN_PAGE_UNCLEAR 0x4u /* never handed out, so perhaps not zero */

struct sn_chunk {
	struct sn_pool *pool;
	struct sn_chunk *next;
	struct sn_page page[SN_POOL_CHUNK >> SN_POOL_RECORD_LG2];
};

struct sn_pool {
	pthread_mutex_t lock; /* guards all but the counters, which others read relaxed */
	struct snest_vm *vm;  /* whose hooks give memory */
	struct sn_page *free[SN_POOL_MAX_LG2 + 1];
	struct sn_chunk *chunks;
	uintptr_t cut, cut_last; /* the part of the newest chunk that was never handed out */
	uint64_t bytes_max;      /* budget of bytes in use; 0: none */
	uint64_t bytes_used;     /* atomic */
	uint64_t bytes_held;     /* atomic; chunks */
};

void sn_pool_init(struct sn_pool *pool, struct snest_vm *vm, uint64_t bytes_max);
/* Gives all chunks back, whatever is in use. */
void sn_pool_fini(struct sn_pool *pool);

/*
 * A zeroed page of 2^lg2 bytes, or NULL with *error (if not NULL) -ENOMEM,
 * -ENOSPC (budget) or -EOPNOTSUPP (not a size of the pool). Small sizes share a 4 KiB record: only lg2 >= 12 has one
 * of its own.
 */
void *sn_pool_alloc(struct sn_pool *pool, unsigned lg2, int *error);

/*
 * `count` zeroed pages of 2^lg2 bytes, lg2 >= 12, in one locked step, chained
 * through sn_page.next; all or none. Errors as sn_pool_alloc.
 */
struct sn_page *sn_pool_alloc_chain(struct sn_pool *pool, unsigned lg2, uint64_t count, int *error);

/* Takes back a page that is all zero and that nobody can reach. */
void sn_pool_free(struct sn_pool *pool, void *ptr, unsigned lg2);

/*
 * Takes back a chain of 4 KiB pages linked through sn_page.next, in one locked
 * step. The pages are all zero.
 */
void sn_pool_free_chain(struct sn_pool *pool, struct sn_page *first);

/* The record of the 4 KiB unit that `ptr` lies in. Constant time, no lock. */
static inline struct sn_page *sn_pool_page(const void *ptr)
{
	uintptr_t p = (uintptr_t)ptr;
	struct sn_chunk *chunk = (struct sn_chunk *)(p & ~(SN_POOL_CHUNK - 1));
	return &chunk->page[(p & (SN_POOL_CHUNK - 1)) >> SN_POOL_RECORD_LG2];
}

/* The page that a record belongs to. */
static inline void *sn_pool_ptr(const struct sn_page *page)
{
	uintptr_t p = (uintptr_t)page;
	struct sn_chunk *chunk = (struct sn_chunk *)(p & ~(SN_POOL_CHUNK - 1));
	return (char *)chunk + ((uintptr_t)(page - chunk->page) << SN_POOL_RECORD_LG2);
}

#endif
