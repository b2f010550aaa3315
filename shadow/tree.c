/* SPDX-License-Identifier: MIT */
/* The radix table of a shadow; see tree.h for the guarantees. */
#include <errno.h>
#include <string.h>
#include "shadow/tree.h"

_Alignas(4096) const uint64_t sn_tree_nothing[SN_SH_SLOTS];

/* Tables freed in one step of the reclaim thread, so that drains do not wait behind a huge tree. */
#define FREE_STEP 512

#define TABLE_BYTES 4096u

/* Fewer tables than this are not worth looking for empty ones. */
#define TIDY_TABLES 64

static uint64_t block_mask(unsigned lg2)
{
	return lg2 >= 64 ? UINT64_MAX : ((uint64_t)1 << lg2) - 1;
}

void sn_tree_init(struct sn_tree *tree)
{
	tree->root = SN_TREE_EMPTY;
	tree->tables = 0;
	tree->tidy_at = TIDY_TABLES;
	tree->origin = 0;
}

/* ---- Freeing ------------------------------------------------------------ */

void sn_graveyard_init(struct sn_graveyard *graveyard, struct snest_vm *vm)
{
	memset(graveyard, 0, sizeof(*graveyard));
	graveyard->vm = vm;
	graveyard->linked_max = UINT64_MAX;
	pthread_mutex_init(&graveyard->lock, NULL);
}

/* Whether a table holds lower tables is its page record's `flags`: the index bit. */
static void bury_children(struct sn_page *page, struct sn_page **stack)
{
	uint64_t *table = sn_pool_ptr(page);

	if (page->flags != SN_SH_SHIFT0) {
		for (unsigned i = 0; i < SN_SH_SLOTS; i++) {
			if (!sn_sh_is_table(table[i], page->flags))
				continue;

			struct sn_page *child = sn_pool_page(sn_sh_table(table[i]));

			child->next = *stack;
			*stack = child;
		}
	}
	memset(table, 0, TABLE_BYTES);
}

/* On the reclaim thread, a grace period after everything in `dying` was unlinked. */
static void graveyard_run(struct sn_reclaim_node *node)
{
	struct sn_graveyard *g = (void *)((char *)node - offsetof(struct sn_graveyard, node));
	struct sn_page *stack = g->dying, *freed = NULL;
	unsigned n = 0;

	while (stack && n < FREE_STEP) {
		struct sn_page *page = stack;

		stack = page->next;
		bury_children(page, &stack);
		page->flags = 0;
		page->aux = 0;
		page->used = 0;
		page->next = freed;
		freed = page;
		n++;
	}
	if (freed)
		sn_pool_free_chain(&g->vm->pool, freed);
	__atomic_fetch_sub(&g->unlinked, n, __ATOMIC_RELAXED);

	pthread_mutex_lock(&g->lock);
	g->dying = stack;
	if (!stack) {
		g->dying = g->fresh;
		g->fresh = NULL;
	}
	g->queued = g->dying != NULL;
	if (g->queued)
		sn_reclaim_defer(&g->vm->reclaim, &g->node, graveyard_run);
	pthread_mutex_unlock(&g->lock);
}

/*
 * Gives an unlinked table, with everything below it (`tables` in all), to the
 * reclaim thread. That is not woken: an invalidation is usually followed by a
 * wait, which wakes it, and otherwise the next table that is made does.
 */
static void bury(struct sn_graveyard *g, uint64_t *table, uint64_t tables)
{
	struct sn_page *page = sn_pool_page(table);

	g->linked -= tables;
	__atomic_fetch_add(&g->unlinked, tables, __ATOMIC_RELAXED);
	pthread_mutex_lock(&g->lock);
	page->next = g->fresh;
	g->fresh = page;
	if (!g->queued) {
		g->dying = g->fresh;
		g->fresh = NULL;
		g->queued = true;
		g->idle = true;
		sn_reclaim_defer_idly(&g->vm->reclaim, &g->node, graveyard_run);
	}
	pthread_mutex_unlock(&g->lock);
}

static void wake(struct sn_graveyard *g)
{
	if (g->idle) {
		g->idle = false;
		sn_reclaim_wake(&g->vm->reclaim);
	}
}

