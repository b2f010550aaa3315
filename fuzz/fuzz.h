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

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1, const uint8_t *data2,
                                 size_t size2, uint8_t *out, size_t max_out, unsigned seed);
/* libFuzzer's own mutations. Other programs link a plain one (standalone.c). */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

/* The n-th input to begin with: its length, 0 when there are no more. */
size_t fuzz_seed(unsigned n, uint8_t *data, size_t max_size);

/* For functions that scan much memory of the target's own. */
#define FUZZ_FAST __attribute__((no_sanitize("address", "undefined")))

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

#endif
