/* SPDX-License-Identifier: MIT */
/*
 * What every fuzz target shares: the entry points, a reader of input bytes, a
 * check that ends the process with a sentence, and random numbers for mutators.
 *
 * A target is one file. It defines LLVMFuzzerTestOneInput and fuzz_seed, and
 * mostly a mutator and a crossover that know its inputs. The same object runs
 * under libFuzzer, under AFL++, in the replayer (standalone.c) and in the
 * program that writes the first inputs (seed.c). Every input is legal: what is
 * missing reads as 0.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1, const uint8_t *data2,
                                 size_t size2, uint8_t *out, size_t max_out, unsigned seed);
/* libFuzzer's own mutations. Other programs link a plain one (standalone.c). */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

/* The n-th input to begin with: its length, 0 when there are no more. */
size_t fuzz_seed(unsigned n, uint8_t *data, size_t max_size);

#define FUZZ_INPUT_MAX 65536

/* A property that must hold whatever the input is. */
#define fuzz_check(condition, ...)                                                      \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
			fprintf(stderr, __VA_ARGS__);                                   \
			fputc('\n', stderr);                                            \
			abort();                                                        \
		}                                                                       \
	} while (0)

struct fuzz_input {
	const uint8_t *at;
	size_t left;
};

/* Little-endian, so that an input means the same everywhere. */
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
