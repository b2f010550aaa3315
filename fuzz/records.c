/* SPDX-License-Identifier: MIT */
/* See records.h. */
#include "records.h"

static size_t engine_bytes(uint8_t *data, size_t size, size_t max_size, struct fuzz_random *random)
{
	(void)random;
	return LLVMFuzzerMutate(data, size, max_size);
}

size_t fuzz_records_mutate(const struct fuzz_shape *shape, uint8_t *data, size_t size,
                           size_t max_size, unsigned seed)
{
	return fuzz_bend(shape, engine_bytes, data, size, max_size, seed);
}
