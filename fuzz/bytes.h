/* SPDX-License-Identifier: MIT */
/*
 * Input bytes and random numbers, for everything that makes inputs: fuzz
 * targets and `snest difffuzz`. Little-endian, so that an input means the same
 * everywhere; what is missing reads as 0.
 */
#ifndef FUZZ_BYTES_H
#define FUZZ_BYTES_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FUZZ_INPUT_MAX 65536

struct fuzz_input {
	const uint8_t *at;
	size_t left;
};

static inline uint64_t fuzz_take(struct fuzz_input *in, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes && in->left; i++, in->at++, in->left--)
		value |= (uint64_t)*in->at << 8 * i;
	return value;
}

/* With a constant number of bytes these are one load, one store. */
static inline uint64_t fuzz_get(const uint8_t *at, unsigned bytes)
{
	uint64_t value = 0;

	memcpy(&value, at, bytes);
	return le64toh(value);
}

static inline void fuzz_put(uint8_t *at, unsigned bytes, uint64_t value)
{
	value = htole64(value);
	memcpy(at, &value, bytes);
}

struct fuzz_random {
	uint64_t state;
};

static inline uint64_t fuzz_random(struct fuzz_random *r)
{
	uint64_t z = r->state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static inline uint64_t fuzz_below(struct fuzz_random *r, uint64_t n)
{
	return fuzz_random(r) % n;
}

#endif
