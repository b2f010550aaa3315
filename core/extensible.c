/* SPDX-License-Identifier: MIT */
/*
 * Structures that start with their size: see core/extensible.h.
 */
#include "core/extensible.h"

#include <string.h>

static int check(const void *theirs, size_t size, size_t known)
{
	const unsigned char *byte = theirs;

	if (size < sizeof(uint32_t))
		return -EINVAL;
	if (size > SN_STRUCT_MAX)
		return -E2BIG;
	for (size_t i = known; i < size; i++) {
		if (byte[i])
			return -E2BIG;
	}
	return 0;
}

int sn_struct_in(void *dst, size_t known, const void *src, size_t src_size)
{
	size_t common = src_size < known ? src_size : known;
	int ret = check(src, src_size, known);

	if (ret)
		return ret;
	memcpy(dst, src, common);
	memset((char *)dst + common, 0, known - common);
	return 0;
}

int sn_struct_out(void *dst, size_t dst_size, const void *src, size_t known)
{
	int ret = check(dst, dst_size, known);

	if (ret)
		return ret;
	memcpy(dst, src, dst_size < known ? dst_size : known);
	return 0;
}
