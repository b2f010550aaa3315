/* SPDX-License-Identifier: MIT */
/*
 * Invalidation commands: from descriptors to what the shadow forgets.
 *
 * Decoding is pure and total: any bytes give a command or an error. Executing
 * never fails for the guest, but for a device TLB that does not answer.
 *
 * What a command reaches (the conservative reading where the architecture's
 * table of effects is not public): type 2 every space of the DID, of which
 * first-stage and nested ones go whole, because its address is then not their
 * input; type 6 the first-stage and nested spaces of DID and PASID. Commands
 * for the context and PASID caches unbind. They leave shadows alone: the guest
 * follows with an IOTLB command, and a changed root gives another space.
 */
#include <errno.h>
#include <string.h>
#include "viommu/vtd.h"

static inline uint64_t bits(uint64_t word, unsigned last, unsigned first)
{
	return word >> first & (UINT64_MAX >> (63 - (last - first)));
}

/* 2^am pages around an address. AM goes up to 63: everything. */
static void page_range(struct sn_vtd_command *c, uint64_t q1)
{
	unsigned am = (unsigned)(q1 & 0x3f);
	uint64_t mask = am >= 52 ? UINT64_MAX : (1ull << (12 + am)) - 1;

	c->first = q1 & VTD_ADDR & ~mask;
	c->last = c->first | mask;
	c->leaf = q1 & 0x40;
}

/* The size is coded in the address: the lowest 0 from bit 12 up, if S. */
static void device_range(struct sn_vtd_command *c, uint64_t address, bool coded)
{
	uint64_t mask = 0xfff;

	if (coded) {
		uint64_t ones = address >> 12, zeros = ~ones;
		unsigned n = 12 + (unsigned)__builtin_ctzll(zeros);

		/* ones has 52 bits, so zeros is never 0; all ones is everything. */
		mask = n >= 63 ? UINT64_MAX : (1ull << (n + 1)) - 1;
	}
	c->first = address & VTD_ADDR & ~mask;
	c->last = c->first | mask;
}

/* Bits that have to be 0, in the first two words, and what a type needs. */
static const struct {
	uint64_t reserved[2];
	uint64_t ecap;
	bool wide; /* exists in 256 bits only */
} types[] = {
	[VTD_DESC_CONTEXT] = {{0xfffc00000000f1c0, UINT64_MAX}, 0, false},
	[VTD_DESC_IOTLB] = {{0xffffffff0000f100, 0xf80}, 0, false},
	[VTD_DESC_DEVICE_TLB] = {{0x000f0000ffe001f0, 0xffe}, VTD_ECAP_DT, false},
	[VTD_DESC_INTERRUPT] = {{0xffff000007fff1e0, UINT64_MAX}, VTD_ECAP_IR, false},
	[VTD_DESC_WAIT] = {{0x00000000fffff100, 0x3}, 0, false},
	[VTD_DESC_PASID_IOTLB] = {{0xfff000000000f1c0, 0xf80}, VTD_ECAP_SMTS, true},
	[VTD_DESC_PASID_CACHE] = {{0xfff000000000f1c0, UINT64_MAX}, VTD_ECAP_SMTS, true},
	[VTD_DESC_PASID_DEVICE_TLB] = {{0, 0x7fe}, VTD_ECAP_SMTS | VTD_ECAP_DT, true},
	[VTD_DESC_PAGE_RESPONSE] = {{0xfff00000000001c0, 0xfffffffffffff003}, VTD_ECAP_PRS, true},
};

static bool decode_page_response(const uint64_t *q, struct sn_vtd_command *c)
{
	c->rid = (uint32_t)bits(q[0], 31, 16);
	c->pasid = q[0] & 0x10 ? (uint32_t)bits(q[0], 51, 32) : SNEST_NO_PASID;
	c->flags = (uint32_t)bits(q[0], 15, 12);
	c->status = (uint32_t)bits(q[1], 11, 3);
	c->leaf = q[1] & 4;
	c->granularity = q[0] & 0x20 ? 1 : 0;
	c->private_data[0] = q[2];
	c->private_data[1] = q[3];
	return c->granularity || !(q[2] | q[3]);
}

