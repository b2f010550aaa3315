/* SPDX-License-Identifier: MIT */
/*
 * Tables that snest writes, as the embedder sees them (snest/table.h): creating
 * and destroying them, and the checks that all formats share. What changes a
 * table is the format's writer.
 */
#include <errno.h>
#include <string.h>
#include "core/extensible.h"
#include "walkers/write.h"

/*
 * A root may be larger than the pool's pages: 16 concatenated tables of 64 KiB
 * are 1 MiB. Such a root comes straight from the VM's memory and counts
 * as an object, not against the table budget; a table has at most two.
 */
static void *root_alloc(struct snest_table *table, unsigned lg2, int *error)
{
	size_t size = (size_t)1 << lg2;
	void *root;

	*error = -ENOMEM;
	if (!table->pooled)
		return table->memory.alloc(table->memory.opaque, lg2);
	if (lg2 <= SN_POOL_MAX_LG2)
		return sn_pool_alloc(&table->vm->pool, lg2, error);
	root = sn_vm_memory_alloc(table->vm, size, size);
	if (!root)
		return NULL;
	__atomic_add_fetch(&table->vm->object_bytes, size, __ATOMIC_RELAXED);
	return memset(root, 0, size);
}

static void root_free(struct snest_table *table, void *root, unsigned lg2)
{
	size_t size = (size_t)1 << lg2;

	if (!table->pooled) {
		table->memory.free(table->memory.opaque, root, lg2);
	} else if (lg2 <= SN_POOL_MAX_LG2) {
		sn_pool_free(&table->vm->pool, root, lg2);
	} else {
		__atomic_sub_fetch(&table->vm->object_bytes, size, __ATOMIC_RELAXED);
		sn_vm_memory_free(table->vm, root, size);
	}
}

static void roots_free(struct snest_table *table)
{
	for (unsigned half = 0; half < 2; half++) {
		if (table->root[half])
			root_free(table, table->root[half], table->root_lg2[half]);
		table->root[half] = NULL;
	}
}

/* Root tables of each half, and everything that follows from the shape. */
static int roots_alloc(struct snest_table *table)
{
	unsigned pool_lg2 = table->pooled ? SN_POOL_RECORD_LG2 : 0;

	for (unsigned half = 0; half < 2 && table->pt.ia_bits[half]; half++) {
		const struct sn_writer *w = table->writer;
		unsigned lg2 = w->table_lg2(&table->pt, half, table->pt.top[half]);
		unsigned page = w->table_lg2(&table->pt, half, 0);
		int error;

		table->root_lg2[half] = (uint8_t)(lg2 < pool_lg2 ? pool_lg2 : lg2);
		table->page_lg2[half] = (uint8_t)(page < pool_lg2 ? pool_lg2 : page);
		table->sizes[half] = w->sizes(&table->pt, half);
		table->table_mask[half] = w->table_mask(&table->pt, half);
		table->leaf_mask[half] = w->leaf_mask(&table->pt, half);
		table->root[half] = root_alloc(table, table->root_lg2[half], &error);
		if (!table->root[half])
			return error;
		if (table->pt.top[half] &&
		    (sn_table_addr(table, table->root[half]) & ~table->table_mask[half]))
			return -EINVAL;
		table->bytes += (uint64_t)1 << table->root_lg2[half];
	}
	table->stage.root = sn_table_addr(table, table->root[0]);
	if (table->root[1])
		table->stage.root_high = sn_table_addr(table, table->root[1]);
	return 0;
}

/* Prepares the stage again, now with its roots, and checks that it kept their addresses. */
static int roots_check(struct snest_table *table)
{
	int ret = sn_pt_prepare(&table->pt, &table->stage, NULL);

	if (ret)
		return ret;
	if (table->pt.root[0] != table->stage.root ||
	    (table->root[1] && table->pt.root[1] != table->stage.root_high))
		return -EINVAL;
	return 0;
}

static int table_init(struct snest_table *table, const struct snest_stage *shape,
                      const struct snest_table_memory *memory)
{
	int ret = sn_struct_in(&table->stage, sizeof(table->stage), shape, shape->size);

	if (ret)
		return ret;
	table->stage.size = sizeof(table->stage);
	table->stage.root = table->stage.root_high = 0;
	if (memory) {
		ret = sn_struct_in(&table->memory, sizeof(table->memory), memory, memory->size);
		if (ret)
			return ret;
		if (!table->memory.alloc || !table->memory.free)
			return -EINVAL;
	}
	table->pooled = !memory;
	sn_hand_no_leaf(&table->hand);
	sn_table_forget(table);
	ret = sn_pt_prepare(&table->pt, &table->stage, NULL);
	if (ret)
		return ret;
	table->writer = sn_format(table->stage.format)->writer;
	ret = roots_alloc(table);
	return ret ? ret : roots_check(table);
}

int snest_table_create(struct snest_vm *vm, const struct snest_stage *shape,
                       const struct snest_table_memory *memory, struct snest_table **table)
{
	struct snest_table *t = sn_vm_alloc(vm, sizeof(*t));
	int ret;

	if (!t)
		return -ENOMEM;
	t->vm = vm;
	pthread_mutex_init(&t->retired.lock, NULL);
	ret = table_init(t, shape, memory);
	if (ret) {
		roots_free(t);
		sn_table_release(t);
		return ret;
	}
	*table = t;
	return 0;
}

void sn_table_release(struct snest_table *table)
{
	pthread_mutex_destroy(&table->retired.lock);
	sn_vm_free(table->vm, table, sizeof(*table));
}

void snest_table_destroy(struct snest_table *table)
{
	bool queued;

	if (!table)
		return;
	table->quiet = true;
	table->writer->empty(table);
	roots_free(table);
	/* Pages that an earlier change retired may still wait; then the last of them frees it. */
	pthread_mutex_lock(&table->retired.lock);
	queued = table->retired.queued;
	table->retired.destroyed = true;
	pthread_mutex_unlock(&table->retired.lock);
	if (!queued)
		sn_table_release(table);
}

const struct snest_stage *snest_table_stage(const struct snest_table *table)
{
	return &table->stage;
}

uint64_t snest_table_page_sizes(const struct snest_table *table)
{
	return table->sizes[0] | table->sizes[1];
}

uint64_t snest_table_bytes(const struct snest_table *table)
{
	return table->bytes;
}

/* Straight into the writer, which looks at its arguments where its fast way ends. */
int snest_table_map(struct snest_table *table, uint64_t first, uint64_t last, uint64_t addr,
                    uint32_t rights, uint32_t attr, uint32_t flags)
{
	return table->writer->map(table, first, last, addr, rights, attr, flags);
}

int snest_table_unmap(struct snest_table *table, uint64_t first, uint64_t last, uint32_t flags,
                      uint64_t *bytes)
{
	return table->writer->unmap(table, first, last, flags, bytes);
}

int snest_table_cut(struct snest_table *table, uint64_t at)
{
	return table->writer->cut(table, at);
}

int snest_table_merge(struct snest_table *table, uint64_t first, uint64_t last)
{
	return table->writer->merge(table, first, last);
}
