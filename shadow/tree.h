/* SPDX-License-Identifier: MIT */
/*
 * The radix table of a shadow: insert, remove, grow, detach, free.
 *
 * Ordering and progress, numbered:
 *   1. Readers descend with acquire loads and never store. A hit is wait-free.
 *   2. One writer at a time, under the space's lock. A table is filled before
 *      the entry that leads to it is stored with release.
 *   3. An entry changes from one leaf to another, from leaf to table or from
 *      table to leaf in one store; a reader sees the old or the new.
 *   4. A table that was unlinked keeps its contents until a grace period has
 *      passed: a reader inside it sees leaves that were legal when its read
 *      section began. Then it is cleared and goes back to the pool.
 *   5. Removing never allocates: unlinked tables are chained through their
 *      page records.
 *
 * Tables that become empty stay until a removal covers them whole, the tree is
 * detached, or it is tidied, because guests reuse IOVAs.
 */
#ifndef SN_SHADOW_TREE_H
#define SN_SHADOW_TREE_H

#include "core/vm.h"
#include "shadow/entry.h"

struct sn_tree {
	uint64_t root;    /* atomic; address of the top table | its index bit */
	uint64_t tables;  /* tables linked; under the space's lock */
	uint64_t tidy_at; /* tables at which empty ones are looked for */
	uint8_t origin;   /* atomic; largest ORIGIN below, 0 if none ever was; until detached */
};

/* Tables that wait to be freed; under the space's lock but where said. */
struct sn_graveyard {
	struct snest_vm *vm;
	struct sn_reclaim_node node;
	struct sn_page *fresh; /* unlinked since the running grace period was asked for */
	struct sn_page *dying; /* waiting for it; the reclaim thread's own after it */
	bool queued;           /* node is with the reclaim thread */
	bool idle;             /* which nobody has woken for it; under the space's lock */
	pthread_mutex_t lock;  /* guards fresh, dying's hand-over, queued; a leaf above reclaim */
	/* The space's account of tables: in its trees, unlinked and not yet free, and the budget. */
	uint64_t linked;
	uint64_t unlinked; /* atomic */
	uint64_t linked_max;
};

/*
 * As many tables wait for readers as the budget allows to be in use. Under the
 * space's lock; sees to it that they do not wait for ever.
 */
bool sn_graveyard_is_full(struct sn_graveyard *graveyard);

/* An empty tree's root: a table of zeros, so that readers need no special case. */
extern const uint64_t sn_tree_nothing[SN_SH_SLOTS];
#define SN_TREE_EMPTY ((uint64_t)(uintptr_t)sn_tree_nothing | SN_SH_SHIFT_MAX)

static inline bool sn_tree_is_empty(const struct sn_tree *tree)
{
	return __atomic_load_n(&tree->root, __ATOMIC_RELAXED) == SN_TREE_EMPTY;
}

/* A leaf of a guest's page of 2^origin bytes is about to be stored. Under the lock. */
static inline void sn_tree_note_origin(struct sn_tree *tree, unsigned origin)
{
	if (tree->origin < origin)
		__atomic_store_n(&tree->origin, (uint8_t)origin, __ATOMIC_RELAXED);
}

/*
 * The entry that translates iova and the index bit of its level: a leaf, or 0.
 * Inside a read section or under the lock.
 */
static inline uint64_t sn_tree_find(const struct sn_tree *tree, uint64_t iova, unsigned *leaf_shift)
{
	uint64_t root = sn_sh_load(&tree->root);
	unsigned shift = root & SN_SH_ROOT_SHIFT;
	const uint64_t *table = sn_sh_table(root);
	uint64_t entry;

	if (__builtin_expect(iova >> shift >= SN_SH_SLOTS, 0)) {
		*leaf_shift = SN_SH_SHIFT0;
		return 0;
	}
	for (;;) {
		entry = sn_sh_load(&table[sn_sh_index(iova, shift)]);
		if (shift == SN_SH_SHIFT0 || (entry & (SN_SH_PS | SNEST_READ)) != SNEST_READ)
			break;
		table = sn_sh_table(entry);
		shift -= SN_SH_BITS;
	}
	*leaf_shift = shift;
	return entry;
}

void sn_tree_init(struct sn_tree *tree);
void sn_graveyard_init(struct sn_graveyard *graveyard, struct snest_vm *vm);

/*
 * Where leaves of 2^shift bytes around iova are stored: the slot, with the
 * tables above it made. A larger leaf in the way is removed; smaller ones
 * below the slot are left to the caller. NULL with *error: -ENOMEM, -ENOSPC.
 * `origin`: lg2 of the guest's page, noted in the tables on the way.
 */
uint64_t *sn_tree_slot(struct sn_tree *tree, struct sn_graveyard *graveyard, uint64_t iova,
                       unsigned shift, unsigned origin, int *error);

/* Is there a table for smaller leaves where one of 2^shift bytes around iova would be? Under the lock. */
bool sn_tree_is_split(const struct sn_tree *tree, uint64_t iova, unsigned shift);

/* Stores a leaf (or 0) into a slot of sn_tree_slot; unlinks a table that was there. */
void sn_tree_store(struct sn_tree *tree, struct sn_graveyard *graveyard, uint64_t *slot,
                   unsigned shift, uint64_t entry);

/*
 * Grows first..last to the pages of the guest that they touch, as far as the
 * tree knows them.
 */
void sn_tree_widen(const struct sn_tree *tree, uint64_t *first, uint64_t *last);

/* Removes every leaf that overlaps first..last. Returns how many (tables removed whole: 1 each). */
uint64_t sn_tree_remove(struct sn_tree *tree, struct sn_graveyard *graveyard, uint64_t first,
                        uint64_t last);

/*
 * Clears every leaf that overlaps first..last and leaves the tables linked, so
 * that a visit may call it.
 */
void sn_tree_clear(struct sn_tree *tree, uint64_t first, uint64_t last);

/* Removes every leaf whose host addresses overlap first..last (host addresses). */
uint64_t sn_tree_remove_host(struct sn_tree *tree, struct sn_graveyard *graveyard, uint64_t first,
                             uint64_t last);

/*
 * Withholds the write right of every leaf whose host addresses overlap
 * first..last and that overlaps the IOVAs (SN_SH_LOGGED), or gives all of them
 * back. Changes rights only.
 */
void sn_tree_withhold(struct sn_tree *tree, uint64_t iova_first, uint64_t iova_last,
                      uint64_t host_first, uint64_t host_last);
void sn_tree_restore(struct sn_tree *tree);

/*
 * Unlinks tables that have become empty, if that may be worth it: when there
 * are twice as many tables as were needed last time. Nobody is inside the tree
 * but readers.
 */
void sn_tree_tidy(struct sn_tree *tree, struct sn_graveyard *graveyard);

/* Unlinks everything in one store, whatever it holds. */
void sn_tree_detach(struct sn_tree *tree, struct sn_graveyard *graveyard);

/* How many leaves there are. Under the lock; cost follows the tables. */
uint64_t sn_tree_leaves(const struct sn_tree *tree);

/*
 * Calls visit for every leaf that overlaps first..last, ascending: its IOVA,
 * its index bit, its entry. Non-zero stops and is returned. Inside a read
 * section, or under the lock.
 */
int sn_tree_visit(const struct sn_tree *tree, uint64_t first, uint64_t last,
                  int (*visit)(void *opaque, uint64_t iova, unsigned shift, uint64_t entry),
                  void *opaque);

#endif
