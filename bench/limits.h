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

/* Are two arrays of n words equal? As the C library does it. */
int read_two(const void *a, const void *b, size_t bytes);

/* Release stores of n consecutive entries, then of zeros. */
void stores(uint64_t *entry, uint64_t first, unsigned n);

#endif
