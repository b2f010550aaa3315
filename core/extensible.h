/* SPDX-License-Identifier: MIT */
/*
 * Structures that start with their size.
 *
 * The caller's structure may be older (shorter) or newer (longer) than the one
 * this library was compiled with. What an older caller does not have reads as
 * 0; what a newer caller has and we do not know must be 0. Every function that
 * takes such a structure goes through these. Any thread.
 */
#ifndef SN_CORE_EXTENSIBLE_H
#define SN_CORE_EXTENSIBLE_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A size above this is taken for garbage instead of being looked at, so that
 * an uninitialised `size` cannot make us read far beyond the caller's object.
 */
#define SN_STRUCT_MAX 4096

/*
 * Copies the caller's structure `src` of `src_size` bytes to `dst`, which has
 * `known` bytes. 0; -EINVAL if src_size cannot even hold the size field;
 * -E2BIG if the unknown tail is not all 0. dst is unchanged on failure.
 *
 * The size field is copied as it is: use SN_STRUCT_IN where the copy is handed
 * on, since it sets the copy's size to what the copy really has.
 */
int sn_struct_in(void *dst, size_t known, const void *src, size_t src_size);

/*
 * The reverse, for results: fills the caller's structure `dst` of `dst_size`
 * bytes from `src`. The caller's size field stays. Errors as above, with
 * nothing written; the unknown tail must be 0 and stays so.
 */
int sn_struct_out(void *dst, size_t dst_size, const void *src, size_t known);

/* dst and src point to the same structure type, which has a field `size`. */
#define SN_STRUCT_IN(dst, src)                                                             \
	__extension__({                                                                    \
		int sn_struct_ret_ =                                                       \
			(src)->size < sizeof((src)->size)                                  \
				? -EINVAL                                                  \
				: sn_struct_in((dst), sizeof(*(dst)), (src), (src)->size); \
		if (!sn_struct_ret_)                                                       \
			(dst)->size = sizeof(*(dst));                                      \
		sn_struct_ret_;                                                            \
	})

#define SN_STRUCT_OUT(dst, src)                                                     \
	__extension__({                                                             \
		(src)->size = (dst)->size;                                          \
		(dst)->size < sizeof((dst)->size)                                   \
			? -EINVAL                                                   \
			: sn_struct_out((dst), (dst)->size, (src), sizeof(*(src))); \
	})

#endif
