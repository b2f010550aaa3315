/* SPDX-License-Identifier: MIT */
/* See bend.h. */
#include "bend.h"

#include <string.h>

size_t fuzz_record_add(uint8_t *data, size_t size, size_t max_size, size_t word, uint64_t value)
{
	if (max_size - size < RECORD_BYTES)
		return size;
	fuzz_put(data + size, 2, word);
	fuzz_put(data + size + 2, 8, value);
	return size + RECORD_BYTES;
}

static uint64_t any_page(struct fuzz_random *r)
{
	return fuzz_below(r, IMAGE_BYTES / 4096) * 4096;
}

/* A word that entries of most formats are made of. */
static uint64_t odd_word(struct fuzz_random *r)
{
	switch (fuzz_below(r, 4)) {
	case 0:
		return UINT64_MAX;
	case 1:
		return fuzz_random(r);
	case 2:
		return fuzz_random(r) & fuzz_random(r) & fuzz_random(r);
	default:
		return any_page(r) | fuzz_below(r, 4096);
	}
}

static void bend(const struct fuzz_shape *shape, uint8_t *list, size_t count, struct fuzz_random *r)
{
	uint8_t *record = list + fuzz_below(r, count) * RECORD_BYTES;
	uint8_t *other = list + fuzz_below(r, count) * RECORD_BYTES;
	uint64_t word = fuzz_get(record + 2, 8), at = fuzz_get(record, 2);
	uint64_t page = fuzz_get(other, 2) / 512 * 512;

	switch (fuzz_below(r, 9)) {
	case 0: /* one bit */
	case 1:
		word ^= 1ull << fuzz_below(r, 64);
		break;
	case 2: /* a bit that is a flag in most formats */
		word ^= 1ull << fuzz_below(r, 12);
		break;
	case 3: /* alias: the table that another entry is in */
		if (shape->point)
			word = shape->point(word, page * 8);
		break;
	case 4: /* anywhere, at times outside memory */
		if (shape->point)
			word = shape->point(word, fuzz_below(r, 4) ? any_page(r) : fuzz_random(r));
		break;
	case 5: /* the value of another entry: another level's, perhaps */
		word = fuzz_get(other + 2, 8);
		break;
	case 6: /* another place in the same table, or in the other's */
		at = (fuzz_below(r, 2) ? page : at / 512 * 512) + fuzz_below(r, 512);
		break;
	case 7:
		word = odd_word(r);
		break;
	default: /* exchange the places */
		fuzz_put(record, 2, fuzz_get(other, 2));
		fuzz_put(other, 2, at);
		return;
	}
	fuzz_put(record, 2, at);
	fuzz_put(record + 2, 8, word);
}

/* Every entry of one page moves to another page, and back. */
static void swap_pages(uint8_t *list, size_t count, uint64_t a, uint64_t b)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t at = fuzz_get(list + i * RECORD_BYTES, 2);

		if (at / 512 == a)
			fuzz_put(list + i * RECORD_BYTES, 2, b * 512 + at % 512);
		else if (at / 512 == b)
			fuzz_put(list + i * RECORD_BYTES, 2, a * 512 + at % 512);
	}
}

static size_t copy_page(uint8_t *data, size_t size, size_t max_size, size_t header, uint64_t from,
                        uint64_t to)
{
	size_t last = size;

	for (size_t at = header; at + RECORD_BYTES <= last; at += RECORD_BYTES) {
		uint64_t word = fuzz_get(data + at, 2);

		if (word / 512 == from)
			size = fuzz_record_add(data, size, max_size, to * 512 + word % 512,
			                       fuzz_get(data + at + 2, 8));
	}
	return size;
}

size_t fuzz_bend(const struct fuzz_shape *shape, fuzz_bytes_fn bytes, uint8_t *data, size_t size,
                 size_t max_size, unsigned seed)
{
	struct fuzz_random r = {seed};
	size_t header = shape->header, count;
	uint8_t *list = data + header;

	if (max_size < header + RECORD_BYTES)
		return bytes(data, size, max_size, &r);
	if (size < header) {
		memset(data + size, 0, header - size);
		size = header;
	}
	count = (size - header) / RECORD_BYTES;
	size = header + count * RECORD_BYTES;
	for (uint64_t n = fuzz_below(&r, 3);; n--) {
		uint64_t kind = fuzz_below(&r, 20);
		uint64_t page =
			count ? fuzz_get(list + fuzz_below(&r, count) * RECORD_BYTES, 2) / 512 : 0;

		if (kind == 0 && shape->plant && fuzz_below(&r, 4) == 0)
			return shape->plant(data, max_size, &r);
		if (kind <= 1) {
			size_t rest = bytes(list, count * RECORD_BYTES, max_size - header, &r);

			return header + rest;
		}
		if (kind <= 6) {
			bytes(data, header, header, &r);
		} else if (kind == 7 && count) {
			/* Cut memory. */
			count = fuzz_below(&r, count + 1);
		} else if (kind == 8) {
			swap_pages(list, count, page % 64, any_page(&r) / 4096);
		} else if (kind == 9) {
			size = copy_page(data, size, max_size, header, page, any_page(&r) / 4096);
			count = (size - header) / RECORD_BYTES;
		} else if (kind == 10 || !count) {
			size = fuzz_record_add(data, size, max_size,
			                       page * 512 + fuzz_below(&r, 512), odd_word(&r));
			count = (size - header) / RECORD_BYTES;
		} else {
			bend(shape, list, count, &r);
		}
		size = header + count * RECORD_BYTES;
		if (!n)
			return size;
	}
}

size_t fuzz_records_cross(const struct fuzz_shape *shape, const uint8_t *a, size_t a_size,
                          const uint8_t *b, size_t b_size, uint8_t *out, size_t max_out,
                          unsigned seed)
{
	struct fuzz_random r = {seed};
	size_t size = shape->header;

	if (a_size < size || b_size < size || max_out < size)
		return 0;
	memcpy(out, fuzz_below(&r, 2) ? a : b, size);
	/* Pages of both; where both have one, the later wins. */
	for (unsigned side = 0; side < 2; side++) {
		const uint8_t *from = side ? b : a;
		size_t last = side ? b_size : a_size;
		uint64_t pages = fuzz_random(&r) | fuzz_random(&r);

		for (size_t at = shape->header; at + RECORD_BYTES <= last; at += RECORD_BYTES) {
			uint64_t word = fuzz_get(from + at, 2);

			if (pages >> word / 512 % 64 & 1)
				size = fuzz_record_add(out, size, max_out, word,
				                       fuzz_get(from + at + 2, 8));
		}
	}
	return size;
}
