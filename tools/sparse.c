/* SPDX-License-Identifier: MIT */
/*
 * Sparse guest memory (tools/sparse.h).
 */
#include "tools/sparse.h"
#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#define PAGE_LG2 12
#define PAGE ((uint64_t)1 << PAGE_LG2)

/* A word outside every region. Address 1, which no word has, marks a free slot. */
struct slot {
	uint64_t gpa;
	uint64_t value;
};
#define SLOT_FREE 1u

struct region {
	uint64_t *written; /* one bit a page, reserved like the region itself */
	uint64_t written_bytes;
};

struct sn_sparse {
	struct sn_sparse_limits limits;
	struct sn_sparse_region region[SN_SPARSE_REGIONS_MAX];
	struct region own[SN_SPARSE_REGIONS_MAX];
	unsigned regions;
	unsigned hit; /* region of the last access: the next is likely there too */
	uint64_t pages;
	/* Hash map with linear probing, at most half full. Words that became 0 again stay. */
	struct slot *slots;
	uint64_t slot_mask; /* slots - 1 */
	uint64_t words;
	uint64_t seed; /* nobody who writes traces can choose addresses that collide */
};

static void *reserve(uint64_t bytes)
{
	void *p;

	if (bytes > SIZE_MAX)
		return NULL;
	p = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE,
	         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

/* ---- Words outside ---------------------------------------------------------- */

static uint64_t hash(const struct sn_sparse *s, uint64_t gpa)
{
	uint64_t h = (gpa >> 3) ^ s->seed;

	h = (h ^ h >> 32) * 0xd6e8feb86659fd93;
	h = (h ^ h >> 32) * 0xd6e8feb86659fd93;
	return h ^ h >> 32;
}

/* The slot that holds gpa, or the free one where it belongs. */
static struct slot *slot_of(const struct sn_sparse *s, uint64_t gpa)
{
	uint64_t i = hash(s, gpa) & s->slot_mask;

	while (s->slots[i].gpa != gpa && s->slots[i].gpa != SLOT_FREE)
		i = (i + 1) & s->slot_mask;
	return &s->slots[i];
}

static int grow(struct sn_sparse *s)
{
	uint64_t count = s->slots ? 2 * (s->slot_mask + 1) : 64;
	struct slot *old = s->slots, *slots;
	uint64_t old_count = old ? s->slot_mask + 1 : 0;

	slots = count <= SIZE_MAX / sizeof(*slots) ? malloc(count * sizeof(*slots)) : NULL;
	if (!slots)
		return -ENOMEM;
	for (uint64_t i = 0; i < count; i++)
		slots[i].gpa = SLOT_FREE;
	s->slots = slots;
	s->slot_mask = count - 1;
	for (uint64_t i = 0; i < old_count; i++) {
		if (old[i].gpa != SLOT_FREE)
			*slot_of(s, old[i].gpa) = old[i];
	}
	free(old);
	return 0;
}

static int store_outside(struct sn_sparse *s, uint64_t gpa, uint64_t value)
{
	struct slot *slot = s->slots ? slot_of(s, gpa) : NULL;

	if (slot && slot->gpa == gpa) {
		slot->value = value;
		return 0;
	}
	if (!value)
		return 0;
	if (s->words == s->limits.outside_words)
		return -ENOSPC;
	if (!s->slots || 2 * (s->words + 1) > s->slot_mask) {
		int ret = grow(s);

		if (ret)
			return ret;
	}
	*slot_of(s, gpa) = (struct slot){gpa, value};
	s->words++;
	return 0;
}

static uint64_t load_outside(const struct sn_sparse *s, uint64_t gpa)
{
	const struct slot *slot = s->slots ? slot_of(s, gpa) : NULL;

	return slot && slot->gpa == gpa ? slot->value : 0;
}

/* ---- Regions ----------------------------------------------------------------- */

/* Number of the region of gpa, SN_SPARSE_REGIONS_MAX if there is none. */
static unsigned find(const struct sn_sparse *s, uint64_t gpa)
{
	if (s->hit < s->regions && gpa >= s->region[s->hit].first && gpa <= s->region[s->hit].last)
		return s->hit;
	for (unsigned i = 0; i < s->regions; i++) {
		if (gpa >= s->region[i].first && gpa <= s->region[i].last)
			return i;
	}
	return SN_SPARSE_REGIONS_MAX;
}

static uint64_t *word_in(const struct sn_sparse_region *region, uint64_t gpa)
{
	return (uint64_t *)region->mapping + (gpa - region->first) / 8;
}

/* Counts the page of gpa as written. */
static int touch(struct sn_sparse *s, unsigned i, uint64_t gpa)
{
	uint64_t page = (gpa - s->region[i].first) >> PAGE_LG2;
	uint64_t *bits = &s->own[i].written[page / 64];
	uint64_t bit = (uint64_t)1 << page % 64;

	if (*bits & bit)
		return 0;
	if (s->pages == s->limits.ram_bytes >> PAGE_LG2)
		return -ENOSPC;
	*bits |= bit;
	s->pages++;
	return 0;
}

static uint64_t load(const struct sn_sparse *s, uint64_t gpa)
{
	unsigned i = find(s, gpa);

	if (i == SN_SPARSE_REGIONS_MAX)
		return load_outside(s, gpa);
	return le64toh(__atomic_load_n(word_in(&s->region[i], gpa), __ATOMIC_RELAXED));
}

static int store(struct sn_sparse *s, uint64_t gpa, uint64_t value)
{
	unsigned i = find(s, gpa);
	uint64_t *word;
	int ret;

	if (i == SN_SPARSE_REGIONS_MAX)
		return store_outside(s, gpa, value);
	s->hit = i;
	word = word_in(&s->region[i], gpa);
	ret = touch(s, i, gpa);
	/* What the trace states in this order, a walk in another thread may see in no other. */
	if (!ret)
		__atomic_store_n(word, htole64(value), __ATOMIC_RELEASE);
	return ret;
}

/* ---- Interface ------------------------------------------------------------------ */

int sn_sparse_create(const struct sn_sparse_limits *limits, struct sn_sparse **sparse)
{
	struct sn_sparse *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->limits = limits ? *limits : (struct sn_sparse_limits){(uint64_t)4 << 30, 1 << 20};
	if (getrandom(&s->seed, sizeof(s->seed), GRND_NONBLOCK) != (ssize_t)sizeof(s->seed))
		s->seed = (uintptr_t)s;
	*sparse = s;
	return 0;
}

void sn_sparse_destroy(struct sn_sparse *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < s->regions; i++) {
		munmap(s->region[i].mapping, s->region[i].last - s->region[i].first + 1);
		munmap(s->own[i].written, s->own[i].written_bytes);
	}
	free(s->slots);
	free(s);
}

