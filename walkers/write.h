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
	uint32_t asked_attr, asked_flags; /* as map's caller gave them */
};

#define SN_ATTR_ALL                                                                            \
	(SNEST_ATTR_MEMORY_TYPE | SNEST_ATTR_ACCESSED | SNEST_ATTR_DIRTY | SNEST_ATTR_GLOBAL | \
	 SNEST_ATTR_USER | SNEST_ATTR_SNOOP | SNEST_ATTR_DIRTIABLE | SNEST_ATTR_CONTIGUOUS)

/* The piece that arguments of snest_table_map mean. False: no such arguments. */
static inline bool sn_piece_init(struct sn_piece *p, uint64_t first, uint64_t last, uint64_t addr,
                                 uint32_t rights, uint32_t attr, uint32_t flags)
{
	unsigned page = flags >> 8 & 0xff;

	if ((flags & ~(SNEST_TABLE_REPLACE | SNEST_TABLE_PAGE(0xff))) || page > 63 ||
	    (rights & ~SNEST_RIGHTS) || (attr & ~SN_ATTR_ALL))
		return false;
	*p = (struct sn_piece){
		.first = first,
		.last = last,
		.addr = addr,
		.sizes = page ? (uint64_t)1 << page : UINT64_MAX,
		.rights = rights,
		.attr = attr & ~(SNEST_ATTR_DIRTIABLE | SNEST_ATTR_CONTIGUOUS),
		.asked_attr = attr,
		.asked_flags = flags,
	};
	return true;
}

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

/*
 * The table of any level in which the last change was, and the leaf that map
 * made last there: all that a change of the same kind next to it looks at.
 */
struct sn_hand {
	uint64_t first; /* input of `entries` */
	uint64_t span;  /* last input of the table - first */
	uint64_t grain; /* bytes of a slot - 1; UINT64_MAX: no table is at hand */
	char *entries;
	uint16_t *used;      /* entries in use, in the table's record; NULL: nobody counts */
	const char *witness; /* !used: an entry that may be used, or the root's, that always is */

	/* A leaf of one slot, for address 0, and what map was asked for when it was made. */
	uint64_t leaf;
	uint64_t fixed;  /* bits of the entry that are no address */
	uint64_t beyond; /* address bits that such a leaf has no place for */
	uint64_t asked;  /* sn_asked() */
	uint64_t flags;  /* and SN_HAND_* */

	void *table;
	uint8_t shift, level, half;
	bool plain; /* the table holds nothing but leaves of one slot */
	bool many;  /* map was asked for no leaf larger than a slot */
};

#define SN_HAND_NO_LEAF ((uint64_t)1 << 32) /* no leaf is remembered */
#define SN_HAND_AWAY ((uint64_t)1 << 33)    /* no table is at hand */

static inline uint64_t sn_asked(uint32_t rights, uint32_t attr)
{
	return (uint64_t)attr << 32 | rights;
}

/* One format's writer: the functions of snest/table.h, with their arguments as they came. */
struct sn_writer {
	int (*map)(struct snest_table *table, uint64_t first, uint64_t last, uint64_t addr,
	           uint32_t rights, uint32_t attr, uint32_t flags);
	int (*unmap)(struct snest_table *table, uint64_t first, uint64_t last, uint32_t flags,
	             uint64_t *bytes);
	int (*cut)(struct snest_table *table, uint64_t at);
	int (*merge)(struct snest_table *table, uint64_t first, uint64_t last);
	/* gives back all pages but the roots */
	void (*empty)(struct snest_table *table);
	/*
	 * lg2 bytes of a table; leaf sizes of all levels; address bits that a table
	 * entry holds; those that a leaf holds at FMT_ADDR_UP
	 */
	unsigned (*table_lg2)(const struct sn_pt *pt, unsigned half, unsigned level);
	uint64_t (*sizes)(const struct sn_pt *pt, unsigned half);
	uint64_t (*table_mask)(const struct sn_pt *pt, unsigned half);
	uint64_t (*leaf_mask)(const struct sn_pt *pt, unsigned half);
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
	struct sn_hand hand;
	bool pooled; /* pages are the VM's pool's, and counted in sn_page.used */
	bool quiet;  /* nobody walks it any more: pages go back at once */
	struct sn_pt pt;
	const struct sn_writer *writer;
	struct snest_vm *vm;
	struct snest_table_memory memory; /* pooled: only delta, 0, is used */
	void *root[2];                    /* [1]: upper half, or NULL */
	uint8_t root_lg2[2], page_lg2[2]; /* page: every table below the root */
	uint64_t sizes[2], table_mask[2], leaf_mask[2];
	uint64_t bytes;

	/* pages for the change at hand; pooled: chained through their records, else first words */
	struct sn_page *reserve_pool;
	void *reserve;
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

	if (table->pooled) {
		struct sn_page *record = table->reserve_pool;

		assert(record);
		table->reserve_pool = record->next;
		return sn_pool_ptr(record);
	}
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

/*
 * No table is at hand any more. What the fast ways ask of a range is then true of
 * none but 1..0, which is no range: map is told by the flags, and unmap finds an
 * entry that is empty.
 */
static inline void sn_table_forget(struct snest_table *table)
{
	static uint64_t nothing; /* never stored to */
	struct sn_hand *h = &table->hand;

	h->first = 1;
	h->span = 0;
	h->grain = UINT64_MAX;
	h->entries = (char *)&nothing;
	h->flags |= SN_HAND_AWAY;
}

/* No leaf is remembered any more; no entry is like it. */
static inline void sn_hand_no_leaf(struct sn_hand *h)
{
	h->flags = SN_HAND_NO_LEAF;
	h->leaf = 0;
	h->fixed = UINT64_MAX;
}

static inline uint64_t sn_table_addr(const struct snest_table *table, const void *page)
{
	return (uint64_t)(uintptr_t)page + table->memory.delta;
}

static inline void *sn_table_ptr(const struct snest_table *table, uint64_t addr)
{
	return (void *)(uintptr_t)(addr - table->memory.delta);
}

#endif
