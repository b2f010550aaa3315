/* SPDX-License-Identifier: MIT */
/*
 * Limits: what no lookup, sync or map can beat on the same machine.
 *
 * flat    an array of entries, one load: called as snest_translate is, out of
 *         line, checks rights, fills the same structure
 * chase   a dependent chain of loads over the same footprint
 * read    reading two streams once, comparing them
 * stores  the stores to the entries alone
 */
#ifndef BENCH_LIMITS_H
#define BENCH_LIMITS_H

#include "bench/setup.h"

struct flat {
	uint64_t *entry; /* host address | rights, of each leaf */
	uint64_t leaves;
};

/* Translations of a guest's leaves; its permutation has one cycle. */
void flat_create(struct flat *flat, const struct guest *g);
void flat_destroy(struct flat *flat);

/* One function a leaf size, so that none has to ask. */
int flat_4k(const struct flat *flat, uint64_t iova, uint32_t access, struct snest_translation *t);
int flat_2m(const struct flat *flat, uint64_t iova, uint32_t access, struct snest_translation *t);
int flat_1g(const struct flat *flat, uint64_t iova, uint32_t access, struct snest_translation *t);
size_t flat_batch(const struct flat *flat, const uint64_t *iovas, size_t count, uint32_t access,
                  struct snest_translation *t);

/* Follows next[] n times. */
uint64_t chase(const uint64_t *next, uint64_t at, uint64_t n);

/* Reads n words of two arrays, to the end; what they differ in. */
uint64_t read_two(const uint64_t *a, const uint64_t *b, size_t n);

/*
 * Release stores of the entries of first..last, called as snest_table_map and
 * snest_table_unmap are. `entry` is one table of 512.
 */
int stores_map(uint64_t *entry, uint64_t first, uint64_t last, uint64_t addr, uint32_t rights,
               uint32_t attr, uint32_t flags);
int stores_unmap(uint64_t *entry, uint64_t first, uint64_t last, uint32_t flags, uint64_t *bytes);

#endif