int sn_sparse_add(struct sn_sparse *s, uint64_t gpa, uint64_t size)
{
	struct sn_sparse_region *region = &s->region[s->regions];
	struct region *own = &s->own[s->regions];
	uint64_t last = gpa + (size - 1);

	if (!size || last < gpa || gpa % PAGE || size % PAGE)
		return -EINVAL;
	if (s->regions == SN_SPARSE_REGIONS_MAX)
		return -ENOSPC;
	for (unsigned i = 0; i < s->regions; i++) {
		if (gpa <= s->region[i].last && last >= s->region[i].first)
			return -EEXIST;
	}
	for (uint64_t i = 0; s->slots && i <= s->slot_mask; i++) {
		if (s->slots[i].gpa != SLOT_FREE && s->slots[i].gpa >= gpa &&
		    s->slots[i].gpa <= last)
			return -EEXIST;
	}
	own->written_bytes = (size >> PAGE_LG2) / 8 + 8;
	own->written = reserve(own->written_bytes);
	if (!own->written)
		return -ENOMEM;
	region->mapping = reserve(size);
	if (!region->mapping) {
		munmap(own->written, own->written_bytes);
		return -ENOMEM;
	}
	region->first = gpa;
	region->last = last;
	s->regions++;
	return 0;
}

unsigned sn_sparse_regions(const struct sn_sparse *s, const struct sn_sparse_region **regions)
{
	*regions = s->region;
	return s->regions;
}

int sn_sparse_words(struct sn_sparse *s, uint64_t gpa, const uint64_t *words, size_t count)
{
	if (gpa % 8 || (count && (UINT64_MAX - gpa) / 8 < count - 1))
		return -EINVAL;
	for (size_t i = 0; i < count; i++) {
		int ret = store(s, gpa + 8 * i, words[i]);

		if (ret)
			return ret;
	}
	return 0;
}

int sn_sparse_store(struct sn_sparse *s, uint64_t gpa, unsigned bytes, uint64_t value)
{
	if (!bytes || bytes > 8 || gpa > UINT64_MAX - (bytes - 1))
		return -EINVAL;
	while (bytes) {
		uint64_t at = gpa & ~(uint64_t)7, mask;
		unsigned skip = (unsigned)(gpa & 7), n = bytes < 8 - skip ? bytes : 8 - skip;
		int ret;

		mask = (n == 8 ? UINT64_MAX : ((uint64_t)1 << 8 * n) - 1) << 8 * skip;
		ret = store(s, at, (load(s, at) & ~mask) | (value << 8 * skip & mask));
		if (ret)
			return ret;
		value = n == 8 ? 0 : value >> 8 * n;
		bytes -= n;
		gpa += n;
	}
	return 0;
}

uint64_t sn_sparse_load(const struct sn_sparse *s, uint64_t gpa)
{
	return load(s, gpa & ~(uint64_t)7);
}

static int visit_region(const struct sn_sparse_region *region, const uint64_t *written,
                        int (*visit)(void *, uint64_t, const void *, size_t), void *opaque)
{
	uint64_t pages = (region->last - region->first + 1) >> PAGE_LG2;

	for (uint64_t i = 0; i <= (pages - 1) / 64; i++) {
		for (uint64_t bits = written[i]; bits; bits &= bits - 1) {
			uint64_t offset = (64 * i + (unsigned)__builtin_ctzll(bits)) << PAGE_LG2;
			int ret = visit(opaque, region->first + offset,
			                (const char *)region->mapping + offset, PAGE);

			if (ret)
				return ret;
		}
	}
	return 0;
}

int sn_sparse_visit(const struct sn_sparse *s,
                    int (*visit)(void *opaque, uint64_t gpa, const void *data, size_t bytes),
                    void *opaque)
{
	int ret = 0;

	for (unsigned i = 0; i < s->regions && !ret; i++)
		ret = visit_region(&s->region[i], s->own[i].written, visit, opaque);
	for (uint64_t i = 0; s->slots && i <= s->slot_mask && !ret; i++) {
		uint64_t value = htole64(s->slots[i].value);

		if (s->slots[i].gpa != SLOT_FREE)
			ret = visit(opaque, s->slots[i].gpa, &value, sizeof(value));
	}
	return ret;
}
