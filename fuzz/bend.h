/* SPDX-License-Identifier: MIT */
/*
 * Guest memory as a list of records, and what bends such lists.
 *
 * Memory is 256 KiB, seen at address 0 and again at a high address, so that
 * upper address bits matter too. A record is 10 bytes: the number of a word (16
 * bits) and the word; a later one of the same number wins. In front of the list
 * may be a header.
 *
 * The mutator bends a bit of an entry, lets an entry point elsewhere, exchanges
 * two entries or two pages, copies a table, cuts memory. A user adds how its
 * entries hold an address, and may add `plant`, which writes whole tables.
 * Fuzz targets use it through records.h, `snest difffuzz` directly.
 */
#ifndef FUZZ_BEND_H
#define FUZZ_BEND_H

#include "bytes.h"

#define IMAGE_LG2 18
#define IMAGE_BYTES ((uint64_t)1 << IMAGE_LG2)
#define IMAGE_WORDS (IMAGE_BYTES / 8)
#define RECORD_BYTES 10

struct fuzz_shape {
	size_t header; /* bytes before the records */
	/* The entry `word` with another address in it. */
	uint64_t (*point)(uint64_t word, uint64_t addr);
	/* Makes the input anew. NULL: cannot. */
	size_t (*plant)(uint8_t *data, size_t max_size, struct fuzz_random *random);
};

/* Changes `size` bytes anyhow, into at most max_size; returns how many there are then. */
typedef size_t (*fuzz_bytes_fn)(uint8_t *data, size_t size, size_t max_size,
                                struct fuzz_random *random);

/* Bends data in one to three ways that `seed` chooses; returns the new size. */
size_t fuzz_bend(const struct fuzz_shape *shape, fuzz_bytes_fn bytes, uint8_t *data, size_t size,
                 size_t max_size, unsigned seed);

/* Pages of `a` and of `b`, each chosen or not. Returns the size, 0 if nothing came of it. */
size_t fuzz_records_cross(const struct fuzz_shape *shape, const uint8_t *a, size_t a_size,
                          const uint8_t *b, size_t b_size, uint8_t *out, size_t max_out,
                          unsigned seed);

/* Appends a record; returns the new size. */
size_t fuzz_record_add(uint8_t *data, size_t size, size_t max_size, size_t word, uint64_t value);

#endif
