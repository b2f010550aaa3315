/* SPDX-License-Identifier: MIT */
/*
 * Memory of the tables that snest writes: pages in advance of a change, and
 * the way back of pages that a change took out.
 *
 * Pages of the VM's pool wait for a grace period, chained through their
 * records, so that nothing is allocated to free them. Pages of a caller's
 * memory go back to the caller, who knows who walks them. Called by the
 * writer, on the thread that changes the table.
 */
#include <errno.h>
#include <string.h>
#include "walkers/write.h"

/* A retired pool page's record: lg2 in aux, and whether it still has entries. */
#define RETIRED_CLEAR 0x100u

static void *page_alloc(struct snest_table *table, unsigned lg2, int *error)
{
	if (table->pooled)
		return sn_pool_alloc(&table->vm->pool, lg2, error);
	*error = -ENOMEM;
	return table->memory.alloc(table->memory.opaque, lg2);
}

static void page_free(struct snest_table *table, void *page, unsigned lg2)
{
	if (table->pooled)
		sn_pool_free(&table->vm->pool, page, lg2);
	else
		table->memory.free(table->memory.opaque, page, lg2);
}

static void reserve_drop(struct snest_table *table, unsigned lg2)
{
	while (table->pooled ? table->reserve_pool != NULL : table->reserve != NULL) {
		void *page = sn_table_take(table);

		table->bytes -= (uint64_t)1 << lg2;
		page_free(table, page, lg2);
	}
}

/* From the pool, in one locked step. */
static int reserve_pooled(struct snest_table *table, unsigned half, uint64_t count)
{
	unsigned lg2 = table->page_lg2[half];
	uint64_t misfits = 0;
	int error = 0;
	struct sn_page *chain = sn_pool_alloc_chain(&table->vm->pool, lg2, count, &error);

	if (!chain)
		return error;
	table->bytes += count << lg2;
	table->reserve_pool = chain;
	for (; chain; chain = chain->next)
		misfits |= sn_table_addr(table, sn_pool_ptr(chain)) & ~table->table_mask[half];
	if (!misfits)
		return 0;
	reserve_drop(table, lg2);
	return -ENOMEM;
}

int sn_table_reserve(struct snest_table *table, unsigned half, uint64_t count)
{
	unsigned lg2 = table->page_lg2[half];

	if (table->pooled)
		return count ? reserve_pooled(table, half, count) : 0;

	for (; count; count--) {
		int error = -ENOMEM;
		void **page = page_alloc(table, lg2, &error);

		if (page && (sn_table_addr(table, page) & ~table->table_mask[half])) {
			page_free(table, page, lg2);
			page = NULL;
		}
		if (!page) {
			reserve_drop(table, lg2);
			return error;
		}
		*page = table->reserve;
		table->reserve = page;
		table->bytes += (uint64_t)1 << lg2;
	}
	return 0;
}

static void batch_flush(struct snest_table *table)
{
	if (!table->batched)
		return;
	if (table->memory.settle && !table->quiet)
		table->memory.settle(table->memory.opaque);
	while (table->batched) {
		unsigned i = --table->batched;

		memset(table->batch[i].page, 0, (size_t)1 << table->batch[i].lg2);
		page_free(table, table->batch[i].page, table->batch[i].lg2);
	}
}

void sn_table_retire(struct snest_table *table, unsigned half, void *page, bool clear)
{
	unsigned lg2 = table->page_lg2[half];

	sn_table_forget(table);
	table->bytes -= (uint64_t)1 << lg2;
	if (table->pooled && !table->quiet) {
		struct sn_page *record = sn_pool_page(page);

		record->aux = lg2 | (clear ? RETIRED_CLEAR : 0);
		record->next = table->retiring;
		if (!table->retiring)
			table->retiring_tail = record;
		table->retiring = record;
	} else if (clear && !table->quiet) {
		if (table->batched == SN_TABLE_BATCH)
			batch_flush(table);
		table->batch[table->batched].page = page;
		table->batch[table->batched++].lg2 = lg2;
	} else {
		if (clear)
			memset(page, 0, (size_t)1 << lg2);
		page_free(table, page, lg2);
	}
}

static void pages_free(struct sn_pool *pool, struct sn_page *page)
{
	struct sn_page *next, *chain = NULL;

	for (; page; page = next) {
		unsigned lg2 = page->aux & 0xff;
		void *ptr = sn_pool_ptr(page);

		next = page->next;
		if (page->aux & RETIRED_CLEAR)
			memset(ptr, 0, (size_t)1 << lg2);
		if (lg2 == 12) {
			page->next = chain;
			chain = page;
		} else {
			sn_pool_free(pool, ptr, lg2);
		}
	}
	if (chain)
		sn_pool_free_chain(pool, chain);
}

/* Deferred: the readers of everything in `waiting` have gone. */
static void retired_run(struct sn_reclaim_node *node)
{
	struct sn_table_retired *r = (struct sn_table_retired *)node;
	struct snest_table *table =
		(struct snest_table *)((char *)r - offsetof(struct snest_table, retired));
	struct snest_vm *vm = table->vm;
	bool last;

	pages_free(&vm->pool, r->waiting);
	pthread_mutex_lock(&r->lock);
	r->waiting = r->fresh;
	r->fresh = NULL;
	r->queued = r->waiting != NULL;
	if (r->queued)
		sn_reclaim_defer(&vm->reclaim, node, retired_run);
	last = !r->queued && r->destroyed;
	pthread_mutex_unlock(&r->lock);
	if (last)
		sn_table_release(table);
}

void sn_table_settle(struct snest_table *table)
{
	struct sn_table_retired *r = &table->retired;

	batch_flush(table);
	if (!table->retiring)
		return;
	pthread_mutex_lock(&r->lock);
	if (r->queued) {
		table->retiring_tail->next = r->fresh;
		r->fresh = table->retiring;
	} else {
		r->waiting = table->retiring;
		r->queued = true;
		sn_reclaim_defer(&table->vm->reclaim, &r->node, retired_run);
	}
	pthread_mutex_unlock(&r->lock);
	table->retiring = NULL;
}
