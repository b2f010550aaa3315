/* SPDX-License-Identifier: MIT */
/* See image.h. */
#include "image.h"

#include <errno.h>

static _Alignas(65536) uint64_t words[IMAGE_WORDS], ref_words[IMAGE_WORDS];
uint64_t *fuzz_words = words, *fuzz_ref_words = ref_words;
static uint64_t used; /* bit n: page n may hold something */

bool fuzz_image_offset(const struct fuzz_image *image, uint64_t addr, uint64_t *offset)
{
	*offset = addr < IMAGE_BYTES ? addr : addr - image->high;
	return *offset < IMAGE_BYTES;
}

/* ---- Accessors -------------------------------------------------------------- */

static int counted_read(void *opaque, uint64_t addr, void *buf, size_t length)
{
	struct fuzz_image *image = opaque;
	uint64_t offset;

	image->reads++;
	fuzz_check(fuzz_image_offset(image, addr, &offset) && length <= IMAGE_BYTES - offset,
	           "read of %zu bytes at 0x%llx", length, (unsigned long long)addr);
	/* Entries, mostly: of constant length a copy is one load. */
	if (length == 8)
		memcpy(buf, (const char *)words + offset, 8);
	else
		memcpy(buf, (const char *)words + offset, length);
	return 0;
}

static int counted_cmpxchg(void *opaque, uint64_t addr, uint64_t *expected, uint64_t desired)
{
	struct fuzz_image *image = opaque;
	uint64_t offset, *word;

	fuzz_check(fuzz_image_offset(image, addr, &offset) && offset < IMAGE_WRITABLE &&
	                   !(offset & 7),
	           "update at 0x%llx", (unsigned long long)addr);
	word = &words[offset / 8];
	if (image->busy || *word != *expected) {
		image->busy -= image->busy != 0;
		*expected = *word;
		return -EAGAIN;
	}
	*word = desired;
	return 0;
}

static bool ref_read(void *opaque, uint64_t addr, unsigned bytes, uint64_t *value)
{
	uint64_t offset;

	if (!fuzz_image_offset(opaque, addr, &offset))
		return false;
	*value = 0;
	memcpy(value, (const char *)ref_words + offset, bytes);
	return true;
}

static bool ref_write(void *opaque, uint64_t addr, unsigned bytes, uint64_t value)
{
	uint64_t offset;

	if (!fuzz_image_offset(opaque, addr, &offset) || offset >= IMAGE_WRITABLE)
		return false;
	memcpy((char *)ref_words + offset, &value, bytes);
	return true;
}

const struct ref_memory fuzz_ref_memory = {.read = ref_read, .write = ref_write};

/* ---- The VMs ---------------------------------------------------------------- */

static void add(struct snest_vm *vm, uint64_t at, uint64_t host,
                const struct snest_accessors *accessors)
{
	for (unsigned part = 0; part < 2; part++) {
		uint64_t first = part ? IMAGE_WRITABLE : 0;
		struct snest_region region = {
			.size = sizeof(region),
			.first = at + first,
			.last = at + (part ? IMAGE_BYTES : IMAGE_WRITABLE) - 1,
			.host = host + first,
			.mapping = accessors ? NULL : (char *)words + first,
			.accessors = accessors,
			.flags = part ? SNEST_REGION_READONLY : 0,
		};
		int ret = snest_memory_add(vm, &region);

		fuzz_check(ret == 0, "snest_memory_add: %d", ret);
	}
}

static void quiet(void *opaque, enum snest_log_level level, const char *line)
{
	(void)opaque;
	(void)level;
	(void)line;
}

void fuzz_image_create(struct fuzz_image *image, uint64_t high)
{
	struct snest_accessors accessors = {
		.read = counted_read, .cmpxchg64 = counted_cmpxchg, .opaque = image};
	struct snest_hooks hooks = {.size = sizeof(hooks), .log = quiet};
	struct snest_vm_config config = {.size = sizeof(config), .hooks = &hooks};

	memset(image, 0, sizeof(*image));
	image->high = high;
	if (snest_vm_create(&config, &image->direct) || snest_vm_create(&config, &image->counted))
		fuzz_check(0, "no VM");
	add(image->direct, 0, IMAGE_HOST_LOW, NULL);
	add(image->direct, high, IMAGE_HOST_HIGH, NULL);
	add(image->counted, 0, IMAGE_HOST_LOW, &accessors);
	add(image->counted, high, IMAGE_HOST_HIGH, &accessors);
}

/* ---- Bytes ------------------------------------------------------------------ */

static void clear(void)
{
	for (; used; used &= used - 1) {
		size_t page = (size_t)__builtin_ctzll(used);

		memset(words + page * 512, 0, 4096);
		memset(ref_words + page * 512, 0, 4096);
	}
}

void fuzz_image_load(const uint8_t *records, size_t size)
{
	clear();
	for (; size >= RECORD_BYTES; records += RECORD_BYTES, size -= RECORD_BYTES) {
		size_t at = fuzz_get(records, 2) % IMAGE_WORDS;

		words[at] = ref_words[at] = fuzz_get(records + 2, 8);
		used |= (uint64_t)1 << at / 512;
	}
}

bool fuzz_image_same(void)
{
	for (uint64_t pages = used; pages; pages &= pages - 1) {
		size_t page = (size_t)__builtin_ctzll(pages);

		if (memcmp(words + page * 512, ref_words + page * 512, 4096))
			return false;
	}
	return true;
}