enum snest_vtd_queue_error sn_vtd_decode(const struct snest_vtd *vtd, const uint64_t *q,
                                         unsigned words, struct sn_vtd_command *c)
{
	unsigned type = (unsigned)((q[0] & 0xf) | bits(q[0], 11, 9) << 4);

	if (type < VTD_DESC_CONTEXT || type > VTD_DESC_PAGE_RESPONSE ||
	    (vtd->ecap & types[type].ecap) != types[type].ecap || (types[type].wide && words < 4))
		return SNEST_VTD_QUEUE_TYPE;
	if ((q[0] & types[type].reserved[0]) || (q[1] & types[type].reserved[1]) ||
	    (words == 4 && type != VTD_DESC_PAGE_RESPONSE && (q[2] | q[3])))
		return SNEST_VTD_QUEUE_RESERVED;
	c->type = (uint8_t)type;
	c->granularity = (uint8_t)bits(q[0], 5, 4);
	c->did = (uint32_t)bits(q[0], 31, 16) & vtd->domain_mask;
	c->pasid = SNEST_NO_PASID;
	c->leaf = false;
	c->first = 0;
	c->last = UINT64_MAX;

	switch (type) {
	case VTD_DESC_CONTEXT:
		c->rid = (uint32_t)bits(q[0], 47, 32);
		c->function_mask = (uint8_t)bits(q[0], 49, 48);
		return c->granularity ? SNEST_VTD_QUEUE_OK : SNEST_VTD_QUEUE_RESERVED;
	case VTD_DESC_IOTLB:
		if (!c->granularity)
			return SNEST_VTD_QUEUE_RESERVED;
		if (c->granularity != VTD_SELECTIVE)
			return SNEST_VTD_QUEUE_OK;
		if ((q[1] & 0x3f) > VTD_CAP_MAMV(vtd->cap))
			return SNEST_VTD_QUEUE_RESERVED;
		if (vtd->cap & VTD_CAP_PSI)
			page_range(c, q[1]);
		return SNEST_VTD_QUEUE_OK;
	case VTD_DESC_DEVICE_TLB:
		c->rid = (uint32_t)bits(q[0], 47, 32);
		device_range(c, q[1], q[1] & 1);
		return SNEST_VTD_QUEUE_OK;
	case VTD_DESC_INTERRUPT:
		c->granularity &= 1;
		if (c->granularity) {
			c->first = bits(q[0], 47, 32);
			c->last = c->first | ((1ull << bits(q[0], 31, 27)) - 1);
			c->first &= ~((1ull << bits(q[0], 31, 27)) - 1);
		}
		return SNEST_VTD_QUEUE_OK;
	case VTD_DESC_WAIT:
		c->flags = (uint32_t)(q[0] & (VTD_WAIT_IF | VTD_WAIT_SW | VTD_WAIT_FN));
		c->status = (uint32_t)(q[0] >> 32);
		c->address = q[1];
		return SNEST_VTD_QUEUE_OK;
	case VTD_DESC_PASID_IOTLB:
		c->pasid = (uint32_t)bits(q[0], 51, 32);
		if (c->granularity < 2)
			return SNEST_VTD_QUEUE_RESERVED;
		if (c->granularity == VTD_SELECTIVE)
			page_range(c, q[1]);
		return SNEST_VTD_QUEUE_OK;
	case VTD_DESC_PASID_CACHE:
		c->pasid = (uint32_t)bits(q[0], 51, 32);
		return c->granularity == 2 ? SNEST_VTD_QUEUE_RESERVED : SNEST_VTD_QUEUE_OK;
	case VTD_DESC_PASID_DEVICE_TLB:
		c->rid = (uint32_t)bits(q[0], 31, 16);
		c->pasid = (uint32_t)bits(q[0], 51, 32);
		c->granularity = q[1] & 1;
		device_range(c, q[1], q[1] & 0x800);
		return SNEST_VTD_QUEUE_OK;
	default:
		return decode_page_response(q, c) ? SNEST_VTD_QUEUE_OK : SNEST_VTD_QUEUE_RESERVED;
	}
}

/* ---- Executing ------------------------------------------------------------------- */

static int iotlb(struct snest_vtd *vtd, const struct sn_vtd_command *c)
{
	struct snest_tag tag = {.domain = c->did, .space = SNEST_ANY_SPACE};
	uint32_t flags = c->leaf ? SNEST_INVALIDATE_LEAF : 0;
	int ret, one;

	if (c->granularity == VTD_GLOBAL)
		return snest_vm_invalidate(vtd->vm, 0, UINT64_MAX, 0);
	ret = snest_tag_invalidate(vtd->vm, tag, c->first, c->last, flags);
	if (!__atomic_load_n(&vtd->first_stage, __ATOMIC_RELAXED))
		return ret;
	tag.domain |= SN_VTD_FIRST_STAGE_DOMAIN;
	one = snest_tag_invalidate(vtd->vm, tag, 0, UINT64_MAX, 0);
	return ret ? ret : one;
}

static int pasid_iotlb(struct snest_vtd *vtd, const struct sn_vtd_command *c)
{
	struct snest_tag tag = {
		.domain = c->did | SN_VTD_FIRST_STAGE_DOMAIN,
		.space = c->pasid,
	};

	return snest_tag_invalidate(vtd->vm, tag, c->first, c->last,
	                            c->leaf ? SNEST_INVALIDATE_LEAF : 0);
}

/* Mirrored requests are resolved again; each costs about as much as this many bindings. */
#define MIRROR_WORK 64u

static int config_changed(struct snest_vtd *vtd, struct sn_vtd_command *c)
{
	c->work += MIRROR_WORK * __atomic_load_n(&vtd->mirror_count, __ATOMIC_RELAXED);
	return sn_vtd_mirrors_refresh(vtd);
}

