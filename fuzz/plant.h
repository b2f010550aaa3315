/* SPDX-License-Identifier: MIT */
/*
 * Tables as a decent guest would have them, written by the library's writer
 * into records (bend.h): what bending begins with. Not thread-safe.
 */
#ifndef FUZZ_PLANT_H
#define FUZZ_PLANT_H

#include <snest/table.h>
#include <snest/walk.h>
#include "bend.h"

#define PLANT_RANGES 8
/* Table pages lie below this offset of the memory. */
#define PLANT_BYTES (IMAGE_BYTES / 4 * 3)

/* What was planted. */
struct fuzz_planted {
	uint64_t root, root_high;
	unsigned count; /* of ranges that are mapped */
	struct {
		uint64_t first, last;
	} range[PLANT_RANGES];
};

/*
 * Makes a table of the shape in memory at `base` and maps some pages of any
 * size, with any rights, to addresses in low memory. Returns the bytes of records that
 * were written to `records`; 0 if this table does not fit into the memory.
 */
size_t fuzz_plant(struct snest_vm *vm, const struct snest_stage *shape, uint64_t base,
                  struct fuzz_random *random, uint8_t *records, size_t max_size,
                  struct fuzz_planted *planted);

/* The entry `word` of a format (enum snest_format) with another address in it; fuzz_shape.point. */
uint64_t fuzz_point(uint64_t word, uint64_t addr);       /* of most formats */
uint64_t fuzz_point_riscv(uint64_t word, uint64_t addr); /* of the RISC-V formats */

#endif
