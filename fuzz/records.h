/* SPDX-License-Identifier: MIT */
/*
 * A mutator for fuzz targets whose inputs are a header and a list of records
 * (image.h): bend.h with the engine's own mutations for what has no structure.
 */
#ifndef FUZZ_RECORDS_H
#define FUZZ_RECORDS_H

#include "bend.h"
#include "image.h"

size_t fuzz_records_mutate(const struct fuzz_shape *shape, uint8_t *data, size_t size,
                           size_t max_size, unsigned seed);

#endif
