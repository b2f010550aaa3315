/* SPDX-License-Identifier: MIT */
/*
 * Sparse guest memory, as a recorded trace states it: every word is 0 until it
 * is written.
 *
 * Regions of RAM are reserved address space, which snest may read and write
 * directly; only pages that were written cost memory. A word outside every
 * region goes to a hash map. Both are bounded, so that a hostile trace runs
 * into -ENOSPC and not out of memory. Words are stored with one atomic store
 * each, so other threads may walk the regions meanwhile; the functions here are
 * for one thread at a time.
 */
#ifndef SN_TOOLS_SPARSE_H
#define SN_TOOLS_SPARSE_H

#include <stddef.h>
#include <stdint.h>

#define SN_SPARSE_REGIONS_MAX 64

struct sn_sparse_limits {
	uint64_t ram_bytes;     /* written pages of the regions, all together */
	uint64_t outside_words; /* words outside every region that are not 0 */
};

struct sn_sparse_region {
	uint64_t first, last; /* GPAs, inclusive; whole pages of 4 KiB */
	void *mapping;        /* readable and writable as long as the memory exists */
};

struct sn_sparse;

/* `limits` NULL: 4 GiB of pages, 2^20 words. 0 or -ENOMEM. */
int sn_sparse_create(const struct sn_sparse_limits *limits, struct sn_sparse **sparse);
void sn_sparse_destroy(struct sn_sparse *sparse); /* NULL is ignored */

/*
 * Adds a region of RAM, all 0. -EINVAL: empty, wrapping, or not whole pages;
 * -EEXIST: overlaps another region or a word that was written before; -ENOSPC:
 * too many; -ENOMEM: no address space.
 */
int sn_sparse_add(struct sn_sparse *sparse, uint64_t gpa, uint64_t size);

unsigned sn_sparse_regions(const struct sn_sparse *sparse, const struct sn_sparse_region **regions);

/*
 * Stores little-endian words at gpa, gpa + 8, ... (gpa a multiple of 8, no
 * wrap). -EINVAL, or -ENOSPC with the words in front of the one that went over
 * a limit stored.
 */
int sn_sparse_words(struct sn_sparse *sparse, uint64_t gpa, const uint64_t *words, size_t count);

/*
 * Stores the lowest `bytes` (1 to 8) of value at any gpa; the bytes around it
 * stay. One store if it lies within a word. Errors as above.
 */
int sn_sparse_store(struct sn_sparse *sparse, uint64_t gpa, unsigned bytes, uint64_t value);

/*
 * Calls visit for every page of the regions that was written, ascending within
 * a region, and for every word outside them (bytes is 8 then). The words are
 * little-endian in memory. Returns 0, or what visit returned, at once.
 */
int sn_sparse_visit(const struct sn_sparse *sparse,
                    int (*visit)(void *opaque, uint64_t gpa, const void *data, size_t bytes),
                    void *opaque);

/* The word at gpa, rounded down to a multiple of 8. */
uint64_t sn_sparse_load(const struct sn_sparse *sparse, uint64_t gpa);

#endif
