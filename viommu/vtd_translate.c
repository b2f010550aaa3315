/* SPDX-License-Identifier: MIT */
/*
 * One request through the unit: the shadow's lookup, and around it what no
 * page table says.
 *
 * A request that hits, and asks for reading or writing, costs the lookup of the
 * device's handle and a few loads more than the plain lookup. The rest is off
 * that path: faults, targets without host memory, fetches, privileged requests.
 */
#include <errno.h>
#include <string.h>
#include "shadow/device.h"
#include "viommu/vtd.h"
#include "walkers/device.h"

static bool in_interrupt_range(uint64_t address)
{
	return address - VTD_INTERRUPT_FIRST <= VTD_INTERRUPT_LAST - VTD_INTERRUPT_FIRST;
}

static int refuse(struct snest_translation *t, struct snest_fault *fault, uint64_t iova,
                  uint32_t access, unsigned reason, unsigned code)
{
	memset(t, 0, sizeof(*t));
	t->outcome = SNEST_WALK_FAULT;
	*fault = (struct snest_fault){
		.reason = (uint8_t)reason,
		.stage = SNEST_NO_STAGE,
		.for_stage = SNEST_NO_STAGE,
		.access = (uint8_t)access,
		.code = (uint16_t)code,
		.iova = iova,
		.input = iova,
	};
	return -EACCES;
}

/* Protected memory: no request that passes untranslated reaches it. */
static bool is_protected(const struct snest_vtd *vtd, uint64_t address)
{
	const uint64_t *reg = vtd->reg;

	if (!(reg[REG_PMEN] & 1))
		return false;
	/* Limits name the first byte of their last 1 MiB block. */
	if ((vtd->cap & VTD_CAP_PLMR) && address >= reg[REG_PLMBASE] &&
	    address <= (reg[REG_PLMLIMIT] | 0xfffff))
		return true;
	return (vtd->cap & VTD_CAP_PHMR) && address >= reg[REG_PHMBASE] &&
	       address <= (reg[REG_PHMLIMIT] | 0xfffff);
}

/* What the configuration, not a table, has against a request or its result. 0 or -EACCES. */
static int check(struct snest_vtd *vtd, const struct snest_request *request,
                 struct snest_translation *t, struct snest_fault *fault)
{
	uint32_t kinds = request->access & (SNEST_EXEC | SNEST_PRIVILEGED);
	struct sn_vtd_binding *b = NULL;
	struct sn_vtd_device *device;
	struct snest_context context;
	int ret = 0;

	sn_vtd_lock(vtd);
	device = sn_vtd_device_find(vtd, request->rid);
	if (device)
		b = sn_vtd_binding_find(device, request->pasid);
	if (!b) {
		/* Unbound since the lookup, whose answer is still legal. */
		sn_vtd_unlock(vtd);
		return 0;
	}
	context = b->context;
	if (b->refused & kinds) {
		sn_vtd_context(vtd, request, &context);
		if (context.outcome == SNEST_CONTEXT_FAULT) {
			refuse(t, fault, request->iova, request->access, SNEST_FAULT_CONFIG,
			       context.fault.code);
			ret = -EACCES;
		}
	} else if (!context.count && sn_context_check(&context, request, fault)) {
		t->outcome = SNEST_WALK_FAULT;
		ret = -EACCES;
	} else if (!context.count && is_protected(vtd, request->iova)) {
		ret = refuse(t, fault, request->iova, request->access, SNEST_FAULT_BLOCKED, 0);
	} else if (t->outcome == SNEST_WALK_GPA && in_interrupt_range(t->host) &&
	           (context.count || request->pasid != SNEST_NO_PASID)) {
		ret = refuse(t, fault, request->iova, request->access, SNEST_FAULT_BLOCKED,
		             context.flags & SNEST_CONTEXT_SCALABLE ? 0x87 : 0xe);
	}
	sn_vtd_unlock(vtd);
	return ret;
}

/* The slow end of snest_vtd_translate: what is not a plain hit. */
static __attribute__((noinline)) int settle(struct snest_vtd *vtd, uint32_t rid, uint32_t pasid,
                                            uint64_t iova, uint32_t access, int ret,
                                            struct snest_translation *t, struct snest_fault *fault)
{
	struct snest_request request = {
		.size = sizeof(request),
		.rid = rid,
		.pasid = pasid,
		.access = access,
		.kind = SNEST_REQUEST_UNTRANSLATED,
		.iova = iova,
	};

	if (!ret)
		ret = check(vtd, &request, t, fault);
	if (ret)
		snest_vtd_fault(vtd, rid, pasid, access, fault);
	return ret;
}

/* A request without PASID in the interrupt range is never translated. */
static int interrupt(uint64_t iova, uint32_t access, struct snest_translation *t,
                     struct snest_fault *fault)
{
	if ((access & SNEST_RIGHTS) != SNEST_WRITE)
		return refuse(t, fault, iova, access, SNEST_FAULT_BLOCKED, 0);
	*t = (struct snest_translation){
		.host = iova,
		.length = VTD_INTERRUPT_LAST - iova + 1,
		.rights = SNEST_WRITE,
		.outcome = SNEST_WALK_GPA,
	};
	return 0;
}

int snest_vtd_translate(struct snest_vtd *vtd, uint32_t rid, uint32_t pasid, uint64_t iova,
                        uint32_t access, struct snest_translation *t, struct snest_fault *fault)
{
	struct snest_device *handle = snest_device_find(vtd->vm, rid);
	bool guarded = __atomic_load_n(&vtd->guarded, __ATOMIC_RELAXED);
	struct snest_fault ignored;
	struct snest_space *space;
	int ret = -EACCES;

	fault = fault ? fault : &ignored;
	if (__builtin_expect(!handle, 0)) {
		ret = snest_vtd_device(vtd, rid, &handle);
		if (ret)
			return ret;
		ret = -EACCES;
	}
	if (pasid == SNEST_NO_PASID && in_interrupt_range(iova))
		return interrupt(iova, access, t, fault);
	space = sn_device_lookup_space(handle, pasid, iova, access, t, fault);
	if (pasid == SNEST_NO_PASID) {
		const struct sn_vtd_device *device = handle->opaque;

		/* Set when the space was bound, so read after it was found. */
		access = (access & __atomic_load_n(&device->privilege_keep, __ATOMIC_RELAXED)) |
		         __atomic_load_n(&device->privilege_set, __ATOMIC_RELAXED);
		guarded |= iova > __atomic_load_n(&device->pass_last, __ATOMIC_RELAXED);
	}
	if (__builtin_expect(space != NULL, 1))
		ret = snest_space_translate(space, iova, access, t, fault);
	if (__builtin_expect(!ret && t->outcome == SNEST_WALK_HOST &&
	                             !(access & (SNEST_EXEC | SNEST_PRIVILEGED)) && !guarded,
	                     1))
		return 0;
	return settle(vtd, rid, pasid, iova, access, ret, t, fault);
}
