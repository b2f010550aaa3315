/* SPDX-License-Identifier: MIT */
/*
 * Mutators for inputs that are a header and a list of actions of equal length.
 * An action's first byte is its kind. Actions are copied, moved, dropped,
 * exchanged and bent; none is ever cut in the middle.
 */
#ifndef FUZZ_ACTIONS_H
#define FUZZ_ACTIONS_H

#include "fuzz.h"

struct fuzz_actions {
	size_t header, length; /* bytes */
	unsigned kinds;
	unsigned max; /* actions */
};

static inline void fuzz_action_random(const struct fuzz_actions *a, uint8_t *at,
                                      struct fuzz_random *r)
{
	at[0] = (uint8_t)fuzz_below(r, a->kinds);
	for (size_t i = 1; i < a->length; i++) {
		/* Small numbers meet each other more often. */
		at[i] = (uint8_t)(fuzz_below(r, 3) ? fuzz_below(r, 8) : fuzz_random(r));
	}
}

static inline size_t fuzz_actions_mutate(const struct fuzz_actions *a, uint8_t *data, size_t size,
                                         size_t max_size, unsigned seed)
{
	struct fuzz_random r = {seed};
	uint8_t *list = data + a->header;
	size_t count, room;

	if (max_size < a->header + a->length)
		return LLVMFuzzerMutate(data, size, max_size);
	if (size < a->header) {
		memset(data + size, 0, a->header - size);
		size = a->header;
	}
	count = (size - a->header) / a->length;
	room = (max_size - a->header) / a->length;
	if (room > a->max)
		room = a->max;
	for (uint64_t n = fuzz_below(&r, 4);; n--) {
		size_t i = count ? fuzz_below(&r, count) : 0, j = count ? fuzz_below(&r, count) : 0;
		uint8_t *at = list + i * a->length, *other = list + j * a->length;

		switch (fuzz_below(&r, 10)) {
		case 0:
			LLVMFuzzerMutate(data, a->header, a->header);
			break;
		case 1:
		case 2: /* a new one; or a copy of another */
		case 3:
			if (count >= room)
				break;
			memmove(at + a->length, at, (count - i) * a->length);
			if (count && fuzz_below(&r, 2))
				memcpy(at, list + (j < i ? j : j + 1) * a->length, a->length);
			else
				fuzz_action_random(a, at, &r);
			count++;
			break;
		case 4:
			if (!count)
				break;
			memmove(at, at + a->length, (count - i - 1) * a->length);
			count--;
			break;
		case 5: /* the arguments of another */
			if (i != j)
				memcpy(at + 1, other + 1, a->length - 1);
			break;
		case 6:
			for (size_t k = 0; i != j && k < a->length; k++) {
				uint8_t byte = at[k];

				at[k] = other[k];
				other[k] = byte;
			}
			break;
		case 7:
			if (count)
				LLVMFuzzerMutate(at + 1, a->length - 1, a->length - 1);
			break;
		default:
			if (count)
				at[fuzz_below(&r, a->length)] ^= (uint8_t)(1u << fuzz_below(&r, 8));
		}
		if (!n)
			return a->header + count * a->length;
	}
}

/* The beginning of one, the end of the other. */
static inline size_t fuzz_actions_cross(const struct fuzz_actions *a, const uint8_t *data1,
                                        size_t size1, const uint8_t *data2, size_t size2,
                                        uint8_t *out, size_t max_out, unsigned seed)
{
	struct fuzz_random r = {seed};
	size_t count1, count2, first, second;

	if (size1 < a->header || size2 < a->header)
		return 0;
	count1 = (size1 - a->header) / a->length;
	count2 = (size2 - a->header) / a->length;
	first = fuzz_below(&r, count1 + 1);
	second = fuzz_below(&r, count2 + 1);
	if (first + second > a->max || a->header + (first + second) * a->length > max_out)
		return 0;
	memcpy(out, data1, a->header + first * a->length);
	memcpy(out + a->header + first * a->length,
	       data2 + a->header + (count2 - second) * a->length, second * a->length);
	return a->header + (first + second) * a->length;
}

#endif