bool sn_graveyard_is_full(struct sn_graveyard *g)
{
	if (__atomic_load_n(&g->unlinked, __ATOMIC_RELAXED) < g->linked_max)
		return false;
	wake(g);
	return true;
}

/* ---- Growing and inserting ------------------------------------------------ */

static uint64_t *table_alloc(struct sn_tree *tree, struct sn_graveyard *g, unsigned shift,
                             int *error)
{
	uint64_t *table;

	wake(g);
	if (g->linked >= g->linked_max) {
		*error = -ENOSPC;
		return NULL;
	}
	table = sn_pool_alloc(&g->vm->pool, 12, error);
	if (!table) {
		/* Other spaces' tables may wait for readers, and nobody has been woken for them. */
		sn_reclaim_wake(&g->vm->reclaim);
		return NULL;
	}

	struct sn_page *page = sn_pool_page(table);

	page->flags = (uint8_t)shift;
	page->used = 0;
	page->aux = 0;
	tree->tables++;
	g->linked++;
	return table;
}

/* Makes the tree reach iova. */
static int grow(struct sn_tree *tree, struct sn_graveyard *g, uint64_t iova, unsigned want,
                int *error)
{
	if (sn_tree_is_empty(tree)) {
		unsigned shift = SN_SH_SHIFT0;
		uint64_t *table;

		while (shift < want || iova >> shift >= SN_SH_SLOTS)
			shift += SN_SH_BITS;
		table = table_alloc(tree, g, shift, error);
		if (!table)
			return -1;
		sn_sh_store(&tree->root, (uint64_t)(uintptr_t)table | shift);
		return 0;
	}
	for (;;) {
		unsigned shift = tree->root & SN_SH_ROOT_SHIFT;
		uint64_t *table;

		if (shift >= want && iova >> shift < SN_SH_SLOTS)
			return 0;
		table = table_alloc(tree, g, shift + SN_SH_BITS, error);
		if (!table)
			return -1;
		table[0] = (tree->root & SN_SH_ADDR) | SN_SH_TABLE;
		sn_pool_page(table)->used = 1;
		sn_pool_page(table)->aux = sn_pool_page(sn_sh_table(tree->root))->aux;
		sn_sh_store(&tree->root, (uint64_t)(uintptr_t)table | (shift + SN_SH_BITS));
	}
}

/*
 * Notes a guest's page of 2^origin bytes in a table whose index bit is
 * `shift`. Tables that lie inside the page, and the lowest that holds it, are
 * marked; a removal anywhere in the page then passes a marked table.
 */
static void mark_origin(const uint64_t *table, unsigned shift, unsigned origin)
{
	struct sn_page *page = sn_pool_page(table);

	if (origin > shift && page->aux < origin)
		page->aux = origin;
}

uint64_t *sn_tree_slot(struct sn_tree *tree, struct sn_graveyard *g, uint64_t iova, unsigned shift,
                       unsigned origin, int *error)
{
	uint64_t *table;
	unsigned at;

	if (grow(tree, g, iova, shift, error))
		return NULL;
	if (origin <= shift)
		origin = 0;
	else
		sn_tree_note_origin(tree, origin);
	at = tree->root & SN_SH_ROOT_SHIFT;
	table = sn_sh_table(tree->root);
	for (;;) {
		uint64_t *slot = &table[sn_sh_index(iova, at)];
		uint64_t *lower;

		if (origin)
			mark_origin(table, at, origin);
		if (at == shift)
			return slot;
		if (sn_sh_is_table(*slot, at)) {
			table = sn_sh_table(*slot);
			at -= SN_SH_BITS;
			continue;
		}
		lower = table_alloc(tree, g, at - SN_SH_BITS, error);
		if (!lower)
			return NULL;
		if (!*slot)
			sn_pool_page(table)->used++;
		sn_sh_store(slot, (uint64_t)(uintptr_t)lower | SN_SH_TABLE);
		table = lower;
		at -= SN_SH_BITS;
	}
}

bool sn_tree_is_split(const struct sn_tree *tree, uint64_t iova, unsigned shift)
{
	unsigned at = tree->root & SN_SH_ROOT_SHIFT;
	const uint64_t *table = sn_sh_table(tree->root);

	while (at >= shift && iova >> at < SN_SH_SLOTS) {
		uint64_t entry = table[sn_sh_index(iova, at)];

		if (!sn_sh_is_table(entry, at))
			return false;
		if (at == shift)
			return true;
		table = sn_sh_table(entry);
		at -= SN_SH_BITS;
	}
	return false;
}

