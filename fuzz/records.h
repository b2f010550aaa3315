/* SPDX-License-Identifier: MIT */
/*
 * Mutators for inputs that are a header and a list of records (image.h): they
 * bend a bit of an entry, let an entry point elsewhere, exchange two entries or
 * two pages, copy a table, cut memory. A target adds how its entries hold an
 * address, and may add `plant`, which writes whole tables.
 */
#ifndef FUZZ_RECORDS_H
#define FUZZ_RECORDS_H

#include "image.h"

struct fuzz_shape {
	size_t header; /* bytes before the records */
	/* The entry `word` with another address in it. */
	uint64_t (*point)(uint64_t word, uint64_t addr);
	/* Makes the input anew. NULL: cannot. */
	size_t (*plant)(uint8_t *data, size_t max_size, struct fuzz_random *random);
};

size_t fuzz_records_mutate(const struct fuzz_shape *shape, uint8_t *data, size_t size,
                           size_t max_size, unsigned seed);
size_t fuzz_records_cross(const struct fuzz_shape *shape, const uint8_t *a, size_t a_size,
                          const uint8_t *b, size_t b_size, uint8_t *out, size_t max_out,
                          unsigned seed);

/* Appends a record; returns the new size. */
size_t fuzz_record_add(uint8_t *data, size_t size, size_t max_size, size_t word, uint64_t value);

#endif
