/* SPDX-License-Identifier: MIT */
/*
 * A sparse set of 4 KiB pages of a 64-bit address space.
 *
 * Bits live in blocks of 64 MiB of addresses, hashed; only blocks that were
 * written exist. Where a block cannot be had, pages are kept as one interval
 * that spans all of them: the set is then larger than it should be, never
 * smaller. Any thread; one mutex, a leaf.
 */
#ifndef SN_SHADOW_DIRTY_MAP_H
#define SN_SHADOW_DIRTY_MAP_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define SN_DIRTY_BUCKETS 256u
#define SN_DIRTY_BLOCK_LG2 26u
#define SN_DIRTY_WORDS (1u << (SN_DIRTY_BLOCK_LG2 - 12 - 6))

struct snest_vm;

struct sn_dirty_block {
	struct sn_dirty_block *next;
	uint64_t number; /* address >> SN_DIRTY_BLOCK_LG2 */
	uint64_t word[SN_DIRTY_WORDS];
};

struct sn_dirty {
	pthread_mutex_t lock; /* guards the fields below */
	struct snest_vm *vm;
	struct sn_dirty_block **bucket; /* NULL until the first page */
	/* Pages (addresses >> 12) that had no block; none if first is beyond last. */
	uint64_t spill_first, spill_last;
};

void sn_dirty_init(struct sn_dirty *dirty, struct snest_vm *vm);
/* Frees everything. */
void sn_dirty_fini(struct sn_dirty *dirty);
/* Forgets everything, and gives its memory back. */
void sn_dirty_reset(struct sn_dirty *dirty);

/* Adds every page that first..last touches. */
void sn_dirty_add(struct sn_dirty *dirty, uint64_t first, uint64_t last);

/*
 * Sets bit i of bitmap for each page first + i * 4096 in the set, up to last;
 * takes them out if `clear`. Returns how many.
 */
uint64_t sn_dirty_collect(struct sn_dirty *dirty, uint64_t first, uint64_t last, bool clear,
                          uint64_t *bitmap);

#endif
