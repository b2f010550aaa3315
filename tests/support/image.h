/* SPDX-License-Identifier: MIT */
/*
 * A plain guest memory image for tests of device structures: 4 MiB of memory
 * at GPA 0, written word by word. It is read either directly, or through
 * accessors that count reads, refuse pages and let a test change words between
 * two reads. For tests only; include after cmocka.h.
 */
#ifndef IMAGE_H
#define IMAGE_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <snest/device.h>
#include <snest/walk.h>

#define IMAGE_SIZE 0x400000ull
#define IMAGE_OUTSIDE 0x80000000ull /* no memory there */

struct image {
	struct snest_vm *vm;
	uint64_t *words;
	uint64_t reads; /* calls of the read accessor */
	/* Called before each read, if set; may change the image. */
	void (*before)(struct image *image, uint64_t addr, size_t length);
	uint64_t state; /* for `before` and for random numbers */
};

static inline int image_read(void *opaque, uint64_t addr, void *buf, size_t length)
{
	struct image *image = opaque;

	image->reads++;
	if (image->before)
		image->before(image, addr, length);
	memcpy(buf, (char *)image->words + addr, length);
	return 0;
}

static inline void image_create(struct image *image, bool direct)
{
	struct snest_region region = {
		.size = sizeof(region),
		.first = 0,
		.last = IMAGE_SIZE - 1,
		.host = 0x100000000000ull,
	};
	struct snest_accessors accessors = {.read = image_read, .opaque = image};

	memset(image, 0, sizeof(*image));
	image->words = aligned_alloc(4096, IMAGE_SIZE);
	assert_non_null(image->words);
	memset(image->words, 0, IMAGE_SIZE);
	image->state = 88172645463325252ull;
	assert_int_equal(snest_vm_create(NULL, &image->vm), 0);
	if (direct)
		region.mapping = image->words;
	else
		region.accessors = &accessors;
	assert_int_equal(snest_memory_add(image->vm, &region), 0);
}

static inline void image_destroy(struct image *image)
{
	snest_vm_destroy(image->vm);
	free(image->words);
}

static inline void image_put(struct image *image, uint64_t addr, uint64_t word)
{
	assert_true(addr < IMAGE_SIZE && !(addr & 7));
	image->words[addr / 8] = word;
}

static inline uint64_t image_get(const struct image *image, uint64_t addr)
{
	return image->words[addr / 8];
}

/* xorshift64: the same sequence in every run. */
static inline uint64_t image_random(struct image *image)
{
	uint64_t x = image->state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return image->state = x;
}

/*
 * A hostile word: sometimes all ones, sometimes soup, mostly the valid word
 * with some bits changed, so that deep checks are reached.
 */
static inline uint64_t image_spoil(struct image *image, uint64_t word)
{
	uint64_t r = image_random(image);

	switch (r & 15) {
	case 0:
		return UINT64_MAX;
	case 1:
		return image_random(image);
	case 2:
		return image_random(image) & image_random(image) & image_random(image);
	case 3:
		return word | (image_random(image) & image_random(image));
	case 4:
	case 5:
		return word ^ 1ull << (r >> 4 & 63) ^ 1ull << (r >> 10 & 63);
	case 6:
	case 7:
	case 8:
		return word ^ 1ull << (r >> 4 & 63);
	default:
		return word;
	}
}

/* What holds for every context, whatever the guest wrote. */
static inline void image_check(const char *iommu, const struct snest_context *context)
{
	assert_true(context->outcome <= SNEST_CONTEXT_FAULT);
	if (context->outcome == SNEST_CONTEXT_FAULT) {
		if (context->fault.code)
			assert_non_null(snest_fault_code_name(iommu, context->fault.code));
		else
			assert_int_not_equal(context->fault.reason, SNEST_FAULT_CONFIG);
		return;
	}
	assert_int_equal(context->fault.code, 0);
	if (context->outcome == SNEST_CONTEXT_BLOCKED)
		assert_int_equal(context->count, 0);
	assert_in_range(context->count, 0, 2);
	for (unsigned i = 0; i < context->count; i++) {
		const char *why = NULL;
		int ret = snest_stage_check(&context->stage[i], &why);

		if (ret)
			print_error("stage %u: %s\n", i, why);
		assert_int_equal(ret, 0);
	}
}

#endif
