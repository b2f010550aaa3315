/* SPDX-License-Identifier: MIT */
/*
 * What a VT-d invalidation descriptor covers, read independently of viommu/:
 * the judges must not learn it from what they judge. Always at least what the
 * descriptor says, never less.
 */
#include <endian.h>
#include <string.h>
#include "tools/replay.h"

enum {
	TYPE_CONTEXT = 1,
	TYPE_IOTLB = 2,
	TYPE_WAIT = 5,
	TYPE_PASID_IOTLB = 6,
	TYPE_PASID_CACHE = 7,
};

static uint64_t word(const uint8_t *bytes)
{
	uint64_t value;

	memcpy(&value, bytes, sizeof(value));
	return le64toh(value);
}

void sn_cover_decode(const uint8_t *bytes, unsigned length, struct sn_cover *cover)
{
	uint64_t low = word(bytes), high = length >= 16 ? word(bytes + 8) : 0;
	unsigned type = (unsigned)(low & 0xf) | (unsigned)(low >> 5 & 0x70);
	unsigned granularity = low >> 4 & 3, am = high & 0x3f;
	uint64_t span = am >= 52 ? UINT64_MAX : ((uint64_t)4096 << am) - 1;

	*cover = (struct sn_cover){.domain = low >> 16 & 0xffff, .last = UINT64_MAX};
	switch (type) {
	case TYPE_CONTEXT:
	case TYPE_PASID_CACHE:
		cover->kind = SN_COVER_CONTEXT;
		break;
	case TYPE_WAIT:
		cover->kind = SN_COVER_WAIT;
		break;
	case TYPE_IOTLB:
	case TYPE_PASID_IOTLB:
		cover->kind = SN_COVER_IOTLB;
		if (type == TYPE_IOTLB && granularity == 1)
			cover->domain = SN_ANY_DOMAIN;
		cover->page = granularity == 3;
		if (cover->page) {
			cover->first = high & ~(uint64_t)4095 & ~span;
			cover->last = cover->first | span;
		}
		break;
	}
}

bool sn_cover_hits(const struct sn_cover *c, uint32_t domain, uint64_t first, uint64_t last)
{
	return c->kind == SN_COVER_IOTLB && (c->domain == SN_ANY_DOMAIN || c->domain == domain) &&
	       c->first <= last && c->last >= first;
}
