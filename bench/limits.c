/* SPDX-License-Identifier: MIT */
/* The limits; see limits.h. Its functions must not be inlined into their callers. */
#include "bench/limits.h"

#include <errno.h>

static size_t flat_bytes(const struct flat *flat)
{
	return flat->leaves * sizeof(*flat->entry);
}

void flat_create(struct flat *flat, const struct guest *g)
{
	flat->leaves = g->shape.leaves;
	flat->entry = must_map(flat_bytes(flat));
	for (uint64_t i = 0; i < flat->leaves; i++)
		flat->entry[i] = guest_host(g, i) | RW;
}

void flat_destroy(struct flat *flat)
{
	unmap(flat->entry, flat_bytes(flat));
}

static inline int translate(const struct flat *flat, unsigned lg2, uint64_t iova, uint32_t access,
                            struct snest_translation *t)
{
	uint64_t mask = ((uint64_t)1 << lg2) - 1, entry;

	if (iova >> lg2 >= flat->leaves)
		return -EACCES;
	entry = __atomic_load_n(&flat->entry[iova >> lg2], __ATOMIC_ACQUIRE);
	if ((entry & access) != access)
		return -EACCES;
	t->host = (entry & ~(PAGE - 1)) + (iova & mask);
	t->length = mask + 1 - (iova & mask);
	t->rights = entry & SNEST_RIGHTS;
	t->outcome = SNEST_WALK_HOST;
	return 0;
}

int flat_4k(const struct flat *flat, uint64_t iova, uint32_t access, struct snest_translation *t)
{
	return translate(flat, 12, iova, access, t);
}

int flat_2m(const struct flat *flat, uint64_t iova, uint32_t access, struct snest_translation *t)
{
	return translate(flat, 21, iova, access, t);
}

int flat_1g(const struct flat *flat, uint64_t iova, uint32_t access, struct snest_translation *t)
{
	return translate(flat, 30, iova, access, t);
}

size_t flat_batch(const struct flat *flat, const uint64_t *iovas, size_t count, uint32_t access,
                  struct snest_translation *t)
{
	size_t good = 0;

	for (size_t i = 0; i < count; i++)
		good += !translate(flat, 12, iovas[i], access, &t[i]);
	return good;
}

uint64_t chase(const uint64_t *next, uint64_t at, uint64_t n)
{
	while (n--)
		at = next[at];
	return at;
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), optimize("O3")))
#endif
uint64_t
read_two(const uint64_t *a, const uint64_t *b, size_t n)
{
	uint64_t different = 0;

	for (size_t i = 0; i < n; i++)
		different |= a[i] ^ b[i];
	return different;
}

int stores_map(uint64_t *entry, uint64_t first, uint64_t last, uint64_t addr, uint32_t rights,
               uint32_t attr, uint32_t flags)
{
	uint64_t *at = &entry[first >> 12 & 511], value = addr | rights | (attr & flags);

	for (uint64_t left = (last - first) >> 12;; left--) {
		__atomic_store_n(at++, value, __ATOMIC_RELEASE);
		value += PAGE;
		if (!left)
			return 0;
	}
}

int stores_unmap(uint64_t *entry, uint64_t first, uint64_t last, uint32_t flags, uint64_t *bytes)
{
	uint64_t *at = &entry[first >> 12 & 511];

	(void)flags;
	(void)bytes;
	for (uint64_t left = (last - first) >> 12;; left--) {
		__atomic_store_n(at++, 0, __ATOMIC_RELEASE);
		if (!left)
			return 0;
	}
}