/* Number of tables at and below one, for the account; bounded by what the tree holds. */
static uint64_t count_tables(const uint64_t *table, unsigned shift)
{
	uint64_t n = 1;

	if (shift == SN_SH_SHIFT0)
		return n;
	for (unsigned i = 0; i < SN_SH_SLOTS; i++) {
		if (sn_sh_is_table(table[i], shift))
			n += shift == SN_SH_SHIFT0 + SN_SH_BITS
			             ? 1
			             : count_tables(sn_sh_table(table[i]), shift - SN_SH_BITS);
	}
	return n;
}

static void unlink_table(struct sn_tree *tree, struct sn_graveyard *g, uint64_t entry,
                         unsigned shift)
{
	uint64_t *table = sn_sh_table(entry);

	uint64_t tables = count_tables(table, shift);

	tree->tables -= tables;
	bury(g, table, tables);
}

void sn_tree_store(struct sn_tree *tree, struct sn_graveyard *g, uint64_t *slot, unsigned shift,
                   uint64_t entry)
{
	uint64_t old = *slot;
	struct sn_page *page = sn_pool_page(slot);

	if (entry && shift != SN_SH_SHIFT0)
		entry |= SN_SH_PS;
	page->used = (uint16_t)(page->used + (entry != 0) - (old != 0));
	sn_sh_store(slot, entry);
	if (sn_sh_is_table(old, shift))
		unlink_table(tree, g, old, shift - SN_SH_BITS);
}

/* ---- Removing --------------------------------------------------------------- */

/* The largest guest page noted on the way to iova, as lg2. */
static unsigned origin_at(const struct sn_tree *tree, uint64_t iova)
{
	unsigned shift = tree->root & SN_SH_ROOT_SHIFT, origin = 0;
	const uint64_t *table = sn_sh_table(tree->root);

	/* Beyond the root may still be a part of a guest's page that begins inside. */
	if (iova >> shift >= SN_SH_SLOTS)
		return sn_pool_page(table)->aux;
	for (;;) {
		uint64_t entry = table[sn_sh_index(iova, shift)];
		unsigned here = sn_pool_page(table)->aux;

		if (origin < here)
			origin = here;
		if (!sn_sh_is_table(entry, shift))
			return origin < sn_sh_origin(entry) ? sn_sh_origin(entry) : origin;
		table = sn_sh_table(entry);
		shift -= SN_SH_BITS;
	}
}

void sn_tree_widen(const struct sn_tree *tree, uint64_t *first, uint64_t *last)
{
	if (!tree->origin || sn_tree_is_empty(tree))
		return;
	*first &= ~block_mask(origin_at(tree, *first));
	*last |= block_mask(origin_at(tree, *last));
}

struct removal {
	struct sn_tree *tree;
	struct sn_graveyard *graveyard;
	uint64_t first, last;
	bool keep_tables;
	uint64_t removed;
};

static void remove_below(struct removal *r, uint64_t *table, unsigned shift, uint64_t base,
                         uint64_t first, uint64_t last)
{
	unsigned i = (unsigned)((first - base) >> shift);
	unsigned i_last = (unsigned)((last - base) >> shift);
	struct sn_page *page = sn_pool_page(table);

	for (; i <= i_last && page->used; i++) {
		uint64_t entry = table[i];
		uint64_t slot = base + ((uint64_t)i << shift), slot_last = slot + block_mask(shift);

		if (!entry)
			continue;
		if (!sn_sh_is_table(entry, shift)) {
			page->used--;
			r->removed++;
			sn_sh_store(&table[i], 0);
		} else if (first <= slot && slot_last <= last && !r->keep_tables) {
			page->used--;
			r->removed++;
			sn_sh_store(&table[i], 0);
			unlink_table(r->tree, r->graveyard, entry, shift - SN_SH_BITS);
		} else {
			remove_below(r, sn_sh_table(entry), shift - SN_SH_BITS, slot,
			             first > slot ? first : slot,
			             last < slot_last ? last : slot_last);
		}
	}
}

