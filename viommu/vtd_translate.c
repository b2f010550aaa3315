/* SPDX-License-Identifier: MIT */
/*
 * One request through the unit: the shadow's lookup, and around it what no
 * page table says.
 *
 * A request that hits, and asks for reading or writing, costs the lookup of the
 * device's handle and a few loads more than the plain lookup. Fetches, privileged
 * requests and targets without host memory cost another search, for the binding.
 * None of these takes a lock. Faults do, and requests that pass untranslated
 * while protected memory is on.
 */
#include <errno.h>
#include <string.h>
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

	if (!(reg[REG_PMEN] & VTD_EPM))
		return false;
	/* Limits name the first byte of their last 1 MiB block. */
	if ((vtd->cap & VTD_CAP_PLMR) && address >= reg[REG_PLMBASE] &&
	    address <= (reg[REG_PLMLIMIT] | 0xfffff))
		return true;
	return (vtd->cap & VTD_CAP_PHMR) && address >= reg[REG_PHMBASE] &&
	       address <= (reg[REG_PHMLIMIT] | 0xfffff);
}

/*
 * What the configuration, not a table, has against a request or its result, by
 * the binding that the result came from. 0 or -EACCES. The usual answer, that it
 * has nothing, takes no lock.
 */
static int check(struct snest_vtd *vtd, const struct sn_vtd_binding *b,
                 const struct snest_request *request, struct snest_translation *t,
                 struct snest_fault *fault)
{
	uint32_t kinds = request->access & (SNEST_EXEC | SNEST_PRIVILEGED);
	const struct snest_context *context = &b->context;
	struct snest_context now;
	bool is_blocked;

	if (__builtin_expect(b->refused & kinds, 0)) {
		/* Which of the kinds the guest's tables refuse, and how that is called. */
		sn_vtd_lock(vtd);
		sn_vtd_context(vtd, request, &now);
		sn_vtd_unlock(vtd);
		return now.outcome == SNEST_CONTEXT_FAULT
		               ? refuse(t, fault, request->iova, request->access,
		                        SNEST_FAULT_CONFIG, now.fault.code)
		               : 0;
	}
	if (t->outcome == SNEST_WALK_GPA && in_interrupt_range(t->host) &&
	    (context->count || request->pasid != SNEST_NO_PASID))
		return refuse(t, fault, request->iova, request->access, SNEST_FAULT_BLOCKED,
		              context->flags & SNEST_CONTEXT_SCALABLE ? 0x87 : 0xe);
	if (context->count)
		return 0;
	if (sn_context_check(context, request, fault)) {
		t->outcome = SNEST_WALK_FAULT;
		return -EACCES;
	}
	if (!__atomic_load_n(&vtd->guarded, __ATOMIC_RELAXED))
		return 0;
	sn_vtd_lock(vtd);
	is_blocked = is_protected(vtd, request->iova);
	sn_vtd_unlock(vtd);
	return is_blocked ? refuse(t, fault, request->iova, request->access, SNEST_FAULT_BLOCKED, 0)
	                  : 0;
}

/* How often a binding may vanish under a request before it is refused. */
#define TRIES 8u

/*
 * The slow end of snest_vtd_translate: what is not a plain hit. The answer
 * belongs to `space`, so what is held against it has to come from a binding to
 * that space. One that was unbound or replaced since the lookup says nothing
 * about it: then the request begins anew.
 */
static __attribute__((noinline)) int settle(struct snest_vtd *vtd,
                                            const struct sn_vtd_device *device, uint32_t rid,
                                            uint32_t pasid, uint64_t iova, uint32_t access,
                                            struct snest_space *space, int ret,
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

	for (unsigned tries = 0; !ret; tries++) {
		const struct sn_vtd_binding *b = sn_vtd_binding_find(device, pasid);

		if (b && b->space == space) {
			ret = check(vtd, b, &request, t, fault);
			break;
		}
		if (tries == TRIES) {
			ret = refuse(t, fault, iova, access, SNEST_FAULT_BLOCKED, 0);
			break;
		}
		ret = -EACCES;
		space = sn_device_lookup_space(device->handle, pasid, iova, access, t, fault);
		if (space)
			ret = snest_space_translate(space, iova, access, t, fault);
	}
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

/* A request of a rid that this front end has not seen: makes its handle, and begins anew. */
static __attribute__((noinline)) int introduce(struct snest_vtd *vtd, uint32_t rid, uint32_t pasid,
                                               uint64_t iova, uint32_t access,
                                               struct snest_translation *t,
                                               struct snest_fault *fault)
{
	struct snest_device *handle;
	int ret = snest_vtd_device(vtd, rid, &handle);

	return ret ? ret : snest_vtd_translate(vtd, rid, pasid, iova, access, t, fault);
}

int snest_vtd_translate(struct snest_vtd *vtd, uint32_t rid, uint32_t pasid, uint64_t iova,
                        uint32_t access, struct snest_translation *t, struct snest_fault *fault)
{
	struct snest_device *handle = snest_device_find(vtd->vm, rid);
	const struct sn_vtd_device *device = sn_vtd_device_of(vtd, handle);
	bool guarded = __atomic_load_n(&vtd->guarded, __ATOMIC_RELAXED);
	struct snest_fault ignored;
	struct snest_space *space;
	int ret = -EACCES;

	if (__builtin_expect(!device, 0))
		return introduce(vtd, rid, pasid, iova, access, t, fault);
	fault = fault ? fault : &ignored;
	if (pasid == SNEST_NO_PASID && in_interrupt_range(iova))
		return interrupt(iova, access, t, fault);
	space = sn_device_lookup_space(handle, pasid, iova, access, t, fault);
	if (pasid == SNEST_NO_PASID) {
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
	return settle(vtd, device, rid, pasid, iova, access, space, ret, t, fault);
}
