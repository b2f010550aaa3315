/* SPDX-License-Identifier: MIT */
/*
 * Tables that snest writes: the object behind snest_table_*, the memory of its
 * pages, and the entry points of the writer that is compiled for each format.
 *
 * One thread changes a table at a time. Others may walk it meanwhile, so
 *
 * Rule 1: every change of a translation is one release store. A new lower
 *         table is complete before the store that makes it reachable; a large
 *         leaf and the table that takes its place, or the reverse, are
 *         exchanged by that one store.
 * Rule 2: a change first counts the pages it needs and gets them, which may
 *         fail; what follows cannot. Removing gets no pages, except to cut.
 * Rule 3: a table without used entries is unlinked at once. It goes back when
 *         its readers have gone, and is zero by then.
 * Rule 4: an accessed or dirty flag that hardware sets while a leaf is cut is
 *         kept. Where that cannot be told (leaves that are merged, a leaf of
 *         several equal entries that is cut), the new leaves count as dirty.
 *
 * The functions here are for the owner of the table: shadow/ and table.c.
 */
#ifndef SN_WALKERS_WRITE_H
#define SN_WALKERS_WRITE_H

#include <assert.h>
#include <snest/table.h>
#include "core/vm.h"
#include "walkers/env.h"

/* Pages of a caller's memory that one settle() serves. */
#define SN_TABLE_BATCH 32

/* A piece of input, mapped contiguously. */
struct sn_piece {
	uint64_t first, last;
	uint64_t addr;  /* of first */
	uint64_t sizes; /* leaves it may use: bit n for 2^n bytes */
	uint32_t rights, attr;
};

/* One change of a table, on the stack of the call that makes it. */
struct sn_edit {
	struct snest_table *t;
	const struct sn_pt *pt;
	unsigned half;
	bool dry; /* count and check, store nothing */
	bool replace;
	bool whole;
	uint64_t need;                  /* dry: pages */
	uint64_t bytes;                 /* removed */
	const struct sn_piece *piece;   /* map: what to map */
	uint64_t span_first, span_last; /* the interval of valid inputs that it lies in */
};

/* One entry, and the table it is in. */
struct sn_slot {
	void *table;
	uint64_t index, raw;
	uint64_t first; /* input of the slot */
	unsigned level;
};

/* One format's writer. Arguments are as in snest/table.h, flags already checked. */
struct sn_writer {
	int (*map)(struct snest_table *table, const struct sn_piece *piece, bool replace);
	int (*unmap)(struct snest_table *table, uint64_t first, uint64_t last, bool whole,
	             uint64_t *bytes);
	int (*cut)(struct snest_table *table, uint64_t at);
	int (*merge)(struct snest_table *table, uint64_t first, uint64_t last);
	/* gives back all pages but the roots */
	void (*empty)(struct snest_table *table);
	/* lg2 bytes of a table; leaf sizes of all levels; address bits that a table entry holds */
	unsigned (*table_lg2)(const struct sn_pt *pt, unsigned half, unsigned level);
	uint64_t (*sizes)(const struct sn_pt *pt, unsigned half);
	uint64_t (*table_mask)(const struct sn_pt *pt, unsigned half);
};

/*
 * Pool pages that wait for readers. The owner fills `fresh` under the lock;
 * the deferred node takes what was queued before it and nothing younger.
 */
struct sn_table_retired {
	struct sn_reclaim_node node;
	pthread_mutex_t lock;    /* guards the fields below; a leaf but for the reclaim queue's */
	struct sn_page *waiting; /* what the queued node will free */
	struct sn_page *fresh;   /* what came after it was queued */
	bool queued;
	bool destroyed; /* the last node frees the table object */
};

struct snest_table {
	/* The leaf table used last; leaf_first > leaf_last: none. */
	uint64_t leaf_first, leaf_last; /* input it translates */
	void *leaf;
	unsigned leaf_half;
	uint64_t leaf_witness; /* an entry of it that may be used */

	bool pooled; /* pages are the VM's pool's, and counted in sn_page.used */
	bool quiet;  /* nobody walks it any more: pages go back at once */
	struct sn_pt pt;
	const struct sn_writer *writer;
	struct snest_vm *vm;
	struct snest_table_memory memory; /* pooled: only delta, 0, is used */
	void *root[2];                    /* [1]: upper half, or NULL */
	uint8_t root_lg2[2], page_lg2[2]; /* page: every table below the root */
	uint64_t sizes[2], table_mask[2];
	uint64_t bytes;

	void *reserve; /* pages for the change at hand, chained through their first word */
	/* pooled: chain of what the change at hand took out */
	struct sn_page *retiring, *retiring_tail;
	struct {
		void *page;
		unsigned lg2;
	} batch[SN_TABLE_BATCH]; /* not pooled: the same, if they must be cleared */
	unsigned batched;

	struct sn_table_retired retired;
	struct snest_stage stage;
};

/* Gets `count` pages for a table of `half` into the reserve. 0, -ENOMEM, -ENOSPC; all or none. */
int sn_table_reserve(struct snest_table *table, unsigned half, uint64_t count);

/* A zero page from the reserve, which holds one. */
static inline void *sn_table_take(struct snest_table *table)
{
	void **page = table->reserve;

	assert(page);
	table->reserve = *page;
	*page = NULL;
	return page;
}

/*
 * Takes over a page of `half` that was just unlinked. clear: it still has
 * entries, which stay until its readers have gone.
 */
void sn_table_retire(struct snest_table *table, unsigned half, void *page, bool clear);

/* Ends a change: what it retired starts to wait for readers. */
void sn_table_settle(struct snest_table *table);

/* Frees the object of a table that was destroyed and has no pages left. */
void sn_table_release(struct snest_table *table);

static inline uint64_t sn_table_addr(const struct snest_table *table, const void *page)
{
	return (uint64_t)(uintptr_t)page + table->memory.delta;
}

static inline void *sn_table_ptr(const struct snest_table *table, uint64_t addr)
{
	return (void *)(uintptr_t)(addr - table->memory.delta);
}

#endif