uint64_t sn_tree_remove(struct sn_tree *tree, struct sn_graveyard *graveyard, uint64_t first,
                        uint64_t last)
{
	struct removal r = {tree, graveyard, first, last, false, 0};
	unsigned shift = tree->root & SN_SH_ROOT_SHIFT;
	uint64_t reach = block_mask(shift + SN_SH_BITS);

	if (sn_tree_is_empty(tree) || first > reach)
		return 0;
	if (first == 0 && last >= reach) {
		sn_tree_detach(tree, graveyard);
		return 1;
	}
	remove_below(&r, sn_sh_table(tree->root), shift, 0, first, last < reach ? last : reach);
	return r.removed;
}

void sn_tree_clear(struct sn_tree *tree, uint64_t first, uint64_t last)
{
	struct removal r = {tree, NULL, first, last, true, 0};
	unsigned shift = tree->root & SN_SH_ROOT_SHIFT;
	uint64_t reach = block_mask(shift + SN_SH_BITS);

	if (!sn_tree_is_empty(tree) && first <= reach)
		remove_below(&r, sn_sh_table(tree->root), shift, 0, first,
		             last < reach ? last : reach);
}

static void remove_host_below(struct removal *r, uint64_t *table, unsigned shift)
{
	struct sn_page *page = sn_pool_page(table);

	for (unsigned i = 0; i < SN_SH_SLOTS && page->used; i++) {
		uint64_t entry = table[i], host;

		if (!entry)
			continue;
		if (sn_sh_is_table(entry, shift)) {
			remove_host_below(r, sn_sh_table(entry), shift - SN_SH_BITS);
			continue;
		}
		host = entry & SN_SH_ADDR;
		if (host <= r->last && host + block_mask(shift) >= r->first) {
			page->used--;
			r->removed++;
			sn_sh_store(&table[i], 0);
		}
	}
}

uint64_t sn_tree_remove_host(struct sn_tree *tree, struct sn_graveyard *graveyard, uint64_t first,
                             uint64_t last)
{
	struct removal r = {tree, graveyard, first, last, true, 0};

	if (!sn_tree_is_empty(tree))
		remove_host_below(&r, sn_sh_table(tree->root), tree->root & SN_SH_ROOT_SHIFT);
	return r.removed;
}

/* ---- Write rights ------------------------------------------------------------- */

struct rights {
	uint64_t iova_first, iova_last, host_first, host_last;
	bool withhold;
};

static void rights_below(const struct rights *r, uint64_t *table, unsigned shift, uint64_t base)
{
	uint64_t mask = block_mask(shift);

	for (unsigned i = 0; i < SN_SH_SLOTS; i++) {
		uint64_t entry = table[i], host = entry & SN_SH_ADDR;
		uint64_t slot = base + ((uint64_t)i << shift);

		if (!entry || slot > r->iova_last || slot + mask < r->iova_first)
			continue;
		if (sn_sh_is_table(entry, shift))
			rights_below(r, sn_sh_table(entry), shift - SN_SH_BITS, slot);
		else if (!r->withhold && (entry & SN_SH_LOGGED))
			sn_sh_store(&table[i], (entry & ~SN_SH_LOGGED) | SNEST_WRITE);
		else if (r->withhold && (entry & SNEST_WRITE) && host <= r->host_last &&
		         host + mask >= r->host_first)
			sn_sh_store(&table[i], (entry & ~(uint64_t)SNEST_WRITE) | SN_SH_LOGGED);
	}
}

void sn_tree_withhold(struct sn_tree *tree, uint64_t iova_first, uint64_t iova_last,
                      uint64_t host_first, uint64_t host_last)
{
	struct rights r = {iova_first, iova_last, host_first, host_last, true};

	if (!sn_tree_is_empty(tree))
		rights_below(&r, sn_sh_table(tree->root), tree->root & SN_SH_ROOT_SHIFT, 0);
}

void sn_tree_restore(struct sn_tree *tree)
{
	struct rights r = {0, UINT64_MAX, 0, UINT64_MAX, false};

	if (!sn_tree_is_empty(tree))
		rights_below(&r, sn_sh_table(tree->root), tree->root & SN_SH_ROOT_SHIFT, 0);
}