static int context_cache(struct snest_vtd *vtd, struct sn_vtd_command *c)
{
	sn_vtd_lock(vtd);
	sn_vtd_contexts_changed(vtd);
	/* A context entry of scalable mode has no DID: selecting by it means all. */
	if (c->granularity == VTD_SELECTIVE)
		sn_vtd_unbind_device(vtd, c->rid, c->function_mask);
	else if (c->granularity == VTD_DOMAIN && VTD_TTM(vtd->root) == VTD_TTM_LEGACY)
		c->work = sn_vtd_unbind_domain(vtd, c->did, SNEST_ANY_PASID);
	else
		sn_vtd_unbind_all(vtd);
	sn_vtd_unlock(vtd);
	return config_changed(vtd, c);
}

static int pasid_cache(struct snest_vtd *vtd, struct sn_vtd_command *c)
{
	uint32_t pasid = c->granularity == VTD_PC_PASID ? c->pasid : SNEST_ANY_PASID;

	sn_vtd_lock(vtd);
	if (c->granularity == VTD_PC_GLOBAL)
		sn_vtd_unbind_all(vtd);
	else
		c->work = sn_vtd_unbind_domain(vtd, c->did, pasid);
	sn_vtd_unlock(vtd);
	return config_changed(vtd, c);
}

static int device_tlb(struct snest_vtd *vtd, const struct sn_vtd_command *c)
{
	struct snest_vtd_device_tlb range = {
		.rid = c->rid,
		.pasid = c->pasid,
		.global = c->type == VTD_DESC_PASID_DEVICE_TLB && c->granularity,
		.first = c->first,
		.last = c->last,
	};

	if (!vtd->hooks.device_tlb)
		return 0;
	return vtd->hooks.device_tlb(vtd->hooks.opaque, &range) == -ETIMEDOUT ? -ETIMEDOUT : 0;
}

static void page_response(struct snest_vtd *vtd, const struct sn_vtd_command *c)
{
	struct snest_vtd_page_response response = {
		.rid = c->rid,
		.pasid = c->pasid,
		.group = c->status,
		.code = c->flags,
		.last = c->leaf,
		.private_valid = c->granularity,
		.private_data = {c->private_data[0], c->private_data[1]},
		.expected = sn_vtd_page_response(vtd, c->rid, c->status),
	};

	if (vtd->hooks.page_response)
		vtd->hooks.page_response(vtd->hooks.opaque, &response);
}

int sn_vtd_execute(struct snest_vtd *vtd, struct sn_vtd_command *c)
{
	c->work = 0;
	switch (c->type) {
	case VTD_DESC_CONTEXT:
		return context_cache(vtd, c);
	case VTD_DESC_IOTLB:
		return iotlb(vtd, c);
	case VTD_DESC_DEVICE_TLB:
	case VTD_DESC_PASID_DEVICE_TLB:
		return device_tlb(vtd, c);
	case VTD_DESC_INTERRUPT:
		if (vtd->hooks.interrupt_entries)
			vtd->hooks.interrupt_entries(
				vtd->hooks.opaque, c->granularity ? (uint32_t)c->first : 0,
				c->granularity && c->last < 0xffff ? (uint32_t)c->last : 0xffff);
		return 0;
	case VTD_DESC_PASID_IOTLB:
		return pasid_iotlb(vtd, c);
	case VTD_DESC_PASID_CACHE:
		return pasid_cache(vtd, c);
	case VTD_DESC_PAGE_RESPONSE:
		page_response(vtd, c);
		return 0;
	default:
		return 0;
	}
}

/* ---- Raw descriptors from the embedder ---------------------------------------------- */

static bool is_zero(const unsigned char *p, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		if (p[i])
			return false;
	}
	return true;
}

int snest_vtd_invalidate(struct snest_vtd *vtd, const void *entries, size_t entry_len,
                         size_t *count, enum snest_vtd_queue_error *error)
{
	enum snest_vtd_queue_error ignored;
	size_t wanted = *count;
	unsigned words = entry_len < 32 ? 2 : 4;

	error = error ? error : &ignored;
	*error = SNEST_VTD_QUEUE_OK;
	*count = 0;
	if (!wanted)
		return 0;
	if (!entries || entry_len < 16 || (entry_len > 16 && entry_len < 32))
		return -EINVAL;
	for (size_t i = 0; i < wanted; i++) {
		const unsigned char *at = (const unsigned char *)entries + i * entry_len;
		struct sn_vtd_command command;
		uint64_t q[4];
		int ret;

		memcpy(q, at, words * 8);
		if (entry_len > 32 && !is_zero(at + 32, entry_len - 32))
			return -E2BIG;
		*error = sn_vtd_decode(vtd, q, words, &command);
		if (*error)
			return -EINVAL;
		ret = sn_vtd_execute(vtd, &command);
		*count = i + 1;
		if (ret)
			return ret;
	}
	return 0;
}
