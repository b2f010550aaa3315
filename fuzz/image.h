/* SPDX-License-Identifier: MIT */
/*
 * Guest memory made of input bytes: 256 KiB, seen at address 0 and again at a
 * high address, so that upper address bits matter too. The last quarter is
 * read-only. Two VMs look at the same bytes: one directly, one through
 * accessors that count reads and refuse to be called for anything outside.
 *
 * An input is a list of records of 10 bytes: the number of a word (16 bits)
 * and the word. Between two inputs only the pages that were written are cleared.
 */
#ifndef FUZZ_IMAGE_H
#define FUZZ_IMAGE_H

#include <snest/vm.h>
#include <snest/walk.h>
#include "bend.h"
#include "fuzz.h"
#include "ref/ref_walk.h"

#define IMAGE_WRITABLE (IMAGE_BYTES / 4 * 3)
#define IMAGE_HOST_LOW 0x100000000ull
#define IMAGE_HOST_HIGH 0x200000000ull

struct fuzz_image {
	struct snest_vm *direct, *counted;
	uint64_t high;  /* the other address of the memory */
	uint64_t reads; /* of the counting accessors */
	unsigned busy;  /* updates through them that somebody else overtakes */
};

/* The words, as snest and as the reference walker leave them. */
extern uint64_t *fuzz_words, *fuzz_ref_words;
extern const struct ref_memory fuzz_ref_memory; /* opaque: the fuzz_image */

void fuzz_image_create(struct fuzz_image *image, uint64_t high);

/* Offset of an address in the memory; false: there is none. */
bool fuzz_image_offset(const struct fuzz_image *image, uint64_t addr, uint64_t *offset);

/* Clears what the last input left, then writes the records of this one. */
void fuzz_image_load(const uint8_t *records, size_t size);

/* Whether both copies are equal on all pages that are in use. */
bool fuzz_image_same(void);

#endif