void sn_tree_detach(struct sn_tree *tree, struct sn_graveyard *graveyard)
{
	uint64_t root = tree->root, tables = tree->tables;

	if (root == SN_TREE_EMPTY)
		return;
	sn_sh_store(&tree->root, SN_TREE_EMPTY);
	tree->tables = 0;
	tree->tidy_at = TIDY_TABLES;
	__atomic_store_n(&tree->origin, 0, __ATOMIC_RELAXED);
	bury(graveyard, sn_sh_table(root), tables);
}

/* Unlinks the empty tables below one. */
static void tidy_below(struct sn_tree *tree, struct sn_graveyard *g, uint64_t *table,
                       unsigned shift)
{
	struct sn_page *page = sn_pool_page(table);

	if (shift == SN_SH_SHIFT0)
		return;
	for (unsigned i = 0; i < SN_SH_SLOTS && page->used; i++) {
		uint64_t entry = table[i];

		if (!sn_sh_is_table(entry, shift))
			continue;
		tidy_below(tree, g, sn_sh_table(entry), shift - SN_SH_BITS);
		if (sn_pool_page(sn_sh_table(entry))->used)
			continue;
		page->used--;
		sn_sh_store(&table[i], 0);
		unlink_table(tree, g, entry, shift - SN_SH_BITS);
	}
}

void sn_tree_tidy(struct sn_tree *tree, struct sn_graveyard *graveyard)
{
	uint64_t room, grown;

	if (tree->tables < tree->tidy_at)
		return;
	if (!sn_tree_is_empty(tree)) {
		uint64_t *root = sn_sh_table(tree->root);

		tidy_below(tree, graveyard, root, tree->root & SN_SH_ROOT_SHIFT);
		if (!sn_pool_page(root)->used)
			sn_tree_detach(tree, graveyard);
	}
	/* Again when it has doubled, or used up half of the room that is left. */
	room = graveyard->linked_max - graveyard->linked;
	grown = TIDY_TABLES + tree->tables;
	tree->tidy_at = tree->tables + (grown < room / 2 ? grown : room / 2 + 1);
}

/* ---- Counting and visiting ----------------------------------------------------------------- */

static uint64_t leaves_below(const uint64_t *table, unsigned shift)
{
	uint64_t left = sn_pool_page(table)->used, n = left;

	for (unsigned i = 0; shift != SN_SH_SHIFT0 && left; i++) {
		left -= table[i] != 0;
		if (sn_sh_is_table(table[i], shift))
			n += leaves_below(sn_sh_table(table[i]), shift - SN_SH_BITS) - 1;
	}
	return n;
}

uint64_t sn_tree_leaves(const struct sn_tree *tree)
{
	return sn_tree_is_empty(tree)
	               ? 0
	               : leaves_below(sn_sh_table(tree->root), tree->root & SN_SH_ROOT_SHIFT);
}

struct visit {
	int (*fn)(void *opaque, uint64_t iova, unsigned shift, uint64_t entry);
	void *opaque;
};

static int visit_below(const struct visit *v, const uint64_t *table, unsigned shift, uint64_t base,
                       uint64_t first, uint64_t last)
{
	unsigned i = (unsigned)((first - base) >> shift);
	unsigned i_last = (unsigned)((last - base) >> shift);

	for (; i <= i_last; i++) {
		uint64_t entry = sn_sh_load(&table[i]);
		uint64_t slot = base + ((uint64_t)i << shift), slot_last = slot + block_mask(shift);
		int ret = 0;

		if (!entry)
			continue;
		if (sn_sh_is_table(entry, shift))
			ret = visit_below(v, sn_sh_table(entry), shift - SN_SH_BITS, slot,
			                  first > slot ? first : slot,
			                  last < slot_last ? last : slot_last);
		else
			ret = v->fn(v->opaque, slot, shift, entry);
		if (ret)
			return ret;
	}
	return 0;
}

int sn_tree_visit(const struct sn_tree *tree, uint64_t first, uint64_t last,
                  int (*visit)(void *opaque, uint64_t iova, unsigned shift, uint64_t entry),
                  void *opaque)
{
	const struct visit v = {visit, opaque};
	uint64_t root = sn_sh_load(&tree->root);
	unsigned shift = root & SN_SH_ROOT_SHIFT;
	uint64_t reach = block_mask(shift + SN_SH_BITS);

	if (root == SN_TREE_EMPTY || first > reach)
		return 0;
	return visit_below(&v, sn_sh_table(root), shift, 0, first, last < reach ? last : reach);
}
